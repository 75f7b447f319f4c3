/**
 * Two losses besides ||C - I||^2, in the linear model: what is predicted, and the flow itself.
 *
 * Everything stands in the common eigenbasis of Gamma and Sigma, so that both are lists. W is
 * d by m, row after row. Pure functions, held to `pkg.dynamics` to 1e-12 and to `pkg.flow` to
 * 1e-6 by tests/test_losses_figure.py. In the letters of chapter 6.
 *
 * barlow_twins: L = sum_i (1 - C_ii)^2 + lambd sum_{i != j} C_ij^2, C = W Gamma W^T.
 * vicreg: L = 2 beta tr W (Sigma - Gamma) W^T + ||W Sigma W^T - I||^2; with beta = 1 it is the
 * spectral contrastive loss, plus d.
 */

import { dot, eigen, orthonormal } from "./algebra.js";
import { correlation, follow } from "./flow.js";

const TOLERANCE = { rtol: 1e-8, atol: 1e-13 };

/**
 * Barlow Twins after k of d steps, k = 0, 1, ..., d.
 *
 * With lambd < 1 the learned eigenvalues overshoot, and what is left grows slower. With
 * lambd >= 1 they stop at one.
 *
 * @param {number} d
 * @param {number} lambd
 * @returns {{eigenvalue: number[], loss: number[], slowdown: number[]}} (d + 1,),
 *   (d + 1,) and (d,)
 */
export function levels(d, lambd) {
  const weight = Math.min(lambd, 1);
  const steps = Array.from({ length: d + 1 }, (_, k) => k);
  const shared = (k) => k + weight * (d - k);
  const eigenvalue = steps.map((k) => (k ? d / shared(k) : 0));
  return {
    eigenvalue,
    loss: steps.map((k) => d - k * eigenvalue[k]),
    slowdown: steps.slice(0, d).map((k) => (weight * d) / shared(k)),
  };
}

/** Rate of each mode over 8: of VICReg g = (1 - beta) sigma + beta gamma, else gamma. */
export function rates({ loss, gammas, sigmas, beta }) {
  if (loss !== "vicreg") return [...gammas];
  return gammas.map((gamma, j) => (1 - beta) * sigmas[j] + beta * gamma);
}

/** The modes that grow, fastest first: the order in which they are learned. */
export function order(model) {
  const g = rates(model);
  return g.map((_, j) => j).filter((j) => g[j] > 0).sort((a, b) => g[b] - g[a] || a - b);
}

/**
 * VICReg's variance of the embedding along one mode, sigma s(t)^2, from an aligned start.
 *
 * @param {number} t
 * @param {number} sigma
 * @param {number} rate g of the mode, of any sign.
 * @param {number} s0
 * @returns {number}
 */
export function variance(t, sigma, rate, s0) {
  const y0 = s0 * s0;
  // (1 - e) / g without cancellation, and without overflow where g < 0.
  const decay = Math.exp(-8 * Math.abs(rate) * t);
  const spent = rate === 0 ? 8 * t : -Math.expm1(-8 * Math.abs(rate) * t) / Math.abs(rate);
  return rate >= 0
    ? (sigma * y0) / (decay + sigma * sigma * y0 * spent)
    : (sigma * y0 * decay) / (1 + sigma * sigma * y0 * spent);
}

/** What VICReg's variance of each mode ends at if it is learned: 1 - beta (1 - rho). */
export function finalVariances({ gammas, sigmas, beta }) {
  return gammas.map((gamma, j) => 1 - beta * (1 - gamma / sigmas[j]));
}

/**
 * Predicted times of the steps, in the order in which they come.
 *
 * Barlow Twins with lambd < 1: tau_{k+1} = tau_k + (what it was with lambd = 1) / slowdown_k.
 *
 * @param {Object} model
 * @param {number[]} s0 Effective start of each learned mode, in the order of `order`.
 * @returns {number[]}
 */
export function stepTimes(model, s0) {
  const { loss, gammas, sigmas, d, lambd } = model;
  const g = rates(model);
  const alone = order(model).slice(0, d).map((j, k) => {
    // With Sigma = Gamma, VICReg's equation for one mode is Barlow Twins' own.
    const sigma = (loss === "vicreg" ? sigmas : gammas)[j];
    return Math.log(g[j] / (sigma * s0[k]) ** 2 - 1) / (8 * g[j]);
  });
  if (loss === "vicreg") return alone;
  const { slowdown } = levels(d, lambd);
  const taus = [];
  alone.sort((a, b) => a - b).forEach((tau, k) => {
    taus.push(k ? taus[k - 1] + (tau - alone[k - 1]) / slowdown[k] : tau);
  });
  return taus;
}

/**
 * The late swaps: mode `comes` is not learned by one of the d steps, and yet replaces `gone`.
 *
 * Steps come in the order of g, but VICReg keeps the d largest rho = gamma / sigma. In the
 * direction of the learned mode j another one, k, grows at the rate g_k until tau_j and at
 * beta sigma_k (rho_k - rho_j) from then on, all times 8.
 *
 * @param {Object} model
 * @param {ArrayLike<number>} W Start, (d, m).
 * @returns {{gone: number, comes: number, rate: number, time: number}[]} `time` is when the
 *   new mode reaches half its final variance.
 */
export function swaps(model, W) {
  const { loss, gammas, sigmas, beta, d } = model;
  if (loss !== "vicreg" || beta === 0) return [];
  const modes = order(model);
  const rho = gammas.map((gamma, j) => gamma / sigmas[j]);
  const g = rates(model);
  const { basis, lengths } = effectiveStart(W, model);
  const taus = stepTimes(model, lengths);
  const learned = modes.slice(0, d).sort((a, b) => rho[a] - rho[b]);
  const waiting = modes.slice(d).sort((a, b) => rho[b] - rho[a]);
  const pairs = waiting.map((comes, k) => ({ comes, gone: learned[k] }));
  const better = pairs.filter(({ comes, gone }) => rho[comes] > rho[gone]);
  return better.map(({ comes, gone }) => {
    const rate = 8 * beta * sigmas[comes] * (rho[comes] - rho[gone]);
    const place = modes.indexOf(gone);
    const along = dot(basis[place], column(W, comes, d, gammas.length));
    const half = finalVariances(model)[comes] / 2;
    const wait = Math.log(half / (sigmas[comes] * along ** 2)) - 8 * g[comes] * taus[place];
    return { gone, comes, rate, time: taus[place] + wait / rate };
  });
}

/**
 * What a generic start is worth to the modes that will be learned: Gram and Schmidt on their
 * columns of W, in the order in which they are learned.
 *
 * @param {ArrayLike<number>} W (d, m)
 * @param {Object} model
 * @returns {{basis: number[][], lengths: number[]}} Lengths are the effective s0 of each mode.
 */
export function effectiveStart(W, model) {
  const { d, gammas } = model;
  return orthonormal(order(model).slice(0, d).map((j) => column(W, j, d, gammas.length)));
}

function column(W, j, d, m) {
  return Array.from({ length: d }, (_, i) => W[i * m + j]);
}

/**
 * Minus the gradient in W, as `follow` wants it.
 *
 * barlow_twins: -4 M W Gamma, M = diag(C) - I + lambd offdiag(C).
 * vicreg: 4 W H - 4 (W Sigma W^T) W Sigma, H = (1 - beta) Sigma + beta Gamma.
 *
 * @param {Object} model
 * @returns {function(Float64Array, Float64Array): void}
 */
export function velocity(model) {
  const { loss, gammas, sigmas, d, lambd } = model;
  const m = gammas.length;
  const barlow = loss !== "vicreg";
  const weights = barlow ? gammas : sigmas;
  const pull = barlow ? gammas : rates(model); // what every row is drawn along
  return (W, out) => {
    const M = correlation(W, weights, d);
    for (let i = 0; i < d && barlow; i += 1) {
      for (let k = 0; k < d; k += 1) if (k !== i) M[i * d + k] *= lambd;
    }
    for (let i = 0; i < d; i += 1) {
      for (let j = 0; j < m; j += 1) {
        let sum = 0;
        for (let k = 0; k < d; k += 1) sum += M[i * d + k] * W[k * m + j];
        out[i * m + j] = 4 * (pull[j] * W[i * m + j] - weights[j] * sum);
      }
    }
  };
}

/**
 * What the picture shows of one W: the loss, the eigenvalues of C (Barlow Twins) or of the
 * covariance (VICReg), descending, and the share of each mode in their sum.
 *
 * @param {Object} model
 * @param {Float64Array} W (d, m)
 * @returns {{loss: number, eigenvalues: number[], shares: number[]}}
 */
export function look(model, W) {
  const { gammas, sigmas, d, lambd, beta } = model;
  const m = gammas.length;
  const barlow = model.loss !== "vicreg";
  const weights = barlow ? gammas : sigmas;
  const C = correlation(W, weights, d);
  const shares = weights.map((weight, j) => {
    let sum = 0;
    for (let i = 0; i < d; i += 1) sum += W[i * m + j] ** 2;
    return weight * sum;
  });
  let loss = 0;
  for (let i = 0; i < d; i += 1) {
    for (let k = 0; k < d; k += 1) {
      loss += i === k ? (1 - C[i * d + i]) ** 2 : (barlow ? lambd : 1) * C[i * d + k] ** 2;
    }
  }
  if (!barlow) {
    shares.forEach((share, j) => {
      loss += 2 * beta * share * (1 - gammas[j] / sigmas[j]);
    });
  }
  return { loss, eigenvalues: eigen(C, d, false).values, shares };
}

/**
 * The true flow from W, one look a time.
 *
 * @param {Object} model
 * @param {ArrayLike<number>} W (d, m)
 * @param {ArrayLike<number>} times Increasing, from 0 on.
 * @yields {{loss: number, eigenvalues: number[], shares: number[]}}
 */
export const flow = function* (model, W, times) {
  const now = Float64Array.from(W);
  const downhill = velocity(model);
  let from = 0;
  for (const t of times) {
    // Time by time, so that a page can draw in between.
    if (t > from) follow(downhill, now, [t - from], (reached) => now.set(reached), TOLERANCE);
    from = t;
    yield look(model, now);
  }
};

/** All of the flow at once, for the tests. */
export function wholeFlow(model, W, times) {
  return [...flow(model, W, times)];
}
