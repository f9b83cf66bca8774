/** Horizontal bars as SVG, which scales with the page; each bar is a link. */

import { count, counted, svg } from "./dom.js";

const ROW = 24;
const WIDTH = innerWidth < 600 ? 360 : 560; // it is scaled to the page, and so are its letters
const LABEL = Math.round(WIDTH * 0.39);
const NUMBER = 60;
const LETTERS = Math.floor(LABEL / 8.2);

/** Return a chart of bars with `label`, `number` and `href`. */
export function barChart(title, bars) {
  const most = Math.max(1, ...bars.map((bar) => bar.number));
  const attributes = { viewBox: `0 0 ${WIDTH} ${ROW * bars.length}`, class: "chart", role: "group", "aria-label": title };
  return svg("svg", attributes, bars.map((bar, row) => {
    const width = (bar.number / most) * (WIDTH - LABEL - NUMBER);
    const middle = row * ROW + ROW / 2;
    return svg("a", { href: bar.href, "aria-label": `${bar.label}: ${counted(bar.number, "video")}` },
      svg("title", {}, `${bar.label}: ${count(bar.number)}`),
      svg("rect", { class: "row", x: 0, y: row * ROW, width: WIDTH, height: ROW }),
      svg("text", { x: LABEL - 10, y: middle, class: "label" }, shortened(bar.label)),
      svg("rect", { class: "amount", x: LABEL, y: row * ROW + 4, width: Math.max(bar.number ? 2 : 0, width), height: ROW - 8, rx: 3 }),
      svg("text", { x: LABEL + width + 8, y: middle, class: "number" }, count(bar.number)));
  }));
}

function shortened(text) {
  return text.length > LETTERS ? `${text.slice(0, LETTERS - 1)}…` : text;
}
