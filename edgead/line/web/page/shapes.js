// Rectangles and polygons on an image, in whole pixels: four numbers x, y, width, height, or corners x, y, x, y, ...

export const isRectangle = (shape) => shape.length === 4;

const clamp = (value, most) => Math.min(Math.max(0, Math.round(value)), most);

// A rectangle ends at the image's border; a corner of a polygon is a pixel, at most the last one.
const within = (shape, [width, height]) => (isRectangle(shape) ? [width, height] : [width - 1, height - 1]);

export function corners(shape) {
  if (isRectangle(shape)) {
    const [x, y, width, height] = shape;
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]];
  }
  return Array.from({ length: shape.length / 2 }, (_, index) => shape.slice(2 * index, 2 * index + 2));
}

// The rectangle between two points, at least one pixel large.
export function between([ax, ay], [bx, by], [width, height]) {
  const [left, top] = [clamp(Math.min(ax, bx), width - 1), clamp(Math.min(ay, by), height - 1)];
  const [right, bottom] = [clamp(Math.max(ax, bx), width), clamp(Math.max(ay, by), height)];
  return [left, top, Math.max(1, right - left), Math.max(1, bottom - top)];
}

export function withCorner(shape, index, point, size) {
  if (isRectangle(shape)) return between(corners(shape)[(index + 2) % 4], point, size);
  const [mostX, mostY] = within(shape, size);
  return corners(shape).flatMap((corner, each) => (each === index ? [clamp(point[0], mostX), clamp(point[1], mostY)] : corner));
}

// Moves a shape as a whole; at the border it keeps its size.
export function moved(shape, [dx, dy], size) {
  const [mostX, mostY] = within(shape, size);
  const points = corners(shape);
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const stepX = Math.min(Math.max(Math.round(dx), -Math.min(...xs)), mostX - Math.max(...xs));
  const stepY = Math.min(Math.max(Math.round(dy), -Math.min(...ys)), mostY - Math.max(...ys));
  if (isRectangle(shape)) return [shape[0] + stepX, shape[1] + stepY, shape[2], shape[3]];
  return points.flatMap(([x, y]) => [x + stepX, y + stepY]);
}

// Adds a corner in the middle of the edge after a corner.
export function withNewCorner(shape, after) {
  const points = corners(shape);
  const [[ax, ay], [bx, by]] = [points[after], points[(after + 1) % points.length]];
  points.splice(after + 1, 0, [Math.round((ax + bx) / 2), Math.round((ay + by) / 2)]);
  return points.flat();
}

// Removes a corner; a triangle keeps its corners.
export function withoutCorner(shape, index) {
  const points = corners(shape);
  return points.length > 3 ? points.filter((_, each) => each !== index).flat() : shape;
}

// A shape in the middle of the image, for drawing by keyboard.
export function fresh(rectangle, [width, height]) {
  const [x, y] = [Math.round(width / 4), Math.round(height / 4)];
  const [right, bottom] = [Math.round((3 * width) / 4), Math.round((3 * height) / 4)];
  return rectangle ? [x, y, Math.max(1, right - x), Math.max(1, bottom - y)] : [x, y, right, y, right, bottom, x, bottom];
}
