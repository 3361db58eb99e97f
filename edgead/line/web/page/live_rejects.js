// The last rejects of a pipeline as a strip of images: on a fast line each is visible only for a moment.

import { get } from "./api.js";
import { WORDS, by, clock, el, icon, kindOf, scoreText, titleOf, toast } from "./dom.js";
import { t } from "./words.js";

const MAX_SHOWN = 8;
const LOOKS_MS = [500, 1000, 2000, 4000, 8000, 16_000];
const NEW_MS = 4000;

// Image of a stored verdict: its heat map if there is one.
export const imageOf = (verdict) => {
  const name = ["heat.jpg", "frame.jpg"].find((each) => verdict.images?.includes(each));
  return name ? `/api/verdicts/${verdict.id}/images/${name}?pipeline=${verdict.pipeline}` : null;
};

export class RejectStrip {
  constructor(open) {
    this.open = open;
    this.pipeline = null;
    this.names = {};
    this.rejects = [];
    this.looking = null; // the timer of the next look at the store
    this.looks = null; // looks before that one; null where none is to come
  }

  async load(pipeline, names) {
    if (pipeline !== this.pipeline) this.rejects = [];
    Object.assign(this, { pipeline, names });
    const page = await get(`/api/verdicts?decision=reject&limit=${MAX_SHOWN}&pipeline=${encodeURIComponent(pipeline)}`);
    if (pipeline !== this.pipeline) return;
    // A verdict from an event stays until it is stored, and still counts as new then.
    const heard = new Map(this.rejects.filter((verdict) => verdict.heard).map((verdict) => [verdict.id, verdict]));
    const stored = page.verdicts.map((verdict) => ({ ...verdict, heard: heard.get(verdict.id)?.heard }));
    stored.forEach((verdict) => heard.delete(verdict.id));
    this.rejects = [...heard.values(), ...stored].slice(0, MAX_SHOWN);
    this.show();
  }

  hear(verdict) {
    if (verdict.decision !== "reject") return;
    this.rejects = [{ ...verdict, heard: Date.now() }, ...this.rejects].slice(0, MAX_SHOWN);
    this.show();
    if (this.looks !== 0) this.look(0); // one that is to come soon stays: put off by each reject of a fast line, it would never come
  }

  // Images are written after the verdict: the store is asked several times, at growing intervals, for all rejects at once.
  look(looks) {
    clearTimeout(this.looking);
    this.looks = null;
    if (looks >= LOOKS_MS.length || this.rejects.every((verdict) => imageOf(verdict))) return;
    this.looks = looks;
    this.looking = setTimeout(async () => {
      this.looks = null;
      await this.load(this.pipeline, this.names).catch((problem) => toast(problem.message, true));
      if (this.looks === null) this.look(looks + 1); // else a reject came meanwhile
    }, LOOKS_MS[looks]);
  }

  show() {
    by("no-rejects").hidden = this.rejects.length > 0;
    const known = new Map([...by("rejects").children].map((item) => [item.dataset.shown, item]));
    by("rejects").replaceChildren(...this.rejects.map((verdict) => {
      const shown = [verdict.id, imageOf(verdict), kindOf(verdict, this.names)].join();
      return known.get(shown) ?? this.item(verdict, shown); // an image that is there is not loaded again
    }));
  }

  item(verdict, shown) {
    const source = imageOf(verdict);
    const about = [scoreText(verdict), kindOf(verdict, this.names)].filter(Boolean).join(" · ");
    const image = source ? el("img", { src: source, alt: "" }) : el("span", { class: "no-thumb" }, icon("reject"));
    const label = [WORDS.reject, titleOf(verdict), about, clock(verdict.captured_at)].filter(Boolean).join(", ");
    const new_ms = NEW_MS - (Date.now() - (verdict.heard ?? 0));
    if (new_ms > 0) setTimeout(() => made.removeAttribute("data-new"), new_ms);
    const made = el(
      "li", { "data-shown": shown, "data-new": new_ms > 0, title: new_ms > 0 && t("New since this page was opened") },
      el("button", { "data-id": verdict.id, "aria-label": label, onclick: () => this.open(verdict) },
        image, el("span", { class: "about" }, about || titleOf(verdict)), el("time", { datetime: verdict.captured_at }, clock(verdict.captured_at))),
    );
    return made;
  }
}
