/**
 * What the training figure knows and says. Pure functions of the state and of the run.
 */

import { round } from "./draw.js";
import { expected } from "./train_theory.js";
import { digits, list, lowered, plural } from "./words.js";

const SAMPLES = 240; // points of a theory curve
const POINTS = 320; // most points of a measured one
const BLIND = 300; // steps shown where theory predicts none

/** Predicted times in the order in which they come; none beyond the stable rate. */
export function stepsAhead({ times, lr, limit }) {
  if (lr >= limit) return [];
  return times
    .map((time, mode) => ({ time, mode }))
    .filter(({ time }) => time > 0 && time < Infinity)
    .sort((a, b) => a.time - b.time);
}

/** A round number of steps that holds every predicted one. */
export function horizon(prediction) {
  const ahead = stepsAhead(prediction);
  if (!ahead.length) return BLIND;
  const { time, mode } = ahead[ahead.length - 1];
  return round(1.06 * (time + 2 / prediction.rates[mode]), true);
}

/** Where the axis of steps begins: a logarithmic one a little before anything happens. */
export function onset(prediction, log) {
  if (!log) return 0;
  const [first] = stepsAhead(prediction);
  return first ? Math.max(1, round(first.time / 4, false, [1, 2, 5, 10])) : 1;
}

/** Predicted curves over an axis of steps: one a mode, and the loss. */
export function theoryCurves(prediction, axis) {
  if (prediction.lr >= prediction.limit) return { xs: [], modes: [], loss: [] };
  const { low, high, log } = axis;
  const xs = Array.from({ length: SAMPLES + 1 }, (_, i) =>
    log ? low * (high / low) ** (i / SAMPLES) : low + ((high - low) * i) / SAMPLES);
  const seen = xs.map((step) => expected(prediction, step));
  return {
    xs,
    modes: prediction.times.map((_, j) => seen.map(({ eigenvalues }) => eigenvalues[j])),
    loss: seen.map(({ loss }) => loss),
  };
}

/** At most a few hundred of the recorded points, evenly spread along the axis; the last always. */
export function thin(steps, { low, high, log }) {
  const place = (step) =>
    log ? Math.log(Math.max(step, low) / low) / Math.log(high / low) : (step - low) / (high - low);
  const kept = [];
  let before = -1;
  for (let i = 0; i < steps.length; i += 1) {
    const spot = Math.floor(place(steps[i]) * POINTS);
    if (spot !== before || i === steps.length - 1) kept.push(i);
    before = spot;
  }
  return kept;
}

/** How many modes have been half learned. */
export function learned(run) {
  return run.measured.filter((time) => time !== null).length;
}

/** "59, 160 and 366". */
function stepList(times) {
  return list(times.map((time) => String(Math.round(time))));
}

/** Measured against predicted: "59 (60 predicted), 366 (362)". */
function compared(run) {
  const ahead = stepsAhead(run.prediction);
  const fell = run.measured.filter((time) => time !== null).sort((a, b) => a - b);
  return list(fell.map((time, k) => {
    const foreseen = ahead[k] ? ` (${Math.round(ahead[k].time)}${k ? "" : " predicted"})` : "";
    return `${Math.round(time)}${foreseen}`;
  }));
}

const GOALS = {
  barlow_twins: "Barlow Twins, λ = 1",
  barlow_twins_weighted: "Barlow Twins, λ = 0.3",
  spectral: "the spectral loss",
};

/** Before the first step. */
export function openingWords(run, settings) {
  const { gammas, limit } = run.prediction;
  const ahead = stepsAhead(run.prediction);
  const net = settings.net === "linear" ? "A linear network" : "A network with a hidden layer";
  if (settings.rate >= 1) {
    return `${net}, ${GOALS[settings.loss]}: the rate is ${Number(settings.rate.toPrecision(2))} times the ` +
      `stable limit 1/(4γ₁) = ${digits(limit)}, so theory promises no steps. Press Play and see.`;
  }
  if (ahead.length < gammas.length) {
    return `${net}, ${GOALS[settings.loss]}: it starts so large that ` +
      `${plural(gammas.length - ahead.length, "mode")} are half learned already. Lower the start.`;
  }
  const basis = (settings.net === "linear" ? "" : " from its hidden layer as it now is") +
    (settings.loss === "barlow_twins_weighted" ? ", by a rule of thumb," : "");
  return `${net}, ${GOALS[settings.loss]}. From its start theory expects the steps${basis} at ` +
    `${stepList(ahead.map(({ time }) => time))}. Press Play.`;
}

/** While it trains: what fell last. */
export function trainingWords(run, settings) {
  const count = learned(run);
  if (!count) return openingWords(run, settings).replace(" Press Play.", "");
  const ahead = stepsAhead(run.prediction);
  const fell = run.measured.filter((time) => time !== null).sort((a, b) => a - b);
  const foreseen = ahead[count - 1];
  return `Step ${count} fell at ${Math.round(fell[count - 1])}` +
    (foreseen ? `; predicted: ${Math.round(foreseen.time)}.` : ".") +
    (ahead[count] ? ` The next one is predicted at ${Math.round(ahead[count].time)}.` : "");
}

/** When it has come to the end of the axis, or been stopped. */
export function restingWords(run, settings) {
  if (run.lost) return lostWords(run, settings);
  const count = learned(run);
  if (!run.step) return openingWords(run, settings);
  if (settings.rate >= 1) {
    return `Step ${run.step}: beyond the stable limit a mode that has risen does not settle. ` +
      "Each step throws it past its level, and back.";
  }
  const of = `${count} of ${plural(run.measured.length, "mode")} learned`;
  if (!count) return `Step ${run.step}, ${of}.`;
  const over = count === run.measured.length ? ` ${remainder(settings)}` : "";
  return `Step ${run.step}, ${of}: at ${compared(run)}.${over}`;
}

// What differs from the prediction once all is learned, and why.
function remainder({ net, loss }) {
  if (net !== "linear") return "The hidden layer has moved meanwhile; the prediction has not.";
  return loss === "spectral"
    ? "Each settles at the share ρ of its mode that two views have in common."
    : "What is left of the loss, and keeps C short of one, is the noise of 256 pairs a step.";
}

function lostWords(run, { rate }) {
  const limit = `the stable limit 1/(4γ₁) = ${digits(run.prediction.limit)}`;
  const why = rate >= 1
    ? `The learning rate is ${Number(rate.toPrecision(2))} times ${limit}.`
    : `The learning rate is ${Number(rate.toPrecision(2))} of ${limit}, but a batch's own γ₁ may be larger.`;
  return `The loss left all bounds at step ${run.step}, and the run stopped. ${why} Lower it.`;
}

/** "step 312, loss 2.04". */
export function statusWords(run) {
  const { losses } = run.history;
  const loss = losses[losses.length - 1];
  if (!Number.isFinite(loss)) return `step ${run.step}`;
  return `step ${run.step}, loss ${loss < 100 ? loss.toFixed(2) : digits(loss)}`;
}

/** One line for the picture as a whole, for readers who do not see it. */
export function pictureWords(run, axis) {
  const ahead = stepsAhead(run.prediction).map(({ time }) => time);
  const foreseen = ahead.length ? `steps predicted at ${stepList(ahead)}` : "no steps predicted";
  const count = learned(run);
  const fell = count ? `; ${plural(count, "step")} fell, at ${compared(run)}` : "";
  return `Loss and eigenvalues of the ${matrixName(run)} against ${axis.log ? "the logarithm of " : ""}` +
    `steps of training: ${foreseen}${fell}.`;
}

/** The matrix whose eigenvalues are drawn. */
export function matrixName({ lambd }) {
  return lambd === null ? "second moment of the embedding" : "cross-correlation C";
}

/** "τ₂" for the second step. */
export function stepName(k) {
  return `τ${lowered(k + 1)}`;
}
