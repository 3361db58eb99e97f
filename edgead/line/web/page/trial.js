// Trial of the learnt model: bad and good parts beside the limit. They stay in this page, and nothing is recorded of them.

import { upload } from "./api.js";
import { oneIn, unlike, unseen } from "./commissioned.js";
import { by, count, el, scaledText, toast } from "./dom.js";
import { AGAIN_MS, BUSY, isAway, isImage, offerFiles, pause, showRefused } from "./folder.js";
import { t } from "./words.js";

const MAX_PARTS = 100; // of each heap
const REACH = 150; // where the line ends; what lies beyond stands at its end
const SAYS = {
  bad: { ok: t("bad, would pass"), review: t("bad, would go to review"), reject: t("bad, found") },
  good: { ok: t("good, passes"), review: t("good, would go to review"), reject: t("good, would be rejected") },
};

export class Trial {
  constructor(view) {
    this.view = view;
    this.parts = [];
    this.whose = this.model = this.draft = null;
    for (const heap of ["bad", "good"]) {
      by(`trial-${heap}-files`).accept = by("judged-files").accept;
      offerFiles(by(`trial-${heap}`), by(`trial-${heap}-files`), ({ files }) => this.add(heap, [...files]));
    }
  }

  add(heap, files) {
    const room = MAX_PARTS - this.parts.filter((part) => part.heap === heap).length;
    const images = files.filter(({ name }) => isImage(name));
    if (!images.length) toast(t("No image lies in this folder (JPEG, PNG, BMP, TIFF, PNM or WebP)"), true);
    if (images.length > room) toast(t("At most {number} of each are tried", { number: MAX_PARTS }), true);
    this.parts.push(...images.slice(0, room).map((file) => ({ heap, file })));
    this.run();
  }

  // Called with every draft: parts of another draft go, and another model judges them again.
  show(draft) {
    const [whose, model] = draft?.result ? [`${draft.camera} ${draft.begun_at}`, JSON.stringify(draft.result)] : [null, null];
    if (model !== this.model) {
      for (const url of this.parts.flatMap(({ judged }) => judged?.urls ?? [])) URL.revokeObjectURL(url);
      this.parts = whose === this.whose ? this.parts.map(({ heap, file }) => ({ heap, file })) : [];
    }
    [this.whose, this.model, this.draft] = [whose, model, draft];
    this.run();
  }

  // One after the other, until all are judged, or the device is away or learns: the next draft that is shown goes on.
  async run() {
    if (this.running) return;
    this.running = true;
    try {
      for (let part; (part = this.model && this.draft.state !== "learning" && this.parts.find(({ judged }) => !judged)); ) {
        this.draw();
        part.judged = await this.judge(part.file);
      }
    } catch (problem) {
      toast(problem.message, true);
    }
    this.running = false;
    this.draw();
  }

  // Why the model should not go into service yet; empty if every bad part that was tried is found.
  get doubt() {
    const bad = this.parts.filter(({ heap, judged }) => heap === "bad" && judged?.urls);
    if (!bad.length) return t("No bad part was tried since this page was opened: step 5 shows whether it finds yours.");
    return missing(bad);
  }

  async judge(file) {
    for (;;) {
      try {
        const { scaled_score: score, decision, image, heat_map } = await upload(`${this.view.path}/try`, file);
        const bytes = [image, heat_map].map((text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)));
        return { score, decision, urls: bytes.map((each) => URL.createObjectURL(new Blob([each], { type: "image/jpeg" }))) };
      } catch (problem) {
        if (BUSY.includes(problem.status)) await pause(AGAIN_MS);
        else if (isAway(problem.status)) throw problem;
        else return { refused: `${file.name}: ${problem.message}` };
      }
    }
  }

  // The missed ones come first, then the other bad ones from the lowest score on, then good ones from the highest on.
  draw() {
    const of = (heap) => this.parts.filter((part) => part.heap === heap && part.judged?.urls).sort((one, other) => shown(one) - shown(other));
    const [bad, good, left] = [of("bad"), of("good").reverse(), this.parts.filter(({ judged }) => !judged).length];
    const key = [bad.length, good.length, left, this.parts.length, this.model].join();
    if (key === this.drawn) return;
    this.drawn = key;
    const refused = this.parts.map(({ judged }) => judged?.refused).filter(Boolean);
    by("trial-found").hidden = !this.parts.length;
    by("trial-words").replaceChildren(...words(bad, good, left, this.draft, refused.length).map((text) => el("li", {}, text)));
    by("trial-line").hidden = !bad.length && !good.length;
    by("trial-bad-dots").replaceChildren(...bad.map(dot));
    by("trial-good-dots").replaceChildren(...good.map(dot));
    by("trial-parts").replaceChildren(...[...bad, ...good].map((part) => (part.tile ??= tile(part))));
    showRefused(by("trial-refused"), refused);
  }
}

const shown = ({ judged }) => Math.min(REACH, Math.max(0, judged.score ?? REACH));
// A bad part that would pass, or a good one that would not.
const isWrong = ({ heap, judged }) => (heap === "bad") === (judged.decision === "ok");

function missing(bad) {
  const missed = bad.filter(isWrong).length;
  return missed ? t("{missed} of {count} bad parts would pass.", { missed, count: bad.length }) : "";
}

// Two standard deviations above what the limit was made for: seldom by chance.
function broken(good, { false_reject_rate: rate }) {
  const rejected = good.filter(({ judged }) => judged.decision === "reject").length;
  const most = rate * good.length + 2 * Math.sqrt(rate * (1 - rate) * good.length);
  return rejected > most && t("{rejected} of them would be rejected: more than about 1 in {number}. If they are good, such parts were not learnt: add others like them in step 2, and learn again.", { rejected, number: oneIn(rate) });
}

function words(bad, good, left, draft, refused) {
  const [missed, wrong] = [missing(bad), good.filter(isWrong).length];
  const reviewed = bad.filter(({ judged }) => judged.decision === "review").length;
  return [
    left && t("Parts still to be judged: {number}", { number: count(left) }),
    bad.length && (missed || t("Every bad part would be found: {count} of {count}.", { count: bad.length })),
    reviewed && t("Bad parts that would go to review: {number}", { number: reviewed }),
    good.length && (wrong ? t("{wrong} of {count} good parts would not pass.", { wrong, count: good.length }) : t("Every good part would pass: {count} of {count}.", { count: good.length })),
    good.length > 0 && broken(good, draft.result),
    refused && t("Files left out: {number}", { number: refused }),
    (missed || reviewed) && unlike(draft.result),
    ...(missed ? unseen(draft) : []),
    missed && draft.result.preset === "fast" && t("Learn again with the preset default: it sees smaller defects."),
    missed && !draft.region && t("Draw a region around the part, so that a defect fills more of the model's pixels, and learn again."),
    missed && t("Or put it into service, mark such parts as bad, and teach them."),
  ].filter(Boolean);
}

function dot(part) {
  const made = el("img", { src: part.judged.urls[0], alt: "", title: part.file.name, "data-wrong": isWrong(part), onclick: () => part.tile.firstElementChild.focus() });
  made.style.left = `${(100 * shown(part)) / REACH}%`;
  return made;
}

function tile(part) {
  const { heap, file, judged } = part;
  const image = el("img", { src: judged.urls[0], alt: "" });
  const look = el("button", { type: "button", "aria-pressed": "false", "aria-label": t("Heat map of {part}", { part: file.name }) }, image);
  look.addEventListener("click", () => {
    look.ariaPressed = String(look.ariaPressed === "false");
    image.src = judged.urls[Number(look.ariaPressed === "true")];
  });
  return el("li", { "data-wrong": isWrong(part) }, look, el("b", {}, SAYS[heap][judged.decision]), el("span", { class: "muted" }, `${t("score {score}", { score: scaledText(judged.score) })} · ${file.name}`));
}
