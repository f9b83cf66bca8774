/** The page of numbers and plots of all videos, or of those of the filter. */

import { GROUPS, filterOfPage, filtered, lengthOf, loadCatalogue, pageWith, spelled, tally } from "./catalogue.js";
import { barChart } from "./chart.js";
import { byId, count, counted, duration, el, fetchJson, showError, whenReleased } from "./dom.js";
import { keepFilter, watchStatus } from "./page.js";

const MINUTES = [0, 1, 5, 10, 20, 30, 60, 120];
const MOST = 20;

let filter = filterOfPage();
let all = [];
let videos = [];

function showNumbers() {
  const narrations = videos.reduce((sum, video) => sum + (video.narrations || 0), 0);
  const { seconds, unknown } = lengthOf(videos);
  const numbers = [
    ["Videos", count(videos.length)],
    ["Length", duration(seconds)],
    ...(unknown ? [["Of unknown length", count(unknown)]] : []),
    ["Universities", count(tally(videos, "university").length)],
    ["Scenarios", count(tally(videos, "scenario").length)],
    ...tally(videos, "has").map(([name, number]) => [`With ${GROUPS.has.label(name)}`, count(number)]),
    ...(narrations ? [["Narrations", count(narrations)]] : []),
  ];
  byId("numbers").replaceChildren(...numbers.map(([name, number]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, number))));
}

/** Return bars of the videos with each value of a group; a bar replaces what the filter says of it. */
function barsOf(key) {
  return tally(filtered(all, filter, key), key).slice(0, MOST).map(([value, number]) => ({
    label: GROUPS[key].label(value),
    number,
    href: pageWith("index.html", restricted({ [key]: value })),
  }));
}

/** Return the videos that the filter admits, whatever it says of their length. */
function ofAnyLength() {
  const others = new URLSearchParams(filter);
  others.delete("min");
  others.delete("max");
  return filtered(all, others);
}

function durationBars(found) {
  return MINUTES.map((from, place) => {
    const to = MINUTES[place + 1];
    const isInside = ({ duration_s }) =>
      duration_s !== null && duration_s >= from * 60 && !(duration_s >= to * 60);
    return {
      label: to === undefined ? `${from} min and more` : `${from} – ${to} min`,
      number: found.filter(isInside).length,
      href: pageWith("index.html", restricted({ min: from, max: to })),
    };
  });
}

/** Return the filter with other values of some keys; undefined removes one. */
function restricted(values) {
  const found = new URLSearchParams(filter);
  for (const [key, value] of Object.entries(values)) {
    found.delete(key);
    if (value !== undefined) found.set(key, value);
  }
  return found;
}

function showCharts() {
  const found = ofAnyLength();
  const { unknown } = lengthOf(found);
  const note = unknown ? `, without ${counted(unknown, "video")} of unknown length` : "";
  const charts = [["Duration", durationBars(found), note]];
  for (const key of ["benchmark", "university", "split", "scenario"]) {
    charts.push([GROUPS[key].title, barsOf(key), ""]);
  }
  byId("charts").replaceChildren(...charts.filter(([, bars]) => bars.length).map(([title, bars, note]) =>
    el("figure", {}, el("figcaption", {}, title, el("span", { class: "minor" }, ` videos${note}`)), barChart(title, bars))));
}

try {
  keepFilter(filter);
  const catalogue = await loadCatalogue();
  if (catalogue.problem) showError(new Error(catalogue.problem));
  all = catalogue.videos;
  filter = spelled(all, filter);
  videos = filtered(all, filter);
  byId("filter-text").replaceChildren(...(String(filter)
    ? [`Only the ${counted(videos.length, "video")} of the filter. `, el("a", { href: "dataset.html" }, "All videos")] : []));
  showNumbers();
  showCharts();
  watchStatus(async () => {
    const counts = await fetchJson("narrations");
    await whenReleased(); // one number more moves the charts
    catalogue.videos.forEach((video, place) => (video.narrations = counts[place]));
    showNumbers();
  });
} catch (error) {
  showError(error);
}
