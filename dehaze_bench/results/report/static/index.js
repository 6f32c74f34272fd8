// The index: sortable tables, plots, and a dialog that says where the numbers of a row come from.
(() => {
  'use strict';
  const dialog = document.getElementById('origin');
  const body = document.getElementById('origin-body');

  // Everything comes in as text, never as markup: labels and names are whatever somebody wrote into a file.
  function make(tag, text, className) {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  }

  function addFact(list, name, ...values) {
    if (!values.length || values[0] === '' || values[0] === null || values[0] === undefined) return;
    const said = make('dd');
    values.forEach((value) => said.append(value));
    list.append(make('dt', name), said);
  }

  function distinct(values) {
    return [...new Set(values.filter((value) => value !== '' && value !== null && value !== undefined))].join('; ');
  }

  function openOrigin(board, index) {
    const row = board.rows[index];
    const runs = [...new Set(row.cells.flatMap((cell) => cell.runs))].filter((id) => id in board.runs);
    const known = runs.map((id) => board.runs[id]);
    const heading = make('h2', row.label);
    heading.id = 'origin-title';
    body.replaceChildren(heading);

    const facts = make('dl', undefined, 'facts');
    addFact(facts, 'kind', row.kind);
    if (row.place) {
      addFact(facts, 'test set', row.place[0]);
      const note = distinct(known.map((run) => run.note));
      addFact(facts, 'protocol', note.startsWith(`${row.place[1]}:`) ? note : [row.place[1], note].filter(Boolean).join(': '));
      addFact(facts, 'selection', row.place[2]);
    }
    addFact(facts, 'images', distinct(known.map((run) => run.images)));
    addFact(facts, 'decoder', distinct(known.map((run) => run.decoder)));
    addFact(facts, 'hardware', distinct(known.map((run) => run.device)));
    addFact(facts, 'remark', row.remark);
    body.append(facts);

    const table = make('table', undefined, 'results');
    const head = make('tr');
    for (const [text, className] of [['', 'text'], ['value', ''], ['std over seeds', ''], ['n', ''], ['runs', 'text']]) {
      head.append(make('th', text, className));
    }
    table.append(make('thead'));
    table.tHead.append(head);
    const lines = table.createTBody();
    for (const cell of row.cells) {
      const line = lines.insertRow();
      line.append(make('th', board.titles[cell.column], 'text'));
      line.append(make('td', cell.exact || cell.missing || '–', cell.exact ? 'exact' : 'missing'), make('td', cell.std || '–', 'exact'));
      line.append(make('td', row.kind === 'printed' ? '–' : String(cell.n)));
      const names = make('td', undefined, 'text');
      cell.runs.forEach((id, place) => {
        if (place) names.append(' ');
        if (!(id in board.runs)) return names.append(id);
        const link = make('a', id);
        link.href = board.runs[id].page;
        return names.append(link);
      });
      line.append(names);
    }
    const scroll = make('div', undefined, 'scroll');
    scroll.append(table);
    body.append(scroll);

    if (runs.length) {
      body.append(make('h3', 'Runs'));
      const list = make('ul', undefined, 'runs');
      for (const run of known) {
        const item = make('li');
        const link = make('a', run.dir);
        link.href = run.page;
        const step = run.step === null ? '' : `, step ${run.step}`;
        item.append(link, make('span', ` seed ${run.seed}${step}, ${run.finished.slice(0, 16).replace('T', ' ')}: result.json, per_image.csv`, 'dim'));
        list.append(item);
      }
      body.append(list);
    }
    dialog.showModal();
    dialog.scrollTop = 0;
  }

  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) dialog.close();
  });

  for (const section of document.querySelectorAll('.board')) {
    const board = window.dehazeData[section.dataset.board];
    section.querySelector('.list').addEventListener('click', (event) => {
      if (event.target.closest('.origin, td.number, th.label')) openOrigin(board, Number(event.target.closest('tr').dataset.row));
    });
    const pareto = section.querySelector('.pareto');
    if (pareto) window.dehaze.drawPareto(pareto, board, (index) => openOrigin(board, index));
  }
  document.querySelectorAll('.sortable').forEach(window.dehaze.makeSortable);
})();
