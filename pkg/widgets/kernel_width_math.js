/**
 * Frames of the kernel figure: unpacked, laid over time, and told in words. Pure functions.
 */

import { closedForm, stepTimes } from "./closed_form.js";
import { digits, lowered, plural } from "./words.js";

const LEVELS = 2 ** 15 - 1; // of a packed number, as in pkg/_kernel_width.py
const SHOWN = 4; // modes whose embeddings are packed
const POINTS = 160;
const FEW = 4; // views: two pairs
const LATEST = 1e4; // times the earliest step: where the time axis ends

/**
 * All packed embeddings, as whole numbers; once a figure.
 *
 * @param {{embeddings: string}} frames
 * @returns {Int16Array}
 */
export function unpack({ embeddings }) {
  return new Int16Array(Uint8Array.from(atob(embeddings), (c) => c.charCodeAt(0)).buffer);
}

/**
 * Embeddings of one frame at convergence.
 *
 * @param {Int16Array} levels As `unpack` returns them.
 * @param {{peaks: number[][], labels: number[]}} frames
 * @param {number} index
 * @returns {number[][]} One array of 2n numbers a mode.
 */
export function embeddingsAt(levels, { peaks, labels }, index) {
  const views = 2 * labels.length;
  return peaks[index].map((peak, mode) =>
    Array.from({ length: views }, (_, i) =>
      (levels[SHOWN * (views * index + i) + mode] / LEVELS) * peak));
}

/**
 * One time axis for all frames, so that steps are seen to move along it.
 *
 * @param {{gammas: number[][]}} frames
 * @param {number} s0
 * @returns {{low: number, high: number, log: boolean}}
 */
export function timeAxis({ gammas }, s0) {
  const times = gammas.flatMap((row) => stepTimes(row, s0)).filter(Number.isFinite);
  const [early, late] = times.reduce(([low, high], t) => [Math.min(low, t), Math.max(high, t)],
    [Infinity, 0]);
  const low = late ? tidy(0.5 * early) : 0.1;
  return { low, high: tidy(Math.min(Math.max(2 * late, 4 * low), LATEST * low)), log: true };
}

/** A twentieth of a decade: where the slider of time can stand. */
function tidy(time) {
  return 10 ** (Math.round(20 * Math.log10(time)) / 20);
}

/**
 * Share of a mode's square that lies in each cluster.
 *
 * @param {number[]} values Of all first views, then all second ones.
 * @param {number[]} labels One a pair.
 * @returns {number[]} One share a cluster; they add up to one.
 */
export function shares(values, labels) {
  const sums = [0, 0, 0];
  values.forEach((value, i) => {
    sums[labels[i % labels.length]] += value * value;
  });
  const all = sums[0] + sums[1] + sums[2] || 1;
  return sums.map((sum) => sum / all);
}

/**
 * How many views hold half of a mode's square: few where it is an accident of some pair.
 *
 * @param {number[]} values
 * @returns {number}
 */
export function holders(values) {
  const squares = values.map((value) => value * value).sort((a, b) => b - a);
  let left = 0.5 * squares.reduce((sum, square) => sum + square, 0);
  return squares.findIndex((square) => (left -= square) <= 0) + 1;
}

/**
 * Median distance between the two views of a pair.
 *
 * @param {number[][]} views
 * @returns {number}
 */
export function pairDistance(views) {
  const n = views.length / 2;
  const apart = Array.from({ length: n }, (_, i) =>
    Math.hypot(views[i][0] - views[n + i][0], views[i][1] - views[n + i][1]));
  apart.sort((a, b) => a - b);
  return (apart[Math.floor((n - 1) / 2)] + apart[Math.floor(n / 2)]) / 2;
}

/**
 * All that the figure shows, from its state.
 *
 * @param {{frames: Object, s0: number, index: number, d: number, first: number,
 *   time: (number|null)}} state
 * @param {Int16Array} [levels] The frames' embeddings, if they are unpacked already.
 * @returns {Object}
 */
export function stage({ frames, s0, index, d, first, time }, levels = unpack(frames)) {
  const gammas = frames.gammas[index].slice(0, d);
  const axis = timeAxis(frames, s0);
  const ratio = Math.log(axis.high / axis.low) / POINTS;
  const xs = Array.from({ length: POINTS + 1 }, (_, k) => axis.low * Math.exp(k * ratio));
  const now = Math.min(Math.max(time ?? axis.high, axis.low), axis.high);
  const taus = stepTimes(gammas, s0);
  // How much of its final size each mode has at this time: s over gamma^(-1/2). A mode that
  // never grows has none.
  const grown = closedForm([now], frames.gammas[index].slice(0, SHOWN), s0).eigenvalues[0]
    .map((c, mode) => (mode < d ? Math.sqrt(Math.max(c, 0)) : 0));
  const final = embeddingsAt(levels, frames, index);
  return {
    axis, xs, now, taus, final, gammas, first, d,
    curves: closedForm(xs, gammas, s0),
    width: frames.widths[index],
    all: frames.gammas[index],
    negatives: frames.negatives[index],
    embedding: [first - 1, first].map((mode) => final[mode].map((v) => v * grown[mode])),
    shares: shares(final[0], frames.labels), few: holders(final[0]),
    learned: taus.filter((tau) => tau <= axis.high).length,
    apart: pairDistance(frames.views),
  };
}

/**
 * The sentence: what this width does.
 *
 * @param {Object} scene As `stage` returns it.
 * @returns {string}
 */
export function widthWords(scene) {
  const { width, apart, all, negatives, shares: parts, few, learned, first, d } = scene;
  const compared = width < 0.8 * apart ? "less than" : width > 1.25 * apart ? "more than" : "about";
  const most = Math.max(...parts);
  const where = compared === "less than" || few <= FEW
    ? `Mode 1 sits on ${plural(few, "view")}, which ${few === 1 ? "holds" : "hold"} half of its square`
    : most > 0.8
    ? `Mode 1 is a bump: ${percent(most)} of its square lies in one cluster`
    : `Mode 1 is spread out: no cluster holds more than ${percent(most)} of its square`;
  const strong = all.filter((gamma) => gamma > 0.2 * all[0]).length;
  const many = strong === 1 ? "no other mode is" : strong === all.length
    ? `at least ${strong - 1} more modes are` : `${plural(strong - 1, "more mode")} ` +
      `${strong === 2 ? "is" : "are"}`;
  const against = Math.max(-negatives[0], 0) / all[0];
  return `Width ${digits(width)}, ${compared} the distance between the two views of a pair. ` +
    `${where}. γ₁ = ${digits(all[0])}, and ${many} within a factor five of it; the lowest ` +
    `eigenvalue is ${against < 0.001 ? "next to zero" : `−${percent(against)} of it`}. ` +
    (learned < d
      ? `Of ${plural(d, "output")} ${learned} learn in the time shown: the loss stays near ${d - learned}.`
      : `${d === 1 ? "The one output learns" : `All ${d} outputs learn`} in the time shown.`) +
    beyond(first, d);
}

/** Said where the picture shows modes that no output is left for. */
export function beyond(first, d) {
  return d < first + 1 ? " Of the modes drawn, those beyond d are never learned." : "";
}

function percent(share) {
  return `${(100 * share).toFixed(share < 0.095 ? 1 : 0)} %`;
}

/** The sentence about time: which modes have been learned by now. */
export function timeWords({ now, taus, d }) {
  const done = taus.filter((tau) => tau <= now).length;
  const next = taus[done];
  const rest = done === d ? "nothing is left to learn"
    : `mode ${done + 1} follows at τ${lowered(done + 1)} = ${digits(next)}`;
  return `t = ${digits(now)}: ${done} of ${d} outputs have opened; ${rest}.`;
}
