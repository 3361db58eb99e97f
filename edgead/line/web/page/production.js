// Production of the current shift and order: counts, yield, and the yield of each hour.

import { get, post } from "./api.js";
import { ask, field, nameField } from "./dialogs.js";
import { by, clock, count, decimal, el, say, stamp, toast } from "./dom.js";
import { t } from "./words.js";

const EVERY_MS = 5000;
// Frames without a verdict in time, and why; reasons that there are none of are left out.
export const PASSED = { uninspected: t("Not inspected"), lost: t("Lost"), late: t("Late"), in_fault: t("In faults"), paused: t("In pauses") };
const ROWS = { inspected: t("Inspected"), ok: t("OK"), review: t("Review"), reject: t("Reject"), ...PASSED, yield: t("Yield"), yield_after_review: t("Yield after review") };

export const share = (value) => (value == null ? "—" : `${decimal(100 * value, 1)} %`);
// If the site file names no shifts, a day is one.
export const shiftName = (name) => (name === "day" ? t("day") : name);
// No yield looks like that of all parts where some were not inspected.
export const figure = (name, tally) => (name.startsWith("yield") ? [share(tally[name]), tally.uninspected > 0 && el("small", {}, t("of the inspected"))] : count(tally[name]));

export class ProductionBox {
  // `counted` gets the counters each time they are read.
  constructor(counted) {
    this.counted = counted;
    this.unit = "";
    this.found = null;
    this.unitSelect = el("select", { "aria-label": t("What is counted"), onchange: () => Object.assign(this, { unit: this.unitSelect.value }).load() });
    this.title = el("p", { class: "muted", role: "status" });
    this.table = el("table", { class: "figures" });
    this.curve = el("div", { class: "yield-curve", role: "img", "aria-label": t("Yield by hour: {list}", { list: "—" }) });
    this.caption = el("p", { class: "muted" });
    this.order = el("button", { class: "quiet", "data-needs": "operate", onclick: () => startOrder(this.found?.order, () => this.load()) }, t("New order"));
    const body = el("div", { class: "production-body" }, this.unitSelect, this.table, this.curve, this.caption);
    by("production").replaceChildren(el("header", {}, el("h2", {}, t("Production")), this.title, this.order), body);
    this.watch();
  }

  // Nothing is requested while the view is hidden.
  async watch() {
    for (;;) {
      if (!document.hidden && !by("live").hidden) await this.load();
      await new Promise((resolve) => setTimeout(resolve, by("live").hidden ? 500 : EVERY_MS));
    }
  }

  async load() {
    try {
      const unit = this.unit;
      const query = unit ? `?unit=${encodeURIComponent(unit)}` : "";
      const found = await get("/api/production/counters");
      const series = await get(`/api/production/series${query}`);
      if (unit !== this.unit) return;
      this.found = found;
      this.show(found, series);
      this.counted(found);
    } catch {
      // The status shows the problem; the figures stay until the next try.
    }
  }

  show(found, series) {
    this.showUnits(found.units);
    const { shift, order } = found.units.find((each) => each.unit === this.unit) ?? found.total;
    say(this.title, t("Shift {name}, since {time}", { name: shiftName(found.shift.name), time: stamp(found.shift.begin) }));
    const columns = order ? [shift, order] : [shift];
    const ordered = found.order?.name || t("since {time}", { time: stamp(found.order?.started_at) });
    const heads = [t("This shift"), order && el("span", {}, t("This order"), el("small", {}, ordered))].filter(Boolean);
    const rows = Object.entries(ROWS).filter(([key]) => !(key in PASSED) || columns.some((tally) => tally[key])).map(([key, word]) =>
      el("tr", { "data-figure": key }, el("th", { scope: "row" }, word), columns.map((tally) => el("td", { class: "number" }, figure(key, tally)))),
    );
    const head = el("tr", {}, el("td", {}), heads.map((each) => el("th", { scope: "col", class: "number" }, each)));
    this.table.replaceChildren(el("thead", {}, head), el("tbody", {}, rows));
    drawYields(this.curve, series.hours);
    const yields = series.hours.map((hour) => hour.yield).filter((value) => value != null);
    say(this.caption, yields.length ? t("Yield by hour, lowest {low}, last {last}", { low: share(Math.min(...yields)), last: share(yields.at(-1)) }) : "");
  }

  showUnits(units) {
    this.unitSelect.hidden = units.length < 2;
    const names = ["", ...units.map((each) => each.unit)];
    if ([...this.unitSelect.options].map((option) => option.value).join() === names.join()) return;
    if (!names.includes(this.unit)) this.unit = "";
    this.unitSelect.replaceChildren(...names.map((name) => el("option", { value: name, selected: name === this.unit }, name || t("All"))));
  }
}

// A column for each hour, as high as its yield, and low if nothing was made.
function drawYields(box, hours) {
  const low = Math.min(0.9, ...hours.map((hour) => hour.yield ?? 1));
  const columns = hours.map((hour) => {
    const column = el("i", { "data-none": hour.yield == null, "data-passed": hour.uninspected > 0, title: [`${clock(hour.begin)}: ${share(hour.yield)}`, hour.uninspected > 0 && `${PASSED.uninspected}: ${count(hour.uninspected)}`].filter(Boolean).join(", ") });
    column.style.height = `${hour.yield == null ? 4 : 10 + (90 * (hour.yield - low)) / (1 - low || 1)}%`;
    return column;
  });
  box.replaceChildren(...columns);
  box.hidden = !hours.length;
  box.setAttribute("aria-label", t("Yield by hour: {list}", { list: hours.map((hour) => `${clock(hour.begin)} ${share(hour.yield)}`).join(", ") }));
}

function startOrder(order, started) {
  const last = order ? t("The order {name}, started {time} by {person}, ends with it.", { name: order.name || "—", time: stamp(order.started_at), person: order.by }) : "";
  ask({
    title: t("Start a new order?"), action: t("Start"),
    lead: `${t("Its counters begin at 0.")} ${last}`,
    fields: [
      field("order-name", t("Name of the order"), { name: "name", maxlength: "128" }),
      field("order-batch", t("Batch"), { name: "batch", maxlength: "128" }),
      nameField(),
    ],
    send: async (values) => {
      await post("/api/production/orders", values);
      toast(t("The order has begun"));
      started();
    },
  });
}
