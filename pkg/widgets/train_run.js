/**
 * One run of one network: its steps, and what is written down of them.
 */

import { eigen } from "./algebra.js";
import { uniforms } from "./random.js";
import {
  BATCH, LOSSES, correlate, createNet, drawPairs, forward, lossGradient, workspace,
} from "./train.js";
import { momentsOf, predict, quadratic } from "./train_theory.js";
import { PIXELS, PLACES, writeView } from "./train_views.js";

const LOST = 1e3; // a loss this many times its start will not come back
const cache = new WeakMap(); // of views: moments of the features last used

// Only another hidden layer has other features, and their moments take a while.
function cachedMoments(net, views, seed) {
  if (!net.V) return views;
  let kept = cache.get(views);
  if (kept?.seed !== seed) cache.set(views, (kept = { seed, moments: momentsOf(net, views) }));
  return kept.moments;
}

/**
 * A run before its first step.
 *
 * @param {Object} views
 * @param {{net: string, loss: string, scale: number, rate: number, seed: number}} settings
 * @returns {Object}
 */
export function createRun(views, { net: kind, loss, scale, rate, seed }) {
  const net = createNet(kind, views, scale, seed);
  const lambd = LOSSES[loss];
  const moments = cachedMoments(net, views, seed);
  const run = {
    views,
    net,
    lambd,
    moments,
    prediction: predict(net, moments, lambd, rate),
    work: workspace(net, BATCH),
    // Views of the steps, apart from the net's own draw; and views to be judged on.
    rng: uniforms(seed + 7919),
    probe: null,
    step: 0,
    lost: false,
    measured: new Array(net.d).fill(null),
    history: { steps: [], eigenvalues: [], losses: [] },
  };
  if (net.V) {
    run.probe = workspace(net, views.n);
    const uniform = uniforms(104729);
    const place = () => Math.floor(PLACES * uniform());
    for (let i = 0; i < views.n; i += 1) {
      writeView(views, i, place(), run.probe.x, i * PIXELS);
      writeView(views, i, place(), run.probe.x, (views.n + i) * PIXELS);
    }
  }
  drawPairs(views, run.work, uniforms(seed + 15485863)); // to be looked at, not learned
  record(run, NaN);
  return run;
}

/** One step of plain descent on fresh views; returns the batch's loss. */
export function advance(run) {
  const { net, work, prediction } = run;
  drawPairs(run.views, work, run.rng);
  const loss = lossGradient(net, work, run.lambd);
  const { lr } = prediction;
  for (let i = 0; i < net.W.length; i += 1) net.W[i] -= lr * work.gW[i];
  if (net.V) for (let i = 0; i < net.V.length; i += 1) net.V[i] -= lr * work.gV[i];
  run.step += 1;
  run.lost = !(loss < LOST * net.d);
  return loss;
}

/** Eigenvalues of the run's matrix, largest first: C for Barlow Twins, S for spectral. */
export function spectrum(run) {
  const { net, views, probe, lambd } = run;
  const { d, W } = net;
  if (probe) {
    forward(net, probe);
    correlate(net, probe);
    return eigen(lambd === null ? probe.S : probe.C, d, false).values;
  }
  // The linear net is judged on every pair of views at once.
  const moment = lambd === null ? views.Sigma : views.Gamma;
  const matrix = new Float64Array(d * d);
  for (let i = 0; i < d; i += 1) {
    for (let j = 0; j <= i; j += 1) {
      matrix[j * d + i] = matrix[i * d + j] =
        quadratic(moment, W, i * PIXELS, W, j * PIXELS, PIXELS);
    }
  }
  return eigen(matrix, d, false).values;
}

/** Note where the run stands, and which modes have just been half learned. */
export function record(run, loss) {
  const { history, prediction, measured } = run;
  const values = spectrum(run);
  const last = history.steps.length - 1;
  prediction.halves.forEach((half, j) => {
    if (measured[j] !== null || !(values[j] >= half) || last < 0) return;
    const [a, b] = [Math.log(Math.max(history.eigenvalues[last][j], 1e-300)), Math.log(values[j])];
    const share = (Math.log(half) - a) / (b - a);
    measured[j] = history.steps[last] + share * (run.step - history.steps[last]);
  });
  history.steps.push(run.step);
  history.eigenvalues.push(values);
  history.losses.push(loss);
}
