/**
 * Descent on a few fresh pairs a step, and the plateau it comes to rest at.
 *
 * Gaussian views in Gamma's eigenbasis: x_j has variance gamma_j / rho and its partner is
 * correlated with it by rho, the same in every mode. Pure functions, in the letters of
 * chapter 4, held to `pkg.dynamics` and to NumPy by tests/test_minibatch_figure.py.
 */

import { eigen } from "./algebra.js";
import { correlation, follow } from "./flow.js";
import { genericStart, normals } from "./random.js";

const SLOWEST = 0.3; // last of the eigenvalues of Gamma; the first is 1

/** Eigenvalues of Gamma: d of them, from 1 down to 0.3 at even ratios. */
export function spectrum(d) {
  return Array.from({ length: d }, (_, j) => SLOWEST ** (j / Math.max(d - 1, 1)));
}

/**
 * Where the paired estimator comes to rest: the level c* of every eigenvalue of C.
 *
 * The loss of a batch is ||C - I||^2 plus the variance of its own C, and the descent makes
 * both small together.
 *
 * @param {number} d
 * @param {number} rho
 * @param {number} batch
 * @returns {number}
 */
export function plateau(d, rho, batch) {
  return 1 / (1 + ((d + 1) * (1 + rho ** -2)) / (2 * batch));
}

/** Where either estimator comes to rest. */
export function restLevel({ d, rho, batch, estimator }) {
  return estimator === "paired" ? plateau(d, rho, batch) : 1;
}

/**
 * Learning rate of the simulation: the smaller the batch, the smaller the steps, so that the
 * noise of single steps stays out of the plateau.
 */
export function learningRate({ d, rho, batch }) {
  return 0.01 * plateau(d, rho, batch);
}

/**
 * The flow of the loss that a batch has on average, from an aligned start.
 *
 * dc_j/dt = 8 gamma_j c_j (1 - c_j - B_j / 2 batch), B_j = (c_j + sum c) (1 + rho^-2) for the
 * paired estimator and 0 for the split one.
 *
 * @param {Object} state d, rho, batch, estimator
 * @param {number} s0
 * @param {ArrayLike<number>} times Increasing, from 0 on.
 * @returns {number[][]} (T, d) eigenvalues of C, one column a mode
 */
export function averageFlow({ d, rho, batch, estimator }, s0, times) {
  const gammas = spectrum(d);
  const bias = estimator === "paired" ? (1 + rho ** -2) / (2 * batch) : 0;
  const velocity = (c, out) => {
    const total = c.reduce((sum, value) => sum + value, 0);
    for (let j = 0; j < d; j += 1) {
      out[j] = 8 * gammas[j] * c[j] * (1 - c[j] - bias * (c[j] + total));
    }
  };
  const start = gammas.map((gamma) => gamma * s0 * s0);
  const rows = [];
  follow(velocity, start, times, (c) => rows.push(Array.from(c)), { rtol: 1e-8, atol: 1e-14 });
  return rows;
}

/**
 * Draw a batch of pairs into two arrays, row after row.
 *
 * @param {function(): number} normal
 * @param {number[]} gammas
 * @param {number} rho
 * @param {Float64Array} x (batch, d), written.
 * @param {Float64Array} xPrime (batch, d), written.
 */
export function drawPairs(normal, gammas, rho, x, xPrime) {
  const d = gammas.length;
  const spread = gammas.map((gamma) => Math.sqrt(gamma / rho));
  const own = Math.sqrt(1 - rho * rho);
  for (let i = 0; i < x.length; i += 1) {
    const shared = normal();
    x[i] = spread[i % d] * shared;
    xPrime[i] = spread[i % d] * (rho * shared + own * normal());
  }
}

/**
 * One step of gradient descent on a batch, in place.
 *
 * paired: W - 4 lr (C - I) W Gamma, all from the same pairs. split: the mean of
 * (C_1 - I) W Gamma_2 and (C_2 - I) W Gamma_1, from the two halves of the batch.
 *
 * @param {Float64Array} W (d, m), overwritten.
 * @param {ArrayLike<number>} x (batch, m)
 * @param {ArrayLike<number>} xPrime (batch, m)
 * @param {number} m
 * @param {number} lr
 * @param {string} estimator "paired" or "split"
 */
export function step(W, x, xPrime, m, lr, estimator) {
  const d = W.length / m;
  const batch = x.length / m;
  const middle = Math.floor(batch / 2);
  const parts = estimator === "paired" ? [[0, batch]] : [[0, middle], [middle, batch]];
  const measured = parts.map(([from, to]) => correlate(W, x, xPrime, m, from, to));
  const last = measured.length - 1;
  const change = new Float64Array(W.length);
  measured.forEach(({ C }, k) => {
    const { WGamma } = measured[last - k]; // the other half's, if there are two
    for (let i = 0; i < d; i += 1) {
      for (let q = 0; q < d; q += 1) {
        const short = C[i * d + q] - (i === q ? 1 : 0);
        for (let j = 0; j < m; j += 1) change[i * m + j] += short * WGamma[q * m + j];
      }
    }
  });
  const rate = (4 * lr) / measured.length;
  for (let i = 0; i < W.length; i += 1) W[i] -= rate * change[i];
}

/** C = W Gamma W^T and W Gamma of the pairs from `from` to `to`. */
function correlate(W, x, xPrime, m, from, to) {
  const d = W.length / m;
  const WGamma = new Float64Array(d * m);
  const C = new Float64Array(d * d);
  const weight = 1 / (2 * (to - from));
  for (let row = from * m; row < to * m; row += m) {
    for (let i = 0; i < d; i += 1) {
      let z = 0;
      let zPrime = 0;
      for (let j = 0; j < m; j += 1) {
        z += W[i * m + j] * x[row + j];
        zPrime += W[i * m + j] * xPrime[row + j];
      }
      z *= weight;
      zPrime *= weight;
      for (let j = 0; j < m; j += 1) {
        WGamma[i * m + j] += z * xPrime[row + j] + zPrime * x[row + j];
      }
    }
  }
  for (let i = 0; i < d; i += 1) {
    for (let q = 0; q < d; q += 1) {
      for (let j = 0; j < m; j += 1) C[i * d + q] += WGamma[i * m + j] * W[q * m + j];
    }
  }
  return { C, WGamma };
}

/**
 * The descent: eigenvalues of the population's C = W Gamma W^T, at even times.
 *
 * @param {Object} state d, rho, batch, estimator, seed
 * @param {number} s0
 * @param {number} end Flow time.
 * @param {number} points How many, after the one at time 0.
 * @yields {{t: number, eigenvalues: number[]}} Until the end, or until it runs away: the last
 *   point then holds Infinity.
 */
export const descend = function* (state, s0, end, points) {
  const { d, rho, batch, estimator, seed } = state;
  const gammas = spectrum(d);
  const W = genericStart(d, d, s0, seed);
  const normal = normals(seed + 1e6); // not the numbers of the start again
  const x = new Float64Array(batch * d);
  const xPrime = new Float64Array(batch * d);
  const stride = Math.max(1, Math.round(end / points / learningRate(state)));
  const lr = end / points / stride;
  for (let k = 0; k <= points; k += 1) {
    const eigenvalues = eigen(correlation(W, gammas, d), d, false).values;
    // Also false for NaN. A run that stays is never far above one.
    const stays = eigenvalues[0] < 30;
    yield { t: (k * end) / points, eigenvalues: stays ? eigenvalues : Array(d).fill(Infinity) };
    if (!stays) return;
    for (let i = 0; i < stride && k < points; i += 1) {
      drawPairs(normal, gammas, rho, x, xPrime);
      step(W, x, xPrime, d, lr, estimator);
    }
  }
};

/** Mean of all eigenvalues over the last third of a run; NaN if it ran away. */
export function measuredLevel(run) {
  const late = run.slice(Math.floor((2 * run.length) / 3));
  const all = late.flatMap(({ eigenvalues }) => eigenvalues);
  const mean = all.reduce((sum, value) => sum + value, 0) / all.length;
  return Number.isFinite(mean) ? mean : NaN;
}

/** A whole run, for the tests. */
export function wholeDescent(state, s0, end, points) {
  return [...descend(state, s0, end, points)];
}

/** Pairs from a seed, for the tests: x and x', (count, d) row after row. */
export function somePairs(d, rho, count, seed) {
  const [x, xPrime] = [new Float64Array(count * d), new Float64Array(count * d)];
  drawPairs(normals(seed), spectrum(d), rho, x, xPrime);
  return [Array.from(x), Array.from(xPrime)];
}

/** One step on given numbers, for the tests. */
export function stepped(W, x, xPrime, m, lr, estimator) {
  const moved = Float64Array.from(W);
  step(moved, x, xPrime, m, lr, estimator);
  return Array.from(moved);
}
