/**
 * What the losses figure shows of its state, and in which words. Pure functions.
 */

import {
  effectiveStart, finalVariances, levels, order, rates, stepTimes, swaps, variance,
} from "./losses_math.js";
import { genericStart } from "./random.js";
import { digits, list, lowered, plural, tickText } from "./words.js";

const POINTS = 320; // along the time axis
const REACH = 60; // VICReg: no later than this many times the first step

/**
 * Everything that follows from the state at once; the true flow takes longer.
 *
 * @param {Object} state The figure's traits.
 * @returns {Object} model, W (start), modes (in order of learning), g, taus, swaps, axis, times
 *   and theory: { loss, eigenvalues: [{ mode, values }] } on `xs`
 */
export function stage(state) {
  const { gammas, s0, seed, log_time: log } = state;
  const d = Math.min(state.d, gammas.length);
  const model = { ...state, d };
  const barlow = state.loss !== "vicreg";
  const W = genericStart(d, gammas.length, s0, seed);
  const modes = order(model).slice(0, d);
  const { lengths } = effectiveStart(W, model);
  const taus = stepTimes(model, lengths);
  const late = swaps(model, W);
  const known = taus.filter((tau) => tau > 0);
  const first = known.length ? Math.min(...known) : 1;
  const last = Math.max(first, ...known, ...late.map(({ time }) => time));
  const high = 1.45 * (barlow ? last : Math.min(last, REACH * first));
  const axis = { low: log ? first / 4 : 0, high, log };
  const times = Array.from({ length: POINTS }, (_, i) => {
    const share = i / (POINTS - 1);
    return log ? axis.low * (high / axis.low) ** share : high * share;
  });
  const scene = {
    model, barlow, W, modes, lengths, g: rates(model), taus, swaps: late, axis, times,
  };
  scene.theory = barlow && model.lambd < 1 ? stairs(scene) : curves(scene);
  return scene;
}

/** Barlow Twins with lambd < 1: levels between predicted times. */
function stairs({ model, modes, taus, axis }) {
  const { eigenvalue: level, loss } = levels(model.d, model.lambd);
  const xs = [axis.low];
  const rows = { eigenvalue: [0], loss: [loss[0]] };
  taus.forEach((tau, k) => {
    xs.push(tau, tau);
    rows.eigenvalue.push(level[k], level[k + 1]);
    rows.loss.push(loss[k], loss[k + 1]);
  });
  xs.push(axis.high);
  rows.eigenvalue.push(level[modes.length]);
  rows.loss.push(loss[modes.length]);
  return { xs, loss: rows.loss, eigenvalues: [{ values: rows.eigenvalue }] };
}

/** Every mode on its own: exact where nothing couples them. */
function curves({ model, barlow, modes, lengths, g, times }) {
  const { gammas, sigmas, beta, d } = model;
  const loss = new Float64Array(times.length).fill(d);
  const eigenvalues = modes.map((mode, k) => {
    const sigma = (barlow ? gammas : sigmas)[mode];
    const values = times.map((t) => variance(t, sigma, g[mode], lengths[k]));
    const apart = barlow ? 0 : 2 * beta * (1 - gammas[mode] / sigmas[mode]);
    values.forEach((c, i) => {
      loss[i] += apart * c + (1 - c) ** 2 - 1;
    });
    return { mode, values };
  });
  return { xs: times, loss, eigenvalues };
}

/** Two digits, and no zeros behind them: "0.1". */
export function short(value) {
  return tickText(Number(value.toPrecision(2)));
}

/** "mode 4 (ρ₄ = 0.94)" */
function named({ gammas, sigmas }, mode) {
  return `mode ${mode + 1} (ρ${lowered(mode + 1)} = ${(gammas[mode] / sigmas[mode]).toFixed(2)})`;
}

function swapWords({ model, swaps: late, axis }) {
  return late.map(({ gone, comes, rate, time }) => {
    const when = time > axis.high ? "long after this picture ends" : `near t = ${digits(time)}`;
    const [k, j] = [lowered(comes + 1), lowered(gone + 1)];
    return `${named(model, comes)} replaces ${named(model, gone)} late, ${when}, ` +
      `at the rate 8βσ${k}(ρ${k} − ρ${j}) = ${digits(rate)}`;
  }).join("; ");
}

/** What the state means, whatever it was before. */
export function openingWords(scene) {
  return scene.barlow ? barlowWords(scene) : vicregWords(scene);
}

function barlowWords({ model, taus, modes }) {
  const { lambd, d } = model;
  if (lambd > 1.001) {
    return `λ = ${short(lambd)}: above one nothing overshoots, and the steps nearly keep ` +
      "the times of λ = 1.";
  }
  if (lambd > 0.999 || d < 2 || modes.length < 2) {
    return `λ = ${short(lambd)}: every step ends at one` +
      `${taus.length ? `, the last at t = ${digits(taus[taus.length - 1])}` : ""}.`;
  }
  const { eigenvalue: level, slowdown } = levels(d, lambd);
  const even = stepTimes({ ...model, lambd: 1 }, modesAlone(model));
  return `λ = ${short(lambd)}: the first eigenvalue overshoots to c₁ = ${digits(level[1])}, ` +
    `and what is left grows ${digits(1 / slowdown[1])} times slower. Step 2 falls near ` +
    `t = ${digits(taus[1])} instead of ${digits(even[1])}, the last one near ` +
    `${digits(taus[taus.length - 1])} instead of ${digits(even[even.length - 1])}.`;
}

function modesAlone(model) {
  const W = genericStart(model.d, model.gammas.length, model.s0, model.seed);
  return effectiveStart(W, model).lengths;
}

function vicregWords(scene) {
  const { model, modes, g } = scene;
  const finals = finalVariances(model);
  const dead = g.map((_, j) => j).filter((j) => g[j] <= 0);
  const ends = modes.map((j) => finals[j].toFixed(2));
  const name = Math.abs(model.beta - 1) < 0.005 ? ", the spectral loss" : "";
  const words = [
    `β = ${model.beta.toFixed(2)}${name}: ` +
      (modes.length
        ? `${plural(modes.length, "mode")} rise${modes.length === 1 ? "s" : ""} in the order ` +
          `${modes.map((j) => j + 1).join(", ")}, to ${list(ends)}`
        : "no mode grows"),
  ];
  if (dead.length) {
    words.push(`${list(dead.map((j) => `g${lowered(j + 1)}`))} ` +
      `${dead.length === 1 ? "is" : "are"} not above zero: never learned`);
  }
  if (scene.swaps.length) words.push(swapWords(scene));
  return sentences(words);
}

function sentences(words) {
  // Letters of formulas keep their case.
  return words.map((part) => `${part.replace(/^[a-z](?=[a-z])/, (first) =>
    first.toUpperCase())}.`).join(" ");
}

/**
 * What the reader's last change did.
 *
 * @param {Object} before Scene as it was.
 * @param {Object} scene
 * @returns {string}
 */
export function changeWords(before, scene) {
  if (scene.barlow || before.barlow) return openingWords(scene);
  const words = [];
  scene.g.forEach((rate, j) => {
    const was = before.g[j];
    const name = `g${lowered(j + 1)} = ${digits(rate)}`;
    if (was > 0 && rate <= 0) words.push(`mode ${j + 1} dies: ${name} is not above zero`);
    if (was <= 0 && rate > 0) words.push(`mode ${j + 1} is born: ${name} is above zero`);
  });
  const now = order(scene.model);
  const common = order(before.model).filter((j) => now.includes(j));
  const moved = now.filter((j) => common.includes(j));
  const k = moved.findIndex((j, i) => j !== common[i]);
  if (k >= 0) words.push(`mode ${moved[k] + 1} now grows faster than mode ${common[k] + 1}`);
  const pairs = (late) => late.map(({ gone, comes }) => `${comes} for ${gone}`).join();
  if (before.swaps.length && pairs(before.swaps) !== pairs(scene.swaps)) {
    words.push(scene.swaps.length ? "the late swap is another one" : "no late swap any more");
  }
  return [words.length ? sentences(words) : "", openingWords(scene)].filter(Boolean).join(" ");
}

/** What the flow itself did, once it is integrated. */
export function flowWords({ barlow, model }, looks) {
  if (!looks.length || !barlow || model.lambd > 0.999 || model.d < 2) return "";
  const peak = Math.max(...looks.map(({ eigenvalues }) => eigenvalues[0]));
  return ` The flow itself reaches ${digits(peak)}.`;
}

/** One line for the picture as a whole, for readers who do not see it. */
export function pictureWords({ barlow, model, taus, swaps: late }) {
  const name = barlow
    ? `Barlow Twins with lambda ${short(model.lambd)}: loss and eigenvalues of the ` +
      "cross-correlation"
    : `VICReg with beta ${model.beta.toFixed(2)}: loss and variance of each mode`;
  const steps = taus.filter((tau) => tau > 0).map(digits);
  const swap = late.length ? ` A swap near ${digits(late[0].time)}.` : "";
  return `${name} against flow time. Predicted steps at ${list(steps) || "no time"}.${swap}`;
}
