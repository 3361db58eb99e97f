// Where on the part defects lie: a grid of counts over the newest image, or over a plain frame where there is none.

import { count, say } from "./dom.js";

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
  const [wide, high] = [canvas.width / found.counts[0].length, canvas.height / found.counts.length];
  found.counts.forEach((row, y) =>
    row.forEach((value, x) => {
      if (!value) return;
      pen.fillStyle = colour(value / most);
      // Up to the edge of the next cell, so that no seam shows.
      const [left, top] = [Math.floor(x * wide), Math.floor(y * high)];
      pen.fillRect(left, top, Math.floor((x + 1) * wide) - left, Math.floor((y + 1) * high) - top);
    }),
  );
  const text = most ? `${count(found.verdicts)} rejects; at most ${count(most)} at one place` : "no region stood out";
  say(note, text);
  canvas.setAttribute("aria-label", `Positions of defects on the part: ${text}`);
}

// From yellow to red; few is still seen beside many.
function colour(share) {
  const strength = Math.sqrt(share);
  return `rgb(255 ${Math.round(200 * (1 - strength))} ${Math.round(40 * (1 - strength))} / ${0.35 + 0.5 * strength})`;
}
