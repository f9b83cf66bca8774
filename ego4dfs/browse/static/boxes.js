/** The boxes on the picture: annotated objects, and where they are between annotated moments. */

import { svg } from "./dom.js";
import { colourOf } from "./segments.js";

const GAP_S = 1.5; // moments that are farther apart are not one movement
const HOLD_S = 0.2; // how long a box is shown after the last moment of its movement
const ROUNDING_S = 1e-3;
const RADIUS = 0.02; // of the width of the picture, for a position without an extent

/** Return left, top, width and height of an object at a second, or null if it is not annotated. */
export function boxAt(boxes, seconds) {
  let [place, end] = [-1, boxes.length];
  while (end - place > 1) {
    const middle = (place + end) >> 1;
    if (boxes[middle][0] <= seconds + ROUNDING_S) place = middle;
    else end = middle;
  }
  if (place < 0) return null;
  const [from, ...box] = boxes[place];
  const next = boxes[place + 1];
  if (next && next[0] - from <= GAP_S) {
    const share = Math.max(0, (seconds - from) / (next[0] - from));
    return box.map((value, axis) => value + share * (next[axis + 1] - value));
  }
  return seconds <= from + HOLD_S ? box : null;
}

export class Boxes {
  /** Draw in the SVG element `place` over `video` while `toggle` is checked, and name them in `list`. */
  constructor(video, place, list, toggle) {
    this.video = video;
    this.place = place;
    this.list = list;
    this.toggle = toggle;
    this.objects = [];
    this.seconds = 0;
    toggle.addEventListener("change", () => this.moveTo(this.seconds));
    video.addEventListener("loadedmetadata", () => this.moveTo(this.seconds));
    this.followPictures();
  }

  /** Draw objects from now on. */
  show(objects) {
    this.objects = objects;
    this.toggle.closest("label").hidden = !objects.length;
    this.moveTo(this.seconds);
  }

  /** Move with each picture, where the browser tells which one it shows. */
  followPictures() {
    this.video.requestVideoFrameCallback?.((_, { mediaTime }) => {
      this.moveTo(mediaTime);
      this.followPictures();
    });
  }

  moveTo(seconds) {
    this.seconds = seconds;
    const { videoWidth: width, videoHeight: height } = this.video;
    const shown = this.toggle.checked && width ? this.objects.flatMap((one) => {
      const box = boxAt(one.boxes, seconds);
      return box ? [{ ...one, box }] : [];
    }) : [];
    // The SVG is fitted into its place as the picture is: whole, and in the middle.
    this.place.setAttribute("viewBox", `0 0 ${width || 1} ${height || 1}`);
    this.place.replaceChildren(...shown.map((one) => drawn(one, width, height)));
    const labels = shown.map(({ label }) => label).join(", ");
    if (this.list.textContent !== labels) this.list.textContent = labels;
  }
}

function drawn({ track, label, box, in_pixels }, width, height) {
  const [x, y, w, h] = in_pixels ? box : [box[0] * width, box[1] * height, box[2] * width, box[3] * height];
  const letters = height / 24;
  const shape = w || h
    ? svg("rect", { x, y, width: w, height: h })
    : svg("circle", { cx: x, cy: y, r: RADIUS * width });
  const above = y > 1.5 * letters ? y - letters / 3 : y + h + letters;
  return svg("g", { class: colourOf(track) }, shape, svg("text", { x, y: above, "font-size": letters }, label));
}
