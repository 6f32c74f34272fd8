// Tables that sort and filter: List.js over the rows that the page has, with numbers compared as numbers.
(() => {
  'use strict';
  const UNITS = { k: 1e3, K: 1e3, M: 1e6, G: 1e9, T: 1e12 };
  const CONDITION = /^([^<>=\s]+)(<=|>=|<|>|=)(-?[\d.]+(?:e-?\d+)?)([kKMGT]?)$/;
  const HOLDS = {
    '<': (a, b) => a < b, '>': (a, b) => a > b, '<=': (a, b) => a <= b, '>=': (a, b) => a >= b, '=': (a, b) => a === b,
  };
  const toNumber = (text) => (text === '' || text === null || text === undefined ? NaN : Number(text));

  // What has no number stays at the end, whichever way a column is sorted.
  function compareBy(name, isNumber) {
    return (a, b, options) => {
      const x = a.values()[name] ?? '';
      const y = b.values()[name] ?? '';
      const turn = options.order === 'desc' ? -1 : 1;
      if (!isNumber) {
        return (x === '') - (y === '') ? ((x === '') - (y === '')) * turn : x.localeCompare(y, undefined, { numeric: true });
      }
      const [m, n] = [toNumber(x), toNumber(y)];
      if (Number.isNaN(m) || Number.isNaN(n)) return (Number.isNaN(m) - Number.isNaN(n)) * turn;
      return m === n ? 0 : m - n;
    };
  }

  function parse(text, columns) {
    const words = [];
    const conditions = [];
    for (const token of text.trim().split(/\s+/).filter(Boolean)) {
      const match = CONDITION.exec(token);
      const column = match && columns.get(match[1].toLowerCase());
      if (column) conditions.push([column, HOLDS[match[2]], Number(match[3]) * (UNITS[match[4]] ?? 1)]);
      else words.push(token.toLowerCase());
    }
    return { words, conditions };
  }

  function makeSortable(container) {
    const buttons = [...container.querySelectorAll('button[data-sort]')];
    const more = container.querySelector('.more');
    const count = container.querySelector('.count');
    const input = container.querySelector('.filter');
    const choices = [...container.querySelectorAll('select[data-choose]')];
    if (!container.querySelector('.list').children.length) return;
    const page = Number(container.dataset.page);
    const list = new List(container, {
      valueNames: buttons.map((button) => ({ name: button.dataset.sort, attr: 'data-v' })),
      page,
    });
    const columns = new Map();
    for (const button of buttons) {
      if ('number' in button.dataset) columns.set((button.dataset.name ?? button.textContent).trim().toLowerCase(), button.dataset.sort);
    }
    const textColumns = buttons.filter((button) => !('number' in button.dataset)).map((button) => button.dataset.sort);

    function settle() {
      const [matching, all] = [list.matchingItems.length, list.items.length];
      if (count) count.textContent = matching === all ? `${all} row${all === 1 ? '' : 's'}` : `${matching} of ${all} rows`;
      if (more) more.hidden = matching <= list.page;
    }

    function filter() {
      const { words, conditions } = parse(input ? input.value : '', columns);
      const chosen = choices.filter((select) => select.value !== '').map((select) => [select.dataset.choose, select.value]);
      list.page = page;
      list.filter((item) => {
        const values = item.values();
        const text = textColumns.map((name) => values[name] ?? '').join(' ').toLowerCase();
        return words.every((word) => text.includes(word))
          && conditions.every(([name, holds, limit]) => holds(toNumber(values[name]), limit))
          && chosen.every(([name, value]) => values[name] === value);
      });
      settle();
    }

    for (const button of buttons) {
      button.addEventListener('click', () => {
        const head = button.closest('th');
        const first = button.dataset.first ?? 'asc';
        const now = head.getAttribute('aria-sort');
        const other = first === 'asc' ? 'desc' : 'asc';
        const order = now === (first === 'asc' ? 'ascending' : 'descending') ? other : first;
        for (const each of buttons) each.closest('th').removeAttribute('aria-sort');
        head.setAttribute('aria-sort', order === 'asc' ? 'ascending' : 'descending');
        list.sort(button.dataset.sort, { order, sortFunction: compareBy(button.dataset.sort, 'number' in button.dataset) });
        settle();
      });
    }
    if (input) input.addEventListener('input', filter);
    for (const select of choices) select.addEventListener('change', filter);
    if (more) {
      more.addEventListener('click', () => {
        list.show(1, list.page + page);
        settle();
      });
    }
    settle();
  }

  window.dehaze = Object.assign(window.dehaze || {}, { makeSortable });
})();
