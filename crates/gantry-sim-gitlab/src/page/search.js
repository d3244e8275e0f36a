// Search in a job's log, and links to its lines.

import { h } from "./dom.js";

/** So many hits are marked; the count says that there are more. */
const MOST_HITS = 5000;

/** Shows a line, with the sections around it open. */
export function show(element) {
  for (let parent = element.closest("details"); parent; parent = parent.parentElement.closest("details")) parent.open = true;
  element.scrollIntoView({ block: "center" });
}

export class Search {
  constructor(log) {
    this.log = log;
    this.hits = [];
    this.at = -1;
    this.count = h("span", { class: "count", role: "status" });
    this.input = h("input", { type: "search", placeholder: "Search", "aria-label": "Search in the log", spellcheck: "false" });
    this.element = h(
      "span",
      { class: "search" },
      this.input,
      h("button", { type: "button", class: "quiet", "aria-label": "Previous hit", onclick: () => this.step(-1) }, "↑"),
      h("button", { type: "button", class: "quiet", "aria-label": "Next hit", onclick: () => this.step(1) }, "↓"),
      this.count,
    );
    this.input.addEventListener("input", () => this.run());
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.step(event.shiftKey ? -1 : 1);
      if (event.key === "Escape") {
        this.input.value = "";
        this.run();
        this.input.blur();
      }
    });
  }

  run() {
    for (const element of this.hits) element.classList.remove("hit", "here");
    this.hits = [];
    this.at = -1;
    const wanted = this.input.value.toLowerCase();
    let more = false;
    if (wanted !== "") {
      for (const element of this.log.lines) {
        if (!element.textContent.toLowerCase().includes(wanted)) continue;
        more = this.hits.length === MOST_HITS;
        if (more) break;
        element.classList.add("hit");
        this.hits.push(element);
      }
    }
    this.more = more;
    if (this.hits.length > 0) this.step(1);
    else this.count.textContent = wanted === "" ? "" : "no hit";
  }

  step(by) {
    if (this.hits.length === 0) return;
    this.hits[this.at]?.classList.remove("here");
    this.at = this.at < 0 && by < 0 ? this.hits.length - 1 : (this.at + by + this.hits.length) % this.hits.length;
    const element = this.hits[this.at];
    element.classList.add("here");
    show(element);
    this.count.textContent = `${this.at + 1} of ${this.hits.length}${this.more ? "+" : ""}`;
  }
}

/** Whether somebody has clicked at the number of a line rather than at its text. */
export function numberAt(event) {
  const line = event.target.closest?.(".line");
  if (!line || !line.dataset.n) return null;
  // A press of a key is a click too, at no place.
  const x = event.clientX - line.getBoundingClientRect().left;
  return event.detail > 0 && x >= 0 && x < 50 ? Number(line.dataset.n) : null;
}
