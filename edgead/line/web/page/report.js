// Production report: a period, its groups with counts and yield, rejects and their places, and people's marks.

import { fetchFile, fetchImage, get } from "./api.js";
import { badge, by, complain, count, dated, el, kindName, say, stamp, titleOf as partOf, toast } from "./dom.js";
import { linkTo } from "./evidence.js";
import { drawPositions } from "./positions.js";
import { PASSED, figure, share, shiftName } from "./production.js";
import { t } from "./words.js";

const BUSY = 503;
const TRIES = 6;
const AGAIN_MS = 1500;
const COUNTING_MS = 90_000; // longer than the device takes before it refuses
const LISTED = 12;
const COLUMNS = {
  inspected: t("Inspected"), ok: t("OK"), review: t("Review"), reject: t("Reject"),
  false_rejects: t("False rejects"), known_escapes: t("Known escapes"), ...PASSED, yield: t("Yield"), yield_after_review: t("After review"),
};
const UNNAMED = { order: t("without a name"), batch: t("without a batch"), recipe: t("without a recipe") };
const DOWNLOADS = [
  ["report/table", "csv", t("This table, CSV")], ["report/table", "parquet", t("This table, Parquet")],
  ["verdicts", "csv", t("All verdicts, CSV")], ["verdicts", "parquet", t("All verdicts, Parquet")],
];

export class ReportView {
  constructor() {
    this.period = "shift";
    this.turn = 0;
    this.names = [];
    this.orders = []; // the newest first
    this.counted = null; // the time of what is shown; by orders it begins with the first of them
    by("report-period").addEventListener("click", ({ target: { dataset } }) => dataset.period && this.choose(dataset.period));
    for (const id of ["report-by", "report-unit", "report-since", "report-until"]) by(id).addEventListener("change", () => this.load());
    by("report-order").addEventListener("change", () => this.choose(by("report-order").value ? "order" : "shift"));
    by("report-print").addEventListener("click", () => print());
    by("report-downloads").replaceChildren(
      ...DOWNLOADS.map(([path, format, words]) => el("button", { onclick: (event) => this.download(event.target, path, format) }, words)),
      el("button", { onclick: () => this.images() }, t("Images of rejects, ZIP")),
    );
  }

  choose(period) {
    this.period = period;
    this.load();
  }

  showStatus(status) {
    const names = status.pipelines.map((pipeline) => pipeline.name);
    if (names.join() === this.names.join()) return;
    this.names = names;
    by("report-unit-label").hidden = names.length < 2;
    by("report-unit").replaceChildren(el("option", { value: "" }, t("all")), ...names.map((name) => el("option", { value: name }, name)));
    if (!by("report").hidden) this.load();
  }

  // The period as the API takes it; the device knows when a shift began.
  time() {
    const midnight = new Date(new Date().setHours(0, 0, 0, 0));
    if (this.period === "day") return { since: midnight.toISOString() };
    if (this.period === "week") return { since: new Date(midnight.setDate(midnight.getDate() - 6)).toISOString() };
    if (this.period === "order") return Object.fromEntries(new URLSearchParams(by("report-order").value));
    if (this.period !== "own") return {};
    const given = { since: by("report-since").value, until: by("report-until").value };
    return Object.fromEntries(Object.entries(given).filter(([, value]) => value).map(([name, value]) => [name, new Date(value).toISOString()]));
  }

  query(also = {}) {
    const unit = by("report-unit").value;
    return new URLSearchParams({ ...this.time(), by: by("report-by").value, ...(unit ? { unit } : {}), ...also });
  }

  // Verdicts are of a pipeline, and in no groups.
  verdicts(also) {
    const pipeline = by("report-unit").value;
    return new URLSearchParams({ ...(this.counted ?? this.time()), ...(pipeline ? { pipeline } : {}), ...also });
  }

  chosen() {
    const unit = by("report-unit").value;
    return unit ? [unit] : this.names;
  }

  // Each order lasts until the next one starts; the newest comes first.
  async offerOrders() {
    const orders = (this.orders = await get("/api/production/orders"));
    const time = ({ started_at: since }, index) => new URLSearchParams(index ? { since, until: orders[index - 1].started_at } : { since });
    const options = orders.map((order, index) => el("option", { value: time(order, index) }, `${orderName(order)} · ${stamp(order.started_at)}`));
    by("report-order-label").hidden = !orders.length;
    by("report-order").replaceChildren(el("option", { value: "" }, t("any")), ...options);
  }

  async load() {
    const turn = ++this.turn; // what was asked before and comes late is not shown
    for (const button of by("report-period").children) button.setAttribute("aria-pressed", button.dataset.period === this.period);
    by("report-own").hidden = this.period !== "own";
    say(by("report-note"), t("Counting …"));
    try {
      if (this.period !== "order") await this.offerOrders();
      const found = await patiently(() => get(`/api/production/report?${this.query()}`, COUNTING_MS), () => turn === this.turn);
      if (turn !== this.turn) return;
      this.show(found);
      await this.defects(turn);
    } catch (problem) {
      if (turn !== this.turn) return;
      say(by("report-note"), problem.message);
      toast(problem.message, true);
    }
  }

  show(found) {
    this.counted = { since: found.begin, until: found.end };
    // A group has the name of its order alone; a report of a part of it begins later than the order.
    if (found.by === "order") for (const group of found.groups) group.name = orderName(this.orders.find((order) => Date.parse(order.started_at) <= Date.parse(group.begin)) ?? group);
    const names = [...new Set(found.groups.map((group) => nameOf(group, found.by)))];
    const scope = `${by("report-by").selectedOptions[0].text}: ${names.length > LISTED ? count(names.length) : names.join(", ") || "—"}`;
    const order = this.period === "order" && found.by !== "order" && by("report-order").selectedOptions[0].text;
    say(by("report-title"), [t("Production report"), found.device, order, scope].filter(Boolean).join(" · "));
    say(by("report-note"), t("{begin} to {end}, counted {now}", { begin: dated(found.begin), end: dated(found.end), now: dated(new Date()) }));
    const columns = Object.entries(COLUMNS).filter(([key]) => !(key in PASSED) || key === "uninspected" || found.total[key]);
    by("report-total").replaceChildren(
      ...columns.map(([key, word]) => el("div", { "data-figure": key, "data-bad": key === "uninspected" && found.total[key] > 0 }, el("dt", {}, word), el("dd", {}, figure(key, found.total)))),
    );
    const numbers = (tally) => columns.map(([key, word]) => el("td", { class: "number", "data-label": word }, figure(key, tally)));
    const rows = found.groups.map((group) => el("tr", {}, el("th", { scope: "row" }, titleOf(group, found.by)), numbers(group.total)));
    const head = el("tr", {}, el("td", {}), columns.map(([, word]) => el("th", { scope: "col", class: "number" }, word)));
    by("report-groups").replaceChildren(el("thead", {}, head), el("tbody", {}, rows));
    by("report-none").hidden = found.groups.length > 0;
    by("report-marks").replaceChildren(...found.marks.map(markRow));
    by("report-no-marks").hidden = found.marks.length > 0;
  }

  async defects(turn) {
    const time = new URLSearchParams(this.counted);
    const kinds = new Map();
    const places = new Map();
    const maps = [];
    for (const name of this.chosen()) {
      const counted = await get(`/api/pipelines/${name}/kinds?${time}`);
      for (const each of counted.kinds) add(kinds, kindName(each.kind), each.count);
      add(kinds, t("unnamed"), counted.unsorted);
      const positions = await get(`/api/pipelines/${name}/positions?${time}`);
      const several = this.chosen().length > 1;
      for (const [place, number] of Object.entries(positions.places)) add(places, several ? `${name} ${place}` : place, number);
      maps.push(await this.map(name, positions));
      if (turn !== this.turn) return;
    }
    by("report-kinds").replaceChildren(...pareto(kinds));
    by("report-places").replaceChildren(...pareto(places));
    by("report-maps").replaceChildren(...maps);
    by("report-no-kinds").hidden = kinds.size > 0;
  }

  async map(name, positions) {
    const [canvas, note] = [el("canvas", { role: "img" }), el("figcaption", {})];
    const behind = await fetchImage(`/api/pipelines/${name}/image?overlay=false&width=640`).catch(() => null);
    await drawPositions(canvas, note, positions, behind?.blob);
    note.prepend(`${name}: `);
    return el("figure", {}, canvas, note);
  }

  // Fetched instead of linked, so that a refusal is shown in words.
  async download(button, path, format) {
    button.disabled = true;
    try {
      const query = path === "verdicts" ? this.verdicts({ format }) : this.query({ ...this.counted, format });
      const answer = await patiently(() => fetchFile(`/api/production/${path}?${query}`));
      save(URL.createObjectURL(await answer.blob()), answer.headers.get("Content-Disposition").match(/"(.*)"/)[1]);
    } catch (problem) {
      toast(problem.message, true);
    }
    button.disabled = false;
  }

  // Images may be many and go straight to the disk by a link; their size is requested first.
  async images() {
    const query = this.verdicts({ decision: "reject" });
    const size = await patiently(() => get(`/api/production/images/size?${query}`, COUNTING_MS)).catch(complain);
    if (!size) return;
    toast(t("{count} verdicts with images, {mib} MiB", { count: count(size.verdicts), mib: count(Math.ceil(size.mib)) }));
    save(`/api/production/images?${query}`, "");
  }
}

const orderName = ({ name, batch }) => [name || UNNAMED.order, batch && t("batch {batch}", { batch })].filter(Boolean).join(", ");
const nameOf = (group, grouped) => (grouped === "shift" ? shiftName(group.name) : group.name || UNNAMED[grouped]);

function titleOf(group, grouped) {
  const name = nameOf(group, grouped);
  return ["shift", "order"].includes(grouped) ? `${name} · ${stamp(group.begin)}` : name;
}

function add(counts, name, number) {
  if (number) counts.set(name, (counts.get(name) ?? 0) + number);
}

// Most frequent first, with its share and the sum up to it.
function pareto(counts) {
  const sorted = [...counts].sort((one, other) => other[1] - one[1]);
  const total = sorted.reduce((sum, [, number]) => sum + number, 0);
  let sum = 0;
  return sorted.slice(0, LISTED).map(([name, number]) => {
    sum += number;
    const [all, mine] = [el("i"), el("i")];
    all.style.width = `${(100 * sum) / total}%`;
    mine.style.width = `${(100 * number) / total}%`;
    const cells = [count(number), share(number / total), share(sum / total)].map((text) => el("span", { class: "number" }, text));
    return el("li", { class: "report-row" }, el("span", { class: "kind-name" }, name), el("span", { class: "bar-of", "aria-hidden": "true" }, all, mine), cells);
  });
}

function markRow(mark) {
  const link = el("a", { href: `#${linkTo(mark)}` }, `${partOf(mark)} · ${stamp(mark.judged_at)}`);
  return el("li", { class: "mark-row" }, badge(mark.decision), link, el("span", {}, mark.pipeline), el("b", {}, mark.mark_verdict === "bad" ? t("marked bad") : t("marked good")), el("span", {}, mark.mark_note || "—"), el("span", { class: "muted" }, mark.marked_by));
}

// One report is counted at a time: a second request tries again.
async function patiently(ask, wanted = () => true) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await ask();
    } catch (problem) {
      if (problem.status !== BUSY || tries === TRIES || !wanted()) throw problem;
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}

function save(url, name) {
  const link = el("a", { href: url, download: name });
  link.click();
  if (url.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
