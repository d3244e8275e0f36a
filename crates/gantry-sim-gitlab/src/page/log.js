// A job's log: time stamps, sections, colours, and lines that overwrite themselves. Bytes come in
// pieces of any size; what they say only ever becomes text nodes and classes.

import { h, span } from "./dom.js";

/** `2026-01-31T12:00:00.000000Z 00O `: time, stream, kind, and whether the line goes on. */
const STAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ([0-9a-f]{2})([OE])([ +])/;
const STAMP_LENGTH = 32;
const MARKER = /section_(start|end):(\d+):([\w.:\/-]+)(?:\[([^\]\r]*)\])?\r(?:\x1b\[0K)?/g;
/** More lines than anybody reads here; older ones make room, and the raw log has all. */
const MOST_LINES = 200000;
/** Lines are laid out in groups of this size, and only those in sight. */
const CHUNK = 500;
/** Longer lines are shown up to here. */
const MOST_CHARACTERS = 20000;

export class Log {
  constructor(root) {
    this.root = root;
    this.decoder = new TextDecoder();
    this.rest = "";
    this.number = 0;
    this.lines = [];
    /** Open sections, the innermost last. */
    this.open = [];
    /** Per stream: its last line, and the style that its next one begins with. */
    this.last = new Map();
    this.styles = new Map();
    /** A section whose title has not come yet. */
    this.untitled = null;
    this.partial = null;
    this.skims = false;
  }

  /** Takes more bytes; `final`: there will be no more. */
  push(bytes, final) {
    this.partial?.remove();
    this.partial = null;
    const lines = (this.rest + this.decoder.decode(bytes, { stream: !final })).split("\n");
    this.rest = lines.pop();
    // Of what would be taken away again at once only the sections are made.
    const skims = lines.length - MOST_LINES;
    lines.forEach((line, index) => {
      this.skims = index < skims;
      this.entry(line);
    });
    this.skims = false;
    this.root.style.setProperty("--digits", Math.max(3, String(this.number + 1).length));
    if (this.rest && final) {
      this.entry(this.rest);
      this.rest = "";
    } else if (this.rest && !/^\d{4}-\d\d-/.test(this.rest)) {
      this.showPartial();
    }
  }

  /** The beginning of a line that has no time stamp can be shown before its end has come. */
  showPartial() {
    const text = this.rest.replace(MARKER, "");
    this.partial = h("div", { class: "line", "data-n": this.number + 1 });
    paint(this.partial, text, { ...this.style("") });
    this.place().append(this.partial);
  }

  entry(line) {
    const stamp = STAMP.exec(line);
    const stream = stamp ? stamp[1] : "";
    let goesOn = stamp?.[3] === "+";
    const text = stamp ? line.slice(STAMP_LENGTH) : line;
    let from = 0;
    for (const marker of text.matchAll(MARKER)) {
      const before = text.slice(from, marker.index);
      if (before.replace("\x1b[0K", "") !== "") this.text(stream, before, goesOn, stamp);
      goesOn = false;
      from = marker.index + marker[0].length;
      // The time stamp is finer than the marker's own time.
      const at = stamp ? Date.parse(stamp[0].slice(0, 27)) : Number(marker[2]) * 1000;
      if (marker[1] === "start") this.start(marker[3], at, marker[4] ?? "");
      else this.end(marker[3], at);
    }
    const after = text.slice(from);
    if (from === 0 || after !== "") this.text(stream, after, goesOn, stamp);
  }

  text(stream, text, goesOn, stamp) {
    if (this.untitled) return this.title(stream, text);
    if (this.skims) {
      if (!goesOn) this.number += 1;
      this.last.delete(stream);
      this.root.dataset.shortened = "true";
      return;
    }
    const last = this.last.get(stream);
    if (goesOn && last) {
      last.text += text;
      this.repaint(stream, last);
      return;
    }
    const element = h("div", { class: stamp?.[2] === "E" ? "line err" : "line", "data-n": ++this.number });
    if (stamp) element.title = stamp[0].slice(0, 27);
    this.place().append(element);
    this.keep(stream, { element, target: element, text, style: this.style(stream) });
  }

  /** The first text in a section is its title. */
  title(stream, text) {
    const section = this.untitled;
    this.untitled = null;
    section.summary.dataset.n = ++this.number;
    const target = h("span", { class: "title" });
    section.summary.prepend(target);
    this.keep(stream, { element: section.summary, target, text, style: this.style(stream) });
  }

  keep(stream, line) {
    this.last.set(stream, line);
    this.repaint(stream, line);
    this.lines.push(line.element);
    if (this.lines.length > MOST_LINES * 1.1) {
      const old = this.lines.splice(0, this.lines.length - MOST_LINES);
      for (const element of old) if (element.tagName === "DIV") element.remove();
      this.root.dataset.shortened = "true";
    }
  }

  repaint(stream, line) {
    line.target.replaceChildren();
    const style = { ...line.style };
    paint(line.target, line.text, style);
    this.styles.set(stream, style);
  }

  style(stream) {
    return this.styles.get(stream) ?? {};
  }

  body() {
    return this.open.at(-1)?.body ?? this.root;
  }

  /** Where the next line goes: the group at the end of the innermost open section. */
  place() {
    const body = this.body();
    let chunk = body.lastElementChild;
    if (!chunk?.classList.contains("chunk") || chunk.childElementCount >= CHUNK) {
      // Only of a full group the height is known before it is laid out.
      if (chunk?.classList.contains("chunk")) chunk.classList.add("full");
      chunk = h("div", { class: "chunk" });
      body.append(chunk);
    }
    return chunk;
  }

  /** What there is, as `{ number, text, section, element }`. */
  *entries() {
    for (const element of this.lines) {
      const section = element.closest("details")?.dataset.section;
      yield { number: Number(element.dataset.n), text: element.textContent, section, element };
    }
  }

  /** The element of a line. */
  find(number) {
    return this.lines.find((element) => element.dataset.n === String(number));
  }

  start(name, at, options) {
    const set = new Set(options.split(",").map((option) => option.trim()));
    const summary = h("summary", { class: "line" });
    const body = h("div", { class: "body" });
    const details = h("details", { class: "section", "data-section": name }, summary, body);
    details.open = !set.has("collapsed=true");
    this.body().append(details);
    const section = { name, at, details, summary, body, hides: set.has("hide_duration=true") };
    this.open.push(section);
    this.untitled = section;
  }

  end(name, at) {
    const index = this.open.findLastIndex((section) => section.name === name);
    if (index < 0) return;
    for (const section of this.open.splice(index)) {
      if (this.untitled === section) this.title("", section.name);
      if (section.name !== name || section.hides) continue;
      section.summary.append(h("span", { class: "took" }, span(at - section.at)));
    }
    // Styles do not leak out of a section, and no line goes on behind its end.
    this.last.clear();
    this.styles.clear();
  }

  /** Opens or closes all sections. */
  openAll(open) {
    for (const details of this.root.querySelectorAll("details")) details.open = open;
  }
}

/** Appends the text to the element in the style's colours; the style is left as the text leaves it. */
function paint(element, text, style) {
  // What is visible is what came after the last return to the start of the line.
  const trimmed = text.replace(/\r+$/, "");
  const start = trimmed.lastIndexOf("\r") + 1;
  let shown = 0;
  let position = 0;
  const put = (piece, from) => {
    const visible = from + piece.length <= start ? "" : piece.slice(Math.max(0, start - from));
    const clean = visible.replace(/[\x00-\x08\x0b-\x1f\x7f]/g, "");
    if (clean === "" || shown > MOST_CHARACTERS) return;
    const cut = clean.slice(0, MOST_CHARACTERS - shown);
    shown += clean.length;
    element.append(styled(cut, style));
    if (shown > MOST_CHARACTERS) element.append(h("em", {}, " … (longer; see the raw log)"));
  };
  // Sequences with parameters, window titles and the like, and all other short ones.
  for (const escape of trimmed.matchAll(/\x1b(?:\[([0-9;:?]*)[ -\/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -\/]*[0-~])/g)) {
    put(trimmed.slice(position, escape.index), position);
    position = escape.index + escape[0].length;
    if (escape[2] === "m") sgr(escape[1], style);
  }
  put(trimmed.slice(position), position);
}

function styled(text, style) {
  const classes = [];
  for (const name of ["bold", "dim", "italic", "underline", "strike", "inverse"]) if (style[name]) classes.push(name);
  if (typeof style.fg === "number") classes.push(`f${style.fg}`);
  if (typeof style.bg === "number") classes.push(`b${style.bg}`);
  const colours = typeof style.fg === "string" || typeof style.bg === "string";
  if (classes.length === 0 && !colours) return document.createTextNode(text);
  const element = h("span", { class: classes.join(" ") }, text);
  if (typeof style.fg === "string") element.style.color = style.fg;
  if (typeof style.bg === "string") element.style.backgroundColor = style.bg;
  return element;
}

/** Select graphic rendition: `0` to `15` are the palette's colours, texts are exact ones. */
function sgr(parameters, style) {
  const codes = parameters.split(/[;:]/).map((code) => Number(code) || 0);
  for (let i = 0; i < codes.length; i += 1) {
    const code = codes[i];
    if (code === 0) for (const key of Object.keys(style)) delete style[key];
    else if (code === 1) style.bold = true;
    else if (code === 2) style.dim = true;
    else if (code === 3) style.italic = true;
    else if (code === 4) style.underline = true;
    else if (code === 7) style.inverse = true;
    else if (code === 9) style.strike = true;
    else if (code === 22) style.bold = style.dim = false;
    else if (code === 23) style.italic = false;
    else if (code === 24) style.underline = false;
    else if (code === 27) style.inverse = false;
    else if (code === 29) style.strike = false;
    else if (code >= 30 && code <= 37) style.fg = code - 30;
    else if (code >= 90 && code <= 97) style.fg = code - 82;
    else if (code === 39) delete style.fg;
    else if (code >= 40 && code <= 47) style.bg = code - 40;
    else if (code >= 100 && code <= 107) style.bg = code - 92;
    else if (code === 49) delete style.bg;
    else if (code === 38 || code === 48) {
      const key = code === 38 ? "fg" : "bg";
      if (codes[i + 1] === 5) {
        style[key] = indexed(codes[i + 2] ?? 0);
        i += 2;
      } else if (codes[i + 1] === 2) {
        const [red, green, blue] = [2, 3, 4].map((offset) => Math.min(255, codes[i + offset] ?? 0));
        style[key] = `rgb(${red} ${green} ${blue})`;
        i += 4;
      }
    }
  }
}

/** The 256 colours: palette, cube, greys. */
function indexed(number) {
  if (number < 16) return number;
  if (number >= 232) {
    const grey = 8 + 10 * Math.min(23, number - 232);
    return `rgb(${grey} ${grey} ${grey})`;
  }
  const level = (digit) => (digit === 0 ? 0 : 55 + 40 * digit);
  const cube = number - 16;
  return `rgb(${level(Math.floor(cube / 36))} ${level(Math.floor(cube / 6) % 6)} ${level(cube % 6)})`;
}
