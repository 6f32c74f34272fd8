// Curves over steps, and quality against cost, both drawn by uPlot in the colours of the page.
(() => {
  'use strict';
  const PREFIXES = [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']];
  const drawn = [];

  // Custom properties hold light-dark(); only a real property comes back as a colour.
  function colours() {
    const probe = document.createElement('span');
    document.body.append(probe);
    const found = {};
    for (const name of ['ink', 'dim', 'line', 'accent', 'paper', 'warm']) {
      probe.style.color = `var(--${name})`;
      found[name] = getComputedStyle(probe).color;
    }
    probe.remove();
    return found;
  }

  function short(value, more = 0) {
    if (value === null || value === undefined) return '';
    const size = Math.abs(value);
    if (size >= 1e3) {
      const [unit, prefix] = PREFIXES.find(([least]) => size >= least);
      return `${Number((value / unit).toPrecision(3 + more))} ${prefix}`;
    }
    if (size !== 0 && size < 1e-3) return value.toExponential(1 + more);
    return String(Number(value.toPrecision(4 + more)));
  }

  // As many digits as tell the ticks apart; latencies are kept in seconds and shown in milliseconds.
  function tell(ticks, column = '') {
    const text = column === 'latency'
      ? (tick, more) => `${Number((tick * 1e3).toPrecision(3 + more))} ms`
      : (tick, more) => short(tick, more) + (column === 'memory' ? 'B' : '');
    const shown = ticks.filter((tick) => tick !== null);
    const enough = [0, 1, 2].find((more) => new Set(shown.map((tick) => text(tick, more))).size === shown.length);
    return ticks.map((tick) => (tick === null ? '' : text(tick, enough ?? 3)));
  }

  // 1, 2 and 5 times the powers of ten, or fewer where they do not fit: uPlot begins its own at the edge of the plot.
  function decades(low, high, most) {
    const inside = (steps, stride) => {
      const found = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
        if (power % stride === 0) found.push(...steps.map((step) => step * 10 ** power));
      }
      return found.filter((tick) => tick >= low && tick <= high);
    };
    const choices = [[[1, 2, 5], 1], [[1, 3], 1], [[1], 1], [[1], 2], [[1], 3]].map((choice) => inside(...choice));
    return choices.find((ticks) => ticks.length <= most) ?? choices.at(-1);
  }

  const font = () => `12px ${getComputedStyle(document.body).fontFamily}`;
  function axes(colour, names, column = '', logarithmic = false) {
    return names.map((label, side) => ({
      label, labelSize: label ? 20 : 0, labelFont: font(), font: font(), stroke: colour.dim, size: side === 1 ? 56 : 32,
      grid: { stroke: colour.line, width: 1 }, ticks: { show: false },
      values: (plot, ticks) => tell(ticks, side === 0 ? column : ''),
      ...(logarithmic && side === 0 ? {
        splits: (plot, axis, low, high) => decades(low, high, Math.max(2, plot.bbox.width / uPlot.pxRatio / 56)),
        filter: (plot, ticks) => ticks,
      } : {}),
    }));
  }

  // Drawn again when the page gets another width or other colours.
  function keep(target, draw) {
    let plot = null;
    let width = 0;
    const again = () => {
      width = Math.floor(target.clientWidth);
      if (!width) return;
      if (plot) plot.destroy();
      plot = draw(width);
    };
    new ResizeObserver(() => {
      if (Math.floor(target.clientWidth) !== width) again();
    }).observe(target);
    document.addEventListener('themechange', again);
    again();
    return again;
  }

  function drawCurve(target, name, [steps, values]) {
    const box = document.createElement('figure');
    box.className = 'chart';
    const head = document.createElement('figcaption');
    const title = document.createElement('span');
    const value = document.createElement('output');
    title.textContent = name;
    value.className = 'dim';
    head.append(title, value);
    const canvas = document.createElement('div');
    box.append(head, canvas);
    target.append(box);
    const last = values.findLastIndex((each) => each !== null);
    const rest = last < 0 ? '' : `${short(values[last])} at step ${steps[last]}`;
    value.textContent = rest;
    const logarithmic = name === 'loss' && values.every((each) => each === null || each > 0) && steps.length > 1;
    keep(canvas, (width) => {
      const colour = colours();
      return new uPlot({
        width, height: 170,
        legend: { show: false },
        cursor: { y: false, points: { size: 7 }, drag: { x: true, y: false } },
        scales: { x: { time: false }, y: logarithmic ? { distr: 3 } : {} },
        axes: axes(colour, ['', '']),
        series: [{}, { stroke: colour.accent, width: 1.75, points: { show: steps.length < 30, size: 5, fill: colour.accent }, spanGaps: false }],
        hooks: {
          setCursor: [(plot) => {
            const index = plot.cursor.idx;
            value.textContent = index === null || index === undefined ? rest : `${short(values[index])} at step ${steps[index]}`;
          }],
        },
      }, [steps, values], canvas);
    });
  }

  // Names beside their points, where one fits without covering a point or another name.
  function label(plot, points, front, colour) {
    const { ctx } = plot;
    const ratio = uPlot.pxRatio;
    const place = (point) => [plot.valToPos(point.x, 'x', true), plot.valToPos(point.y, 'y', true)];
    const taken = points.map((point) => {
      const [x, y] = place(point);
      return [x - 5 * ratio, y - 5 * ratio, x + 5 * ratio, y + 5 * ratio];
    });
    const { left, top, width, height } = plot.bbox;
    ctx.save();
    ctx.font = `${11.5 * ratio}px ${getComputedStyle(document.body).fontFamily}`;
    ctx.textBaseline = 'middle';
    ctx.textAlign = 'left';
    for (const point of [...front, ...points.filter((each) => !front.includes(each))]) {
      const [x, y] = place(point);
      const text = point.row.label.length > 28 ? `${point.row.label.slice(0, 27)}…` : point.row.label;
      const w = ctx.measureText(text).width;
      const h = 14 * ratio;
      const gap = 8 * ratio;
      const beside = [[x + gap, y], [x - gap - w, y]];
      const above = [[x - w / 2, y - 13 * ratio], [x - w / 2, y + 13 * ratio], [x + gap / 2, y - 13 * ratio]];
      const spots = point.front ? [...above, ...beside] : [...beside, ...above]; // the line leaves a front point to its right
      const free = spots.find(([a, b]) => a >= left && a + w <= left + width && b - h / 2 >= top && b + h / 2 <= top + height
        && !taken.some(([l, t, r, d]) => a < r && a + w > l && b - h / 2 < d && b + h / 2 > t));
      if (!free) continue;
      taken.push([free[0], free[1] - h / 2, free[0] + w, free[1] + h / 2]);
      ctx.fillStyle = front.includes(point) ? colour.ink : colour.dim;
      ctx.fillText(text, free[0], free[1]);
    }
    ctx.restore();
  }

  function drawPareto(section, board, open) {
    const target = section.querySelector('.plot');
    const [quality, cost] = [section.querySelector('[data-axis=y]'), section.querySelector('[data-axis=x]')];
    const tip = document.createElement('div');
    tip.className = 'tip';
    tip.hidden = true;
    // Networks of one budget do not differ in it: begin with the cost in which the rows do.
    const spread = (name) => {
      const values = board.rows.map((row) => row.cost[name]).filter((value) => value > 0);
      return Math.max(...values) / Math.min(...values);
    };
    const costs = Object.keys(board.plots);
    cost.value = costs.reduce((best, name) => (spread(name) > spread(best) * 1.05 ? name : best), costs[0]);

    const again = keep(target, (width) => {
      const colour = colours();
      const [xName, yName] = [cost.value, quality.value];
      const points = (board.plots[xName][yName] ?? [])
        .map(([index, front]) => ({ row: board.rows[index], index, front, x: board.rows[index].cost[xName], y: board.rows[index].quality[yName] }))
        .sort((a, b) => a.x - b.x);
      const front = points.filter((point) => point.front);
      const counted = points.filter((point) => point.row.kind !== 'printed');
      const xs = points.map((point) => point.x);
      const logarithmic = xs.length > 1 && xs.at(-1) / xs[0] > 8;
      const pick = (test) => points.map((point) => (test(point) ? point.y : null));
      const dots = (stroke, fill) => ({ paths: () => null, stroke, points: { show: true, size: 9, width: 1.5, fill, stroke } });
      const plot = new uPlot({
        width, height: Math.round(Math.min(400, Math.max(280, width * 0.5))),
        legend: { show: false },
        cursor: { x: false, y: false, points: { show: false }, drag: { x: false, y: false } },
        scales: {
          x: { time: false, distr: logarithmic ? 3 : 1, range: (u, low, high) => {
            if (logarithmic) return [low / 1.3, high * 1.6];
            const room = Math.max((high - low) * 0.08, high * 0.05); // a budget met within 2 % is no difference
            return [low - room, high + room * 2];
          } },
          y: { range: (u, low, high) => {
            const room = (high - low || Math.abs(high) * 0.05 || 1) * 0.12;
            return [low - room, high + room];
          } },
        },
        axes: axes(colour, [board.titles[xName], board.titles[yName]], xName, logarithmic),
        series: [
          {},
          { stroke: colour.accent, width: 1.5, dash: [5, 4], spanGaps: true, points: { show: false }, paths: uPlot.paths.stepped({ align: 1 }) },
          dots(colour.accent, colour.accent),
          dots(colour.dim, colour.paper),
        ],
        hooks: { draw: [(u) => label(u, points, front, colour)] },
      }, [xs, pick((p) => front.includes(p)), pick((p) => counted.includes(p)), pick((p) => !counted.includes(p))], target);

      const nearest = (event) => {
        const found = points
          .map((point) => [Math.hypot(plot.valToPos(point.x, 'x') - event.offsetX, plot.valToPos(point.y, 'y') - event.offsetY), point])
          .sort((a, b) => a[0] - b[0])[0];
        return found && found[0] < 24 ? found[1] : null;
      };
      plot.over.append(tip);
      plot.over.addEventListener('mousemove', (event) => {
        if (tip.contains(event.target)) return;
        const point = nearest(event);
        tip.hidden = !point;
        plot.over.style.cursor = point ? 'pointer' : 'default';
        if (!point) return;
        const cell = (name) => point.row.cells.find((each) => each.column === name).text;
        tip.textContent = `${point.row.label}\n${board.titles[yName]} ${cell(yName)}\n${board.titles[xName]} ${cell(xName)}`;
        const [x, y] = [plot.valToPos(point.x, 'x'), plot.valToPos(point.y, 'y')];
        tip.style.top = `${y + 12}px`;
        tip.style.left = `${Math.min(x + 12, Math.max(0, plot.over.clientWidth - tip.offsetWidth))}px`;
      });
      plot.over.addEventListener('mouseleave', () => { tip.hidden = true; });
      plot.over.addEventListener('click', (event) => {
        const point = nearest(event);
        if (point) open(point.index);
      });
      return plot;
    });
    quality.addEventListener('change', again);
    cost.addEventListener('change', again);
  }

  window.dehaze = Object.assign(window.dehaze || {}, { drawCurve, drawPareto });
})();
