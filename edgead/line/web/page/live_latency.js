// Times of a pipeline's stages, as a table with bars.

import { by, count, el, ms, say } from "./dom.js";
import { t } from "./words.js";

export const STAGES = { age: t("waiting"), preprocess: t("resize"), infer: t("network"), score: t("scoring"), smooth: t("map"), sink: t("hand over"), total: t("total") };
const COLUMNS = { p50_ms: "p50", p90_ms: "p90", p99_ms: "p99", p99_9_ms: "p99.9", max_ms: t("max") };

export function showLatency(latency) {
  const stages = Object.keys(STAGES).filter((stage) => stage in latency);
  say(by("latency-note"), stages.length ? t("{number} parts, in milliseconds", { number: count(latency[stages[0]].n) }) : "");
  if (!stages.length) return by("latency").replaceChildren(el("p", { class: "empty" }, t("No part was judged yet")));
  const most = latency.total?.p99_ms || 1;
  const head = el("tr", {}, el("th", {}, t("Stage")), el("td", {}), Object.values(COLUMNS).map((name) => el("th", { class: "number" }, name)));
  const rows = stages.map((stage) => row(stage, latency[stage], most));
  by("latency").replaceChildren(el("table", { class: "latency" }, el("thead", {}, head), el("tbody", {}, rows)));
}

function row(stage, measured, most) {
  const [slow, usual] = [el("i"), el("i")];
  slow.style.width = `${Math.min(100, (100 * measured.p99_ms) / most)}%`;
  usual.style.width = `${Math.min(100, (100 * measured.p50_ms) / most)}%`;
  const bar = el("span", { class: "bar-of", title: t("p50 dark, p99 light") }, slow, usual);
  return el("tr", {}, el("td", {}, STAGES[stage]), el("td", { class: "stage-bar" }, bar), Object.keys(COLUMNS).map((name) => el("td", { class: "number" }, ms(measured[name]))));
}
