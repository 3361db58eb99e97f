// Trial of the learnt model: bad and good parts beside the limit. They stay in this page, and nothing is recorded of them.

import { upload } from "./api.js";
import { by, count, el, say, scaledText, toast } from "./dom.js";
import { AGAIN_MS, BUSY, isAway, isImage, pause } from "./folder.js";
import { t } from "./words.js";

const MAX_PARTS = 100; // of each heap
const REACH = 150; // where the line ends; what lies beyond stands at its end
const SAYS = {
  bad: { ok: t("would pass"), review: t("would go to review"), reject: t("found") },
  good: { ok: t("passes"), review: t("would go to review"), reject: t("would be rejected") },
};

export class Trial {
  constructor(view) {
    this.view = view;
    this.parts = [];
    for (const heap of ["bad", "good"]) {
      const input = by(`trial-${heap}-files`);
      input.accept = by("judged-files").accept;
      by(`trial-${heap}`).addEventListener("click", () => input.click());
      input.addEventListener("change", () => {
        this.add(heap, [...input.files]);
        input.value = "";
      });
    }
  }

  add(heap, files) {
    const room = MAX_PARTS - this.parts.filter((part) => part.heap === heap).length;
    const images = files.filter(({ name }) => isImage(name));
    if (images.length > room || !images.length) toast(images.length ? t("At most {number} of each are tried", { number: MAX_PARTS }) : t("No image lies in this folder (JPEG, PNG, BMP, TIFF, PNM or WebP)"), true);
    this.parts.push(...images.slice(0, room).map((file) => ({ heap, file, judged: null })));
    this.run();
  }

  // Called with every draft: parts of another draft go, and another model judges them again.
  show(draft) {
    const [whose, model] = draft?.result ? [`${draft.camera} ${draft.begun_at}`, JSON.stringify(draft.result)] : [null, null];
    if (model !== this.model) this.forget(whose !== this.whose);
    [this.whose, this.model, this.draft] = [whose, model, draft];
    this.run();
  }

  forget(all) {
    for (const { judged } of this.parts) for (const url of judged?.urls ?? []) URL.revokeObjectURL(url);
    this.parts = all ? [] : this.parts.map(({ heap, file }) => ({ heap, file, judged: null }));
    this.draw();
  }

  // One after the other, until all are judged, or the device is away or learns: the next draft that is shown goes on.
  async run() {
    if (this.running) return;
    this.running = true;
    try {
      for (let part; this.model && this.draft.state !== "learning" && (part = this.parts.find((one) => !one.judged)); ) {
        part.judged = await this.judge(part); // of a part that was forgotten meanwhile, nobody asks
        this.draw();
      }
    } catch (problem) {
      toast(problem.message, true);
    }
    this.running = false;
  }

  async judge({ file }) {
    for (;;) {
      try {
        const { scaled_score: score, decision, image, heat_map: heat } = await upload(`${this.view.path}/try`, file);
        const urls = [image, heat].map((text) => URL.createObjectURL(new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], { type: "image/jpeg" })));
        return { score, decision, urls };
      } catch (problem) {
        if (BUSY.includes(problem.status)) await pause(AGAIN_MS);
        else if (isAway(problem.status)) throw problem;
        else return { refused: `${file.name}: ${problem.message}` };
      }
    }
  }

  // The missed ones come first, then the other bad ones from the lowest score on, then good ones from the highest on.
  draw() {
    const of = (heap) => this.parts.filter((part) => part.heap === heap && part.judged?.urls).sort((one, other) => (one.judged.score ?? REACH) - (other.judged.score ?? REACH));
    const [bad, good] = [of("bad"), of("good").reverse()];
    const refused = this.parts.map(({ judged }) => judged?.refused).filter(Boolean);
    by("trial-found").hidden = !this.parts.length;
    by("trial-words").replaceChildren(...words(bad, good, this.draft, this.parts.filter(({ judged }) => !judged).length).map((text) => el("li", {}, text)));
    by("trial-line").hidden = !bad.length && !good.length;
    for (const [heap, parts] of [["bad", bad], ["good", good]]) by(`trial-${heap}-dots`).replaceChildren(...parts.map(dot));
    by("trial-parts").replaceChildren(...[...bad, ...good].map((part) => (part.tile ??= tile(part))));
    by("trial-refused").hidden = !refused.length;
    say(by("trial-refused").firstElementChild, t("Files left out: {number}", { number: count(refused.length) }));
    by("trial-refused").lastElementChild.replaceChildren(...refused.map((text) => el("li", {}, text)));
  }
}

// Whether a bad part would pass, or a good one would not.
const isWrong = ({ heap, judged }) => (heap === "bad") === (judged.decision === "ok");

function words(bad, good, draft, waiting) {
  const [missed, reviewed, wrong] = [bad.filter(isWrong).length, bad.filter(({ judged }) => judged.decision === "review").length, good.filter(isWrong).length];
  return [
    waiting && t("Parts still to be judged: {number}", { number: count(waiting) }),
    bad.length && (missed ? t("{missed} of {count} bad parts would pass.", { missed, count: bad.length }) : t("Every bad part would be found: {count} of {count}.", { count: bad.length })),
    reviewed && t("Bad parts that would go to review: {number}", { number: reviewed }),
    good.length && (wrong ? t("{wrong} of {count} good parts would not pass.", { wrong, count: good.length }) : t("Every good part would pass: {count} of {count}.", { count: good.length })),
    missed && draft.result.preset === "fast" && t("Learn again with the preset default: it sees smaller defects."),
    missed && !draft.region && t("Draw a region around the part, so that a defect fills more of the model's pixels, and learn again."),
    missed && t("Or put it into service, mark such parts as bad, and teach them."),
  ].filter(Boolean);
}

const nameOf = ({ file, judged }) => t("{name}, score {score}", { name: file.name, score: scaledText(judged.score) });

function dot(part) {
  const made = el("img", { src: part.judged.urls[0], alt: "", title: nameOf(part), "data-wrong": isWrong(part), onclick: () => part.tile.firstElementChild.focus() });
  made.style.left = `${(100 * Math.min(REACH, Math.max(0, part.judged.score ?? REACH))) / REACH}%`;
  return made;
}

function tile(part) {
  const { judged, heap, file } = part;
  const image = el("img", { src: judged.urls[0], alt: "" });
  const turn = (event) => {
    const pressed = event.currentTarget.getAttribute("aria-pressed") === "false";
    event.currentTarget.setAttribute("aria-pressed", String(pressed));
    image.src = judged.urls[Number(pressed)];
  };
  const look = el("button", { type: "button", "aria-pressed": "false", "aria-label": t("Heat map of {part}", { part: file.name }), onclick: turn }, image);
  return el("li", { "data-wrong": isWrong(part) }, look, el("b", {}, `${SAYS[heap][judged.decision]}, ${t("score {score}", { score: scaledText(judged.score) })}`), el("span", { class: "muted" }, `${heap === "bad" ? t("bad") : t("good")}: ${file.name}`));
}
