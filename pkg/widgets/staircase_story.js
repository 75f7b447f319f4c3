/**
 * What the staircase figure knows and says: its steps, what is shown so far, its sentences.
 * Pure functions of the state, so that Node can test them.
 */

import { eigenvalue, lossOf, stepTimes } from "./closed_form.js";
import { fraction, round } from "./draw.js";
import { digits, gammaName, list, lowered, plural } from "./words.js";

export const FEWEST = 2;
export const MOST = 8;

/**
 * Everything the picture needs, from the synced state.
 *
 * @param {Object} state gammas, s0, time, log_time, revealed, asking, guess.
 * @returns {Object} A scene: the state with `taus`, `steps` (those that exist, in order of
 *   time), `shown` (how many of them), `open` (all), `cut` (time up to which the curves
 *   are drawn), `asking`, and `fit` (the time axis that suits).
 */
export function stage(state) {
  const gammas = [...state.gammas].sort((a, b) => b - a);
  const taus = stepTimes(gammas, state.s0);
  const steps = taus
    .map((time, mode) => ({ mode, time }))
    .filter(({ time }) => time > 0 && time < Infinity);
  const shown = countShown(steps, state.revealed);
  const open = shown === steps.length;
  const scene = { ...state, gammas, taus, steps, shown, open };
  scene.asking = state.asking && !open;
  scene.cut = open ? Infinity : curtain(gammas, steps, shown);
  const wanted = open ? 0 : shown + 1;
  scene.fit = fitAxis(gammas, taus, steps, wanted, state.log_time);
  return scene;
}

// Tied steps fall together, so they are shown together.
function countShown(steps, revealed) {
  let shown = Math.min(Math.max(revealed, 1), steps.length);
  while (shown && shown < steps.length && together(steps[shown - 1], steps[shown])) shown += 1;
  return shown;
}

function together(a, b) {
  return Math.abs(b.time - a.time) <= 1e-9 * b.time;
}

// A little after the last step shown (c = 0.95), before the next one starts to show.
function curtain(gammas, steps, shown) {
  const last = steps[shown - 1];
  const settled = last.time + 0.36 / gammas[last.mode];
  return Math.min(settled, Math.sqrt(last.time * steps[shown].time));
}

/**
 * A time axis with round ends that holds every step, as far as that stays readable.
 *
 * @param {number[]} gammas Descending.
 * @param {number[]} taus
 * @param {{mode: number, time: number}[]} steps
 * @param {number} wanted How many steps must be on it, however far away.
 * @param {boolean} log
 * @returns {{low: number, high: number, log: boolean}}
 */
export function fitAxis(gammas, taus, steps, wanted, log) {
  const rates = gammas.filter((gamma) => gamma !== 0).map(Math.abs);
  const unit = 1 / (rates.length ? Math.max(...rates) : 1);
  const first = steps.length ? steps[0].time : unit;
  const far = (log ? 3000 : 100) * Math.max(first, 0.1 * unit);
  const last = steps
    .filter(({ time }, k) => k < wanted || time < far)
    .map(({ mode, time }) => time + 0.6 / gammas[mode])
    .pop();
  const high = round(Math.max(1.05 * (last ?? 0), unit), true);
  if (!log) return { low: 0, high, log };
  // A mode that starts past its half falls or rises from the first moment on.
  const early = taus.some(Number.isNaN) ? 0 : first / 3;
  return { low: round(Math.max(early, 0.02 * unit), false, [1, 2, 5, 10]), high, log };
}

/**
 * Where the cursor stands: at its own time, but never behind the curtain.
 *
 * @param {Object} scene
 * @param {{high: number}} axis
 * @returns {number}
 */
export function cursorTime(scene, axis) {
  const end = Math.min(scene.cut, axis.high);
  return scene.time === null ? end : Math.min(scene.time, end);
}

/**
 * The reader's guess, or where the marker waits: halfway behind the curtain.
 *
 * @param {Object} scene
 * @param {{low: number, high: number, log: boolean}} axis
 * @returns {number}
 */
export function guessTime(scene, axis) {
  if (scene.guess !== null) return Math.min(Math.max(scene.guess, scene.cut), axis.high);
  const share = fraction(axis);
  return share.value((share.of(scene.cut) + 1) / 2);
}

/**
 * Spectrum of C and loss at one time.
 *
 * @param {Object} scene
 * @param {number} time
 * @returns {{eigenvalues: number[], loss: number, learned: number}}
 */
export function momentAt(scene, time) {
  const eigenvalues = scene.gammas.map((gamma) => eigenvalue(time, gamma, scene.s0));
  const learned = eigenvalues.filter((c) => c >= 0.5).length;
  return { eigenvalues, loss: lossOf(eigenvalues), learned };
}

/** Value of a bar: two places where they suffice. */
export function barValue(gamma) {
  const size = Math.abs(gamma);
  if (size > 0 && (size < 0.01 || size >= 100)) return digits(gamma);
  const exact = Math.abs(size * 100 - Math.round(size * 100)) < 1e-6;
  return (gamma < 0 ? "−" : "") + size.toFixed(exact || size >= 1 ? 2 : 3);
}

/** "1 of 5 modes learned at the cursor, t = 2.08." */
export function cursorWords(scene, axis) {
  const time = cursorTime(scene, axis);
  const { learned, loss } = momentAt(scene, time);
  return `At the cursor, t = ${digits(time)}, ${learned} of ` +
    `${plural(scene.gammas.length, "mode")} ${learned === 1 ? "is" : "are"} learned ` +
    `and the loss is ${loss.toFixed(2)}.`;
}

/** What becomes of one mode: "step 2 now falls at t = 2.1 (it was 3.4)". */
function fate(scene, mode, tauBefore) {
  const { gammas, taus, steps, shown } = scene;
  const gamma = gammas[mode];
  if (gamma <= 0) {
    const lost = gammas.filter((value) => value <= 0).length;
    return `${gamma < 0 ? "below zero" : "at zero"} a mode is never learned, ` +
      `and the loss ends at ${lost}`;
  }
  if (Number.isNaN(taus[mode])) return "it starts half learned, so it has no step";
  const index = steps.findIndex((step) => step.mode === mode);
  if (index >= shown) return `step ${index + 1} is still to be shown: guess it`;
  const twins = steps.filter((step) => together(step, steps[index]));
  const when = `t = ${digits(taus[mode])}`;
  if (twins.length > 1) {
    const names = twins.map((step) => gammaName(step.mode));
    return `${list(names)} are tied, so their steps fall together at ${when} ` +
      `and the loss drops by ${twins.length} at once`;
  }
  const was = tauBefore > 0 && tauBefore < Infinity && digits(tauBefore) !== digits(taus[mode]);
  return `step ${index + 1} now falls at ${when}${was ? ` (it was ${digits(tauBefore)})` : ""}`;
}

/** After a bar moved: `from` is {gamma, mode, tau} as it was, `mode` where it is now. */
export function gammaWords(scene, axis, from, mode) {
  const renamed = mode === from.mode ? "" : ` and is now ${gammaName(mode)}`;
  return `${gammaName(from.mode)} went from ${barValue(from.gamma)} to ` +
    `${barValue(scene.gammas[mode])}${renamed}: ${fate(scene, mode, from.tau)}. ` +
    cursorWords(scene, axis);
}

/** After the initial scale moved. */
export function scaleWords(scene, axis, from) {
  const start = `The initial scale s₀ went from ${digits(from.s0)} to ${digits(scene.s0)}`;
  if (!scene.steps.length) return `${start}: no mode has a step. ${cursorWords(scene, axis)}`;
  const first = scene.steps[0];
  const was = from.tau > 0 && from.tau < Infinity ? ` (it was ${digits(from.tau)})` : "";
  const effect = from.tau < first.time ? "every step falls later" : "every step falls earlier";
  return `${start}: ${from.tau === first.time ? "" : `${effect}, `}` +
    `the first at t = ${digits(first.time)}${was}. ${cursorWords(scene, axis)}`;
}

/** After a bar came or went. */
export function countWords(scene, axis, verb) {
  const d = scene.gammas.length;
  return `One bar ${verb}: ${d} modes, so the loss starts at ` +
    `${digits(Math.round(momentAt(scene, 0).loss * 100) / 100)}. ${cursorWords(scene, axis)}`;
}

/** After "Show": where step number k + 1 fell, how far off the guess was, and why. */
export function revealWords(scene, guess, k) {
  const { time, mode } = scene.steps[k];
  const ratio = guess / time;
  const off = ratio > 1.05
    ? `your guess, t = ${digits(guess)}, was ${digits(ratio)} times too late`
    : ratio < 1 / 1.05
      ? `your guess, t = ${digits(guess)}, was ${digits(1 / ratio)} times too early`
      : `your guess, t = ${digits(guess)}, was right to within 5 %`;
  const earlier = scene.steps[k - 1];
  const why = earlier
    ? ` Waiting times go nearly as 1/γ: τ${lowered(k + 1)}/τ${lowered(k)} = ` +
      `${digits(time / earlier.time)}, ${gammaName(earlier.mode)}/${gammaName(mode)} = ` +
      `${digits(scene.gammas[earlier.mode] / scene.gammas[mode])}.`
    : "";
  return `Step ${k + 1} falls at t = ${digits(time)}; ${off}.${why}`;
}

/** What to do next, when nothing has changed yet. */
export function openingWords(scene) {
  if (!scene.steps.length) return "No mode has a step here: raise a bar above zero.";
  if (!scene.open) {
    const fell = `Step ${scene.shown} falls at t = ${digits(scene.steps[scene.shown - 1].time)}.`;
    const next = scene.shown + 1;
    return scene.asking
      ? `${fell} Where will step ${next} fall? Drag the marker there, then press Show.`
      : `${fell} Predict step ${next} next.`;
  }
  const times = scene.steps.map(({ time }) => digits(time));
  return `${plural(times.length, "step")}, at t = ${list(times)}. Drag a bar: ` +
    "the taller the bar, the earlier its step.";
}

/** One line for the picture as a whole, for readers who do not see it. */
export function pictureWords(scene, axis) {
  const times = scene.steps.slice(0, scene.shown).map(({ time }) => digits(time));
  const hidden = scene.open ? "" : ` Drawn up to t = ${digits(scene.cut)}; later steps are hidden.`;
  const falls = times.length ? `${plural(times.length, "step")} at t = ${list(times)}` : "no step";
  return `Loss and eigenvalues of the cross-correlation against ` +
    `${axis.log ? "logarithmic" : "linear"} flow time: ${falls}.${hidden}`;
}

/** One line for the bar chart. */
export function spectrumWords(scene) {
  return `Spectrum of ${scene.gammas.length} eigenvalues: ` +
    scene.gammas.map((gamma, j) => `${gammaName(j)} = ${barValue(gamma)}`).join(", ") + ".";
}
