/** The list of narrations and annotations beside the video: those of now are lit and in view. */

import { byId, clock, count, dataText, el, replaceKeepingFocus } from "./dom.js";

const COLOURS = 8;
const KINDS = ["narration pass 1", "narration pass 2", "nlq", "moments", "vq", "fho", "goalstep", "clips"];
const SPECIAL = { " pre": 1, " pnr": 4, " post": 2, redacted: 7 }; // ends of names, and their colours
const SHOWN = 3000; // elements; most videos have fewer segments

/** Return the class of the colour of a track: that of its kind, whatever its split. */
export function colourOf(name) {
  const special = Object.keys(SPECIAL).find((end) => name.endsWith(end));
  if (special) return `colour-${SPECIAL[special]}`;
  const known = KINDS.findIndex((kind) => name.startsWith(kind));
  if (known >= 0) return `colour-${known}`;
  let sum = 0;
  for (const letter of name.split("_")[0]) sum = (sum * 31 + letter.codePointAt(0)) % 9973;
  return `colour-${sum % COLOURS}`;
}

/** Order tracks: narrations, then the known kinds, then others. */
export function inOrder(tracks) {
  const phases = ["pre", "pnr", "post"]; // of an action, in their order
  const sorted = ({ name }) => name.replace(/ (pre|pnr|post)$/, (_, phase) => ` ${phases.indexOf(phase)}`);
  const rank = ({ name }) => KINDS.findIndex((kind) => name.startsWith(kind)) >>> 0; // -1 is last
  return tracks.toSorted((a, b) => rank(a) - rank(b) || sorted(a).localeCompare(sorted(b)));
}

export class SegmentList {
  /** List in `place` the tracks that are pressed in `chips`; `goTo` is called with a segment. */
  constructor(place, chips, follow, goTo) {
    this.place = place;
    this.chips = chips;
    this.follow = follow;
    this.goTo = goTo;
    this.hidden = null;
    this.tracks = [];
    this.rows = [];
    this.seconds = 0;
  }

  /** Show tracks. At first narrations are listed, or all tracks if there are none. */
  show(tracks) {
    this.tracks = tracks;
    if (this.hidden === null && tracks.length) {
      const isNarration = (track) => track.name.startsWith("narration pass");
      const others = tracks.filter((track) => !isNarration(track)).map((track) => track.name);
      this.hidden = new Set(tracks.some(isNarration) ? others : []);
    }
    replaceKeepingFocus(this.chips, tracks.map((track) => this.chip(track)));
    this.list();
  }

  chip(track) {
    const isListed = !this.hidden.has(track.name);
    return el("button", {
      class: `chip ${colourOf(track.name)}`,
      "aria-pressed": String(isListed),
      "data-key": track.name,
      click: () => {
        if (isListed) this.hidden.add(track.name);
        else this.hidden.delete(track.name);
        this.show(this.tracks);
      },
    }, el("span", { class: "dot" }), dataText(track.name), el("span", { class: "number" }, count(track.segments.length)));
  }

  list() {
    const listed = this.tracks.filter((track) => !this.hidden.has(track.name));
    const segments = listed.flatMap((track) => track.segments.map(([start_s, end_s, text], place) => ({
      start_s, text, track: track.name,
      end_s,
      // A narration counts until the next one of its pass.
      until_s: end_s > start_s ? end_s : (track.segments[place + 1]?.[0] ?? start_s + 5),
    })));
    segments.sort((a, b) => a.start_s - b.start_s);
    this.rows = segments.slice(0, SHOWN).map((segment) => ({ segment, element: this.row(segment) }));
    const more = segments.length - this.rows.length;
    const empty = this.tracks.length ? "Choose a track above." : "No annotations of this video have been read.";
    const rows = this.rows.length ? this.rows.map((row) => row.element) : [el("li", { class: "minor" }, empty)];
    replaceKeepingFocus(this.place, rows);
    if (more > 0) this.place.append(el("li", { class: "minor" }, `${count(more)} more. Choose fewer tracks to see them.`));
    this.moveTo(this.seconds);
  }

  row(segment) {
    return el("li", {}, el("button", { class: colourOf(segment.track), title: segment.track, click: () => this.goTo(segment) },
      el("span", { class: "dot" }),
      el("time", {}, clock(segment.start_s, true)),
      dataText(segment.text || segment.track)));
  }

  /** Light the segments of a second, and scroll the list there, unless somebody works in it. */
  moveTo(seconds) {
    this.seconds = seconds;
    let first = null;
    for (const { segment, element } of this.rows) {
      const isActive = segment.start_s <= seconds && seconds < segment.until_s;
      if (isActive !== element.hasAttribute("aria-current")) {
        element.toggleAttribute("aria-current", isActive);
        if (isActive) element.setAttribute("aria-current", "true");
      }
      if (isActive && !first) first = element;
    }
    if (!first || !this.follow.checked || this.place.matches(":hover, :focus-within")) return;
    const top = first.offsetTop - this.place.offsetTop;
    this.place.scrollTo({ top: top - this.place.clientHeight / 3 });
  }
}
