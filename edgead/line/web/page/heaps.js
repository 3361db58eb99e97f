// Heaps of rejects: the last ones, sorted by how they look. A person moves images, writes names, and the model knows these kinds.

import { get, post } from "./api.js";
import { ask, nameField } from "./dialogs.js";
import { by, el, say, toast } from "./dom.js";
import { t } from "./words.js";

export class Heaps {
  constructor() {
    this.pipeline = null;
    this.shown = "";
    this.heaps = [];
    this.chosen = new Set();
    by("sort-rejects").addEventListener("click", () => this.send(`?hours=${this.hours}`));
    by("discard-heaps").addEventListener("click", () => this.send("/discard"));
    by("name-heaps").addEventListener("click", () => this.save());
    by("heap-list").addEventListener("change", ({ target }) => this.choose([target.value], target.checked));
  }

  show(pipeline, hours, known) {
    this.hours = hours;
    by("heap-kinds").replaceChildren(...known.map((kind) => el("option", { value: kind })));
    this.follow(pipeline);
  }

  async follow(pipeline) {
    this.pipeline = pipeline;
    const found = await get(`/api/pipelines/${pipeline}/heaps`).catch(() => null); // the connection's state is shown above
    if (found && pipeline === this.pipeline) this.take(found);
  }

  send(what) {
    post(`/api/pipelines/${this.pipeline}/heaps${what}`, {}).then((found) => this.take(found));
  }

  // Names and moves stay until other heaps come.
  take(found) {
    const shown = JSON.stringify([this.pipeline, found]);
    if (shown === this.shown) return;
    this.shown = shown;
    this.heaps = found.heaps.map((rejects, index) => ({ name: "", rejects, sorted: rejects, clear: found.clear[index] }));
    this.chosen.clear();
    by("heaps").hidden = found.state === "none";
    by("sort-rejects").disabled = found.state === "running";
    by("name-heaps").hidden = found.state !== "ready";
    by("heaps-problem").hidden = !found.reason;
    say(by("heaps-problem"), found.reason);
    const left = found.left_out ? ` ${t("Left out, as the model lets them pass now or they cannot be read: {number}.", { number: found.left_out })}` : "";
    const states = { running: t("Rejects that are sorted, beside the line: {done} of {images}", found), ready: t("Write a name under each heap; equal names make one kind, and heaps without a name the kind “other”. Choose images to move them.") + left };
    say(by("heaps-note"), states[found.state] ?? "");
    this.draw();
  }

  draw() {
    const drawn = this.heaps.map((heap, index) => this.section(heap, index + 1));
    by("heap-list").replaceChildren(...drawn, this.heaps.length ? el("button", { "data-move": "new", onclick: () => this.move(null) }, t("Put the chosen into a new heap")) : "");
    this.choose([], true);
  }

  section(heap, number) {
    const field = `heap-${number}`;
    const all = el("button", { onclick: () => this.choose(heap.rejects.map(({ verdict }) => verdict), !heap.rejects.every(({ verdict }) => this.chosen.has(verdict))) }, t("Choose all"));
    const here = el("button", { "data-move": number, onclick: () => this.move(heap) }, t("Put the chosen here"));
    const name = el("input", { id: field, list: "heap-kinds", maxlength: "64", autocomplete: "off", value: heap.name, oninput: ({ target }) => (heap.name = target.value) });
    const title = t("Heap {heap}, images: {number}", { heap: number, number: heap.rejects.length });
    const words = heap.clear ? t("clear: half of these rejects make this heap again") : t("doubtful: a sort of half of these rejects gives other heaps. Look at each image");
    const asSorted = String(heap.rejects.map(({ verdict }) => verdict)) === String(heap.sorted?.map(({ verdict }) => verdict)); // a person may have changed it
    const clear = heap.clear != null && asSorted && el("p", { class: "muted" }, words);
    const images = heap.rejects.map((reject, index) => el("li", {}, el("label", {}, image(reject, this.pipeline), el("span", { class: "tick" }, el("input", { type: "checkbox", value: reject.verdict }), t("image {number}", { number: index + 1 }))), el("a", { href: `#evidence/${reject.verdict}/${this.pipeline}` }, t("Look at it"))));
    return el("section", { class: "heap", tabindex: "-1", "aria-label": title }, el("header", {}, el("h3", {}, title), el("div", { class: "actions" }, all, here)), clear, el("ol", { class: "thumbs" }, images), el("label", { for: field }, t("Kind of heap {heap}", { heap: number })), name);
  }

  choose(verdicts, on) {
    for (const verdict of verdicts) this.chosen[on ? "add" : "delete"](verdict);
    for (const box of by("heap-list").querySelectorAll("[type=checkbox]")) box.checked = this.chosen.has(box.value);
    for (const button of by("heap-list").querySelectorAll("[data-move]")) button.disabled = !this.chosen.size;
  }

  // Moves the chosen images into a heap, or into a new one; heaps without images go.
  move(into) {
    const taken = this.heaps.flatMap((heap) => heap.rejects.filter(({ verdict }) => this.chosen.has(verdict)));
    for (const heap of this.heaps) heap.rejects = heap.rejects.filter(({ verdict }) => !this.chosen.has(verdict));
    if (!into) this.heaps.push((into = { name: "", rejects: [] }));
    into.rejects.push(...taken);
    this.heaps = this.heaps.filter(({ rejects }) => rejects.length);
    this.chosen.clear();
    this.draw();
    by("heap-list").children[this.heaps.indexOf(into)].focus();
  }

  save() {
    const kinds = Object.create(null); // any word may be a name
    if (!this.heaps.some(({ name }) => name.trim())) return toast(t("Write a name under at least one heap."), true);
    // Without them every later reject would be of a kind that was named.
    for (const { name, rejects } of this.heaps.toSorted((one, other) => Number(!one.name.trim()) - Number(!other.name.trim()))) (kinds[name.trim() || t("other")] ??= []).push(...rejects.map(({ verdict }) => verdict));
    return ask({
      title: t("Teach the model these kinds?"),
      lead: t("{kinds}. It is tested, and names them from the next part on. What it decides stays as it is. The model of before can be rolled back to until edgead ends.", { kinds: Object.keys(kinds).join(", ") }),
      fields: nameField(),
      action: t("Save"),
      send: ({ by: who }) => post(`/api/pipelines/${this.pipeline}/heaps/name`, { kinds, by: who }),
      done: t("The model names these kinds now"),
    });
  }
}

function image({ verdict, image: name }, pipeline) {
  if (!name) return el("span", { class: "no-thumb" }, t("no image"));
  return el("img", { src: `/api/verdicts/${verdict}/images/${name}?pipeline=${pipeline}`, alt: "", loading: "lazy" });
}
