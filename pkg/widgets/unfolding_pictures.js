/**
 * A cloud of points in three dimensions, and the images at the ends of its axes.
 */

import { draggable, make, modeColours, put } from "./draw.js";
import { MARKS } from "./marks.js";
import { project } from "./unfolding_math.js";
import { digits } from "./words.js";

const TOP = 26; // title
const FOOT = 22;
const COLOURS = 5; // of classes; the next five come in another shape
const SHADES = 7; // of a quantity

/**
 * Class of CSS and place in MARKS of every point.
 *
 * @param {{labels: number[], classes: string[], quantities: Object}} film
 * @param {string} colour "class" or the name of a quantity.
 * @param {string} highlight Name of the only class in colour, or "".
 * @returns {{name: string, mark: number}[]}
 */
export function looks({ labels, classes, quantities }, colour, highlight) {
  const chosen = classes.indexOf(highlight);
  return labels.map((label, i) => {
    if (colour !== "class") {
      const shade = Math.min(Math.floor((SHADES * quantities[colour][i]) / 100), SHADES - 1);
      return { name: `uf-q${shade}`, mark: 0 };
    }
    const name = chosen < 0 || chosen === label ? `uf-c${label % COLOURS}` : "uf-faded";
    return { name, mark: Math.floor(label / COLOURS) };
  });
}

/**
 * A square with the cloud in it.
 *
 * @param {Element} parent
 * @param {{onTurn: function(number, number, boolean)}} options Called with the way of the
 *   hand, as shares of the square.
 * @returns {{resize: function(number), draw: function(Object), destroy: function}}
 *   draw({ columns, view, half, axes, turn, tilt, looks, modes, magnified, words }).
 */
export function createCloud(parent, { onTurn }) {
  const svg = make("svg:svg", { role: "img", "data-picture": "cloud", class: "uf-cloud" }, parent);
  const parts = { svg, side: 300,
    title: make("svg:text", { x: 0, y: 14, class: "sf-title" }, svg),
    limit: make("svg:text", { class: "sf-tick sf-end" }, svg),
    hint: make("svg:text", { x: 0, class: "sf-tick", text: "drag to turn" }, svg),
    frame: make("svg:rect", { class: "uf-frame", x: 0.5, y: TOP + 0.5 }, svg),
    axes: make("svg:g", { class: "uf-axes" }, svg),
    points: make("svg:g", { class: "uf-points" }, svg),
    hit: make("svg:rect", { class: "uf-hand", x: 0, y: TOP, "data-drag": "cloud" }, svg) };
  for (let k = 0; k < 3; k += 1) {
    const axis = make("svg:g", {}, parts.axes);
    make("svg:path", {}, axis);
    make("svg:text", {}, axis);
  }
  const release = draggable(parts.hit, (start) => {
    let [x, y] = [start.clientX, start.clientY];
    return (event, done) => {
      onTurn((event.clientX - x) / parts.side, (event.clientY - y) / parts.side, done);
      [x, y] = [event.clientX, event.clientY];
    };
  });
  return {
    resize(side) {
      parts.side = side;
      const height = side + TOP + FOOT;
      put(svg, { width: side, height, viewBox: `0 0 ${side} ${height}` });
      put(parts.frame, { width: side - 1, height: side - 1 });
      put(parts.hit, { width: side, height: side });
      put(parts.limit, { x: side, y: height - 6 });
      put(parts.hint, { y: height - 6 });
    },
    draw: (scene) => drawCloud(parts, scene),
    destroy: release,
  };
}

function drawCloud(parts, scene) {
  const { view, half, looks: known, axes, words, magnified } = scene;
  const { side, points } = parts;
  const x = (value) => tenth((side / 2) * (1 + value / half));
  const y = (value) => tenth(TOP + (side / 2) * (1 - value / half));
  drawAxes(parts, scene, x, y);
  while (points.childElementCount > known.length) points.lastElementChild.remove();
  while (points.childElementCount < known.length) make("svg:path", {}, points);
  // Near points lie over far ones, and are a little larger. One in colour lies over all.
  const over = (i) => (known[i].name === "uf-faded" ? -4 : 0) * half + view.near[i];
  const order = known.map((_, i) => i).sort((i, j) => over(i) - over(j));
  const { children } = points;
  order.forEach((i, slot) => {
    const r = tenth(3 + (0.9 * view.near[i]) / half);
    const { name, mark } = known[i];
    put(children[slot], { d: MARKS[mark](x(view.across[i]), y(view.up[i]), r), class: name });
  });
  put(parts.title, { text: `axes ${axes.map((axis) => axis + 1).join(", ")}${magnified}` });
  put(parts.limit, { text: `edge to edge: ${digits(2 * half)}` });
  put(parts.svg, { "aria-label": words });
}

// Each axis in the colour of its mode, from the middle to nearly the edge.
function drawAxes({ axes: layer }, { axes, half, turn, tilt, modes }, x, y) {
  const colours = modeColours(modes);
  const ends = [0, 1, 2].map((k) => [0, 1, 2].map((j) => (j === k ? 0.9 * half : 0)));
  const tips = project(ends, turn, tilt);
  axes.forEach((axis, k) => {
    const [line, name] = layer.children[k].children;
    put(layer.children[k], { class: "sf-mode",
      style: `--light: ${colours[axis].light}; --dark: ${colours[axis].dark}` });
    const [across, up] = [tips.across[k], tips.up[k]];
    put(line, { d: `M${x(-across)} ${y(-up)}L${x(across)} ${y(up)}` });
    put(name, { x: x(1.06 * across), y: y(1.06 * up) + 4, text: String(axis + 1) });
  });
}

function tenth(value) {
  return Math.round(10 * value) / 10;
}

/**
 * Three rows of images: those at the two ends of each axis that is drawn.
 *
 * @param {Element} parent
 * @param {{sprite: string, opened: number[]}} film
 * @returns {{draw: function(number[])}}
 */
export function createEnds(parent, { sprite, opened }) {
  const strip = make("div", { class: "uf-ends" }, parent);
  make("p", { class: "uf-caption", text: "images at the two ends of each axis after training, " +
    "outermost what they have in common; on the right the end with the number" }, strip);
  const colours = modeColours(opened.length);
  const rows = [0, 1, 2].map(() => {
    const row = make("div", { class: "uf-row sf-mode" }, strip);
    const name = make("span", { class: "uf-name" }, row);
    const sides = ["low", "high"].map((side) =>
      make("span", { class: `uf-tiles uf-${side}`, role: "img" }, row));
    return { row, name, sides };
  });
  const draw = (axes) => axes.forEach((axis, k) => {
    const { row, name, sides } = rows[k];
    put(row, { style: `--light: ${colours[axis].light}; --dark: ${colours[axis].dark}` });
    put(name, { text: `axis ${axis + 1}` });
    sides.forEach((side, end) => put(side, {
      "aria-label": `Images at the ${end ? "numbered" : "other"} end of axis ${axis + 1}, and what they have in common.`,
      style: `background-image: url(${sprite}); background-position: ${-128 * end}px ${-32 * axis}px`,
    }));
  });
  return { draw };
}
