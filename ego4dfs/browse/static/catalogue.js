/**
 * The catalogue: the selected videos, and the filter of them that the address of a page has.
 *
 * A filter is a URLSearchParams. Values of one group are alternatives; groups restrict each other.
 */

import { fetchJson, showReload, tellCatalogue } from "./dom.js";

const benchmark = (text) => (text === "goalstep" ? "GoalStep" : text.toUpperCase());
const plain = (text) => text;

/** The groups of the filter that have a list of values, and the values of a video in each. */
export const GROUPS = {
  benchmark: { title: "Benchmark", of: (video) => video.benchmarks, label: benchmark },
  split: { title: "Split", of: (video) => video.splits, label: plain },
  university: { title: "University", of: (video) => video.universities, label: plain },
  has: { title: "With", of: (video) => video.has, label: (name) => STREAM_LABELS[name] },
  scenario: { title: "Scenario", of: (video) => video.scenarios, label: plain },
};

const KEYS = [...Object.keys(GROUPS), "text", "min", "max"];
const STREAM_LABELS = { audio: "sound", imu: "IMU", gaze: "gaze" };

/** Return the catalogue; its `videos` are objects with the columns as members. */
export async function loadCatalogue() {
  const found = await fetchJson("catalogue");
  tellCatalogue(found.id);
  showReload();
  const videos = found.videos.map((row) => {
    const video = Object.fromEntries(found.columns.map((name, place) => [name, row[place]]));
    video.has = Object.keys(STREAM_LABELS).filter((name) => video[`has_${name}`]);
    return video;
  });
  return { ...found, videos };
}

/** Return the filter in the address of this page. */
export function filterOfPage() {
  const given = new URLSearchParams(location.search);
  return new URLSearchParams([...given].filter(([key, value]) => KEYS.includes(key) && value));
}

/** Return a filter with its values spelled as those of the videos: an address may have EM for em. */
export function spelled(videos, filter) {
  const known = Object.fromEntries(Object.entries(GROUPS).map(([key, { of }]) => {
    const values = videos.flatMap(of);
    // A value is also its own spelling, where two differ in their case only.
    return [key, new Map([...values.map((value) => [value.toLowerCase(), value]), ...values.map((value) => [value, value])])];
  }));
  const spelling = (key, value) => known[key]?.get(value) ?? known[key]?.get(value.toLowerCase()) ?? value;
  return new URLSearchParams([...filter].map(([key, value]) => [key, spelling(key, value)]));
}

/** Return the address of a page of this server with a filter. */
export function pageWith(page, filter) {
  return String(filter) ? `${page}?${filter}` : page;
}

/** Return the videos that a filter admits; `except` is a group that is not applied. */
export function filtered(videos, filter, except = "") {
  const tests = Object.entries(GROUPS)
    .filter(([key]) => key !== except && filter.has(key))
    .map(([key, group]) => {
      const wanted = new Set(filter.getAll(key));
      // Of audio, IMU and gaze a video must have all that are asked for.
      if (key === "has") return (video) => [...wanted].every((name) => video.has.includes(name));
      return (video) => group.of(video).some((value) => wanted.has(value));
    });
  const text = (filter.get("text") || "").trim().toLowerCase();
  if (text) tests.push((video) => video.uid.includes(text));
  const minutes = ["min", "max"].map((key) => (filter.has(key) ? Number(filter.get(key)) : NaN));
  if (!Number.isNaN(minutes[0])) tests.push((video) => video.duration_s !== null && video.duration_s >= minutes[0] * 60);
  if (!Number.isNaN(minutes[1])) {
    tests.push((video) => video.duration_s !== null && video.duration_s < minutes[1] * 60);
  }
  return tests.length ? videos.filter((video) => tests.every((test) => test(video))) : videos;
}

/** Return the length of the videos in seconds, and how many have an unknown one that is left out. */
export function lengthOf(videos) {
  const known = videos.filter((video) => video.duration_s !== null);
  return { seconds: known.reduce((sum, video) => sum + video.duration_s, 0), unknown: videos.length - known.length };
}

/** Return which videos of all a filter admits: a bit for each, in base64, as `api/search` takes it. */
export function placesOf(videos, found) {
  const bits = new Uint8Array(Math.ceil(videos.length / 8));
  const admitted = new Set(found);
  videos.forEach((video, place) => {
    if (admitted.has(video)) bits[place >> 3] |= 1 << (place & 7);
  });
  return btoa(Array.from(bits, (byte) => String.fromCharCode(byte)).join("")).replaceAll("+", "-").replaceAll("/", "_");
}

/** Return the number of videos with each value of a group, the most frequent first. */
export function tally(videos, key) {
  const counts = new Map();
  for (const video of videos) {
    for (const value of GROUPS[key].of(video)) counts.set(value, (counts.get(value) || 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
}

/** Values of an option that end no list and begin no other option, whoever wrote the manifest. */
const WORD = /^\w[\w:.+-]*$/;

/**
 * Return the command that mounts the videos of a filter, and whether it needs the file uids.txt.
 *
 * Options select by benchmark, split and university only, and would widen a selection that
 * `ego4dfs browse` was started with.
 */
export function mountCommand(catalogue, filter) {
  const options = { benchmark: "--benchmarks", university: "--universities", split: "--splits" };
  const keys = [...new Set(filter.keys())];
  const isExpressible =
    !catalogue.is_filtered &&
    keys.every((key) => key in options && filter.getAll(key).every((value) => WORD.test(value))) &&
    (catalogue.splits_are_options || !filter.has("split"));
  const words = ["ego4dfs mount ~/ego4d_data", catalogue.version_option, catalogue.store_options, catalogue.datasets_option];
  if (isExpressible) {
    for (const key of keys) words.push(options[key], ...filter.getAll(key));
  } else {
    words.push("--video_uid_file uids.txt");
  }
  return { command: words.filter(Boolean).join(" "), needsFile: !isExpressible };
}

/** Return a text as one word of a shell. */
export function shellWord(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`;
}

/** Return the windows CSV of `[uid, start, end]` rows, which `prefetch --windows` reads. */
export function windowsCsv(rows) {
  const cell = (uid) => (/[",]/.test(uid) ? `"${uid.replaceAll('"', '""')}"` : uid);
  const lines = rows.map(([uid, start, end]) => `${cell(uid)},${start},${end}`);
  return ["video_uid,start_s,end_s", ...lines, ""].join("\n");
}
