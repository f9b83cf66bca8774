/** What all pages have: links that keep the filter, and how far the annotations are read. */

import { filterOfPage, pageWith } from "./catalogue.js";
import { byId, fetchJson, showError, size } from "./dom.js";

const POLL_MS = 1500;

/** Let the links in the header keep the filter of this page. */
export function keepFilter(filter = filterOfPage()) {
  for (const link of document.querySelectorAll("header a[data-page]")) {
    link.href = pageWith(link.dataset.page, filter);
  }
}

/** Keep the state of the server in the header, and call `changed` when annotations are finished. */
export async function watchStatus(changed = () => {}) {
  let finished = -1;
  for (;;) {
    let status;
    try {
      status = await fetchJson("status");
    } catch (error) {
      if (error instanceof TypeError) { // of fetch: there is no connection
        byId("status").textContent = "The server has ended.";
        return;
      }
      await new Promise((done) => setTimeout(done, POLL_MS)); // it is busy
      continue;
    }
    const now = status.annotations.filter((one) => ["ready", "failed"].includes(one.state)).length;
    show(status);
    if (finished !== now) Promise.resolve(changed(status)).catch(showError);
    finished = now;
    if (document.hidden) await new Promise((done) => addOnce(document, "visibilitychange", done));
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

function addOnce(target, name, listener) {
  target.addEventListener(name, listener, { once: true });
}

function show(status) {
  const total = status.annotations.reduce((sum, one) => sum + one.bytes, 0);
  const read = status.annotations.reduce((sum, one) => sum + one.read_bytes, 0);
  const share = total ? Math.floor((100 * read) / total) : 0;
  const text = status.is_done ? "" : `Reading annotations: ${share} % · `;
  byId("status").textContent = `${text}${size(status.bytes_fetched)} fetched`;
  if (status.problem) showError(new Error(`The annotations cannot be listed: ${status.problem}`));
}
