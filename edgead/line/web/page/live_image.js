// The newest image with its own verdict: both change at once, so that the text beside an image never belongs to another part.

import { fetchImage, get } from "./api.js";
import { by } from "./dom.js";

const EVERY_MS = 200;
const LOOK_AGAIN_MS = 1000;
const VERDICT_WITHIN_MS = 1000;
const PROBLEM_MS = 1000;

const pause = (time_ms) => new Promise((resolve) => setTimeout(resolve, time_ms));

export class LiveImage {
  // `find` returns a known verdict by its id; `show` is called with the verdict of each drawn image.
  constructor({ wanted, find, show }) {
    this.wanted = wanted;
    this.find = find;
    this.show = show;
    this.canvas = by("live-image");
    this.wake = () => {};
    this.forget();
    by("overlay").addEventListener("change", () => {
      this.drawn = null;
      this.wake();
    });
    this.watch();
  }

  // Hides the image until the next one is drawn.
  forget() {
    this.drawn = this.newest = null;
    this.canvas.hidden = true;
    by("no-image").hidden = false;
  }

  // One request at a time, and none while the view is hidden.
  async watch() {
    for (;;) {
      const pipeline = by("live").hidden || document.hidden ? null : this.wanted();
      try {
        if (pipeline) await this.load(pipeline);
        await pause(EVERY_MS);
      } catch {
        await pause(PROBLEM_MS); // the status shows what is wrong
      }
      if (this.upToDate()) await new Promise((resolve) => (this.wake = () => resolve(null), setTimeout(resolve, LOOK_AGAIN_MS)));
    }
  }

  // Called with a new verdict; its image may come a moment later.
  heard(id) {
    this.newest = id;
    this.wake();
  }

  upToDate() {
    return this.newest === this.drawn;
  }

  async load(pipeline) {
    const overlay = by("overlay").checked;
    const width = Math.min(1280, Math.ceil((this.canvas.parentElement.clientWidth * devicePixelRatio) / 160) * 160 || 640);
    const found = await fetchImage(`/api/pipelines/${pipeline}/image?overlay=${overlay}&width=${width}`, this.drawn);
    if (!found) return;
    const bitmap = await createImageBitmap(found.blob);
    const verdict = await this.verdict(found.id, pipeline);
    if (pipeline !== this.wanted() || overlay !== by("overlay").checked) return;
    this.canvas.width = bitmap.width;
    this.canvas.height = bitmap.height;
    this.canvas.getContext("bitmaprenderer").transferFromImageBitmap(bitmap);
    by("live").style.setProperty("--ratio", String(this.canvas.width / this.canvas.height));
    this.canvas.hidden = false;
    by("no-image").hidden = true;
    this.drawn = found.id;
    this.newest ??= found.id;
    Object.assign(this.canvas.dataset, { frame: found.id, overlay });
    this.show(verdict);
  }

  // The verdict comes as an event, before or soon after its image; if the event was lost, it is requested.
  async verdict(id, pipeline) {
    const until = performance.now() + VERDICT_WITHIN_MS;
    while (performance.now() < until) {
      const found = this.find(id);
      if (found) return found;
      await pause(EVERY_MS / 8);
    }
    return get(`/api/verdicts/${encodeURIComponent(id)}?pipeline=${encodeURIComponent(pipeline)}`);
  }
}
