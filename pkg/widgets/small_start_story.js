/**
 * What the small-start figure knows and says. Pure functions of the state.
 */

import { growth } from "./closed_form.js";
import { fraction, round } from "./draw.js";
import { integrate } from "./flow.js";
import { normals } from "./random.js";
import { alignedStart, errorOrder, outside } from "./start.js";
import { digits, gammaName, list, lowered, plural } from "./words.js";

const SAMPLES = 100; // times along the axis, besides those around each step
const AROUND = 8; // times around each predicted step
// A block is offered well before theory prefers it, so that a reader sees the two readings
// change places.
const REACH = 2;

/**
 * The draw of number `seed`: standard normal entries, (d, m) row after row.
 *
 * The first d outputs of a draw stay the same when d grows.
 */
export function drawStart(seed, d, m) {
  return Float64Array.from({ length: d * m }, normals(seed));
}

/**
 * Everything the picture needs, from the synced state.
 *
 * @param {Object} state gammas, d, alpha, seed, log_time.
 * @param {Object} [before] Time axis that the new one may only extend.
 * @returns {Object} A scene: the state with `start` (the aligned start), `axis`, `t`,
 *   `flow` and `theory` ({eigenvalues, loss}), `steps` ({predicted, block, measured} each),
 *   `modes` (which mode is predicted to be the k-th largest), `gap` and `weightGap` (largest
 *   distances), `outside`, `order`, `learnable`.
 */
export function stage(state, before = undefined) {
  const { gammas, alpha, seed } = state;
  const m = gammas.length;
  const d = Math.min(state.d, m);
  const draw = drawStart(seed, d, m);
  const W0 = draw.map((entry) => alpha * entry);
  const start = alignedStart(W0, gammas, REACH);
  const taus = stepTimes(gammas, start.s0);
  const axis = extend(fitAxis(gammas, taus, state.log_time), before);
  const t = sampleTimes(axis, gammas, taus);
  const flow = integrate(W0, gammas, t);
  const theory = predict(start, gammas, t);
  const learnable = Math.min(d, gammas.filter((gamma) => gamma > 0).length);
  const scene = { ...state, d, m, start, taus, axis, t, flow, theory, learnable };
  scene.steps = compare(scene, stepTimes(gammas, start.together));
  const learned = scene.steps.map(({ mode }) => mode);
  scene.modes = [...learned, ...taus.map((_, j) => j).filter((j) => !learned.includes(j))];
  scene.gap = largestGap(flow.eigenvalues, theory.eigenvalues);
  scene.weightGap = weightGap(scene);
  scene.outside = learnable ? outside(flow.weights[t.length - 1], m, learnable) : NaN;
  scene.order = learnable === d ? order(gammas, d) : null;
  return scene;
}

// Exact ties among the first d are read as a block, so only distinct neighbours err.
function order(gammas, d) {
  const distinct = [...new Set(gammas.slice(0, d))];
  return errorOrder([...distinct, ...gammas.slice(d)], distinct.length);
}

// Infinity: never learned. NaN: starts past its half, so it has no step.
function stepTimes(gammas, s0) {
  return s0.map((s, j) => {
    const c0 = gammas[j] * s * s;
    if (gammas[j] <= 0) return Infinity;
    return c0 < 0.5 ? Math.log1p((1 - 2 * c0) / c0) / (8 * gammas[j]) : NaN;
  });
}

function fitAxis(gammas, taus, log) {
  const unit = 1 / Math.max(...gammas.map(Math.abs), 1e-9);
  const steps = taus.map((time, mode) => ({ time, mode })).filter(({ time }) => time < Infinity);
  const first = Math.max(Math.min(...steps.map(({ time }) => time), Infinity), 0.02 * unit);
  const far = (log ? 1000 : 60) * first;
  const ends = steps
    .filter(({ time }) => time < far)
    .map(({ time, mode }) => 1.05 * (time + 1 / gammas[mode]));
  const high = round(Math.max(...ends, 2 * unit), true);
  if (!log) return { low: 0, high, log };
  const low = first < Infinity ? first / 3 : 0.02 * unit;
  return { low: round(taus.some(Number.isNaN) ? 0.02 * unit : low, false), high, log };
}

function extend(axis, before) {
  if (!before || before.log !== axis.log) return axis;
  return { ...axis, low: Math.min(axis.low, before.low), high: Math.max(axis.high, before.high) };
}

// Evenly along the axis, and closer where something is predicted to happen.
function sampleTimes(axis, gammas, taus) {
  const share = fraction(axis);
  const times = Array.from({ length: SAMPLES }, (_, i) => share.value(i / (SAMPLES - 1)));
  taus.forEach((tau, j) => {
    if (!(tau < axis.high)) return;
    for (let k = 0; k < AROUND; k += 1) {
      const time = tau + ((k - (AROUND - 1) / 2) * 0.14) / gammas[j];
      if (time > axis.low && time < axis.high) times.push(time);
    }
  });
  return [...new Set(times)].sort((a, b) => a - b);
}

function predict({ U, V, s0 }, gammas, t) {
  const grown = t.map((time) => s0.map((s, j) => growth(time, gammas[j], s)));
  // Sorted like the flow's: which mode is which is not asked of the flow.
  const eigenvalues = grown.map((row) =>
    row.map((times, j) => gammas[j] * s0[j] * s0[j] * times).sort((a, b) => b - a),
  );
  const loss = eigenvalues.map((row) => row.reduce((sum, c) => sum + (1 - c) * (1 - c), 0));
  const sizes = grown.map((row) => row.map((times, j) => s0[j] * Math.sqrt(times)));
  return { eigenvalues, loss, sizes, U, V };
}

// When the k-th largest eigenvalue of the flow's C passes one half, from below.
function crossing(t, eigenvalues, k) {
  for (let i = 1; i < t.length; i += 1) {
    const [a, b] = [eigenvalues[i - 1][k], eigenvalues[i][k]];
    if (a < 0.5 && b >= 0.5) {
      // Of a logistic curve the logit is straight.
      const logit = (c) => Math.log(Math.max(c, 1e-12) / Math.max(1 - c, 1e-12));
      return t[i - 1] + ((t[i] - t[i - 1]) * -logit(a)) / (logit(b) - logit(a));
    }
  }
  return eigenvalues[0][k] >= 0.5 ? NaN : Infinity;
}

function compare({ start, gammas, taus, t, flow, axis }, blockTaus) {
  const block = start.nearTies.length ? inTime(blockTaus, gammas, start.together) : [];
  return inTime(taus, gammas, start.s0).map(({ time, mode }, k) => ({
    predicted: time,
    block: block[k]?.time,
    mode,
    measured: time > axis.high ? Infinity : crossing(t, flow.eigenvalues, k),
  }));
}

// The steps that come, in order; modes half learned from the start (NaN) are the first.
function inTime(taus, gammas, s0) {
  const rank = ({ time, mode }) => (Number.isNaN(time) ? -gammas[mode] * s0[mode] ** 2 : time);
  return taus
    .map((time, mode) => ({ time, mode }))
    .filter(({ time }) => time !== Infinity)
    .sort((a, b) => rank(a) - rank(b));
}

function largestGap(rows, others) {
  let most = 0;
  rows.forEach((row, i) =>
    row.forEach((value, k) => {
      most = Math.max(most, Math.abs(value - others[i][k]));
    }),
  );
  return most;
}

// The largest ||W(t) - W*(t)||_F, W* = U diag(s(t)) V^T.
function weightGap({ d, m, t, flow, theory: { sizes, U, V } }) {
  let most = 0;
  for (let i = 0; i < t.length; i += 1) {
    let sum = 0;
    for (let p = 0; p < d; p += 1) {
      for (let q = 0; q < m; q += 1) {
        let rest = flow.weights[i][p * m + q];
        for (let j = 0; j < d; j += 1) rest -= U[j][p] * sizes[i][j] * V[j][q];
        sum += rest * rest;
      }
    }
    most = Math.max(most, sum);
  }
  return Math.sqrt(most);
}

/** "γ₃ / γ₂" for pair 2, which is modes 2 and 3 as the reader counts. */
export function ratioName(pair) {
  return `${gammaName(pair)} / ${gammaName(pair - 1)}`;
}

/**
 * Between which ratios gamma_{pair+1} / gamma_pair can move: as far as the next neighbour.
 *
 * @returns {{low: number, high: number, now: number}}
 */
export function ratioRange(gammas, pair) {
  const [upper, now, below] = [pair - 1, pair, pair + 1].map((j) => gammas[j]);
  const low = below === undefined ? Math.min(-0.5, now / upper) : below / upper;
  return { low, high: 1, now: now / upper };
}

/** Pairs of neighbours whose first is positive: 1 for modes 1 and 2, and so on. */
export function pairs(gammas) {
  return gammas.slice(1).map((_, j) => j + 1).filter((pair) => gammas[pair - 1] > 0);
}

/** A time as the table writes it. */
export function timeText(time) {
  if (time === undefined) return "";
  return Number.isNaN(time) ? "at once" : time === Infinity ? "later" : digits(time);
}

/** "all 3 steps fall within 0.3 % of their predicted times". */
function timesWords({ steps }) {
  const seen = steps
    .map(({ measured, predicted }) => Math.abs(measured / predicted - 1))
    .filter(Number.isFinite);
  if (!seen.length) return "no step is there to be timed";
  const worst = 100 * Math.max(...seen);
  const share = worst < 0.01 ? "0.01" : String(Number(worst.toPrecision(worst < 10 ? 1 : 2)));
  const [all, their] = seen.length === 1
    ? ["the one step", "its predicted time"]
    : [`all ${seen.length} steps`, "their predicted times"];
  return worst > 5
    ? `${all.replace("all ", "the ")} ${seen.length === 1 ? "misses" : "miss"} ${their} by ` +
      `${seen.length === 1 ? "" : "up to "}${share} %`
    : `${all} ${seen.length === 1 ? "falls" : "fall"} within ${share} % of ${their}`;
}

/** What the picture shows now. */
export function summary(scene) {
  const { gap, d, learnable, outside: error } = scene;
  const overlap = 1 - (error * error) / Math.max(learnable, 1);
  const missing = d - learnable;
  const nearly = (value) => (value > 0.9995 ? "0.999" : value.toFixed(3));
  const space = !learnable
    ? "No eigenvalue is positive, so nothing is learned"
    : `The learned space overlaps the top ${plural(learnable, "eigenvector")} ` +
      (error < 1e-6 ? "fully" : `to ${overlap > 0.9995 ? "more than " : ""}${nearly(overlap)}`);
  return `${upper(timesWords(scene))}; the curves differ by at most ${digits(gap)}. ${space}` +
    (missing
      ? `; ${plural(missing, "output")} can never be learned, so the loss cannot end below ` +
        `${missing}.`
      : ".");
}

function upper(words) {
  return words[0].toUpperCase() + words.slice(1);
}

/** What a tie does to the prediction; "" where there is none. */
export function tieWords({ start, gammas, d, steps }) {
  for (const [from, to] of start.nearTies) {
    const inside = steps.filter(({ mode, block, measured }) =>
      mode >= from && mode < to && block > 0 && measured < Infinity);
    const times = (key) => list(inside.map((step) => timeText(step[key])));
    if (inside.length === Math.min(to, d) - from) {
      return ` ${list(gammas.slice(from, to).map((_, k) => gammaName(from + k)))} are close: ` +
        `one by one (QR) they should fall at ${times("predicted")}, as one block at ` +
        `${times("block")}; the flow says ${times("measured")}.`;
    }
  }
  const edge = d < gammas.length && gammas[d - 1] > 0 && gammas[d] >= 0.97 * gammas[d - 1];
  return edge ? ` ${gammaName(d - 1)} and ${gammaName(d)} compete for the last output.` : "";
}

/** After a control moved: what, from where to where, and what it did. */
export function changeWords(name, from, to, scene) {
  return `${name} went from ${from} to ${to}: ${plain(summary(scene))}${tieWords(scene)}`;
}

/** After a new draw. */
export function drawWords(scene) {
  return `Draw ${scene.seed}, another W(0) of the same size: ${plain(summary(scene))}` +
    tieWords(scene);
}

function plain(words) {
  return words[0].toLowerCase() + words.slice(1);
}

/** How large the error is, and how it shrinks with the start. */
export function orderWords({ order, weightGap: gap, outside: error, d, learnable }) {
  const now = `W strays at most ${digits(gap)} from its prediction`;
  if (!order) {
    return `${now}. There are only ${plural(learnable, "positive eigenvalue")} for d = ${d}, ` +
      "so theory names no order.";
  }
  const power = (p) => (Math.abs(p) < 5e-3
    ? "not at all, because of a tie" : `like α to the ${p.toFixed(2)}`);
  const space = order.subspace < Infinity
    ? ` The learned space is off by ${digits(error)}; this shrinks ${power(order.subspace)}.`
    : "";
  return `${now}; as α goes to 0, this shrinks ${power(order.weights)}.${space}`;
}

/** One line for the picture as a whole, for readers who do not see it. */
export function pictureWords({ steps, axis, d, gap }) {
  const times = steps.map(({ predicted, measured }, k) =>
    `τ${lowered(k + 1)} predicted ${timeText(predicted)}, measured ${timeText(measured)}`);
  return `Loss and ${plural(d, "eigenvalue")} of the cross-correlation against ` +
    `${axis.log ? "logarithmic" : "linear"} flow time, flow and prediction: ` +
    `${times.join("; ") || "no step"}. Largest distance ${digits(gap)}.`;
}
