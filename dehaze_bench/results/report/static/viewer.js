// Two versions of one picture under a divider (img-comparison-slider), with zoom in steps and panning.
(() => {
  'use strict';
  const PAIRS = [
    ['hazy', 'restored'], ['restored', 'clear'], ['hazy', 'clear'], ['restored', 'error'], ['restored', 'other'],
  ];
  const NAMES = { hazy: 'hazy', restored: 'restored', clear: 'truth', error: 'error map', other: 'another run' };
  const LEVELS = [0.25, 0.5, 1, 2, 4, 8, 16];
  const LEGEND = 'Error: mean absolute difference over the channels; black is none, red, yellow, white is 64 of 255 or more.';

  function makeViewer(root, prefix) {
    const [stage, pairs, zoom, sides, others] = ['stage', 'pairs', 'zoom', 'sides', 'others'].map((id) => document.getElementById(id));
    const [level, caption, legend] = ['zoom-level', 'caption', 'legend'].map((id) => document.getElementById(id));
    let picture = null;
    let pair = 0;
    let scale = null; // none: as large as fits
    let slider = null;
    let position = 50;

    // The same image as other runs restored it: chosen by run, and kept from picture to picture.
    function list(found) {
      const kept = others.value;
      others.replaceChildren(...found.map(([label, path, key]) => {
        const option = document.createElement('option');
        [option.textContent, option.value] = [label, key];
        option.path = path;
        return option;
      }));
      if (found.some(([, , key]) => key === kept)) others.value = kept;
      picture.other = found.length ? others.selectedOptions[0].path : '';
    }
    others.addEventListener('change', () => {
      picture.other = others.selectedOptions[0].path;
      draw();
    });

    const available = () => PAIRS.filter((names) => names.every((name) => picture[name]));
    const fit = () => Math.min(stage.clientWidth / picture.width, (0.72 * window.innerHeight) / picture.height, 4);
    const current = () => scale ?? fit();

    function resize() {
      if (!slider) return;
      const width = Math.max(1, Math.round(picture.width * current()));
      slider.style.width = `${width}px`;
      slider.style.height = `${Math.round((width * picture.height) / picture.width)}px`;
      sides.style.width = `${Math.min(width, stage.clientWidth)}px`;
      stage.classList.toggle('zoomed', scale !== null);
      stage.classList.toggle('coarse', current() * window.devicePixelRatio >= 2);
      slider.handle = String(scale !== null);
      level.textContent = `${Math.round(current() * 100)} %`;
      for (const button of zoom.querySelectorAll('[data-zoom=fit], [data-zoom="1"]')) {
        button.setAttribute('aria-pressed', String(button.dataset.zoom === 'fit' ? scale === null : scale === 1));
      }
      showHandle();
    }

    // Zoomed in, the handle stays in the middle of what is seen.
    function showHandle() {
      if (!slider) return;
      const middle = scale === null ? '50%' : `${stage.scrollTop + Math.min(stage.clientHeight, slider.clientHeight) / 2}px`;
      slider.style.setProperty('--handle-position-start', middle);
    }

    function zoomTo(next) {
      const [x, y] = [(stage.scrollLeft + stage.clientWidth / 2) / current(), (stage.scrollTop + stage.clientHeight / 2) / current()];
      scale = next;
      resize();
      stage.scrollLeft = x * current() - stage.clientWidth / 2;
      stage.scrollTop = y * current() - stage.clientHeight / 2;
      showHandle();
    }

    function step(direction) {
      const now = current();
      const next = direction > 0 ? LEVELS.find((each) => each > now * 1.01) : LEVELS.findLast((each) => each < now * 0.99);
      if (next !== undefined) zoomTo(direction < 0 && next < fit() ? null : next);
    }

    function makeImage(name, slot) {
      const image = document.createElement('img');
      image.slot = slot;
      image.alt = `${picture.name}, ${NAMES[name]}`;
      image.decoding = 'async';
      image.src = prefix + picture[name];
      return image;
    }

    function draw() {
      const choices = available();
      pair = Math.min(pair, Math.max(0, choices.length - 1));
      pairs.replaceChildren(...choices.map((names, index) => {
        const button = document.createElement('button');
        button.type = 'button';
        button.textContent = names.map((name) => NAMES[name]).join(' | ');
        button.setAttribute('aria-pressed', String(index === pair));
        button.addEventListener('click', () => {
          pair = index;
          draw();
          pairs.children[index].focus();
        });
        return button;
      }));
      const [left, right] = choices[pair] ?? ['restored', 'restored'];
      others.hidden = right !== 'other';
      slider = document.createElement('img-comparison-slider');
      slider.setAttribute('value', String(position));
      slider.setAttribute('role', 'slider');
      slider.setAttribute('aria-label', `Divider: ${NAMES[left]} to the left, ${NAMES[right]} to the right`);
      slider.setAttribute('aria-valuemin', '0');
      slider.setAttribute('aria-valuemax', '100');
      const tell = () => {
        position = slider.value;
        slider.setAttribute('aria-valuenow', String(Math.round(position)));
      };
      slider.addEventListener('slide', tell);
      slider.addEventListener('keydown', (event) => {
        if (event.key === 'ArrowLeft' || event.key === 'ArrowRight') event.preventDefault(); // or the stage would scroll as well
      });
      slider.append(makeImage(left, 'first'), makeImage(right, 'second'));
      const [x, y] = [stage.scrollLeft, stage.scrollTop];
      stage.replaceChildren(slider);
      tell();
      resize();
      [stage.scrollLeft, stage.scrollTop] = [x, y];
      showHandle();
      caption.textContent = picture.name;
      sides.replaceChildren(...[left, right].map((name) => {
        const side = document.createElement('span');
        side.textContent = name === 'other' ? others.selectedOptions[0].textContent : NAMES[name];
        return side;
      }));
      legend.textContent = right === 'error' ? LEGEND : '';
    }

    let grip = null;
    stage.addEventListener('pointerdown', (event) => {
      if (scale === null || event.button || event.pointerType !== 'mouse' || onHandle(event)) return;
      grip = { x: event.clientX, y: event.clientY, left: stage.scrollLeft, top: stage.scrollTop, moved: false };
      stage.setPointerCapture(event.pointerId);
    });
    stage.addEventListener('pointermove', (event) => {
      if (!grip) return;
      const [dx, dy] = [event.clientX - grip.x, event.clientY - grip.y];
      grip.moved = grip.moved || Math.hypot(dx, dy) > 4;
      [stage.scrollLeft, stage.scrollTop] = [grip.left - dx, grip.top - dy];
    });
    stage.addEventListener('pointerup', (event) => {
      if (grip && !grip.moved) { // a click brings the divider here
        const box = slider.getBoundingClientRect();
        slider.value = Math.max(0, Math.min(100, (100 * (event.clientX - box.left)) / box.width));
        slider.dispatchEvent(new Event('slide'));
        slider.focus({ preventScroll: true });
      }
      grip = null;
    });
    function onHandle(event) {
      const box = slider.getBoundingClientRect();
      const x = box.left + (box.width * slider.value) / 100;
      const y = box.top + parseFloat(slider.style.getPropertyValue('--handle-position-start'));
      return Math.abs(event.clientX - x) < 28 && Math.abs(event.clientY - y) < 28;
    }

    zoom.addEventListener('click', (event) => {
      const wanted = event.target.closest('button')?.dataset.zoom;
      if (wanted === 'fit') zoomTo(null);
      else if (wanted === '1') zoomTo(1);
      else if (wanted) step(wanted === 'in' ? 1 : -1);
    });
    root.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === '+' || event.key === '=') step(1);
      else if (event.key === '-') step(-1);
      else if (event.key === '0') zoomTo(null);
      else return;
      event.preventDefault();
    });
    stage.addEventListener('scroll', showHandle, { passive: true });
    new ResizeObserver(resize).observe(stage);

    return {
      show(next, found) {
        if (picture && (picture.width !== next.width || picture.height !== next.height)) scale = null;
        picture = next;
        list(found);
        draw();
      },
    };
  }

  window.dehaze = Object.assign(window.dehaze || {}, { makeViewer });
})();
