// Places of defects on the part: a grid of counts over the newest image, or over an empty frame.

import { count, say } from "./dom.js";
import { t } from "./words.js";

const WIDTH = 640;
const WASHED_OUT = "grayscale(1) brightness(.75)";

export async function drawPositions(canvas, note, found, image) {
  canvas.width = WIDTH;
  canvas.height = Math.max(1, Math.round((WIDTH * found.height) / found.width));
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#1b242b";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  if (image) {
    const bitmap = await createImageBitmap(image);
    pen.filter = WASHED_OUT;
    pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    pen.filter = "none";
  }
  const most = Math.max(0, ...found.counts.flat());
  pen.drawImage(heat(found.counts, most), 0, 0, canvas.width, canvas.height); // enlarged, and so made smooth
  const text = most ? t("{placed} of {rejects} rejects have a place; up to {most} overlap", { placed: count(found.placed), rejects: count(found.verdicts), most: count(most) }) : t("no region stood out");
  say(note, text);
  canvas.setAttribute("aria-label", `${t("Positions of defects on the part")}: ${text}`);
}

// One pixel per cell: from yellow for few boxes to red for most; few are still visible beside many.
function heat(counts, most) {
  const [columns, rows] = [counts[0].length, counts.length];
  const small = new OffscreenCanvas(columns, rows);
  const pen = small.getContext("2d");
  const pixels = pen.createImageData(columns, rows);
  counts.flat().forEach((value, index) => {
    const strength = value ? Math.sqrt(value / most) : 0;
    pixels.data.set([255, 210 * (1 - strength), 40 * (1 - strength), value ? 40 + 190 * strength : 0], 4 * index);
  });
  pen.putImageData(pixels, 0, 0);
  return small;
}
