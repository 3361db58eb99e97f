// All lines at a glance: a tile for each pipeline and each part that several of them judge, so that a reject or a fault of
// another line than the one that is shown is seen.

import { get } from "./api.js";
import { STATES, WORDS, by, el, icon, percent, say, span } from "./dom.js";
import { t } from "./words.js";

const REJECT_SHOWN_S = 10;

export class Tiles {
  // `choose` shows a pipeline.
  constructor(choose) {
    this.choose = choose;
    this.status = this.chosen = null;
    this.now = Date.now;
    this.newest = new Map();
    this.rejects = new Map();
    this.parts = new Map();
  }

  hear(verdict) {
    this.newest.set(verdict.pipeline, verdict);
    if (verdict.decision === "reject") this.rejects.set(verdict.pipeline, verdict);
    this.show();
  }

  showStatus(status, chosen, now) {
    Object.assign(this, { status, chosen, now });
    for (const { name, judged, state } of status.pipelines) {
      if (state === "paused") this.newest.set(name, null); // after it the first part is waited for
      else if (!judged) this.newest.delete(name); // of before the start: it says nothing of what lies there now
      else if (!this.newest.has(name)) this.seed(name);
    }
    for (const parts of status.parts) this.follow(parts);
    this.show();
  }

  async seed(name) {
    this.newest.set(name, null);
    const { verdicts } = await get(`/api/verdicts?limit=1&pipeline=${encodeURIComponent(name)}`).catch(() => ({ verdicts: [] }));
    this.newest.set(name, this.newest.get(name) ?? verdicts[0] ?? null);
  }

  // Parts have no events: when their counts have changed, the newest one is requested.
  async follow({ name, decisions }) {
    const counted = JSON.stringify(decisions);
    if (this.parts.get(name)?.counted === counted) return;
    this.parts.set(name, { ...this.parts.get(name), counted });
    const { verdicts } = await get(`/api/parts/${encodeURIComponent(name)}/verdicts?limit=1`).catch(() => ({ verdicts: [] }));
    this.parts.set(name, { counted, verdict: verdicts[0] ?? null });
  }

  show() {
    const { status } = this;
    const lines = status ? [...status.pipelines, ...status.parts] : [];
    by("tiles").hidden = lines.length < 2;
    if (by("tiles").hidden) return;
    if ([...by("tiles").children].map((tile) => tile.dataset.name).join() !== lines.map((line) => line.name).join()) {
      by("tiles").replaceChildren(...lines.map((line) => this.tile(line.name)));
    }
    lines.forEach((line, index) => this.fill(by("tiles").children[index], line));
  }

  tile(name) {
    const parts = [icon("none"), el("b", {}, name), el("span", { class: "said" }), el("span", { class: "share" })];
    return el("button", { class: "tile", "data-name": name, onclick: () => this.open(name) }, parts);
  }

  fill(tile, line) {
    const [look, word] = line.pipelines ? this.ofParts(line) : this.ofPipeline(line);
    const total = Object.values(line.decisions).reduce((sum, value) => sum + value, 0);
    tile.dataset.look = look;
    tile.setAttribute("aria-pressed", line.name === this.chosen);
    tile.querySelector("use").setAttribute("href", `#i-${look}`);
    say(tile.querySelector(".said"), word);
    say(tile.querySelector(".share"), total ? t("{share} rejected since the start", { share: percent(line.decisions.reject ?? 0, total) }) : "");
  }

  // A reject stays for some seconds, so that the next part does not hide it at once.
  ofPipeline({ name, state }) {
    if (state === "paused") return ["none", STATES.paused];
    if (state !== "running") return ["fault", STATES[state]];
    const [newest, reject] = [this.newest.get(name), this.rejects.get(name)];
    const age_s = reject ? (this.now() - Date.parse(reject.captured_at)) / 1000 : Infinity;
    if (reject && reject !== newest && age_s < REJECT_SHOWN_S) return ["reject", `${WORDS.reject}, ${t("{time} ago", { time: span(Math.max(0, Math.round(age_s))) })}`];
    if (!newest) return ["none", t("Waits for an image")];
    return [newest.decision, WORDS[newest.decision]];
  }

  ofParts({ name, problem }) {
    if (problem) return ["fault", STATES.fault];
    const verdict = this.parts.get(name)?.verdict;
    return verdict ? [verdict.decision, WORDS[verdict.decision]] : ["none", t("No verdict yet")];
  }

  // Opens a pipeline; for parts that of the decisive view, or of the first.
  open(name) {
    const parts = this.status.parts.find((each) => each.name === name);
    if (!parts) return this.choose(name);
    const verdict = this.parts.get(name)?.verdict;
    this.choose(verdict?.views.find((view) => view.decision === verdict.decision)?.pipeline ?? parts.pipelines[0]);
  }
}
