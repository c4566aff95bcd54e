// Texts of the page, and of empty fields, whose contrast with what is behind them is below 4.5, as WCAG 2 computes it.
() => {
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); const d = canvas.getImageData(0, 0, 1, 1).data; return [d[0], d[1], d[2], d[3] / 255]; };
  const over = (top, below) => [0, 1, 2].map(k => top[k] * top[3] + below[k] * (1 - top[3]));
  const ground = element => { const all = []; for (let e = element; e; e = e.parentElement) all.unshift(rgba(getComputedStyle(e).backgroundColor)); return all.reduce((below, top) => over(top, below), [255, 255, 255]); };
  const ratio = (one, two) => { const [a, b] = [luminance(one), luminance(two)].sort((x, y) => y - x); return (a + 0.05) / (b + 0.05); };
  const found = [];
  const weigh = (said, colour, below) => { if (ratio(over(colour, below), below) < 4.5) found.push(`${said.trim().slice(0, 40)}: ${ratio(over(colour, below), below).toFixed(2)}`); };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; node = walk.nextNode();) {
    const e = node.parentElement;
    if (!node.data.trim() || !e.checkVisibility({opacityProperty: true, visibilityProperty: true}) || e.closest("[disabled],script,style,noscript")) continue;
    weigh(node.data, rgba(getComputedStyle(e).color), ground(e));
  }
  for (const e of document.querySelectorAll("[placeholder]")) {
    if (e.checkVisibility() && !e.value) weigh(e.placeholder, rgba(getComputedStyle(e, "::placeholder").color), ground(e));
  }
  return found;
}
