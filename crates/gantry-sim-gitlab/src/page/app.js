// The page: an overview of pipelines, and one view per job. It follows the simulator by server-sent
// events and asks again by itself now and then, so that a lost event costs seconds at most.

import { badge, call, duration, h, isOpen, setClock, timeAgo } from "./dom.js";
import { Log } from "./log.js";
import * as pipelines from "./pipeline.js";
import { failingLine, sentence } from "./reasons.js";
import { Search, numberAt, show } from "./search.js";

const main = document.getElementById("main");
/** How often a view asks without being told. A log that is read counts as watched, as in GitLab, so it asks often. */
const ASK_OVERVIEW = 10000;
const ASK_JOB = 3000;
/** How often, 30 ms apart, a log is put to its end again while its last lines are laid out. */
const SETTLE = 6;
/** For how long after a hand's touch a scroll is its doing, in milliseconds. */
const BY_HAND = 1000;
/** Pause between two refreshes, however fast events come. */
const PAUSE = 200;

/** What the page is called: the repository, if there is one. */
let brand = "Simulated GitLab";
let view = null;
let busy = false;
let again = false;

// --- what happens --------------------------------------------------------------------------------

function say(error) {
  const lines = (error.problems ?? []).map((problem) =>
    h("li", {}, h("code", {}, `${problem.file}:${problem.line}`), ` ${problem.message}`),
  );
  const close = h("button", { type: "button", class: "quiet", onclick: () => alert.remove() }, "Close");
  const alert = h("div", { class: "alert" }, h("p", {}, error.message), lines.length > 0 && h("ul", {}, lines), close);
  document.getElementById("alerts").replaceChildren(alert);
}

/** Runs something that a person asked for, and says what went wrong. */
async function act(work) {
  document.getElementById("alerts").replaceChildren();
  try {
    await work();
  } catch (error) {
    say(error);
  }
  refresh();
}

function button(label, work, options = {}) {
  const properties = { type: "button", class: options.class, title: options.title, "aria-label": options.aria };
  const element = h("button", { ...properties, "data-focus": options.key ?? label }, label);
  element.addEventListener("click", async () => {
    element.disabled = true;
    await act(work);
    element.disabled = false;
  });
  return element;
}

async function refresh() {
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  try {
    await view?.refresh();
    live(true);
  } catch (error) {
    if (error.status) say(error);
    else live(false);
  }
  await new Promise((done) => setTimeout(done, PAUSE));
  busy = false;
  if (again) {
    again = false;
    refresh();
  }
}

function live(on) {
  const element = document.getElementById("live");
  const words = on ? "live" : "not connected";
  if (element.textContent !== words) element.textContent = words;
  element.classList.toggle("off", !on);
}

/** Puts children into an element, and the keyboard's focus back where it was. */
function fill(element, ...children) {
  const focus = element.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
  element.replaceChildren(...children.flat().filter(Boolean));
  if (focus) element.querySelector(`[data-focus="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
}

/** Fills an element only when what it shows has changed: whoever points at something keeps it. */
function fillIfChanged(element, data, make) {
  const signature = JSON.stringify(data);
  if (element.signature === signature) return;
  element.signature = signature;
  fill(element, make());
}

// --- the overview --------------------------------------------------------------------------------

class Overview {
  constructor() {
    this.wait = ASK_OVERVIEW;
    this.form = h("section", { class: "card", "aria-label": "Run a pipeline" });
    this.pipelines = h("section", { class: "list", "aria-label": "Pipelines" });
    this.cards = new Map();
    this.loose = h("section", { class: "list", "aria-label": "Jobs without a pipeline" });
    fill(main, h("h1", { class: "hidden" }, "Pipelines"), this.form, this.pipelines, this.loose);
    document.title = `Pipelines · ${brand}`;
  }

  async refresh() {
    const all = await call("GET", "/sim/overview");
    setClock(all.now);
    frame(all);
    fillIfChanged(this.form, all.projects, () => runForm(all.projects));
    const cards = all.pipelines.map((pipeline) => {
      const card = this.cards.get(pipeline.id) ?? h("article", { class: "card", "data-pipeline": pipeline.id });
      this.cards.set(pipeline.id, card);
      // A log that grows changes nothing here.
      const seen = { ...pipeline, jobs: pipeline.jobs.map((job) => ({ ...job, trace_bytes: 0 })) };
      fillIfChanged(card, seen, () => pipelineCard(pipeline));
      return card;
    });
    const shown = [...this.pipelines.children];
    if (cards.length !== shown.length || cards.some((card, index) => card !== shown[index]) || cards.length === 0) {
      const none = h("p", { class: "empty" }, "No pipeline yet.");
      this.pipelines.replaceChildren(...(cards.length > 0 ? cards : [none]));
    }
    const loose = all.jobs.map((job) => ({ ...job, trace_bytes: 0 }));
    fillIfChanged(this.loose, loose, () =>
      all.jobs.length > 0
        ? [h("h2", {}, "Jobs without a pipeline"), h("ul", { class: "card jobs" }, all.jobs.map((job) => jobItem(job)))]
        : [],
    );
  }
}

/** What is the same in all views: name, mode and footer. */
function frame(all) {
  const own = all.projects[0]?.name;
  if (own && brand !== own.split("/").at(-1)) {
    const old = brand;
    brand = own.split("/").at(-1);
    document.querySelector(".brand span").textContent = brand;
    document.title = document.title.replace(old, brand);
  }
  const mode = document.getElementById("mode");
  mode.hidden = all.mode === "normal" && all.faults === 0;
  const faults = all.faults > 0 ? `${all.faults} ${all.faults === 1 ? "fault" : "faults"} set` : "";
  mode.textContent = [all.mode === "normal" ? "" : `${all.mode} mode`, faults].filter(Boolean).join(", ");
  const seen = all.runners.flatMap((runner) => runner.managers.map((manager) => manager.contacted_at)).sort().at(-1);
  const foot = document.getElementById("foot");
  fillIfChanged(foot, [all.url, all.runners.length, seen, all.violations], () => [
    h("span", {}, h("code", {}, all.url)),
    h("span", {}, `${all.runners.length} ${all.runners.length === 1 ? "runner" : "runners"}`, seen ? [", last seen ", timeAgo(seen)] : ", none seen yet"),
    h("a", { href: "/sim/violations" }, all.violations === 0 ? "no broken rules" : `${all.violations} broken rules`),
    h("a", { href: "/sim/requests" }, "journal"),
  ]);
}

function runForm(projects) {
  if (projects.length === 0) return [h("p", {}, "No repository is served.")];
  const project = h("select", { id: "project", "data-focus": "project" });
  project.append(...projects.map((one) => h("option", { value: one.name }, one.name)));
  const refs = h("datalist", { id: "refs" });
  const ref = h("input", { id: "ref", list: "refs", autocomplete: "off", spellcheck: "false", "data-focus": "ref" });
  const choose = async () => {
    ref.placeholder = projects.find((one) => one.name === project.value).default_branch;
    const names = await call("GET", `/sim/refs?repo=${encodeURIComponent(project.value)}`).catch(() => []);
    refs.replaceChildren(...names.map((name) => h("option", { value: name })));
  };
  project.addEventListener("change", choose);
  choose();
  const run = button(
    "Run pipeline",
    async () => {
      const variables = pairs(given.value);
      const made = await call("POST", "/sim/pipelines", { repo: project.value, ref: ref.value.trim(), variables });
      if (made.warnings.length > 0) say({ message: `Pipeline #${made.id} has warnings`, problems: made.warnings });
    },
    { class: "primary" },
  );
  const given = h("textarea", { id: "variables", spellcheck: "false", placeholder: "KEY=value", "data-focus": "variables" });
  const more = h("details", { class: "given" }, h("summary", {}, "Variables"), h("label", { for: "variables" }, "One in each line, as KEY=value"), given);
  const form = h(
    "form",
    { class: "run" },
    h("label", { for: "project" }, "Project"),
    project,
    h("label", { for: "ref" }, "Branch or tag"),
    ref,
    refs,
    run,
    more,
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run.click();
  });
  return [form];
}

/** Lines `KEY=value` as an object; what is no such line is an error. */
function pairs(text) {
  const all = {};
  for (const line of text.split("\n").map((line) => line.trim()).filter(Boolean)) {
    const at = line.indexOf("=");
    if (at < 1) throw new Error(`“${line}” is no line KEY=value`);
    all[line.slice(0, at).trim()] = line.slice(at + 1);
  }
  return all;
}

function pipelineCard(pipeline) {
  const current = pipeline.jobs.filter((job) => !job.retried);
  const ends = current.map((job) => job.finished_at).filter(Boolean).sort();
  const open = isOpen(pipeline.status);
  const began = current.map((job) => job.started_at).filter(Boolean).sort()[0];
  const stages = pipeline.stages
    .map((stage) => [stage, current.filter((job) => job.stage === stage)])
    .filter(([, jobs]) => jobs.length > 0);
  const cancel = open && current.some((job) => isOpen(job.status) && job.status !== "canceling");
  const title = h(
    "div",
    { class: "head" },
    badge(pipeline.status),
    h("h2", {}, h("a", { href: `#/pipelines/${pipeline.id}`, "data-focus": `pipeline-${pipeline.id}` }, pipeline.name ?? `#${pipeline.id}`)),
    pipeline.parent && h("span", { class: "when" }, "child of ", h("a", { href: `#/pipelines/${pipeline.parent.pipeline}` }, `#${pipeline.parent.pipeline}`)),
    h("span", { class: "what" }, pipeline.repo, " ", h("b", {}, pipeline.ref), " ", h("code", {}, pipeline.sha.slice(0, 8))),
    h("span", { class: "when" }, timeAgo(pipeline.created_at), began && [" · ", duration(began, open ? null : ends.at(-1))]),
    pipeline.canceled_by && h("span", { class: "when" }, `made redundant by #${pipeline.canceled_by}`),
    cancel &&
      button("Cancel", () => call("POST", `/sim/pipelines/${pipeline.id}/cancel`), {
        class: "quiet",
        key: `cancel-pipeline-${pipeline.id}`,
        aria: `Cancel pipeline ${pipeline.id}`,
      }),
  );
  const columns = stages.map(([stage, jobs]) =>
    h("div", { class: "stage" }, h("h3", {}, stage), h("ul", { class: "jobs" }, jobs.map((job) => jobItem(job)))),
  );
  return [title, h("div", { class: "stages" }, columns)];
}

/** Starts a manual job; one that wants to be confirmed asks first. */
async function start(job) {
  if (job.manual_confirmation && !confirm(job.manual_confirmation)) return;
  await call("POST", `/sim/jobs/${job.id}/play`);
}

function jobItem(job) {
  const actions = [];
  if (job.status === "manual" || job.status === "scheduled") {
    actions.push(button("Start", () => start(job), { class: "quiet", key: `play-${job.id}`, aria: `Start ${job.name}` }));
  } else if (["failed", "canceled"].includes(job.status) && !job.retried) {
    actions.push(button("Retry", () => call("POST", `/sim/jobs/${job.id}/retry`), { class: "quiet", key: `retry-${job.id}`, aria: `Retry ${job.name}` }));
  }
  return h(
    "li",
    {},
    h(
      "a",
      { href: `#/jobs/${job.id}`, "data-focus": `job-${job.id}` },
      badge(job.status, job.allow_failure),
      h("span", { class: "name", title: job.note ? `${job.name}: ${job.note}` : job.name }, job.name),
      job.started_at && duration(job.started_at, isOpen(job.status) ? null : job.finished_at),
    ),
    job.downstream && h("a", { href: `#/pipelines/${job.downstream}`, class: "down", "aria-label": `The pipeline that ${job.name} has started` }, `#${job.downstream}`),
    actions,
  );
}

// --- one pipeline --------------------------------------------------------------------------------

class PipelineView {
  constructor(id) {
    this.id = id;
    this.wait = ASK_JOB;
    this.phases = new Map();
    this.parts = { title: h("div"), tabs: h("div", { class: "tabs" }), body: h("div"), more: h("div") };
    this.shown = "graph";
    const tab = (name, words) =>
      h("button", { type: "button", class: "quiet", "aria-pressed": name === this.shown ? "true" : "false", onclick: () => this.choose(name), "data-tab": name }, words);
    this.parts.tabs.append(tab("graph", "Graph"), tab("time", "Time line"));
    document.title = `#${id} · ${brand}`;
    fill(main, h("section", { class: "card", "aria-label": "Pipeline" }, Object.values(this.parts)));
  }

  choose(name) {
    this.shown = name;
    for (const button of this.parts.tabs.children) button.setAttribute("aria-pressed", button.dataset.tab === name ? "true" : "false");
    this.parts.body.signature = null;
    refresh();
  }

  async refresh() {
    const pipeline = await call("GET", `/sim/pipelines/${this.id}`);
    const seen = { ...pipeline, jobs: pipeline.jobs.map((job) => ({ ...job, trace_bytes: 0 })) };
    document.title = `${pipeline.name ?? `#${pipeline.id}`} · ${pipeline.status} · ${brand}`;
    fillIfChanged(this.parts.title, [pipeline.status, pipeline.jobs.map((job) => [job.started_at, job.finished_at])], () => pipelines.titleOf(pipeline));
    if (this.shown === "graph") fillIfChanged(this.parts.body, seen, () => pipelines.graph(pipeline, jobItem));
    else fill(this.parts.body, await pipelines.timeLine(pipeline, this.phases));
    fillIfChanged(this.parts.more, pipeline.left_out, () => pipelines.leftOut(pipeline) ?? []);
    if (!this.framed) {
      this.framed = true;
      const all = await call("GET", "/sim/overview");
      setClock(all.now);
      frame(all);
    }
  }
}

// --- one job -------------------------------------------------------------------------------------

class JobView {
  constructor(id) {
    this.id = id;
    this.wait = ASK_JOB;
    this.offset = 0;
    this.complete = false;
    this.sawItRun = false;
    // Each part changes by itself: a button must not be replaced under the finger because the log
    // has grown.
    this.parts = { title: h("div"), why: h("div"), facts: h("dl"), artifacts: h("div"), actions: h("div", { class: "actions" }) };
    this.wanted = null;
    this.head = h("section", { class: "card jobhead", "aria-label": "Job" }, Object.values(this.parts));
    this.framed = -Infinity;
    this.lines = h("div", { class: "lines" });
    this.scroll = h("div", { class: "log", role: "log", "aria-live": "off", "aria-label": "Job log", tabindex: "0" }, this.lines);
    this.follow = h("input", { type: "checkbox", id: "follow", checked: true });
    this.log = new Log(this.lines);
    this.search = new Search(this.log);
    this.lines.addEventListener("click", (event) => {
      const number = numberAt(event);
      if (number === null) return;
      event.preventDefault();
      history.replaceState(null, "", `#/jobs/${this.id}/L${number}`);
      this.target(number);
    });
    const bar = h(
      "div",
      { class: "bar" },
      h("label", {}, this.follow, " Follow"),
      this.search.element,
      h("button", { type: "button", class: "quiet", onclick: () => this.log.openAll(true) }, "Expand all"),
      h("button", { type: "button", class: "quiet", onclick: () => this.log.openAll(false) }, "Collapse all"),
      h("a", { href: `/sim/jobs/${id}/trace`, target: "_blank", rel: "noopener" }, "Raw log"),
    );
    this.empty = h("p", { class: "empty" }, "No log yet.");
    this.scroll.hidden = true;
    // Whoever scrolls up wants to read; whoever comes back to the end wants to follow. Only a hand
    // counts: lines that are laid out late move the log too.
    this.byHand = -Infinity;
    for (const kind of ["wheel", "touchmove", "pointerdown", "keydown"]) {
      this.scroll.addEventListener(kind, () => (this.byHand = performance.now()), { passive: true });
    }
    this.scroll.addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = this.scroll;
      const now = performance.now();
      if (scrollHeight - scrollTop - clientHeight < 40) this.follow.checked = true;
      else if (now - this.byHand < BY_HAND) {
        this.byHand = now;
        this.follow.checked = false;
      }
    });
    this.follow.addEventListener("change", () => this.toEnd());
    fill(main, this.head, h("section", { class: "card flush", "aria-label": "Log" }, bar, this.empty, this.scroll));
  }

  async refresh() {
    const job = await call("GET", `/sim/jobs/${this.id}`);
    document.title = `${job.name} · ${job.status} · ${brand}`;
    const { title, facts, artifacts, actions, why } = this.parts;
    fillIfChanged(title, [job.status, job.name], () => titleOf(job));
    fillIfChanged(facts, { ...job, artifacts: null }, () => factsOf(job));
    if (JSON.stringify(job.artifacts) !== this.artifacts) {
      this.artifacts = JSON.stringify(job.artifacts);
      const hasArchive = job.artifacts.some((artifact) => artifact.type === "archive");
      const files = hasArchive ? await call("GET", `/sim/jobs/${job.id}/files`).catch(() => []) : [];
      fill(artifacts, artifactsOf(job, files));
    }
    fillIfChanged(actions, [job.status, job.retried], () => actionsOf(job));
    await this.more(job);
    this.explain(job, why);
    if (performance.now() - this.framed > ASK_OVERVIEW) {
      this.framed = performance.now();
      const all = await call("GET", "/sim/overview");
      setClock(all.now);
      frame(all);
    }
  }

  async more(job) {
    if (this.complete) return;
    const ended = !isOpen(job.status);
    // A log that is read counts as watched, so it is asked for even when nothing is new.
    const response = await fetch(`/sim/jobs/${this.id}/trace?offset=${this.offset}`);
    if (!response.ok) return;
    const bytes = new Uint8Array(await response.arrayBuffer());
    this.offset += bytes.length;
    this.complete = ended && this.offset >= job.trace_bytes;
    this.empty.hidden = this.offset > 0;
    this.scroll.hidden = this.offset === 0;
    // Whoever opens the log of an ended job begins at its top; whoever saw it run stays at its end.
    this.sawItRun ||= !ended;
    if (bytes.length > 0 || this.complete) {
      this.log.push(bytes, this.complete);
      if (this.sawItRun) this.toEnd();
    }
  }

  /** A failed job says why in words, and leads to the line that shows it. */
  explain(job, why) {
    const words = sentence(job);
    const number = words && this.complete ? failingLine([...this.log.entries()]) : null;
    fillIfChanged(why, [words, number], () => {
      if (!words) return [];
      const link = number && h("a", { href: `#/jobs/${job.id}/L${number}`, "data-focus": "failing-line" }, `Show line ${number}`);
      return [h("p", { class: "why" }, words, link && " ", link)];
    });
    if (this.wanted === null && number && !this.shownFailure) {
      this.shownFailure = true;
      this.target(number);
    }
    if (this.wanted !== null && this.log.find(this.wanted)) this.target(this.wanted);
  }

  /** Marks a line and shows it. */
  target(number) {
    this.wanted = null;
    const element = this.log.find(number);
    if (!element) {
      this.wanted = this.complete ? null : number;
      return;
    }
    this.marked?.classList.remove("target");
    this.marked = element;
    element.classList.add("target");
    this.follow.checked = false;
    show(element);
  }

  /** Another line of the same job. */
  goTo(number) {
    this.target(number);
  }

  toEnd() {
    if (!this.follow.checked) return;
    // What comes into sight is laid out only then, and may be higher than it was thought to be.
    let left = SETTLE;
    const step = () => {
      if (!this.follow.checked) return;
      this.scroll.scrollTop = this.scroll.scrollHeight;
      left -= 1;
      if (left > 0) setTimeout(step, 30);
    };
    step();
  }
}

function titleOf(job) {
  return [
    h("p", { class: "crumb" }, h("a", { href: "#/" }, "← Pipelines"), job.pipeline && [" · ", h("a", { href: `#/pipelines/${job.pipeline}` }, `#${job.pipeline}`)]),
    h("div", { class: "head" }, badge(job.status, job.allow_failure), h("h1", {}, job.name), h("span", { class: "when" }, `job ${job.id}`)),
  ];
}

function factsOf(job) {
  const open = isOpen(job.status);
  const facts = [
    ["Stage", job.stage],
    ["Waited", job.queued_at && (job.started_at || open) && duration(job.queued_at, job.started_at)],
    ["Duration", job.started_at && duration(job.started_at, open ? null : job.finished_at)],
    ["Runner", job.runner && `#${job.runner.id} ${job.runner.system_id}`],
    ["Try", job.attempt > 0 && `${job.attempt + 1}`],
    ["Reason", job.failure_reason],
    ["Note", job.status !== "failed" && job.note],
    ["Exit code", job.exit_code !== null && `${job.exit_code}`],
    ["Coverage", job.coverage !== null && job.coverage !== undefined && `${job.coverage} %`],
    ["Environment", job.environment?.name],
    ["Resource group", job.resource_group],
    ["Release", job.release],
    ["Image", job.image],
    ["Defined in", job.place],
    ["Log", `${job.trace_bytes.toLocaleString()} bytes`],
  ];
  return facts.filter(([, value]) => value).map(([key, value]) => h("div", {}, h("dt", {}, key), h("dd", {}, value)));
}

function artifactsOf(job, files) {
  if (job.artifacts.length === 0) return [];
  const inside = files.map(({ path, size }) => {
    const href = `/sim/jobs/${job.id}/files/${path.split("/").map(encodeURIComponent).join("/")}`;
    return h("li", {}, h("a", { href, target: "_blank", rel: "noopener" }, path), ` ${size.toLocaleString()} bytes`);
  });
  const items = job.artifacts.map(({ filename, type, size }) => {
    const href = `/sim/jobs/${job.id}/artifacts/${encodeURIComponent(filename)}`;
    return h("li", {}, h("a", { href, download: filename }, filename), ` ${type}, ${size.toLocaleString()} bytes`);
  });
  const browse = inside.length > 0 && h("details", {}, h("summary", {}, `${inside.length} files in the archive`), h("ul", { class: "artifacts files", "aria-label": "Files" }, inside));
  return [h("ul", { class: "artifacts", "aria-label": "Artifacts" }, items), browse].filter(Boolean);
}

function actionsOf(job) {
  const post = (what) => call("POST", `/sim/jobs/${job.id}/${what}`);
  const open = isOpen(job.status);
  const retry = async () => {
    location.hash = `#/jobs/${(await post("retry")).id}`;
  };
  return [
    open && job.status !== "canceling" &&
      button("Cancel", () => post("cancel"), { title: "The job may still run its after_script" }),
    open && button("Cancel by force", () => post("cancel?force=true"), { class: "danger", title: "At once, without after_script" }),
    (job.status === "manual" || job.status === "scheduled") && button("Start", () => start(job), { class: "primary" }),
    !open && !job.retried && job.status !== "skipped" && button("Retry", retry, { class: "primary" }),
    job.retried && h("span", { class: "when" }, "was tried again"),
  ];
}

// --- beginning -----------------------------------------------------------------------------------

function route(event) {
  const job = /^#\/jobs\/(\d+)(?:\/L(\d+))?$/.exec(location.hash);
  const pipeline = /^#\/pipelines\/(\d+)$/.exec(location.hash);
  if (location.hash === "#main") return main.focus();
  if (job?.[2] && view instanceof JobView && view.id === Number(job[1])) return view.goTo(Number(job[2]));
  document.getElementById("alerts").replaceChildren();
  if (pipeline) view = new PipelineView(Number(pipeline[1]));
  else view = job ? new JobView(Number(job[1])) : new Overview();
  if (job?.[2]) view.wanted = Number(job[2]);
  if (event) main.focus({ preventScroll: true });
  refresh();
}

function timer() {
  setTimeout(() => {
    if (!document.hidden) refresh();
    timer();
  }, view?.wait ?? ASK_JOB);
}

/** A page that nobody sees holds no connection: a browser has only a few for one host. */
let events = null;
function listen() {
  events?.close();
  events = null;
  if (document.hidden) return;
  events = new EventSource("/sim/events");
  events.addEventListener("message", refresh);
  events.addEventListener("error", () => live(false));
  refresh();
}

/** `/` searches in a log, `f` follows it, `t` and `e` go to its ends, `u` goes up. */
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
  const log = view instanceof JobView ? view : null;
  const keys = {
    "/": () => log?.search.input.focus(),
    n: () => log?.search.step(1),
    N: () => log?.search.step(-1),
    f: () => log?.follow.click(),
    t: () => {
      if (!log) return;
      log.follow.checked = false;
      log.scroll.scrollTop = 0;
    },
    e: () => {
      if (!log) return;
      log.follow.checked = true;
      log.toEnd();
    },
    u: () => (location.hash = "#/"),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});

window.addEventListener("hashchange", route);
document.addEventListener("visibilitychange", listen);
route();
listen();
timer();
