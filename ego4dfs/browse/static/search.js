/** The page of the search in narrations and annotations; each result leads to its second. */

import { filterOfPage, filtered, loadCatalogue, pageWith, placesOf, spelled, windowsCsv } from "./catalogue.js";
import {
  byId, clock, count, counted, dataText, download, el, fetchJson, replaceKeepingFocus, showError, whenReleased,
} from "./dom.js";
import { keepFilter, watchStatus } from "./page.js";
import { colourOf, inOrder } from "./segments.js";

const PAUSE_MS = 150;
const BEFORE_S = 1; // as `prefetch --windows` has it for narrations
const AFTER_S = 0.5;

let filter = filterOfPage();
let only = {}; // the parameter of the videos that the filter admits
let isLoaded = false; // before, it is not known which ones these are
let names = new Map();
let found = [];
let asked = 0;
let answered = ""; // the answer that is shown

/** Search for what is written, and put it into the address. */
async function search() {
  const words = byId("words").value.trim();
  history.replaceState(null, "", pageWith("search.html", new URLSearchParams([...filter, ...(words ? [["q", words]] : [])])));
  const all = byId("filter-text").querySelector("a");
  if (all) all.href = pageWith("search.html", new URLSearchParams(words ? { q: words } : {}));
  if (!isLoaded) return;
  const number = ++asked;
  if (!words) return show({ tracks: {}, limited: [] }, "");
  try {
    const answer = await fetchJson("search", { q: words, ...only });
    await whenReleased();
    if (number === asked) show(answer, words); // else a later question was answered before
  } catch (error) {
    showError(error);
  }
}

/** Show an answer. One that is shown already stays: its results may have the focus, or texts that are selected. */
function show({ tracks, limited }, words) {
  const answer = JSON.stringify([tracks, limited, words, names.size]);
  if (answer === answered) return;
  answered = answer;
  const named = inOrder(Object.keys(tracks).map((name) => ({ name }))).map(({ name }) => [name, tracks[name]]);
  found = named.flatMap(([, rows]) => rows);
  byId("total").textContent = words ? `${limited.length ? "The first " : ""}${counted(found.length, "result")} in ${counted(named.length, "track")}` : "";
  byId("save-windows").hidden = !found.length;
  replaceKeepingFocus(byId("results"), named.map(([name, rows]) => {
    const more = limited.includes(name) ? " or more" : "";
    return el("section", { class: `result ${colourOf(name)}` },
      el("h2", {}, el("span", { class: "dot" }), dataText(name), el("span", { class: "minor" }, ` ${count(rows.length)}${more}`)),
      el("ul", {}, rows.map((row) => result(row, words))));
  }));
}

function result([uid, start_s, end_s, text], words) {
  const link = `video.html?${new URLSearchParams([...filter, ["uid", uid]])}#t=${start_s}`;
  const poster = el("img", { src: `api/poster?${new URLSearchParams({ uid })}`, alt: "", loading: "lazy", error: (event) => event.target.remove() });
  const times = end_s > start_s ? `${clock(start_s)} – ${clock(end_s)}` : clock(start_s);
  return el("li", {}, el("a", { href: link }, el("span", { class: "thumb" }, poster),
    el("span", {}, el("bdi", {}, marked(text, words)),
      el("span", { class: "minor" }, `${times} · `, dataText(names.get(uid) || uid)))));
}

/** Return a text with the words that were searched marked. */
function marked(text, words) {
  const terms = words.match(/[\p{L}\p{N}]+/gu) || [];
  if (!terms.length) return [text];
  const pattern = new RegExp(`(${terms.join("|")})`, "giu");
  return text.split(pattern).map((part, place) => (place % 2 ? el("mark", {}, part) : part));
}

/** Say which annotations are searched, and why others are not. */
function showSources(annotations) {
  const ready = annotations.filter((one) => one.state === "ready").length;
  const sources = byId("sources");
  sources.querySelector("summary").textContent = `${ready} of ${counted(annotations.length, "annotation")} searched`;
  sources.querySelector("ul").replaceChildren(...annotations.map((one) =>
    el("li", {}, dataText(one.name), el("span", { class: "minor" }, `: ${one.state}`,
      one.problem && [", ", dataText(one.problem)]))));
}

/** Search the videos of the filter only, and say so. */
function showFilter(videos) {
  filter = spelled(videos, filter);
  if (!String(filter)) return;
  const found = filtered(videos, filter);
  only = { videos: placesOf(videos, found) };
  byId("filter-text").replaceChildren(`Only in the ${counted(found.length, "video")} of the filter. `,
    el("a", { href: "search.html" }, "All videos"));
}

/** Offer the results as windows; a narration is a moment, from 1 s before it to 0.5 s after it. */
function saveWindows() {
  const rows = found.map(([uid, start_s, end_s]) =>
    end_s > start_s ? [uid, start_s, end_s] : [uid, Math.max(0, start_s - BEFORE_S), start_s + AFTER_S]);
  download("windows.csv", windowsCsv(rows));
}

keepFilter();
byId("words").value = new URLSearchParams(location.search).get("q") || "";
byId("words").focus();
let timer = 0;
byId("words").addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(search, PAUSE_MS);
});
byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
byId("save-windows").addEventListener("click", saveWindows);
watchStatus((status) => {
  showSources(status.annotations);
  return search(); // again with each annotation that is ready
});
loadCatalogue()
  .then((catalogue) => {
    showFilter(catalogue.videos);
    isLoaded = true;
    names = new Map(catalogue.videos.map((video) => [video.uid, video.scenarios[0] || video.uid]));
    return search();
  })
  .catch(showError);
