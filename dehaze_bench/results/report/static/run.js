// The page of a run: its pictures from worst to best, its curves, and its values image by image.
(() => {
  'use strict';
  const EXTREME = 2;
  const key = decodeURIComponent(location.pathname.split('/').at(-1).replace(/\.html$/, ''));
  const data = window.dehazeData[key];
  const shared = (window.dehazeData.pictures ?? {})[data.place] ?? {}; // by image: label, picture and key of each run
  const byName = new Map(data.pictures.map((picture) => [picture.name, picture]));
  const rows = new Map(data.images.map((row) => [row[0], row]));
  const main = data.columns[0];
  const toNumber = (value) => ({ inf: Infinity, '-inf': -Infinity, nan: NaN })[value] ?? value;

  function write(value, column) {
    if (value === null) return '–';
    const number = toNumber(value);
    if (number === Infinity) return '∞';
    return Number.isFinite(number) ? number.toFixed(column.decimals) : String(number);
  }

  function make(tag, text, className) {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  }

  let thumbs = [];
  function show(picture) {
    viewer.show(picture, (shared[picture.name] ?? []).filter((other) => other[2] !== key));
    for (const thumb of thumbs) thumb.setAttribute('aria-pressed', String(thumb.picture === picture));
  }

  function makeThumb(picture) {
    const button = make('button', undefined, 'thumb');
    button.type = 'button';
    button.picture = picture;
    const image = make('img');
    image.loading = 'lazy';
    image.alt = '';
    [image.width, image.height] = [picture.width, picture.height];
    image.src = `../${picture.thumb}`;
    const row = rows.get(picture.name);
    button.append(image, make('span', picture.name, 'name'));
    if (row && main) button.append(make('span', `${main.title} ${write(row[1], main)}`, 'dim'));
    button.addEventListener('click', () => {
      show(picture);
      document.getElementById('viewer').scrollIntoView({ block: 'nearest' });
    });
    return button;
  }

  // Worst and best of all images of the test set, as far as the run kept pictures of them; then the rest.
  function addCases() {
    const turn = main && main.higher === false ? -1 : 1;
    const ranked = data.images.map((row) => row[0])
      .sort((a, b) => turn * (toNumber(rows.get(a)[1]) - toNumber(rows.get(b)[1])) || 0);
    const rank = new Map(ranked.map((name, index) => [name, index]));
    const sorted = [...data.pictures].sort((a, b) => (rank.get(a.name) ?? 0) - (rank.get(b.name) ?? 0));
    const isWorst = (picture) => rank.get(picture.name) < EXTREME;
    const isBest = (picture) => rank.get(picture.name) >= ranked.length - EXTREME && !isWorst(picture);
    const title = main ? ` by ${main.title}` : '';
    const groups = [
      [`Worst${title}`, sorted.filter(isWorst)],
      [`Best${title}`, sorted.filter(isBest).reverse()],
      ['In between, a fixed sample', sorted.filter((picture) => !isWorst(picture) && !isBest(picture))],
    ];
    for (const [name, pictures] of groups) {
      if (!pictures.length) continue;
      const group = make('div', undefined, 'cases');
      const strip = make('div', undefined, 'strip');
      strip.append(...pictures.map(makeThumb));
      group.append(make('h3', name), strip);
      document.getElementById('cases').append(group);
    }
    thumbs = [...document.querySelectorAll('.thumb')];
    show(sorted[0]);
  }

  function addImages(container) {
    const head = make('tr');
    const names = [{ title: 'image' }, ...data.columns];
    names.forEach((column, index) => {
      const cell = make('th', undefined, index ? '' : 'text');
      cell.scope = 'col';
      const arrow = column.higher === true ? ' ↑' : column.higher === false ? ' ↓' : '';
      const button = make('button', column.title + arrow);
      button.type = 'button';
      button.dataset.sort = `c${index}`;
      if (index) {
        button.dataset.number = '';
        button.dataset.name = column.name;
        button.dataset.first = column.higher ? 'asc' : 'desc'; // the worst first: those are the ones to look at
      }
      cell.append(button);
      head.append(cell);
    });
    container.querySelector('thead').append(head);
    const lines = data.images.map((row) => {
      const line = make('tr');
      row.forEach((value, index) => {
        const cell = make(index ? 'td' : 'th', undefined, `c${index} ${index ? 'number' : 'text'}`);
        if (index) {
          const number = toNumber(value);
          cell.dataset.v = value === null || Number.isNaN(number) ? '' : String(number);
          cell.textContent = write(value, data.columns[index - 1]);
        } else {
          cell.scope = 'row';
          cell.dataset.v = value;
          const picture = byName.get(value);
          if (picture) {
            const button = make('button', value, 'origin');
            button.type = 'button';
            button.title = 'Show the picture';
            button.addEventListener('click', () => {
              show(picture);
              document.getElementById('pictures').scrollIntoView();
            });
            cell.append(button);
          } else {
            cell.textContent = value;
          }
        }
        line.append(cell);
      });
      return line;
    });
    container.querySelector('.list').append(...lines);
    window.dehaze.makeSortable(container);
  }

  const root = document.getElementById('viewer');
  const viewer = root && window.dehaze.makeViewer(root, '../');
  if (viewer) addCases();
  const charts = document.getElementById('charts');
  const order = (name) => (name === 'loss' ? 0 : name.includes('/') ? 1 : name === 'lr' ? 2 : 3);
  for (const name of Object.keys(data.curves).sort((a, b) => order(a) - order(b))) {
    window.dehaze.drawCurve(charts, name, data.curves[name]);
  }
  const table = document.getElementById('per-image');
  if (table) addImages(table);
})();
