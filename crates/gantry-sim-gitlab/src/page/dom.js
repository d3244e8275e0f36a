// Small helpers: elements, calls to the simulator, and words for times. Text always becomes text,
// never markup.

/** An element with properties, `data-` and `aria-` attributes, listeners (`onclick`), and children. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The same for drawings. */
export function svg(tag, attributes = {}) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** Calls the simulator; an error has its words. */
export async function call(method, path, body) {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const response = await fetch(path, options);
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    const error = new Error(answer.error ?? `${method} ${path}: ${response.status}`);
    error.status = response.status;
    error.problems = answer.problems ?? [];
    throw error;
  }
  return answer;
}

/** What the simulator's clock says now: its times are not this machine's if they are on two machines. */
let skew = 0;
export function setClock(now) {
  skew = Date.parse(now) - Date.now();
}
export function clock() {
  return Date.now() + skew;
}

/** `1 h 2 min`, `3 min 4 s`, `5.6 s`. */
export function span(milliseconds) {
  const seconds = Math.max(0, milliseconds / 1000);
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function ago(then) {
  const seconds = Math.max(0, (clock() - Date.parse(then)) / 1000);
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return `${Math.floor(seconds / 3600)} h ago`;
}

/** A time that keeps its words right. */
export function timeAgo(then) {
  return h("time", { datetime: then, title: new Date(then).toLocaleString(), "data-ago": then }, ago(then));
}

/** From one time to another, or to now. */
export function duration(from, to) {
  if (!from) return null;
  if (to) return h("span", { class: "duration" }, span(Date.parse(to) - Date.parse(from)));
  return h("span", { class: "duration", "data-since": from }, span(clock() - Date.parse(from)));
}

setInterval(() => {
  for (const element of document.querySelectorAll("[data-ago]")) element.textContent = ago(element.dataset.ago);
  for (const element of document.querySelectorAll("[data-since]")) {
    element.textContent = span(clock() - Date.parse(element.dataset.since));
  }
}, 1000);

/** Every state: its sign and its word. */
const STATES = {
  created: ["○", "created"],
  pending: ["◔", "pending"],
  running: ["◐", "running"],
  canceling: ["◐", "canceling"],
  success: ["✓", "passed"],
  failed: ["✕", "failed"],
  canceled: ["⊘", "canceled"],
  skipped: ["»", "skipped"],
  manual: ["▷", "manual"],
  scheduled: ["◷", "scheduled"],
};

/** A state as a badge. A failure that is allowed is a warning. */
export function badge(status, allowed = false) {
  const [sign, word] = STATES[status] ?? ["?", status];
  const warns = status === "failed" && allowed;
  return h(
    "span",
    { class: `badge s-${warns ? "warning" : status}` },
    h("span", { class: "sign", "aria-hidden": "true" }, warns ? "!" : sign),
    warns ? "failed (allowed)" : word,
  );
}

export function isOpen(status) {
  return !["success", "failed", "canceled", "skipped"].includes(status);
}
