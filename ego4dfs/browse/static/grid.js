/** The page of all videos: cards, a page of them at a time, and the filter beside them. */

import {
  GROUPS, filterOfPage, filtered, lengthOf, loadCatalogue, mountCommand, pageWith, spelled, windowsCsv,
} from "./catalogue.js";
import {
  byId, clock, copy, count, counted, dataText, download, duration, el, fetchJson, showError, whenReleased,
} from "./dom.js";
import { groupFields } from "./facets.js";
import { keepFilter, watchStatus } from "./page.js";

const PAGE_SIZE = 60;
const ORDERS = { // those of unknown length are last
  longest: (a, b) => (b.duration_s ?? -1) - (a.duration_s ?? -1),
  shortest: (a, b) => (a.duration_s ?? 1e9) - (b.duration_s ?? 1e9),
};

let catalogue;
let filter = filterOfPage();
let shown = [];
let page = pageOfAddress();

function pageOfAddress() {
  return Math.max(1, Math.floor(Number(new URLSearchParams(location.search).get("page"))) || 1);
}

/** Show the videos of the filter, and put it into the address. */
function show({ addsHistory = false } = {}) {
  const order = ORDERS[byId("sort").value];
  const found = filtered(catalogue.videos, filter);
  shown = order ? found.toSorted(order) : found;
  const pages = Math.max(1, Math.ceil(shown.length / PAGE_SIZE));
  page = Math.min(page, pages);
  const address = new URLSearchParams(filter);
  if (byId("sort").value) address.set("sort", byId("sort").value);
  if (page > 1) address.set("page", page);
  const url = pageWith("index.html", address);
  if (addsHistory) history.pushState(null, "", url);
  else history.replaceState(null, "", url);
  keepFilter(filter);
  const { seconds, unknown } = lengthOf(shown);
  const others = unknown ? `, ${count(unknown)} of unknown length` : "";
  byId("total").textContent = `${counted(shown.length, "video")}, ${duration(seconds)}${others}`;
  byId("cards").replaceChildren(...shownOnPage().map(card));
  byId("place").textContent = `Page ${count(page)} of ${count(pages)}`;
  byId("previous").disabled = page === 1;
  byId("next").disabled = page === pages;
  showCommand();
  groupFields(byId("groups"), catalogue.videos, filter);
}

function shownOnPage() {
  return shown.slice((page - 1) * PAGE_SIZE, page * PAGE_SIZE);
}

/** Return the card of a video. */
function card(video) {
  const link = new URLSearchParams([...filter, ["uid", video.uid]]);
  const tags = [...video.benchmarks.map(GROUPS.benchmark.label), ...video.has.map(GROUPS.has.label)];
  return el("li", {},
    el("a", { class: "card", href: `video.html?${link}` },
      el("span", { class: "poster" }, poster(video),
        el("span", { class: "badge" }, video.duration_s === null ? "?" : clock(video.duration_s))),
      dataText(video.scenarios[0] || "No scenario", { class: "name" }),
      el("span", { class: "minor" }, dataText(video.universities.join(", ")), narrationsOf(video)),
      el("span", { class: "tags" }, tags.map((tag) => dataText(tag, { class: "tag" }))),
      dataText(video.uid, { class: "uid" })));
}

/** Return how many narrations a video has, null if it has none or the number is not known yet. */
function narrationsOf(video) {
  return video.narrations ? el("span", {}, counted(video.narrations, "narration")) : null;
}

/** Return the picture of a video; one that there is none of is removed. */
function poster(video) {
  const address = new URLSearchParams({ uid: video.uid });
  const attributes = { src: `api/poster?${address}`, alt: "", loading: "lazy", decoding: "async" };
  return el("img", { ...attributes, error: (event) => event.target.remove() });
}

function showCommand() {
  const { command, needsFile } = mountCommand(catalogue, filter);
  byId("command").textContent = command;
  byId("command-note").textContent = needsFile
    ? "The same videos as a mount, with uids.txt in the working directory:"
    : "The same videos as a mount:";
}

/** Take the filter from its fields. */
function readFields() {
  const given = new FormData(byId("filter"));
  filter = new URLSearchParams([...given].filter(([, value]) => value !== ""));
  page = 1;
  show();
}

function fillFields() {
  for (const name of ["text", "min", "max"]) byId("filter").elements[name].value = filter.get(name) || "";
}

function turn(step) {
  page += step;
  show({ addsHistory: true });
  scrollTo(0, 0);
  byId("cards").querySelector("a")?.focus({ preventScroll: true });
}

/**
 * Add the numbers of narrations, which are known when they have been read.
 *
 * The cards stay: a new one would not have the focus.
 */
async function addNarrations() {
  const counts = await fetchJson("narrations");
  await whenReleased();
  if (!counts.length || catalogue.hasNarrations) return;
  catalogue.hasNarrations = true;
  catalogue.videos.forEach((video, place) => (video.narrations = counts[place]));
  const cards = byId("cards").querySelectorAll(".card .minor");
  shownOnPage().forEach((video, place) => cards[place].append(narrationsOf(video) ?? ""));
}

function listen() {
  byId("filter").addEventListener("input", readFields);
  byId("filter").addEventListener("submit", (event) => event.preventDefault());
  byId("filter").addEventListener("reset", (event) => {
    event.preventDefault();
    filter = new URLSearchParams();
    page = 1;
    fillFields();
    show();
  });
  byId("sort").addEventListener("change", () => show());
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  addEventListener("popstate", () => {
    filter = spelled(catalogue.videos, filterOfPage());
    page = pageOfAddress();
    fillFields();
    show();
  });
  byId("save-uids").addEventListener("click", () =>
    download("uids.txt", shown.map((video) => `${video.uid}\n`).join("")));
  byId("save-windows").addEventListener("click", () => {
    const known = shown.filter((video) => video.duration_s !== null);
    download("windows.csv", windowsCsv(known.map((video) => [video.uid, 0, video.duration_s])));
  });
  byId("copy-command").addEventListener("click", (event) =>
    copy(byId("command").textContent, event.target, byId("command")));
}

try {
  if (matchMedia("(max-width: 50rem)").matches) byId("sidebar").open = false;
  byId("sort").value = new URLSearchParams(location.search).get("sort") || "";
  catalogue = await loadCatalogue();
  if (catalogue.problem) showError(new Error(catalogue.problem));
  filter = spelled(catalogue.videos, filter);
  fillFields();
  listen();
  show();
  watchStatus(() => addNarrations().catch(showError));
} catch (error) {
  byId("total").textContent = "No videos";
  showError(error);
}
