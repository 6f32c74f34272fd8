// Light or dark, chosen before the page is drawn. Without a choice the system's stands.
(() => {
  'use strict';
  const root = document.documentElement;
  const KEY = 'dehaze-bench-theme';
  const dark = window.matchMedia('(prefers-color-scheme: dark)');
  const isDark = () => (root.dataset.theme ? root.dataset.theme === 'dark' : dark.matches);
  const tell = () => document.dispatchEvent(new Event('themechange'));
  try {
    const saved = localStorage.getItem(KEY);
    if (saved === 'light' || saved === 'dark') root.dataset.theme = saved;
  } catch { /* a browser that keeps nothing for pages from the disk */ }
  dark.addEventListener('change', tell);
  document.addEventListener('DOMContentLoaded', () => {
    document.getElementById('theme').addEventListener('click', () => {
      root.dataset.theme = isDark() ? 'light' : 'dark';
      try {
        localStorage.setItem(KEY, root.dataset.theme);
      } catch { /* as above */ }
      tell();
    });
  });
})();
