/** The page of one video: the player, its keys, the link to a second, and the window to cut. */

import { GROUPS, loadCatalogue, shellWord } from "./catalogue.js";
import { Boxes } from "./boxes.js";
import { byId, clock, copy, count, dataText, duration, el, fetchJson, showError, whenReleased } from "./dom.js";
import { keepFilter, watchStatus } from "./page.js";
import { SegmentList, inOrder } from "./segments.js";
import { Timeline } from "./timeline.js";

const RATE = 30; // all videos of Ego4D have 30 pictures a second
const AFTER_END_S = 0.5; // annotations round durations
const SPEEDS = [0.25, 0.5, 1, 1.5, 2, 4];

const uid = new URLSearchParams(location.search).get("uid") || "";
const video = byId("video");
let catalogue;
let path = "";

function seek(seconds) {
  const end = Number.isFinite(video.duration) ? video.duration : Infinity;
  video.currentTime = Math.max(0, Math.min(seconds, end));
}

/** Return the number of the picture that is shown. */
function picture() {
  return Math.floor(video.currentTime * RATE + 1e-3);
}

/** Go to the middle of another picture, so that rounding does not show the one before it. */
function step(pictures) {
  video.pause();
  seek((picture() + pictures + 0.5) / RATE);
}

function changeSpeed(places) {
  const place = SPEEDS.indexOf(video.playbackRate) + places;
  if (place >= 0 && place < SPEEDS.length) video.playbackRate = SPEEDS[place];
}

function toggle() {
  if (video.paused) video.play().catch(showError);
  else video.pause();
}

const ACTIONS = {
  " ": toggle,
  k: toggle,
  ArrowLeft: () => seek(video.currentTime - 5),
  ArrowRight: () => seek(video.currentTime + 5),
  j: () => seek(video.currentTime - 10),
  l: () => seek(video.currentTime + 10),
  ",": () => step(-1),
  ".": () => step(1),
  "<": () => changeSpeed(-1),
  ">": () => changeSpeed(1),
  b: () => byId("show-boxes").click(),
  "[": () => setWindow(video.currentTime, null),
  "]": () => setWindow(null, video.currentTime),
};

/** Run the action of a key, unless it is meant for the element that has the focus. */
function onKey(event) {
  const isTaken = event.target.closest("input:not([type=checkbox]), select, textarea");
  const presses = event.key === " " && event.target.closest("button, a, summary, input, video");
  const action = ACTIONS[event.key];
  if (!action || isTaken || presses || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  action();
}

/** Set the ends of the window that are given, and show what cuts it. */
function setWindow(start, end) {
  if (start !== null) byId("start").value = plain(start);
  if (end !== null) byId("end").value = plain(end);
  const [from, to] = ["start", "end"].map((id) => Number(byId(id).value));
  const end_s = Number.isFinite(video.duration) ? video.duration : Infinity;
  const isWindow = from >= 0 && from < end_s && to > from && to <= end_s + AFTER_END_S;
  const name = `${plain(from)}-${plain(to)}`;
  byId("save").toggleAttribute("hidden", !isWindow);
  byId("save").href = `../.ego4dfs/windows/${encodeURIComponent(uid)}/${name}.mp4`;
  byId("save").download = `${uid}_${name}.mp4`;
  const isPlain = path.split("/")[1] === "full_scale" && !uid.startsWith("-");
  const what = isPlain ? uid : path;
  const words = ["ego4dfs clip", shellWord(what), plain(from), plain(to), catalogue.version_option, catalogue.store_options];
  byId("command").textContent = isWindow ? words.filter(Boolean).join(" ") : "The video has no such window.";
}

/**
 * Return seconds with at most three decimals, as paths of windows have them.
 *
 * They are rounded up: a moment before a picture shows the one before it.
 */
function plain(seconds) {
  return String(Math.max(0, Math.ceil(seconds * 1000 - 1e-6) / 1000));
}

function secondOfAddress() {
  const given = Number(new URLSearchParams(location.hash.slice(1)).get("t"));
  return given > 0 ? given : 0;
}

function describe() {
  const found = catalogue.videos.find((one) => one.uid === uid);
  const title = found?.scenarios.join(" · ") || uid;
  byId("title").replaceChildren(dataText(title));
  document.title = `${title} – ego4dfs`;
  const facts = found
    ? [
        found.universities.join(", "),
        found.duration_s === null ? "" : duration(found.duration_s),
        ...found.benchmarks.map(GROUPS.benchmark.label),
        ...found.splits,
      ]
    : [];
  byId("facts").replaceChildren(...facts.filter(Boolean).map((fact) => dataText(fact, { class: "tag" })), dataText(uid, { class: "uid" }));
}

function listen(timeline, segments, boxes) {
  const moved = () => {
    byId("now").textContent = clock(video.currentTime, true);
    byId("link").href = `#t=${plain(video.currentTime)}`;
    timeline.moveTo(video.currentTime);
    segments.moveTo(video.currentTime);
    boxes.moveTo(picture() / RATE);
  };
  for (const name of ["timeupdate", "seeking", "seeked"]) video.addEventListener(name, moved);
  video.addEventListener("ratechange", () => (byId("speed").value = String(video.playbackRate)));
  video.addEventListener("error", () =>
    showError(new Error(`The video cannot be played: ${video.error?.message || "it cannot be read"}`)));
  addEventListener("hashchange", () => seek(secondOfAddress()));
  addEventListener("keydown", onKey);
  byId("back").addEventListener("click", () => step(-1));
  byId("forth").addEventListener("click", () => step(1));
  byId("speed").addEventListener("change", (event) => (video.playbackRate = Number(event.target.value)));
  byId("zoom").addEventListener("change", (event) => timeline.zoom(Number(event.target.value)));
  byId("link").addEventListener("click", (event) => {
    event.preventDefault();
    history.replaceState(null, "", event.target.getAttribute("href"));
    copy(location.href, event.target, event.target);
  });
  for (const id of ["start", "end"]) {
    byId(id).addEventListener("input", () => setWindow(null, null));
    byId(`${id}-now`).addEventListener("click", () => ACTIONS[id === "start" ? "[" : "]"]());
  }
  byId("copy-command").addEventListener("click", (event) =>
    copy(byId("command").textContent, event.target, byId("command")));
  byId("files").addEventListener("toggle", showFiles, { once: true });
}

/** Say what the server has left out, because a video has too much of it. */
function showMore(more) {
  byId("more").hidden = !more.length;
  byId("more").replaceChildren(...more.map(({ name, segments, has_boxes }) =>
    el("span", {}, dataText(name), `: ${segments ? `${count(segments)} more segments` : "more boxes"}${segments && has_boxes ? " and boxes" : ""} that are not shown. `)));
}

/** Load the list of this video's files in all datasets, which may fetch their manifests. */
async function showFiles() {
  try {
    const files = await fetchJson("files", { uid });
    byId("file-list").replaceChildren(...files.map((file) => {
      const href = treeUrl(file.path);
      const where = catalogue.mountpoint ? `${catalogue.mountpoint}/${file.path}` : file.path;
      return el("li", {}, el("a", { href }, dataText(where)));
    }));
  } catch (error) {
    showError(error);
  }
}

function treeUrl(treePath) {
  return `../${treePath.split("/").map(encodeURIComponent).join("/")}`;
}

async function start() {
  keepFilter();
  const [found, described] = await Promise.all([loadCatalogue(), fetchJson("video", { uid })]);
  catalogue = found;
  path = described.path;
  describe();
  const start_s = secondOfAddress();
  const goTo = (segment) => {
    seek(segment.start_s);
    setWindow(segment.start_s, segment.end_s > segment.start_s ? segment.end_s : segment.start_s + 2);
  };
  const timeline = new Timeline(byId("timeline"), byId("hint"), goTo, seek);
  const segments = new SegmentList(byId("segments"), byId("chips"), byId("follow"), goTo);
  const boxes = new Boxes(video, byId("boxes"), byId("boxes-now"), byId("show-boxes"));
  listen(timeline, segments, boxes);
  setWindow(start_s, start_s + 2);
  const length_s = catalogue.videos.find((one) => one.uid === uid)?.duration_s;
  video.addEventListener("loadedmetadata", async () => {
    await whenReleased();
    timeline.setDuration(video.duration);
    setWindow(null, Math.min(Number(byId("end").value), video.duration));
  });
  video.addEventListener("loadedmetadata", () => start_s && seek(start_s), { once: true });
  const showTracks = (given) => {
    const tracks = inOrder(given.tracks);
    timeline.show(tracks, length_s || 1);
    segments.show(tracks);
    boxes.show(given.objects);
    showMore(given.more);
  };
  showTracks(described);
  video.src = `media?${new URLSearchParams({ uid })}`;
  let shown = JSON.stringify(described);
  watchStatus(async () => {
    const found = await fetchJson("video", { uid });
    await whenReleased();
    if (JSON.stringify(found) !== shown) showTracks(found);
    shown = JSON.stringify(found);
  });
}

start().catch((error) => {
  byId("title").textContent = "No such video";
  showError(error);
});
