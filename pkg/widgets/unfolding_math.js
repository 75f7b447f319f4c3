/**
 * The film of an embedding: unpacked, interpolated, turned, and told in words. Pure functions.
 */

import { digits, list } from "./words.js";

const LEVELS = 127; // of a packed number, as in pkg/_unfolding.py
const DRAWN = 3;
const SHAPES = ["a point", "a line", "a sheet", "a body"];

/**
 * All packed coordinates, as whole numbers; once a figure.
 *
 * @param {{points: string}} film
 * @returns {Int8Array}
 */
export function unpack({ points }) {
  return new Int8Array(Uint8Array.from(atob(points), (c) => c.charCodeAt(0)).buffer);
}

/**
 * The two snapshots around a time, and how far it is from one to the other.
 *
 * @param {number[]} times Increasing.
 * @param {number} time Before the first and after the last, it is that one.
 * @returns {{left: number, right: number, share: number}}
 */
export function between(times, time) {
  const last = times.length - 1;
  const right = times.findIndex((t) => t >= time);
  if (right === 0) return { left: 0, right: 0, share: 0 };
  if (right < 0) return { left: last, right: last, share: 0 };
  const left = right - 1;
  return { left, right, share: (time - times[left]) / (times[right] - times[left]) };
}

/**
 * Coordinates of all points along some axes; between snapshots every point moves straight.
 *
 * @param {Int8Array} levels As `unpack` returns them.
 * @param {Object} film
 * @param {number[]} axes Counted from 0.
 * @param {number} time
 * @returns {number[][]} One array of n numbers an axis.
 */
export function pointsAt(levels, { peaks, labels, t }, axes, time) {
  const { left, right, share } = between(t, time);
  const n = labels.length;
  const all = peaks[0].length;
  return axes.map((axis) => {
    const from = ((1 - share) * peaks[left][axis]) / LEVELS;
    const to = (share * peaks[right][axis]) / LEVELS;
    return Array.from({ length: n }, (_, i) =>
      from * levels[all * (n * left + i) + axis] + to * levels[all * (n * right + i) + axis]);
  });
}

/**
 * Turn three columns of coordinates and look at them from the front, without perspective: at
 * 0 and 0 the first axis points right, the second up, the third to the reader.
 *
 * @param {number[][]} columns Three arrays of n numbers.
 * @param {number} turn Degrees about the second axis.
 * @param {number} tilt Degrees by which one looks from above.
 * @returns {{across: number[], up: number[], near: number[]}}
 */
export function project([a, b, c], turn, tilt) {
  const [ct, st] = [Math.cos((turn * Math.PI) / 180), Math.sin((turn * Math.PI) / 180)];
  const [cf, sf] = [Math.cos((tilt * Math.PI) / 180), Math.sin((tilt * Math.PI) / 180)];
  const front = a.map((x, i) => c[i] * ct - x * st);
  return {
    across: a.map((x, i) => x * ct + c[i] * st),
    up: b.map((y, i) => y * cf - front[i] * sf),
    near: b.map((y, i) => y * sf + front[i] * cf),
  };
}

/** Distance of the farthest point from the middle: what a picture must hold, however turned. */
export function reach(columns) {
  let most = 0;
  for (let i = 0; i < columns[0].length; i += 1) {
    most = Math.max(most, columns.reduce((sum, column) => sum + column[i] * column[i], 0));
  }
  return Math.sqrt(most);
}

/** The largest reach of the whole film along some axes: one scale for all times. */
export function filmReach(levels, film, axes) {
  return Math.max(...film.t.map((time) => reach(pointsAt(levels, film, axes, time))));
}

/** Mean square along each column: columns are centred. */
export function variances(columns) {
  return columns.map((column) => column.reduce((sum, x) => sum + x * x, 0) / column.length);
}

/** Ranks from 0, equal values sharing the middle one. */
export function ranks(values) {
  const order = values.map((_, i) => i).sort((i, j) => values[i] - values[j]);
  const found = new Array(values.length);
  for (let from = 0, to = 0; from < order.length; from = to) {
    while (to < order.length && values[order[to]] === values[order[from]]) to += 1;
    for (let k = from; k < to; k += 1) found[order[k]] = (from + to - 1) / 2;
  }
  return found;
}

/** Spearman's correlation: that of the ranks. */
export function rankCorrelation(x, y) {
  const centred = [x, y].map((values) => {
    const found = ranks(values);
    const mean = (found.length - 1) / 2;
    return found.map((rank) => rank - mean);
  });
  const [xx, yy] = variances(centred);
  const xy = centred[0].reduce((sum, rank, i) => sum + rank * centred[1][i], 0) / x.length;
  return xx * yy > 0 ? xy / Math.sqrt(xx * yy) : 0;
}

/** Share of a column's variance that lies between the means of the classes. */
export function separation(column, labels) {
  const sums = new Map();
  let [all, squares] = [0, 0];
  column.forEach((x, i) => {
    const kept = sums.get(labels[i]) ?? [0, 0];
    sums.set(labels[i], [kept[0] + x, kept[1] + 1]);
    all += x;
    squares += x * x;
  });
  const middle = all / column.length;
  const total = squares - column.length * middle * middle;
  let apart = 0;
  for (const [sum, count] of sums.values()) apart += count * (sum / count - middle) ** 2;
  return total > 0 ? apart / total : 0;
}

/** An angle as -180 to 180 degrees. */
export function wrap(angle) {
  return ((((angle + 180) % 360) + 360) % 360) - 180;
}

/** Places of the axes that are drawn, from 0. */
export function drawnAxes(first) {
  return Array.from({ length: DRAWN }, (_, k) => first - 1 + k);
}

/**
 * All that the figure shows, from its state.
 *
 * @param {Object} state The traits.
 * @param {Int8Array} levels The film's coordinates, unpacked.
 * @param {number} widest As `filmReach` tells it of the axes drawn.
 * @returns {Object}
 */
export function stage({ film, time, first, colour, highlight, turn, tilt, fit }, levels, widest) {
  const { t, step, opened, labels, quantities, classes } = film;
  const [low, high] = [t[0], t[t.length - 1]];
  const now = Math.min(Math.max(time ?? high, low), high);
  const axes = drawnAxes(first);
  const all = pointsAt(levels, film, opened.map((_, axis) => axis), now);
  const columns = axes.map((axis) => all[axis]);
  const spread = variances(all);
  const open = opened.map((snapshot) => snapshot >= 0 && t[snapshot] <= now);
  const { left, right, share } = between(t, now);
  const size = reach(columns);
  const values = quantities[colour];
  return {
    now, low, high, axes, columns, open, size, colour, highlight, fit,
    view: project(columns, turn, tilt),
    half: 1.06 * Math.max(fit ? size : widest, 1e-300),
    times: widest / Math.max(size, 1e-300),
    step: Math.round(step[left] + share * (step[right] - step[left])),
    within: spread.reduce((sum, x, axis) => sum + (open[axis] ? x : 0), 0) /
      Math.max(spread.reduce((sum, x) => sum + x, 0), 1e-300),
    told: columns.map((column) =>
      (values ? rankCorrelation(column, values) : separation(column, labels))),
    chance: (classes.length - 1) / (labels.length - 1),
  };
}

/** "1, 2 and 3". */
function numbers(axes) {
  return list(axes.map((axis) => String(axis + 1)));
}

/**
 * The sentence: what the cloud is at this time, and what its colours say.
 *
 * @param {Object} scene As `stage` returns it.
 * @returns {string}
 */
export function words(scene) {
  const { now, step, open, axes, within, times, fit } = scene;
  const count = open.filter(Boolean).length;
  const shown = axes.filter((axis) => open[axis]).length;
  const hidden = count - shown;
  const size = digits(times);
  // Magnified, a point may look like a line: its shape is that of its true size.
  const cloud = times < 1.5 ? `is ${SHAPES[shown]}`
    : fit ? `is magnified ${size} times; at its true size it would be ${SHAPES[shown]}`
      : `is ${SHAPES[shown]}, ${size} times smaller than at its widest`;
  return `Step ${step}, flow time ${digits(now)}: ${count} of ${open.length} axes have opened. ` +
    `In axes ${numbers(axes)} the cloud ${cloud}. ` +
    (count && count < open.length
      ? `${percent(within)} of its spread lies in the open ${count === 1 ? "axis" : "axes"}. ` : "") +
    (hidden ? `${hidden} open ${hidden === 1 ? "axis is" : "axes are"} not in this picture. ` : "") +
    meaning(scene);
}

/** What the colours have to do with the axes that are drawn. */
function meaning({ colour, told, axes, chance }) {
  const along = `axes ${numbers(axes)}`;
  return colour === "class"
    ? `Share of the spread that lies between classes, along ${along}: ` +
      `${list(told.map(percent))}; labels without meaning would give ${percent(chance)}.`
    : `Rank correlation of ${colour} with ${along}: ` +
      `${list(told.map((r) => r.toFixed(2).replace("-", "−")))}.`;
}

function percent(share) {
  return `${(100 * share).toFixed(share > 0.9 && share < 0.9995 ? 1 : 0)} %`;
}
