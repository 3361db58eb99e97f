// Focus aid of a camera: how sharp each place of its image is now, beside the golden images or beside the sharpest since it was opened.

import { fetchImage, get } from "./api.js";
import { by, count, decimal, el, say, toast } from "./dom.js";
import { t } from "./words.js";

const EVERY_MS = 1000;
// Places without structure look the same sharp and blurred.
const FLAT = 4;
const [GOOD, FAIR] = [0.9, 0.6];
// Below this ratio, one direction is blurred by motion: parts of the built-in line stay above .95, 3 px of motion give .83 at most.
const SMEARED = 0.85;

export function openFocus(camera) {
  const canvas = el("canvas", { role: "img", "aria-label": t("The camera now") });
  const [sharp, ways, light] = [el("p", { role: "status" }), el("p", { class: "muted" }), el("p", { class: "muted" })];
  const motion = el("p", { class: "form-error", role: "status", hidden: true });
  const best = [];
  const bestWays = { across: 0, down: 0 };
  const box = el(
    "dialog", { class: "focus", "aria-labelledby": "focus-title" },
    el("h2", { id: "focus-title" }, t("Focus of {camera}", { camera })),
    el("div", { class: "frame" }, canvas),
    sharp, motion, ways, light,
    el("p", { class: "muted" }, t("Let a good part lie still and turn the lens until the numbers are highest. Dashes are places without structure. Then let the line run: what is lost in one direction alone is lost by motion.")),
    el("div", { class: "actions" }, el("button", { onclick: () => box.close() }, t("Close"))),
  );
  box.addEventListener("close", () => box.remove());
  by("main").after(box);
  box.showModal();
  watch();

  async function watch() {
    while (box.isConnected) {
      try {
        const found = await get(`/api/cameras/${camera}/focus`);
        const image = found && (await fetchImage(`/api/cameras/${camera}/image?width=960`));
        if (image) show(found, await createImageBitmap(image.blob));
        else say(sharp, t("No image yet"));
      } catch (problem) {
        toast(problem.message, true);
      }
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  }

  function show({ rows, columns, now, golden }, bitmap) {
    now.sharpness.forEach((value, cell) => (best[cell] = Math.max(best[cell] ?? 0, value)));
    const against = golden?.sharpness ?? best;
    const shares = now.sharpness.map((value, cell) => (against[cell] < FLAT ? null : value / against[cell]));
    draw(canvas, bitmap, rows, columns, shares);
    const known = shares.filter((share) => share !== null).map((share) => Math.min(1, share));
    const mean = known.length ? percent(known.reduce((sum, share) => sum + share, 0) / known.length) : "—";
    say(sharp, golden ? t("Sharpness {share} of the golden images", { share: mean }) : t("Sharpness {share} of the best since this was opened", { share: mean }));
    showWays(now, golden);
    const clipped = `${decimal(100 * now.saturated, 1)} %`;
    say(light, golden ? t("Overexposed: {share} of the pixels, {golden} in golden images", { share: clipped, golden: `${decimal(100 * golden.saturated, 1)} %` }) : t("Overexposed: {share} of the pixels", { share: clipped }));
  }

  // Defocus blurs both directions alike, motion only its own.
  function showWays(now, golden) {
    for (const way of ["across", "down"]) bestWays[way] = Math.max(bestWays[way], now[way]);
    const against = golden ?? bestWays;
    const [across, down] = [now.across / against.across, now.down / against.down];
    const known = Number.isFinite(across) && Number.isFinite(down) && down > 0;
    const smeared = known ? (across < SMEARED * down ? "across" : down < SMEARED * across ? "down" : "") : "";
    const shares = { across: known ? percent(Math.min(1, across)) : "—", down: known ? percent(Math.min(1, down)) : "—" };
    say(ways, t("Edges from left to right {across}, from top to bottom {down}", shares));
    motion.hidden = !smeared;
    if (smeared) say(motion, smeared === "across" ? t("Blurred from left to right, as by motion: shorten the exposure, or slow the line") : t("Blurred from top to bottom, as by motion: shorten the exposure, or slow the line"));
  }
}

const percent = (share) => `${count(Math.round(100 * share))} %`;

function draw(canvas, bitmap, rows, columns, shares) {
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  const pen = canvas.getContext("2d");
  pen.drawImage(bitmap, 0, 0);
  const [wide, high] = [canvas.width / columns, canvas.height / rows];
  pen.font = `600 ${Math.round(Math.min(wide / 3.4, high / 2.4))}px system-ui`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  shares.forEach((share, cell) => {
    const [x, y] = [(cell % columns) * wide, Math.floor(cell / columns) * high];
    pen.strokeStyle = "rgb(255 255 255 / .35)";
    pen.strokeRect(x, y, wide, high);
    // The number says it; the colour helps to see where.
    pen.fillStyle = share === null ? "transparent" : share >= GOOD ? "rgb(20 130 70 / .35)" : share >= FAIR ? "rgb(220 150 0 / .4)" : "rgb(190 30 30 / .45)";
    pen.fillRect(x, y, wide, high);
    pen.lineWidth = 3;
    pen.strokeStyle = "rgb(0 0 0 / .7)";
    pen.fillStyle = "#fff";
    const text = share === null ? "–" : String(Math.round(100 * share));
    pen.strokeText(text, x + wide / 2, y + high / 2);
    pen.fillText(text, x + wide / 2, y + high / 2);
    pen.lineWidth = 1;
  });
}
