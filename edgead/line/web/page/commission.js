// Commissioning: from a camera to a model in service. Each camera has one draft, which is stored on the device.

import { fetchImage, get, me, post, put } from "./api.js";
import { oneIn, showResult } from "./commissioned.js";
import { ask, nameField, remembered, rollBack } from "./dialogs.js";
import { STATES, by, clock, complain, count, el, say, stamp, toast } from "./dom.js";
import { Drawing } from "./drawing.js";
import { Sending, chosenFiles, droppedFiles, goodImages, offerFiles } from "./folder.js";
import { cameraReason } from "./reasons.js";
import { changeThresholds } from "./thresholds.js";
import { Trial } from "./trial.js";
import { Wall, partName } from "./wall.js";
import { t } from "./words.js";

const STAGES = {
  begin: t("Beginning …"),
  "read images": t("Read the images"),
  "extract features": t("Look at each part"),
  "choose memory bank": t("Choose what to remember"),
  "compare parts": t("Compare the parts"),
  "choose again": t("Choose again"),
  calibrate: t("Find the limit"),
  "draw heat maps": t("Draw heat maps"),
};

export class CommissionView {
  constructor() {
    this.camera = null;
    this.known = null; // the camera whose draft was asked for
    this.draft = null;
    this.status = null;
    this.url = null;
    this.given = null; // the pipeline that the model was given to
    this.unkept = 0; // changes that are on their way to the device
    this.drawing = new Drawing((drawn) => this.keep(drawn));
    by("commission-camera").addEventListener("change", () => (location.hash = `commission/${by("commission-camera").value}`));
    for (const button of by("commission-tools").querySelectorAll("[data-kind]")) {
      button.addEventListener("click", () => this.drawing.begin(button.dataset.kind, button.dataset.form === "rectangle"));
    }
    by("commission-wanted").addEventListener("change", () => this.keep({}));
    by("commission-preset").addEventListener("change", (event) => this.keep({ preset: event.target.value }));
    const clicks = {
      begin: () => this.begin(), discard: () => this.discard(), finish: () => this.drawing.finish(), reset: () => this.drawing.reset(),
      take: () => this.take(), collect: () => this.collect(), learn: () => this.act("learn"), cancel: () => this.act("cancel"),
      "two-out": () => this.learnRest(), "two-one": () => this.act("learn", { one_product: true }),
      see: () => by("commission-result").scrollIntoView(), limit: () => changeThresholds(this.gone), back: () => rollBack(this.gone),
    };
    for (const [id, does] of Object.entries(clicks)) by(`commission-${id}`).addEventListener("click", does);
    this.trial = new Trial(this);
    this.wall = new Wall((name, what) => this.leave(name, what));
    this.offerFolders();
  }

  offerFolders() {
    offerFiles(by("commission-choose"), by("commission-folder"), (input) => this.sendFolder(chosenFiles(input)));
    by("commission-stop").addEventListener("click", () => this.sending.stop());
    // In the whole window: a browser would open a folder that is dropped beside the place.
    const over = (event, dropping) => {
      if (by("commission").hidden || !event.dataTransfer?.types.includes("Files")) return false;
      event.preventDefault();
      if (document.querySelector("dialog")) return false;
      by("commission").toggleAttribute("data-dropping", dropping);
      return true;
    };
    addEventListener("dragover", (event) => over(event, true));
    addEventListener("dragleave", (event) => over(event, event.relatedTarget !== null));
    addEventListener("drop", async (event) => {
      if (!over(event, false) || me().role !== "engineer") return;
      // Beside a heap of the trial it is a bad part as well: no bad part may be learnt.
      const target = /** @type {HTMLElement} */ (event.target);
      const heap = target.closest("#commission-trial") && (/** @type {HTMLElement | null} */ (target.closest("[data-heap]"))?.dataset.heap ?? "bad");
      const found = await droppedFiles(event.dataTransfer);
      if (heap) this.trial.add(heap, found.files.map(({ file }) => file));
      else this.sendFolder(found);
    });
  }

  // Sends a folder; begins a draft if there is none.
  sendFolder(found) {
    if (!this.camera || this.known !== this.camera) return toast(t("No connection to the device"), true);
    let chosen;
    try {
      chosen = goodImages(found);
    } catch (problem) {
      return toast(problem.message, true);
    }
    if (this.sending && !this.sending.stopped) return toast(t("A folder is being sent already: wait for it, or stop it"), true);
    const send = () => {
      this.sending = new Sending(this.path, found.name, chosen, this.draft);
      return this.sending.run().then(() => this.poll());
    };
    if (this.draft?.result) return this.addOrBegin(send);
    if (this.draft) return send();
    return this.begin(send);
  }

  // What was learnt may be of another product: two in one model make its limit too loose.
  addOrBegin(send) {
    const choices = { "": "—", same: t("the same product: add them to the draft"), other: t("another product: discard the draft, begin a new one") };
    ask({
      title: t("Is it the same product?"), action: t("Continue"),
      lead: t("The draft holds {number} good parts. Two products in one model make its limit too loose. A model in service stays.", { number: count(this.draft.images.length) }),
      fields: [
        el("label", { for: "product" }, t("These images show")),
        el("select", { id: "product", name: "product", required: true }, Object.entries(choices).map(([value, words]) => el("option", { value }, words))),
        nameField(),
      ],
      send: async ({ by: name, product }) => {
        if (product === "other") {
          await post(`${this.path}/discard`, { by: name });
          this.take_over(null);
          this.take_over(await post(this.path, { by: name }));
        }
        send();
      },
    });
  }

  get path() {
    return `/api/commission/${this.camera}`;
  }

  show(camera) {
    if (camera && camera !== this.camera) {
      this.camera = camera;
      this.take_over(null);
    }
    this.poll();
  }

  // Called with every status; also reads the draft while the view is open.
  showStatus(status) {
    this.status = status;
    if (by("commission").hidden) return;
    const names = status.cameras.map((camera) => camera.name);
    const select = by("commission-camera");
    if ([...select.options].map((option) => option.value).join() !== names.join()) select.replaceChildren(...names.map((name) => el("option", { value: name }, name)));
    this.camera ??= names[0] ?? null;
    if (this.camera) select.value = this.camera;
    by("commission-limit").hidden = !this.gone?.thresholds;
    by("commission-back").hidden = !this.gone?.can_roll_back;
    this.poll();
  }

  async poll() {
    if (!this.camera || this.polling || by("commission").hidden) return;
    this.polling = true;
    try {
      const camera = this.camera;
      const found = (await get("/api/commission")).find((one) => one.camera === camera);
      if (camera !== this.camera) return;
      say(by("commission-problem"), found?.problem ?? found?.draft?.problem ?? "");
      this.take_over(found?.draft ?? null, Boolean(found?.problem));
      this.known = camera;
      by("commission-choose").disabled = false;
      await this.look();
    } catch (problem) {
      if (problem.status) toast(problem.message, true);
    } finally {
      this.polling = false;
    }
  }

  // Shows the current image; drawn shapes stay where they are.
  async look() {
    const camera = this.status?.cameras.find((one) => one.name === this.camera);
    const lost = camera && !["streaming", "ended"].includes(camera.state);
    by("commission-lost").hidden = !lost;
    if (lost) say(by("commission-lost"), t("Camera {camera} gives no images: {reason}", { camera: this.camera, reason: cameraReason(camera.reason) ?? STATES[camera.state] }));
    const found = (!this.givesNothing && (await fetchImage(`/api/cameras/${this.camera}/image?width=1280`, this.shownFrame))) || (await this.lookAtSent());
    if (!found) return;
    this.shownFrame = found.id;
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = URL.createObjectURL(found.blob);
    by("commission-image").src = this.url;
    by("commission-image").hidden = false;
  }

  // Before the camera's first image, a sent part is shown to draw places on; where it gives none, what it judged last is no part of the draft.
  async lookAtSent() {
    const first = this.draft?.images[0];
    if (this.shownFrame || !first) return null;
    return { ...(await fetchImage(`${this.path}/images/${first}?width=1280`)), id: first };
  }

  // Whether the camera waits for images from programs: then there is nothing to collect.
  get givesNothing() {
    return this.status?.cameras.find((one) => one.name === this.camera)?.uri === "request:";
  }

  take_over(draft, damaged = false) {
    // An answer to a request from before a change may come after it, and is older than the page.
    if (draft && this.draft && draft.begun_at === this.draft.begun_at && draft.revision < this.draft.revision) return;
    this.draft = draft;
    by("commission-begin").hidden = draft !== null || damaged || this.givesNothing;
    by("commission-choose").classList.toggle("primary", this.givesNothing && !draft?.images.length);
    for (const id of ["commission-of-line", "commission-of-camera"]) by(id).hidden = this.givesNothing;
    by("commission-of-folder").hidden = !this.givesNothing;
    by("commission-discard").hidden = draft === null && !damaged;
    by("commission-steps").hidden = draft === null;
    by("commission-intro").hidden = draft !== null;
    say(by("commission-about"), draft ? t("Begun by {name}, {when}", { name: draft.begun_by, when: stamp(draft.begun_at) }) : "");
    by("commission-problem").hidden = !by("commission-problem").textContent;
    // The place for dropping files moves to where people look for it.
    (draft ? by("commission-from") : by("commission-intro")).append(by("commission-drop"));
    this.trial.show(draft);
    if (draft === null) {
      this.shownFrame = null;
      by("commission-image").hidden = true;
      by("commission-gone").hidden = true;
      return;
    }
    if (!this.unkept) this.drawing.show(draft.frame_width ? [draft.frame_width, draft.frame_height] : null, draft.region, draft.ignored);
    this.parts(draft);
    this.wall.show(draft, this.path);
    this.learning(draft);
    this.twoProducts(draft);
    showResult(this, draft);
  }

  parts(draft) {
    const [number, bar] = [count(draft.images.length), by("commission-bar")];
    const most = Math.max(draft.wanted, draft.images.length); // a folder may have more
    const sending = this.sending && !this.sending.stopped ? this.sending : null;
    say(by("commission-count"), this.givesNothing ? number : t("{number} of {wanted}", { number, wanted: count(most) }));
    bar.hidden = this.givesNothing && !sending;
    bar.max = sending ? sending.images.length : most;
    bar.value = sending ? sending.done : draft.images.length;
    const wanted = by("commission-wanted");
    if (document.activeElement !== wanted) wanted.value = draft.wanted;
    by("commission-preset").value = draft.preset;
    by("commission-preset").disabled = draft.state === "learning";
    say(by("commission-alike"), draft.alike ? t("Images left out that show a part again: {number}. Parts must differ.", { number: count(draft.alike) }) : "");
    say(by("commission-rate"), rateWords(draft));
    const others = draft.other_sizes;
    by("commission-sizes").hidden = !others.length;
    say(by("commission-sizes"), t("{number} of {all} images have another size than the others. If they show another product, take them out before you learn: {names}", { number: count(others.length), all: count(draft.images.length), names: others.slice(0, 20).map((name) => partName(draft, name)).join(", ") }));
    const running = draft.mode !== "off";
    say(by("commission-collect"), running ? t("Stop collecting") : t("Collect"));
    by("commission-collect").classList.toggle("primary", !running);
    by("commission-mode").disabled = running;
    by("commission-take").disabled = draft.state === "learning";
    const trigger = by("commission-mode").querySelector("[value=trigger]");
    trigger.disabled = draft.pipelines.length === 0;
    if (trigger.disabled && by("commission-mode").value === "trigger") by("commission-mode").value = "2";
    by("commission-no-parts").hidden = draft.images.length > 0;
  }

  learning(draft) {
    const under = draft.learning;
    const [learn, cancel, see] = ["learn", "cancel", "see"].map((id) => by(`commission-${id}`));
    const focused = [learn, cancel].find((button) => button === document.activeElement);
    learn.hidden = Boolean(under);
    learn.disabled = draft.rate === null || Boolean(this.sending && !this.sending.stopped);
    const fresh = draft.result !== null && !draft.stale && !under;
    learn.classList.toggle("primary", !fresh);
    see.hidden = !fresh;
    say(learn, draft.result ? t("Learn again") : t("Learn"));
    cancel.hidden = !under;
    if (focused?.hidden) [cancel, see, learn].find((button) => !button.hidden).focus({ preventScroll: true });
    by("commission-progress").hidden = !under;
    if (under) {
      const counted = under.total > 1; // what has only begun, or is one thing, has no share that is done
      if (counted) by("commission-progress").value = under.done / under.total;
      else by("commission-progress").removeAttribute("value");
      const step = `${STAGES[under.stage] ?? under.stage} ${counted ? `${under.done}/${under.total}` : ""}`;
      say(by("commission-stage"), under.waits ? `${step} – ${t("waits for a free core: verdicts come first")}` : step);
    } else say(by("commission-stage"), draft.rate === null ? t("At least {number} parts are needed", { number: 20 }) : "");
  }

  // Asked before anything is learnt: two products in one model make its limit too loose.
  twoProducts({ two_products: few, images, begun_at, files }) {
    by("commission-two").hidden = !few.length;
    const key = [begun_at, images.length, ...few].join(); // each draft counts its images from one
    if (!few.length || by("commission-two").dataset.of === key) return;
    by("commission-two").dataset.of = key;
    say(by("commission-two-words"), t("{number} of {all} images look like another product or grade than the rest. Two products in one model make its limit too loose, and bad parts pass. Take them out, and learn a model of their own from 20 or more such parts.", { number: count(few.length), all: count(images.length) }));
    const shown = (name) => el("li", {}, el("img", { src: `${this.path}/images/${name}?width=320&of=${encodeURIComponent(begun_at)}`, alt: "", loading: "lazy" }), partName({ files }, name));
    by("commission-two-few").replaceChildren(...few.slice(0, 3).map(shown));
    by("commission-two-many").replaceChildren(...images.filter((name) => !few.includes(name)).slice(0, 3).map(shown));
  }

  async learnRest() {
    for (const name of this.draft.two_products) await this.leave(name, "remove");
    await this.act("learn");
  }

  // One change after another: each names the revision that it is based on.
  keep(drawn) {
    this.unkept += 1;
    this.keeping = this.send(drawn, this.keeping);
  }

  async send(drawn, before) {
    await before;
    if (this.draft) {
      const { revision, wanted, region, ignored, preset } = this.draft;
      const asked = { region, ignored, preset, wanted: Number(by("commission-wanted").value) || wanted, ...drawn };
      try {
        this.draft = await put(this.path, { ...asked, revision, by: remembered() || t("somebody") });
        say(by("commission-kept"), t("Kept {when}", { when: clock(new Date()) }));
      } catch (problem) {
        toast(problem.message, true);
        this.draft = null; // as it is on the device, whatever is shown
      }
    }
    this.unkept -= 1;
    await this.poll();
  }

  begin(then = () => {}) {
    ask({
      title: t("Commission a model for {camera}", { camera: this.camera }), action: t("Begin"),
      lead: t("The draft stays where edgead runs until it is discarded: you can go on later."),
      fields: nameField(),
      send: async ({ by: name }) => {
        this.take_over(await post(this.path, { by: name }));
        then();
      },
    });
  }

  discard() {
    ask({
      title: t("Discard this draft?"), action: t("Discard"), danger: true, done: t("Discarded"),
      lead: t("Its images and its model are removed. A model that went into service stays."),
      fields: nameField(),
      send: async ({ by: name }) => {
        await post(`${this.path}/discard`, { by: name });
        this.take_over(null);
      },
    });
  }

  async take() {
    const taken = await post(`${this.path}/take`).catch(complain);
    if (taken?.like) toast(t("It shows the same as {part}: put another part under the camera", { part: partName(this.draft, taken.like) }), true);
    await this.poll();
  }

  collect() {
    const mode = by("commission-mode").value;
    if (this.draft.mode !== "off") return this.act("collect", { mode: "off" });
    return this.act("collect", mode === "trigger" ? { mode } : { mode: "interval", every_s: Number(mode) });
  }

  // Takes an image out ("remove") or puts it back ("restore").
  leave(name, what) {
    return this.act(`images/${name}/${what}`, { by: remembered() || t("somebody") });
  }

  get gone() {
    return this.status?.pipelines.find(({ name }) => name === this.given);
  }

  async act(what, body) {
    try {
      this.take_over(await post(`${this.path}/${what}`, body));
    } catch (problem) {
      toast(problem.message, true);
      await this.poll();
    }
  }
}

export function rateWords({ rate, next_rate, next_parts, images, parts }) {
  if (rate === null) return t("Parts still needed to learn: {number}", { number: Math.max(1, next_parts - images.length) });
  const several = parts < images.length && t("The images show {parts} parts, by their names.", { parts: count(parts) });
  const now = [several, t("Enough for about 1 good part in {number} rejected.", { number: oneIn(rate) })].filter(Boolean).join(" ");
  return next_rate ? `${now} ${t("1 in {number} takes {parts} parts.", { number: oneIn(next_rate), parts: next_parts })}` : now;
}
