/**
 * Points in a square, and the two ends of a spectrum on one logarithmic scale.
 */

import { make, modeColours, put, round, scale, ticks } from "./draw.js";
import { MARKS } from "./marks.js";
import { tickText } from "./words.js";

const TOP = 26; // title
const FOOT = 20;
const FLOOR = 1e-6; // the smallest eigenvalue drawn
const CEILING = 1.5;
const NOTHING = 0.01; // of the largest size: below it, a sign means nothing

/**
 * A square of marks, a mark a view, a line a pair.
 *
 * @param {Element} parent
 * @param {string} name Becomes data-picture.
 * @returns {{resize: function(number), draw: function(Object)}} draw({ title, across, up,
 *   labels, low, high, sizes, ring, words }): `sizes` scale the marks and leave negative
 *   ones hollow, `ring` is { x, y, radius }; axes through zero where there is no ring.
 */
export function createScatter(parent, name) {
  const svg = make("svg:svg", { role: "img", "data-picture": name }, parent);
  const title = make("svg:text", { x: 0, y: 14, class: "sf-title" }, svg);
  // What leaves the square is cut off, a wide ring above all.
  const box = make("svg:svg", { class: "kw-box", y: TOP }, svg);
  const part = (tag, more) => make(`svg:${tag}`, more, box);
  const parts = { svg, title, box,
    frame: part("rect", { class: "kw-frame", x: 0.5, y: 0.5 }),
    axes: part("path", { class: "sf-axis" }),
    pairs: part("path", { class: "kw-pairs" }),
    marks: MARKS.flatMap((_, k) => ["", " kw-hollow"].map((hollow) =>
      part("path", { class: `kw-marks kw-${k}${hollow}` }))),
    ring: part("circle", { class: "kw-ring" }),
    limit: make("svg:text", { class: "sf-tick sf-end" }, svg),
    side: 200 };
  return {
    resize(side) {
      parts.side = side;
      const height = side + TOP + FOOT;
      put(svg, { width: side, height, viewBox: `0 0 ${side} ${height}` });
      put(box, { width: side, height: side });
      put(parts.frame, { width: side - 1, height: side - 1 });
      put(parts.limit, { x: side, y: height - 5 });
    },
    draw: (scene) => drawScatter(parts, scene),
  };
}

function drawScatter(parts, { title, across, up, labels, low, high, sizes, ring, limit, words }) {
  const { side } = parts;
  const range = { low, high, log: false };
  const x = scale(range, 0, side);
  const y = scale(range, side, 0);
  const places = across.map((value, i) => [x.at(value), y.at(up[i])].map(tenth));
  const n = labels.length;
  const biggest = sizes ? Math.max(...sizes.map(Math.abs), 1e-12) : 1;
  const texts = MARKS.flatMap(() => ["", ""]);
  places.forEach(([px, py], i) => {
    const label = labels[i % n];
    // The area of a mark is the size of the mode there.
    const r = sizes ? tenth(0.8 + 4.2 * Math.sqrt(Math.abs(sizes[i]) / biggest)) : 2.6;
    texts[2 * label + (sizes && sizes[i] < -NOTHING * biggest ? 1 : 0)] += MARKS[label](px, py, r);
  });
  parts.marks.forEach((path, k) => put(path, { d: texts[k] }));
  put(parts.pairs, { d: places.slice(0, n).map(([px, py], i) =>
    `M${px} ${py}L${places[n + i].join(" ")}`).join("") });
  put(parts.axes, { d: ring ? "" : `M0 ${y.at(0)}H${side}M${x.at(0)} 0V${side}` });
  put(parts.ring, ring
    ? { cx: x.at(ring.x), cy: y.at(ring.y), r: (ring.radius * side) / (high - low) }
    : { r: 0 });
  put(parts.title, { text: title });
  put(parts.limit, { text: limit });
  put(parts.svg, { "aria-label": words });
}

function tenth(value) {
  return Math.round(10 * value) / 10;
}

/**
 * A round half-width that holds all values, the same for similar frames.
 *
 * @param {number[][]} columns
 * @returns {number}
 */
export function halfWidth(columns) {
  const most = Math.max(...columns.map((values) => Math.max(...values.map(Math.abs))));
  return round(Math.max(1.04 * most, 1e-6), true, [1, 1.5, 2, 3, 4, 6, 8, 10]);
}

/**
 * Positive eigenvalues as bars upwards, negative ones downwards, both logarithmic.
 *
 * @param {Element} parent
 * @returns {{resize: function(number, number), draw: function(Object)}} draw({ gammas,
 *   negatives, d, words }): the first d bars have the colours of their modes.
 */
export function createEnds(parent) {
  const svg = make("svg:svg", { role: "img", "data-picture": "spectrum" }, parent);
  let size = [200, 246];
  return {
    resize(width, height) {
      size = [width, height];
      put(svg, { width, height, viewBox: `0 0 ${width} ${height}` });
    },
    draw: (scene) => drawEnds(svg, size, scene),
  };
}

function drawEnds(svg, [width, height], { gammas, negatives, d, words }) {
  svg.replaceChildren();
  const left = 44;
  const [top, base] = [TOP + 4, height - FOOT + 6];
  const zero = (top + base) / 2;
  const up = scale({ low: FLOOR, high: CEILING, log: true }, zero - 1, top);
  const text = (x, y, words_, name) =>
    make("svg:text", { x, y, class: name, text: words_ }, svg);
  const line = (y, name) => make("svg:line", { x1: left, x2: width, y1: y, y2: y, class: name }, svg);
  text(0, 14, "eigenvalues, log scales", "sf-title");
  for (const value of ticks({ low: FLOOR, high: CEILING, log: true }, 4)) {
    line(up.at(value), "sf-grid");
    text(left - 6, up.at(value) + 4, tickText(value), "sf-tick sf-end");
    const below = 2 * zero - up.at(value);
    if (value === FLOOR) continue;
    line(below, "sf-grid");
    text(left - 6, below + 4, tickText(-value), "sf-tick sf-end");
  }
  const each = (width - left) / gammas.length;
  const colours = modeColours(d);
  const bar = (j, from, to, more) => make("svg:rect", { x: left + (j + 0.16) * each,
    width: 0.68 * each, y: from, height: Math.max(to - from, 0), ...more }, svg);
  gammas.forEach((gamma, j) => {
    const colour = colours[j];
    bar(j, gamma > FLOOR ? up.at(gamma) : zero, zero, { class: colour ? "kw-bar sf-mode" : "kw-bar",
      style: colour ? `--light: ${colour.light}; --dark: ${colour.dark}` : null });
    const size = -negatives[j];
    bar(j, zero, size > FLOOR ? 2 * zero - up.at(size) : zero, { class: "kw-bar" });
  });
  line(zero, "sf-axis");
  put(svg, { "aria-label": words });
}
