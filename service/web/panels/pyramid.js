// @ts-check
/**
 * The tiles of a large image, as the service cuts it.
 *
 * @typedef {{ width: number, height: number, columns: number, rows: number }} Level
 */

/** From one pixel (Deep Zoom), one tile (TIFF) or the image itself (PNG) to the image.
 * @param {import("../picture/view.js").Size} size @param {number} tile @param {string} output @returns {Level[]} */
export function levels({ width, height }, tile, output) {
  const smallest = { dzi: 1, tiff: tile }[output] ?? Infinity;
  const sizes = [{ width, height }];
  while (Math.max(sizes[0].width, sizes[0].height) > smallest) {
    sizes.unshift({ width: Math.ceil(sizes[0].width / 2), height: Math.ceil(sizes[0].height / 2) });
  }
  return sizes.map((size) => ({
    ...size,
    columns: Math.ceil(size.width / tile),
    rows: Math.ceil(size.height / tile),
  }));
}
