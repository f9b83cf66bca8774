/**
 * Elements, and the forms in which numbers are shown.
 *
 * Every text becomes a text node or an attribute, so nothing of the data is ever markup. Positions
 * are set with `element.style`, which the Content-Security-Policy of the pages allows.
 */

const CLICK_MS = 100; // in which the click follows when a pointer is released; that of a finger is an event of its own
const COPIED_MS = 1200;
const RELOADED = "ego4dfs-reloaded"; // a key of the storage of this tab
let catalogueId = ""; // what names the videos that this page has, once it has loaded them
const copied = new WeakMap(); // buttons, with their own text and the timer that restores it
const waiting = []; // updates that wait until no pointer is pressed
let isPressed = false;
let release = 0; // the timer after which no pointer is pressed
const SVG = "http://www.w3.org/2000/svg";

/** Return an element; attributes that are functions are listeners, those that are null are left out. */
export function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** Return an SVG element, as `el` does. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

/** Return the element with an id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Replace the children of an element; if one of them has the focus, the new one like it gets it. */
export function replaceKeepingFocus(place, children) {
  const focused = place.contains(document.activeElement) ? document.activeElement : null;
  place.replaceChildren(...children);
  if (!focused || focused === document.activeElement) return;
  const likes = [...place.querySelectorAll(focused.tagName)];
  likes.find((one) => identityOf(one) === identityOf(focused))?.focus({ preventScroll: true });
}

/** Return what distinguishes a link, a button or a field from others of its list: its `data-key`, if it has one. */
function identityOf({ dataset, href, name, value, title, textContent }) {
  return dataset.key ?? JSON.stringify([href, name, value, title, textContent]);
}

/** Make the children of an element like others. Those that are the same stay, with their scroll and selection. */
export function patchChildren(place, children) {
  for (const [number, child] of children.entries()) {
    if (number < place.childNodes.length) patch(place.childNodes[number], child);
    else place.append(child);
  }
  while (place.childNodes.length > children.length) place.lastChild.remove();
}

function patch(present, wanted) {
  if (present.isEqualNode(wanted)) return;
  if (!present.tagName || present.tagName !== wanted.tagName) {
    present.replaceWith(wanted);
    return;
  }
  for (const name of present.getAttributeNames()) if (!wanted.hasAttribute(name)) present.removeAttribute(name);
  for (const name of wanted.getAttributeNames()) present.setAttribute(name, wanted.getAttribute(name));
  patchChildren(present, [...wanted.childNodes]);
}

/** Wait while a pointer is pressed: an element that is replaced or moved then would not get the click. */
export async function whenReleased() {
  if (isPressed) await new Promise((done) => waiting.push(done));
}

addEventListener("pointerdown", () => {
  clearTimeout(release);
  release = 0;
  isPressed = true;
}, true);
for (const name of ["pointerup", "pointercancel", "contextmenu"]) addEventListener(name, onRelease, true);
addEventListener("blur", onRelease); // of the window; those of elements do not bubble
// Where it was released outside of the page, or over a menu or a scroll bar, there may be no event of that.
addEventListener("pointermove", ({ buttons }) => buttons || onRelease(), true);

function onRelease() {
  if (!isPressed) return;
  release ||= setTimeout(() => {
    release = 0;
    isPressed = false;
    for (const done of waiting.splice(0)) done();
  }, CLICK_MS);
}

/** Return a text of the data as an element that keeps its writing direction to itself. */
export function dataText(text, attributes = {}) {
  return el("bdi", attributes, text);
}

/** Let all requests say from now on which videos this page has. */
export function tellCatalogue(id) {
  catalogueId = id;
}

/**
 * Return what the server answers to `api/<name>`. Throws an Error with the text of a refusal.
 *
 * If the server was started with other videos since, the page is loaded again, and there is no
 * answer: what it knows by the place of a video would be that of another one.
 */
export async function fetchJson(name, parameters = {}) {
  const query = new URLSearchParams({ ...parameters, ...(catalogueId && { catalogue: catalogueId }) });
  const answer = await fetch(`api/${name}?${query}`);
  if (answer.status === 409) {
    sessionStorage.setItem(RELOADED, "1");
    location.reload();
    return new Promise(() => {});
  }
  if (!answer.ok) throw new Error((await answer.text()).trim() || `HTTP ${answer.status}`);
  return answer.json();
}

/** Say that the page was loaded again by itself, if it was. */
export function showReload() {
  if (!sessionStorage.getItem(RELOADED)) return;
  sessionStorage.removeItem(RELOADED);
  showError(new Error("The server shows other videos now, so this page was loaded again."));
}

/** Show an error in the element `message` of the page. */
export function showError(error) {
  const place = byId("message");
  place.hidden = false;
  place.textContent = error.message || String(error);
}

/** Return seconds as `1:02:03`, with tenths if there are some and `exact` is set. */
export function clock(seconds, exact = false) {
  const tenths = exact ? Math.floor(seconds * 10 + 1e-6) : Math.floor(seconds) * 10;
  const whole = Math.floor(tenths / 10);
  const parts = [Math.floor(whole / 60) % 60, whole % 60].map((n) => String(n).padStart(2, "0"));
  const hours = Math.floor(whole / 3600);
  const text = hours ? `${hours}:${parts.join(":")}` : parts.join(":").replace(/^0/, "");
  return exact ? `${text}.${tenths % 10}` : text;
}

/** Return seconds as hours or minutes for people. */
export function duration(seconds) {
  if (seconds >= 36000) return `${count(Math.round(seconds / 3600))} h`;
  if (seconds >= 3600) return `${(seconds / 3600).toFixed(1)} h`;
  return seconds >= 60 ? `${(seconds / 60).toFixed(1)} min` : `${seconds.toFixed(0)} s`;
}

/** Return a number with its thousands apart. */
export function count(number) {
  return number.toLocaleString("en");
}

/** Return a number and what it counts. */
export function counted(number, name) {
  return `${count(number)} ${name}${number === 1 ? "" : "s"}`;
}

/** Return a number of bytes in binary units. */
export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  while (value >= 1024 && units.length > 1) {
    value /= 1024;
    units.shift();
  }
  return units[0] === "B" ? `${value} B` : `${value.toFixed(1)} ${units[0]}`;
}

/** Offer a text as a file. */
export function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Copy a text, and say so on the button for a second; without the right to copy, select it. */
export async function copy(text, button, source) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    getSelection().selectAllChildren(source);
    return;
  }
  // After a second click the text is "Copied" already.
  const { label = button.textContent, timer } = copied.get(button) || {};
  clearTimeout(timer);
  button.textContent = "Copied";
  const restore = () => {
    button.textContent = label;
    copied.delete(button);
  };
  copied.set(button, { label, timer: setTimeout(restore, COPIED_MS) });
}
