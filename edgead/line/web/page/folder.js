// A folder of good parts' images: dropped or chosen, sent one by one, and resumed after the device was away.

import { get, me, post, upload } from "./api.js";
import { remembered } from "./dialogs.js";
import { by, count, el, say, toast } from "./dom.js";
import { partName } from "./wall.js";
import { t } from "./words.js";

const MAX_IMAGES = 600; // in a draft
export const AGAIN_MS = 1000;
export const BUSY = [429, 503];
const OF_THIS_FILE = [413, 415, 422];

// No connection, signed out, or shutting down: the device may restart.
export const isAway = (status) => status === 0 || status === 401 || status === 429 || status >= 500;
export const pause = (time_ms) => new Promise((resolve) => setTimeout(resolve, time_ms));
const inOrder = new Intl.Collator("en", { numeric: true }).compare;

// A button that lets files be chosen; the same ones can be chosen again.
export function offerFiles(button, input, take) {
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take(input);
    input.value = "";
  });
}

// Dropped or chosen folder: its name, and its files with their paths below it.
export function chosenFiles(input) {
  const files = [...input.files].map((file) => ({ file, path: file.webkitRelativePath.split("/").slice(1) }));
  return { name: input.files[0]?.webkitRelativePath.split("/")[0] ?? "", files };
}

export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean); // all at once: they are gone later
  const folder = entries.length === 1 && entries[0].isDirectory ? entries[0] : null;
  const found = await Promise.all((folder ? await inside(folder) : entries).map((entry) => below(entry, [])));
  return { name: folder?.name ?? "", files: found.flat() };
}

async function inside(folder) {
  const reader = folder.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at a time
    if (!some.length) return found;
    found.push(...some);
  }
}

async function below(entry, above) {
  const path = [...above, entry.name];
  if (entry.isFile) return [{ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) }];
  return (await Promise.all((await inside(entry)).map((one) => below(one, path)))).flat();
}

// The files that can be learnt are those that can be judged.
export const isImage = (name) => !name.startsWith(".") && by("judged-files").accept.split(",").some((suffix) => name.toLowerCase().endsWith(suffix));

// Reads a folder as `edgead train` does: train/good if there is one, else the images directly in it; other files there are refused.
export function goodImages({ files }) {
  const images = files.filter(({ path }) => isImage(path.at(-1)));
  const inGood = ({ path }) => path.length === 3 && path[0] === "train" && path[1] === "good";
  const isOwn = images.some(inGood) ? inGood : ({ path }) => path.length === 1;
  const own = images.filter(isOwn);
  if (!own.length && images.length) throw new Error(t("No image lies in this folder, {number} lie in folders below it: choose one of those", { number: images.length }));
  if (!own.length) throw new Error(t("No image lies in this folder (JPEG, PNG, BMP, TIFF, PNM or WebP)"));
  own.sort((one, other) => inOrder(one.path.at(-1), other.path.at(-1)));
  const others = files.filter(isOwn).map(({ path }) => path.at(-1)).filter((name) => !isImage(name) && !name.startsWith("."));
  return {
    // Neighbours look much alike: of too many, as many as a draft holds are taken evenly.
    images: own.filter((image, index) => own.length <= MAX_IMAGES || Math.floor((index * MAX_IMAGES) / own.length) !== Math.floor(((index - 1) * MAX_IMAGES) / own.length)),
    refused: others.map((name) => `${name}: ${t("is no image (JPEG, PNG, BMP, TIFF, PNM or WebP)")}`),
  };
}

// One folder on its way to the draft of a camera.
export class Sending {
  constructor(path, name, { images, refused }, { files }) {
    this.path = path;
    this.name = name;
    this.images = images;
    this.files = { ...files }; // what parts are called
    this.done = 0;
    this.refused = refused;
    this.stopped = false;
  }

  async run() {
    by("commission-sending").hidden = false;
    try {
      while (!this.stopped && this.done < this.images.length) await this.goOn();
    } catch (problem) {
      toast(problem.message, true);
    }
    by("commission-sending").hidden = true;
    this.stopped = true;
  }

  stop() {
    this.stopped = true;
  }

  // Sends until all is sent, or the device is away.
  async goOn() {
    this.show();
    try {
      const begun = await post(`${this.path}/folder`, { folder: this.name, images: this.images.length - this.done, by: me().name || remembered() || t("somebody") });
      while (!this.stopped && this.done < this.images.length) {
        await this.one(this.images[this.done], begun);
        this.done += 1;
        this.show();
      }
    } catch (problem) {
      if (!isAway(problem.status)) throw problem;
      say(by("commission-sent"), t("Waiting for the device: {done} of {all} are sent", { done: count(this.done), all: count(this.images.length) }));
      while (!this.stopped && !(await get("/api/commission").catch(() => null))) await pause(AGAIN_MS);
    }
  }

  async one({ file }, { sent, max_bytes }) {
    if (file.size > max_bytes) return this.refuse(file, t("more than {number} MiB", { number: max_bytes >> 20 }));
    let data;
    try {
      data = await file.arrayBuffer();
    } catch {
      return this.refuse(file, t("cannot be read"));
    }
    if (Object.hasOwn(sent, await sha256(data))) return;
    while (!this.stopped) {
      try {
        const taken = await upload(`${this.path}/images?${new URLSearchParams({ file: file.name })}`, new Blob([data]));
        if (taken.image) this.files[taken.image] = file.name;
        if (taken.like) this.refuse(file, t("shows the same as {part}", { part: partName(this, taken.like) }));
        return;
      } catch (problem) {
        if (OF_THIS_FILE.includes(problem.status)) return this.refuse(file, problem.message);
        if (!BUSY.includes(problem.status)) throw problem;
        await pause(AGAIN_MS);
      }
    }
  }

  refuse(file, reason) {
    this.refused.push(`${file.name}: ${reason}`);
  }

  show() {
    say(by("commission-sent"), t("{done} of {all} images are sent: {folder}", { done: count(this.done), all: count(this.images.length), folder: this.name || t("files") }));
    showRefused(by("commission-refused"), this.refused);
  }
}

export function showRefused(box, refused) {
  box.hidden = !refused.length;
  say(box.firstElementChild, t("Files left out: {number}", { number: count(refused.length) }));
  if (box.lastElementChild.children.length !== refused.length) box.lastElementChild.replaceChildren(...refused.map((text) => el("li", {}, text)));
}

// Browsers hash only on this computer's own page and over HTTPS; elsewhere the device finds out what it has.
async function sha256(data) {
  if (!crypto.subtle) return "";
  return [...new Uint8Array(await crypto.subtle.digest("SHA-256", data))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
