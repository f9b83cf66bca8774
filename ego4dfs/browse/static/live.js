/** The page of what the mounts of this machine do: the tables of `ego4dfs top`, kept current. */

import { byId, dataText, el, fetchJson, patchChildren, showError } from "./dom.js";
import { keepFilter, watchStatus } from "./page.js";

const PAUSE_MS = 1000;

function show({ tables, errors }) {
  byId("none").hidden = tables.length > 0;
  patchChildren(byId("tables"), tables.map(table));
  patchChildren(byId("errors"), errors.map((line) => el("li", {}, dataText(line))));
}

function table({ header, right, rows }) {
  const side = (place) => (right[place] ? "right" : null);
  return el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, header.map((name, place) => el("th", { scope: "col", class: side(place) }, name)))),
    el("tbody", {}, rows.map((row) =>
      el("tr", {}, row.map((cell, place) => el("td", { class: side(place) }, dataText(cell))))))));
}

keepFilter();
watchStatus();
for (;;) {
  try {
    if (!document.hidden) show(await fetchJson("mounts"));
  } catch (error) {
    showError(error);
    if (error instanceof TypeError) break; // of fetch: the server has ended
  }
  await new Promise((done) => setTimeout(done, PAUSE_MS));
}
