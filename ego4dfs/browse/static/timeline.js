/** The time line: a row of coloured segments for each track, and the place of the video. */

import { clock, dataText, el, svg } from "./dom.js";
import { colourOf } from "./segments.js";

const LEAST_SHARE = 1 / 500; // of what is seen, so that short segments can be seen and clicked

export class Timeline {
  /** Draw in `place`; `hint` shows the text of the segment under the pointer. */
  constructor(place, hint, goTo, seek) {
    this.place = place;
    this.hint = hint;
    this.goTo = goTo;
    this.seek = seek;
    this.tracks = [];
    this.duration = 1;
    this.factor = 1;
    this.cursor = el("div", { class: "cursor" });
    this.rows = el("div", { class: "rows" });
    place.append(this.rows);
  }

  /** Show tracks of a video that has `duration` seconds, as far as is known. */
  show(tracks, duration) {
    this.tracks = tracks;
    this.duration = Math.max(this.duration, duration);
    this.draw();
  }

  setDuration(duration) {
    if (!Number.isFinite(duration)) return;
    this.duration = duration;
    this.draw();
  }

  zoom(factor) {
    this.factor = factor;
    this.rows.style.width = `${100 * factor}%`;
    this.draw();
    this.place.scrollLeft = this.rows.scrollWidth * ((this.seconds || 0) / this.duration) - this.place.clientWidth / 2;
  }

  moveTo(seconds) {
    this.seconds = seconds;
    this.cursor.style.left = `${(100 * seconds) / this.duration}%`;
  }

  draw() {
    const scale = el("div", { class: "scale" }, this.marks());
    const strips = this.tracks.map((track) => this.strip(track));
    this.rows.replaceChildren(scale, ...strips, this.cursor);
    this.moveTo(this.seconds || 0);
  }

  /** Return the times above the tracks; a click there goes to the second. */
  marks() {
    const steps = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600];
    const step = steps.find((one) => this.duration / one <= 10 * this.factor) || 7200;
    const marks = [];
    for (let at = 0; at < this.duration; at += step) {
      const mark = el("button", { class: "mark", tabindex: "-1", click: () => this.seek(at) }, clock(at));
      mark.style.left = `${(100 * at) / this.duration}%`;
      marks.push(mark);
    }
    return marks;
  }

  strip(track) {
    const least = (this.duration * LEAST_SHARE) / this.factor;
    const attributes = { viewBox: `0 0 ${this.duration} 1`, preserveAspectRatio: "none", "aria-hidden": "true" };
    const drawn = svg("svg", { ...attributes, class: colourOf(track.name) }, track.segments.map(([start_s, end_s, text]) => {
      const segment = { start_s, end_s, text, track: track.name };
      const width = Math.max(least, Math.min(end_s, this.duration) - start_s);
      const x = Math.min(start_s, this.duration - width);
      return svg("rect", {
        x, width, y: 0, height: 1,
        click: () => this.choose(segment),
        pointerenter: () => this.point(segment),
      });
    }));
    return el("div", { class: "strip" }, dataText(track.name, { class: "strip-name" }), drawn);
  }

  choose(segment) {
    this.point(segment);
    this.goTo(segment);
  }

  point({ start_s, end_s, text, track }) {
    const times = end_s > start_s ? `${clock(start_s, true)} – ${clock(end_s, true)}` : clock(start_s, true);
    this.hint.replaceChildren(el("b", {}, `${times} `), dataText(track, { class: "minor" }), " ", dataText(text));
  }
}
