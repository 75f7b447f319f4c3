/**
 * Which modes the views let through: settings of the grid, and modes matched between two.
 *
 * Pure functions. The grid is that of the record `augmentation-grid`.
 */

import { closedForm, stepTimes } from "./closed_form.js";
import { round } from "./draw.js";
import { digits, list, lowered, plural } from "./words.js";

export const PARTS = ["crop", "jitter", "grey", "blur"];
const POINTS = 160; // of a curve
// As in pkg/_augmentations.py.
const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const SAME = 0.5; // squared cosine from which two modes are one

/**
 * All packed pictures as whole numbers, -127 to 127 in 63 steps; once a figure.
 *
 * @param {{modes: string}} grid
 * @returns {Int8Array}
 */
export function unpack({ modes }) {
  return Int8Array.from(modes, (digit) => Math.round((DIGITS.indexOf(digit) - 32) * (127 / 31)));
}

/** Number of a setting, whose last augmentation counts fastest. */
export function indexOf({ levels }, setting) {
  return PARTS.reduce((index, part, k) => index * levels[k].length + setting[part], 0);
}

/**
 * Pictures of one setting.
 *
 * @param {Int8Array} pictures As `unpack` returns them.
 * @param {{gammas: number[][], side: number}} grid
 * @param {number} index
 * @returns {Int8Array[]} A picture a mode, row after row, red, green and blue by turns.
 */
export function picturesAt(pictures, { gammas, side }, index) {
  const length = 3 * side * side;
  return gammas[index].map((_, j) => {
    const from = (index * gammas[index].length + j) * length;
    return pictures.subarray(from, from + length);
  });
}

/**
 * Squared cosines between the modes of two settings.
 *
 * @param {Int8Array[]} before
 * @param {Int8Array[]} now
 * @returns {number[][]} [i][j]: mode i before, mode j now.
 */
export function likeness(before, now) {
  const sizes = [before, now].map((modes) => modes.map((mode) => product(mode, mode)));
  return before.map((one, i) => now.map((other, j) =>
    product(one, other) ** 2 / (sizes[0][i] * sizes[1][j])));
}

function product(a, b) {
  let sum = 0;
  for (let p = 0; p < a.length; p += 1) sum += a[p] * b[p];
  return sum;
}

/**
 * Which mode before is which mode now: the likest pair first, no mode twice, and none that
 * shares less than half of its square with any.
 *
 * @param {number[][]} alike As `likeness` returns it.
 * @returns {number[]} For each mode now the one it was before, or -1.
 */
export function matched(alike) {
  const pairs = alike.flatMap((row, i) => row.map((value, j) => [value, i, j]))
    .filter(([value]) => value >= SAME).sort((a, b) => b[0] - a[0]);
  const was = alike.map(() => -1);
  const taken = new Set();
  for (const [, i, j] of pairs) {
    if (was[j] >= 0 || taken.has(i)) continue;
    was[j] = i;
    taken.add(i);
  }
  return was;
}

/** Share of the leading space that both settings have: their mean squared cosine. */
export function shared(alike) {
  const all = alike.reduce((sum, row) => sum + row.reduce((a, b) => a + b, 0), 0);
  return Math.min(all / alike.length, 1);
}

/**
 * One time axis for all settings, so that steps are seen to move along it.
 *
 * @param {{gammas: number[][]}} grid
 * @param {number} s0
 * @returns {{low: number, high: number, log: boolean}}
 */
export function timeAxis({ gammas }, s0) {
  const times = gammas.flatMap((row) => stepTimes(row, s0)).filter(Number.isFinite);
  return { low: round(0.5 * Math.min(...times), false), high: round(1.5 * Math.max(...times), true),
    log: true };
}

/**
 * All that the figure shows.
 *
 * @param {Object} state The traits.
 * @param {Int8Array} pictures
 * @param {?Object} past The setting to compare with; null for none of any augmentation.
 * @returns {Object}
 */
export function stage({ grid, s0, ...setting }, pictures, past) {
  const bare = { crop: 0, jitter: 0, grey: 0, blur: 0 };
  const [index, from] = [setting, past ?? bare].map((one) => indexOf(grid, one));
  const [before, now] = [from, index].map((one) => picturesAt(pictures, grid, one));
  const alike = likeness(before, now);
  const was = matched(alike);
  // A mode and its negative are the same: each is drawn as it was before.
  const signs = was.map((i, j) => (i >= 0 && product(before[i], now[j]) < 0 ? -1 : 1));
  const gammas = grid.gammas[index];
  const axis = timeAxis(grid, s0);
  const xs = Array.from({ length: POINTS }, (_, k) =>
    axis.low * (axis.high / axis.low) ** (k / (POINTS - 1)));
  return {
    setting, past, gammas, gammasBefore: grid.gammas[from], before, now, was, signs, axis, xs,
    taus: stepTimes(gammas, s0), curves: closedForm(xs, gammas, s0), common: shared(alike),
    named: PARTS.map((part, k) => [part, grid.levels[k][setting[part]]]),
  };
}

/**
 * The sentence: what was changed, and what became of the modes.
 *
 * @param {Object} scene As `stage` returns it.
 * @returns {string}
 */
export function words(scene) {
  const { setting, past, named, common, taus } = scene;
  const moved = named.filter(([part]) => setting[part] !== (past ?? {})[part]);
  const what = past && moved.length
    ? `${moved.map(([part, level]) => `${part}: ${level}`).join(", ")}. Against the setting before, `
    : `${named.map(([part, level]) => `${part}: ${level}`).join(", ")}. Against no augmentation, `;
  return what[0].toUpperCase() + what.slice(1) + fates(scene) +
    `; the leading spaces share ${(100 * common).toFixed(0)} %. Mode ${taus.length} now comes ` +
    `${digits(taus[taus.length - 1] / taus[0])} times as late as mode 1.`;
}

function fates({ was }) {
  const found = [];
  const swaps = was.flatMap((i, j) => (i > j && was[i] === j ? [[j, i]] : []));
  const swapped = new Set(swaps.flat());
  for (const [a, b] of swaps) found.push(`modes ${a + 1} and ${b + 1} change places`);
  const moved = was.flatMap((i, j) => (i >= 0 && i !== j && !swapped.has(j) ? [[i, j]] : []));
  for (const [i, j] of moved) found.push(`mode ${i + 1} becomes ${j + 1}`);
  const gone = was.map((_, i) => i).filter((i) => !was.includes(i));
  const come = was.flatMap((i, j) => (i < 0 ? [j] : []));
  if (gone.length) {
    found.push(`old ${numbered(gone)} ${gone.length === 1 ? "is" : "are"} gone or mixed`);
    found.push(`${numbered(come)} ${come.length === 1 ? "is" : "are"} new`);
  }
  return found.length ? found.join("; ") : `all ${was.length} modes keep their places`;
}

function numbered(modes) {
  return `${modes.length === 1 ? "mode" : "modes"} ${list(modes.map((j) => String(j + 1)))}`;
}

/** One line for the pictures of the modes. */
export function pictureWords({ was, gammas }) {
  const each = was.map((i, j) => `mode ${j + 1}, eigenvalue ${digits(gammas[j])}, ` +
    (i < 0 ? "not among those before" : i === j ? "as before" : `mode ${i + 1} before`));
  return `The first ${plural(gammas.length, "mode")} as pictures, before and now: ` +
    `${each.join("; ")}.`;
}

/** Name of a step time. */
export function tauName(j) {
  return `τ${lowered(j + 1)}`;
}
