/**
 * Marks of points: shapes tell what colour alone would not. Pure functions.
 */

/** Path data of a mark of radius r at x, y: disc, square, triangle. */
export const MARKS = [
  (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  (x, y, r) => `M${x - 0.9 * r} ${y - 0.9 * r}h${1.8 * r}v${1.8 * r}h${-1.8 * r}z`,
  (x, y, r) => `M${x} ${y - 1.25 * r}l${1.15 * r} ${2 * r}h${-2.3 * r}z`,
];
