/**
 * A cloud of pairs in a square that is as large as the cloud, and the push on each point.
 */

import { make, put } from "./draw.js";

const TOP = 26; // title
const FOOT = 24;
const REACH = 0.3; // of the square: the longest arrow
const FRAME = 2.9; // half a side, in sizes of the cloud

/**
 * One square.
 *
 * @param {Element} parent
 * @param {string} name Becomes data-picture.
 * @returns {{resize: function(number), draw: function(Object)}} draw({ title, below, views,
 *   arrows, words }): points in units of the cloud's size; the longest arrow has one length.
 */
export function createPlane(parent, name) {
  const svg = make("svg:svg", { role: "img", "data-picture": name }, parent);
  const title = make("svg:text", { x: 0, y: 14, class: "sf-title" }, svg);
  const box = make("svg:svg", { class: "pu-box", y: TOP }, svg);
  const part = (tag, more) => make(`svg:${tag}`, more, box);
  const frame = part("rect", { class: "pu-frame", x: 0.5, y: 0.5 });
  const [axes, pairs, points, shafts] = ["sf-axis", "pu-pairs", "pu-points", "pu-arrows"].map(
    (name_) => part("path", { class: name_ }));
  const below = make("svg:text", { x: 0, class: "sf-tick" }, svg);
  let side = 200;
  return {
    resize(width) {
      side = width;
      const height = side + TOP + FOOT;
      put(svg, { width: side, height, viewBox: `0 0 ${side} ${height}` });
      put(box, { width: side, height: side });
      put(frame, { width: side - 1, height: side - 1 });
      put(below, { y: height - 6 });
    },
    draw({ title: text, below: foot, views, arrows, words }) {
      const at = ([x, y]) => [side / 2 * (1 + x / FRAME), side / 2 * (1 - y / FRAME)];
      const places = views.map((rows) => rows.map(at));
      const most = Math.max(...arrows.flat().map(([x, y]) => Math.hypot(x, y)), 1e-300);
      const reach = (REACH * side) / most;
      const tips = arrows.map((rows, v) => rows.map(([x, y], i) =>
        [places[v][i][0] + reach * x, places[v][i][1] - reach * y]));
      put(title, { text });
      put(below, { text: foot });
      put(axes, { d: `M0 ${side / 2}H${side}M${side / 2} 0V${side}` });
      put(pairs, { d: places[0].map((from, i) => line(from, places[1][i])).join("") });
      put(points, { d: places.flat().map(([x, y]) =>
        `M${tenth(x - 2.6)} ${tenth(y)}a2.6 2.6 0 1 0 5.2 0a2.6 2.6 0 1 0 -5.2 0z`).join("") });
      put(shafts, { d: places.flatMap((rows, v) =>
        rows.map((from, i) => arrow(from, tips[v][i]))).join("") });
      put(svg, { "aria-label": words });
    },
  };
}

function tenth(value) {
  return Math.round(10 * value) / 10;
}

function line(from, to) {
  return `M${from.map(tenth).join(" ")}L${to.map(tenth).join(" ")}`;
}

// A shaft and two barbs; a push of a pixel has none.
function arrow(from, to) {
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
  const length = Math.hypot(dx, dy);
  if (length < 1) return "";
  const barb = Math.min(5, length / 2) / length;
  const ends = [0.5, -0.5].map((turn) =>
    [to[0] - barb * (dx - turn * dy), to[1] - barb * (dy + turn * dx)]);
  return line(from, to) + line(ends[0], to) + line(to, ends[1]);
}
