/**
 * What the race shows, from its state: the six runs in steps, and the sentence. Pure.
 */

import { round } from "./draw.js";
import {
  METHODS, descend, eigenvalueOf, outsideShare, rateLimit, spectrum, startSizes, stepTimeOf,
} from "./race_math.js";
import { genericStart } from "./random.js";
import { digits, list, plural } from "./words.js";

const HALF = 0.5; // an eigenvalue above it is learned
const SETTLED = 1e-5; // an eigenvalue that moves less in a step has arrived
const THIN = 1.015; // looks nearer than this on the axis are not drawn
const POINTS = 160; // of a curve of theory

/**
 * Everything that is known before the first step.
 *
 * @param {{d: number, decay: number, s0: number, share: number, floor: number,
 *   ridge: number, seed: number, chosen: string, step: ?number}} state
 * @returns {Object} gammas, W, axis (of steps), now, and lanes: per method its name, rate,
 *   predicted steps to each mode, and an empty run.
 */
export function stage(state) {
  const { d, decay, s0, share, ridge, seed } = state;
  const gammas = spectrum(d, decay);
  const W = genericStart(d, 2 * d, s0, seed);
  const sizes = startSizes(W, d);
  const lanes = METHODS.map(([method, name]) => {
    const lr = share * rateLimit(method, gammas, state);
    const predicted = sizes.map((size, j) =>
      stepTimeOf(gammas[j], size, method, ridge) / lr);
    return { method, name, lr, predicted, run: emptyRun() };
  });
  const all = lanes.flatMap(({ predicted }) => predicted);
  // Descent is slower than the flow, at most by as much; a log axis has the room.
  const axis = { low: round(Math.max(Math.min(...all), 0.1), false),
    high: round(1.6 * Math.max(...all), true), log: true };
  const now = Math.min(Math.max(state.step ?? axis.high, axis.low), axis.high);
  return { state, gammas, W, sizes, lanes, axis, now };
}

function emptyRun() {
  return { xs: [0], columns: [], births: [], step: 0, last: null, peak: 0, outside: null,
    done: false };
}

/** All six descents, lane after lane: what `createWork` takes, [lane, look]. */
export const descents = function* ({ state, gammas, W, lanes, axis }) {
  for (const lane of lanes) {
    const run = { method: lane.method, lr: lane.lr, steps: Math.ceil(axis.high),
      floor: state.floor, ridge: state.ridge };
    for (const look of descend(W, gammas, run)) {
      yield [lane, look];
      if (lane.run.done) break;
    }
    lane.run.done = true;
  }
};

/**
 * Write one look of a descent into its lane's run.
 *
 * Mode j is born where j + 1 eigenvalues have passed one half, between two steps by a
 * straight line; the price is taken when the last one is.
 */
export function take([{ run }, { step, eigenvalues, W }]) {
  const { last } = run;
  const d = eigenvalues.length;
  while (run.births.length < d && eigenvalues[run.births.length] > HALF) {
    const j = run.births.length;
    run.births.push(step - 1 + (HALF - last[j]) / (eigenvalues[j] - last[j]));
    if (j === d - 1) Object.assign(run, { step, outside: outsideShare(W, d) });
  }
  run.peak = Math.max(run.peak, eigenvalues[0]);
  const moved = last ? Math.max(...eigenvalues.map((c, j) => Math.abs(c - last[j]))) : 1;
  run.done = run.outside !== null && moved < SETTLED;
  if (!run.columns.length) run.columns = eigenvalues.map(() => []);
  if (last === null || run.done || step >= THIN * run.xs[run.xs.length - 1]) {
    if (last !== null) run.xs.push(step);
    eigenvalues.forEach((c, j) => run.columns[j].push(c));
  }
  run.last = eigenvalues;
}

/** Stage and run at once, as a page does in slices. */
export function whole(state) {
  const scene = stage(state);
  for (const item of descents(scene)) take(item);
  return scene;
}

/** Curves of theory of one lane, on the axis of steps. */
export function theory({ state, gammas, sizes, axis }, { method, lr }) {
  const xs = Array.from({ length: POINTS }, (_, k) =>
    axis.low * (axis.high / axis.low) ** (k / (POINTS - 1)));
  const columns = sizes.map((size, j) =>
    xs.map((step) => eigenvalueOf(lr * step, gammas[j], size, method, state.ridge)));
  return { xs, columns };
}

/** How many modes a lane has learned by a step; null while descent is not yet there. */
export function learnedBy({ run }, step) {
  const count = run.births.filter((birth) => birth <= step).length;
  const there = run.done || run.xs[run.xs.length - 1] >= step;
  return there || count === run.last?.length ? count : null;
}

/** A row of the table: what the lane took, in words. */
export function row(scene, { name, predicted, run }) {
  const plain = scene.lanes[0].run;
  const learned = run.outside !== null;
  const waits = run.done ? "–" : "…";
  return [name, digits(Math.max(...predicted)), learned ? String(run.step) : waits,
    learned && plain.outside !== null ? `${(plain.step / run.step).toFixed(1)}×` : waits,
    learned ? percent(run.outside) : waits];
}

/**
 * The sentence: what was changed, then all runs at the cursor, or the chosen one against plain.
 *
 * @param {Object} scene As `stage` returns it, with runs as far as they are.
 * @param {string} [changed] The trait that the reader has just changed.
 * @returns {string}
 */
export function words(scene, changed = "") {
  const { state, lanes, now } = scene;
  const { chosen, step, d } = state;
  const plain = lanes[0];
  const began = setting(state, changed);
  if (step !== null) return began + standings(lanes, now, d);
  const lane = lanes.find(({ method }) => method === chosen);
  return began + (lane === plain ? alone(plain, d) : against(lane, plain, d));
}

function standings(lanes, now, d) {
  const counts = lanes.map((lane) => [lane.name, learnedBy(lane, now)]);
  const known = counts.filter(([, count]) => count !== null);
  const steps = plural(Math.floor(now), "step");
  return known.length === 0 ? `The descents have not yet come to ${steps}.`
    : `After ${steps}, of ${d} modes have been learned: ` +
      `${list(known.map(([name, count]) => `${name} ${count}`))}.`;
}

function setting({ s0, decay, share, floor, ridge, seed }, changed) {
  return {
    s0: `Start s₀ = ${digits(s0)}. `,
    decay: `Eigenvalues fall as j to the power −${decay.toFixed(2)}. `,
    share: `Rate at ${share.toFixed(2)} of the limit. `,
    floor: `Floor ${digits(floor)}. `,
    ridge: `Ridge ${digits(ridge)}. `,
    seed: `Draw ${seed}. `,
  }[changed] ?? "";
}

function alone({ predicted, run }, d) {
  const flow = digits(Math.max(...predicted));
  return run.outside === null
    ? `To learn ${d} modes, plain takes ${flow} steps by the flow.`
    : `To learn ${d} modes, plain takes ${plural(run.step, "step")} (the flow says ${flow}); ` +
      `${percent(run.outside)} of its space lies outside the leading directions.`;
}

function against(lane, plain, d) {
  const [theirs, ours] = [lane, plain].map(({ predicted }) => digits(Math.max(...predicted)));
  const [run, base] = [lane.run, plain.run];
  if (run.outside === null || base.outside === null) {
    return `To learn ${d} modes, plain takes ${ours} steps by the flow and ${lane.name} ${theirs}.`;
  }
  const over = run.peak > 1.5 ? `; C overshoots to ${digits(run.peak)}` : "";
  const ratio = base.step / run.step;
  const compared = ratio >= 1 ? `${ratio.toFixed(1)} times fewer`
    : `${(1 / ratio).toFixed(1)} times more`;
  return `To learn ${d} modes, plain takes ${plural(base.step, "step")} (the flow says ${ours}) ` +
    `and ${lane.name} ${run.step} (${theirs}), ${compared}${over}. Outside the leading ` +
    `directions lies ${percent(base.outside)} of plain's space, ${percent(run.outside)} of this one's.`;
}

/** One line for the picture as a whole, for readers who do not see it. */
export function pictureWords({ lanes, now, state: { d } }) {
  const arrivals = lanes.map(({ name, predicted, run }) => `${name}: flow ` +
    `${digits(Math.max(...predicted))}, descent ${run.outside === null ? "not yet" : run.step}`);
  return `Six lanes over the number of steps, marks where each of ${d} modes is half learned. ` +
    `Steps to the last mode: ${arrivals.join("; ")}. Cursor at step ${digits(now)}.`;
}

function percent(share) {
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}
