// One pipeline: its graph by needs, its time line by phases, and what its rules leave out.

import { badge, call, duration, h, isOpen, svg, timeAgo } from "./dom.js";

/** Phases of a job, in their order, with the words for them. */
const PHASES = [
  ["queued", "waits for a runner"],
  ["pod", "pod starts"],
  ["sources", "sources, caches and artifacts"],
  ["script", "script"],
  ["upload", "caches and artifacts are stored"],
];

/** Columns of the graph: a job stands behind everything that it needs, or behind all earlier stages. */
function columnsOf(jobs, stages) {
  const byName = new Map(jobs.map((job) => [job.name, job]));
  const depth = new Map();
  const stageOf = (job) => stages.indexOf(job.stage);
  const before = (job) =>
    job.needs ? job.needs.map((need) => byName.get(need.job)).filter(Boolean) : jobs.filter((other) => stageOf(other) < stageOf(job));
  const visit = (job, open) => {
    if (depth.has(job)) return depth.get(job);
    if (open.has(job)) return 0;
    open.add(job);
    const deepest = before(job).reduce((most, other) => Math.max(most, visit(other, open) + 1), 0);
    open.delete(job);
    depth.set(job, deepest);
    return deepest;
  };
  for (const job of jobs) visit(job, new Set());
  const columns = [];
  for (const job of jobs) (columns[depth.get(job)] ??= []).push(job);
  return columns.filter(Boolean);
}

/** The lines of the graph: named needs, and for a job without them those of the column just before it. */
function edgesOf(columns) {
  const names = new Map(columns.flat().map((job) => [job.name, job]));
  return columns.flatMap((column, index) =>
    column.flatMap((job) => {
      const from = job.needs ? job.needs.map((need) => names.get(need.job)).filter(Boolean) : index > 0 ? columns[index - 1] : [];
      return from.map((other) => ({ from: other, to: job, named: Boolean(job.needs) }));
    }),
  );
}

export function graph(pipeline, item) {
  const jobs = pipeline.jobs.filter((job) => !job.retried);
  const columns = columnsOf(jobs, pipeline.stages);
  const nodes = new Map();
  const lists = columns.map((column) =>
    h(
      "ul",
      { class: "jobs column" },
      column.map((job) => {
        const node = item(job);
        node.classList.add("node");
        nodes.set(job, node);
        return node;
      }),
    ),
  );
  const lines = svg("svg", { class: "edges", "aria-hidden": "true" });
  const area = h("div", { class: "graph" }, lines, lists);
  const edges = edgesOf(columns);
  // More lines than these are a grey wall; the columns say the same.
  const shown = edges.length <= 2000 ? edges : edges.filter((edge) => edge.named).slice(0, 2000);
  const draw = () => {
    const box = area.getBoundingClientRect();
    // Its own size must not count.
    lines.setAttribute("width", 0);
    lines.setAttribute("height", 0);
    lines.setAttribute("width", area.scrollWidth);
    lines.setAttribute("height", area.clientHeight);
    const paths = shown.map(({ from, to, named }) => {
      const [a, b] = [nodes.get(from).getBoundingClientRect(), nodes.get(to).getBoundingClientRect()];
      const [x1, y1] = [a.right - box.left + area.scrollLeft, a.top + a.height / 2 - box.top];
      const [x2, y2] = [b.left - box.left + area.scrollLeft, b.top + b.height / 2 - box.top];
      const bend = Math.max(12, (x2 - x1) / 2);
      const path = svg("path", { d: `M${x1},${y1} C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`, class: named ? "edge named" : "edge" });
      path.dataset.from = from.id;
      path.dataset.to = to.id;
      return path;
    });
    lines.replaceChildren(...paths);
  };
  for (const [job, node] of nodes) {
    const light = (on) => {
      for (const path of lines.children) {
        if (path.dataset.from === String(job.id) || path.dataset.to === String(job.id)) path.classList.toggle("lit", on);
      }
    };
    node.addEventListener("mouseenter", () => light(true));
    node.addEventListener("mouseleave", () => light(false));
    node.addEventListener("focusin", () => light(true));
    node.addEventListener("focusout", () => light(false));
  }
  new ResizeObserver(draw).observe(area);
  return area;
}

/** Bars over time, one row per job, each phase in its own shade. */
export async function timeLine(pipeline, known) {
  const jobs = pipeline.jobs.filter((job) => job.queued_at);
  if (jobs.length === 0) return h("p", { class: "empty" }, "No job has begun yet.");
  const now = Date.now();
  const rows = await Promise.all(
    jobs.map(async (job) => {
      let phases = known.get(job.id);
      if (!phases) {
        phases = await call("GET", `/sim/jobs/${job.id}/phases`).catch(() => []);
        if (!isOpen(job.status)) known.set(job.id, phases);
      }
      return { job, phases };
    }),
  );
  const start = Math.min(...jobs.map((job) => Date.parse(job.queued_at)));
  const ends = rows.map(({ job }) => (job.finished_at ? Date.parse(job.finished_at) : now));
  const whole = Math.max(1, Math.max(...ends) - start);
  const percent = (time) => `${(100 * (time - start)) / whole}%`;
  const seconds = (length) => `${(length / 1000).toFixed(1)} s`;
  const legend = h(
    "ul",
    { class: "legend" },
    PHASES.map(([name, words]) => h("li", {}, h("span", { class: `phase p-${name}` }), ` ${words}`)),
  );
  const lines = rows.map(({ job, phases }) => {
    const bars = phases.map((phase) => {
      const [from, to] = [Date.parse(phase.from), phase.to ? Date.parse(phase.to) : now];
      const words = PHASES.find(([name]) => name === phase.name)?.[1] ?? phase.name;
      const bar = h("span", { class: `phase p-${phase.name}`, title: `${words}: ${seconds(to - from)}` });
      bar.style.left = percent(from);
      bar.style.width = `max(2px, ${(100 * Math.max(0, to - from)) / whole}%)`;
      return bar;
    });
    const end = job.finished_at ? Date.parse(job.finished_at) : now;
    const total = job.started_at ? seconds(end - Date.parse(job.queued_at)) : "";
    return h(
      "li",
      {},
      h("a", { href: `#/jobs/${job.id}` }, badge(job.status, job.allow_failure), h("span", { class: "name", title: job.name }, job.name)),
      h("span", { class: "track" }, bars),
      h("span", { class: "duration" }, total),
    );
  });
  return h("div", { class: "timeline" }, legend, h("ul", { class: "rows" }, lines));
}

export function leftOut(pipeline) {
  if (pipeline.left_out.length === 0) return null;
  const items = pipeline.left_out.map((job) => h("li", {}, h("b", {}, job.name), ` (${job.stage}): ${job.why}`));
  return h("details", { class: "leftout" }, h("summary", {}, `${items.length} ${items.length === 1 ? "job is" : "jobs are"} left out by rules`), h("ul", {}, items));
}

export function titleOf(pipeline) {
  const current = pipeline.jobs.filter((job) => !job.retried);
  const began = current.map((job) => job.started_at).filter(Boolean).sort()[0];
  const ends = current.map((job) => job.finished_at).filter(Boolean).sort();
  return [
    h("p", { class: "crumb" }, h("a", { href: "#/" }, "← Pipelines"), pipeline.parent && [" · child of ", h("a", { href: `#/pipelines/${pipeline.parent.pipeline}` }, `#${pipeline.parent.pipeline}`)]),
    h(
      "div",
      { class: "head" },
      badge(pipeline.status),
      h("h1", {}, pipeline.name ?? `Pipeline #${pipeline.id}`),
      h("span", { class: "what" }, h("b", {}, pipeline.ref), " ", h("code", {}, pipeline.sha.slice(0, 8)), " ", pipeline.message),
      h("span", { class: "when" }, timeAgo(pipeline.created_at), began && [" · ", duration(began, isOpen(pipeline.status) ? null : ends.at(-1))]),
    ),
  ];
}
