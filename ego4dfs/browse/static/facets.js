/** The fields of the filter: a list of check boxes for each group, with the number of videos. */

import { GROUPS, filtered, tally } from "./catalogue.js";
import { count, dataText, el, replaceKeepingFocus } from "./dom.js";

const MANY = 12;

/** Fill `place` with the fields of all groups; what is checked, focused and unfolded stays so. */
export function groupFields(place, videos, filter) {
  const scrolled = Object.fromEntries(
    [...place.querySelectorAll("ul")].map((list) => [list.dataset.key, list.scrollTop]));
  replaceKeepingFocus(place, Object.keys(GROUPS).map((key) => groupOf(key, videos, filter)).filter(Boolean));
  for (const list of place.querySelectorAll("ul")) list.scrollTop = scrolled[list.dataset.key] || 0;
}

/** Return the fields of a group: values of the videos that the other groups admit. */
function groupOf(key, videos, filter) {
  // For values that a video must all have, the numbers are those of the videos that are left.
  const counts = new Map(tally(filtered(videos, filter, key === "has" ? "" : key), key));
  const checked = filter.getAll(key);
  for (const value of checked) if (!counts.has(value)) counts.set(value, 0);
  if (!counts.size) return null;
  const rows = [...counts].map(([value, number]) =>
    el("li", {}, el("label", {},
      el("input", { type: "checkbox", name: key, value, checked: checked.includes(value) }),
      dataText(GROUPS[key].label(value), { class: "value" }),
      el("span", { class: "number" }, count(number)))));
  const list = el("ul", { class: rows.length > MANY ? "options many" : "options", "data-key": key }, rows);
  return el("fieldset", {}, el("legend", {}, GROUPS[key].title), list);
}
