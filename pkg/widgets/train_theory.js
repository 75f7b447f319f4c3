/**
 * What theory says of a network before its first step: when each mode will be half learned,
 * and how far. Pure functions, held to `pkg.dynamics` by tests/test_train.py.
 */

import { eigen, orthonormal } from "./algebra.js";
import { innerProduct } from "./train.js";
import { PIXELS, featureMoments } from "./train_views.js";

/**
 * Gamma and Sigma of the features h(x) that the readout sees, and Gamma's eigenvectors.
 *
 * @param {Object} net
 * @param {Object} views The population.
 * @returns {{Gamma, Sigma, gammas, vectors}}
 */
export function momentsOf(net, views) {
  const { V, size } = net;
  if (!V) return views;
  const h = new Float64Array(size);
  const features = (view) => {
    for (let u = 0; u < size; u += 1) {
      h[u] = Math.tanh(innerProduct(V, u * PIXELS, view, 0, PIXELS));
    }
    return h;
  };
  const { Gamma, Sigma } = featureMoments(views, size, features);
  const { values: gammas, vectors } = eigen(Gamma, size);
  return { Gamma, Sigma, gammas, vectors };
}

/**
 * The aligned start that a generic small one behaves like: s0_j = R_jj of W(0) V = Q R.
 *
 * @param {ArrayLike<number>} W0 (d, m) weights at the start.
 * @param {number[][]} vectors Eigenvectors of Gamma; the first d are used.
 * @param {number} d
 * @param {number} m
 * @returns {number[]} (d,)
 */
export function effectiveStart(W0, vectors, d, m) {
  const columns = vectors.slice(0, d).map((vector) =>
    Array.from({ length: d }, (_, i) => innerProduct(W0, i * m, vector, 0, m)));
  return orthonormal(columns).lengths;
}

/** u A v, with u and v from `left[i]` and `right[j]` on. */
export function quadratic(A, left, i, right, j, n) {
  let sum = 0;
  for (let a = 0; a < n; a += 1) sum += left[i + a] * innerProduct(A, a * n, right, j, n);
  return sum;
}

/**
 * What theory says of a run before its first step.
 *
 * The readout is a linear model in its features: with Gamma of those features and the start
 * that W(0) amounts to, each mode climbs a logistic curve; descent multiplies a small mode by
 * 1 + 4 lr gamma a step. Hidden layers move, and then this is only where it began.
 *
 * @param {Object} net At its start.
 * @param {Object} moments Of its features.
 * @param {?number} lambd
 * @param {number} share Learning rate as a share of the largest stable one, 1/(4 gamma_1).
 * @returns {Object} gammas, s0, lr, limit, rates (a step), times (steps), levels, halves.
 */
export function predict(net, moments, lambd, share) {
  const { W, d, size } = net;
  const { Sigma, gammas: every, vectors } = moments;
  const gammas = [...every.slice(0, d)];
  const s0 = effectiveStart(W, vectors, d, size);
  const limit = 1 / (4 * gammas[0]);
  const lr = share * limit;
  const sigmas = gammas.map((_, j) =>
    quadratic(Sigma, vectors[j], 0, vectors[j], 0, size),
  );
  const rhos = gammas.map((gamma, j) => gamma / sigmas[j]);
  const rates = gammas.map((gamma) => 2 * Math.log1p(4 * lr * gamma));
  const starts = gammas.map((gamma, j) =>
    // Share of what the mode will be: gamma s^2 of one, or sigma s^2 of rho.
    (lambd === null ? sigmas[j] ** 2 / gamma : gamma) * s0[j] ** 2,
  );
  const times = stepTimes(starts, rates);
  return lambd === null
    ? { gammas, sigmas, rhos, s0, lr, limit, rates, times, lambd, levels: rhos,
        halves: rhos.map((rho) => rho / 2) }
    : { gammas, sigmas, rhos, s0, lr, limit, lambd, ...weighted(times, rates, lambd, d),
        halves: gammas.map(() => 0.5) };
}

/** Step at which each mode is half learned; NaN for one that starts past its half. */
export function stepTimes(starts, rates) {
  return starts.map((start, j) =>
    start < 0.5 ? Math.log1p((1 - 2 * start) / start) / rates[j] : NaN,
  );
}

/** Levels, rates and times once lambda is not one: modes overshoot, and later ones wait. */
export function weighted(times, rates, lambd, d) {
  const share = (k) => k + lambd * (d - k);
  const slowdown = (k) => (k ? (lambd * d) / share(k) : 1);
  const later = [times[0]];
  for (let k = 1; k < d; k += 1) {
    later.push(later[k - 1] + (times[k] - times[k - 1]) / slowdown(k));
  }
  return {
    times: later,
    rates: rates.map((rate, k) => rate * slowdown(k)),
    levels: rates.map((_, k) => d / share(k + 1)),
  };
}

/**
 * Predicted eigenvalues after `step` steps, and the loss they make.
 *
 * @param {Object} prediction
 * @param {number} step
 * @returns {{eigenvalues: number[], loss: number}}
 */
export function expected({ times, rates, levels, halves, rhos, lambd }, step) {
  const d = times.length;
  const risen = times.map((time, j) => {
    // One half of what it will be at its step time, or the half that is meant.
    const odds = levels[j] / halves[j] - 1;
    const late = Number.isNaN(time) ? Infinity : step - time;
    return 1 / (1 + odds * Math.exp(-rates[j] * late));
  });
  if (lambd === null) {
    const eigenvalues = risen.map((share, j) => share * levels[j]);
    const loss = eigenvalues.reduce((sum, v, j) => sum + 1 - 2 * rhos[j] * v + v * v, 0);
    return { eigenvalues, loss };
  }
  let level = levels[0];
  for (let k = 1; k < d; k += 1) level += (levels[k] - levels[k - 1]) * risen[k];
  const eigenvalues = risen.map((share) => share * level);
  const sum = eigenvalues.reduce((total, c) => total + c, 0);
  const squares = eigenvalues.reduce((total, c) => total + c * c, 0);
  return { eigenvalues, loss: d - 2 * sum + ((1 - lambd) * sum * sum) / d + lambd * squares };
}

