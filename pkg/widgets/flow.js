/**
 * The matrix flow of the linear model, integrated: dW/dt = -4 (C - I) W Gamma.
 *
 * Gamma's eigenbasis is the basis, so Gamma is a list and C = W diag(gammas) W^T. Nothing
 * here knows which mode is learned when. Pure functions, held to `pkg.flow` to 1e-6.
 */

import { eigen } from "./algebra.js";

// Dormand and Prince, orders 5 and 4: stages, error, and the polynomial between two steps.
const STAGES = [
  [1 / 5, 0, 0, 0, 0, 0, 0],
  [3 / 40, 9 / 40, 0, 0, 0, 0, 0],
  [44 / 45, -56 / 15, 32 / 9, 0, 0, 0, 0],
  [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729, 0, 0, 0],
  [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656, 0, 0],
  [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0],
];
const DOUBT = [71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40];
const BETWEEN = [
  -12715105075 / 11282082432, 0, 87487479700 / 32700410799, -10690763975 / 1880347072,
  701980252875 / 199316789632, -1453857185 / 822651844, 69997945 / 29380423,
];

/**
 * Integrate dy/dt = velocity(y), and look at y at every time asked for.
 *
 * Steps are as long as the tolerances allow; times between two steps are interpolated.
 *
 * @param {function(Float64Array, Float64Array): void} velocity Writes dy/dt at its first
 *   argument into its second.
 * @param {ArrayLike<number>} start y at time 0.
 * @param {ArrayLike<number>} times Increasing, from 0 on.
 * @param {function(Float64Array, number): void} look Called with y at times[k], and k.
 * @param {{rtol: number, atol: number}} tolerance `atol` must lie well below the start.
 * @returns {number} Steps taken.
 */
export function follow(velocity, start, times, look, tolerance) {
  const y = Float64Array.from(start);
  const [next, spare, zero, ...slopes] = Array.from({ length: 10 }, () =>
    new Float64Array(y.length));
  const end = times[times.length - 1];
  let [t, k, taken] = [0, 0, 0];
  velocity(y, slopes[0]);
  let h = firstStep(y, slopes[0], tolerance);
  while (k < times.length && times[k] <= 0) look(y, k++);
  while (k < times.length) {
    const last = t + h >= end * (1 - 1e-12);
    if (last) h = end - t;
    for (let s = 0; s < 6; s += 1) {
      velocity(combine(next, y, STAGES[s], slopes, h), slopes[s + 1]);
    }
    const error = sizeOf(combine(spare, zero, DOUBT, slopes, h), y, next, tolerance);
    if (error <= 1) {
      const reached = last ? end : t + h;
      for (; k < times.length && times[k] <= reached; k += 1) {
        look(between(spare, zero, y, next, slopes, h, (times[k] - t) / h), k);
      }
      t = reached;
      taken += 1;
      y.set(next);
      slopes.unshift(slopes.pop()); // the last slope is the next step's first
    } else if (!Number.isFinite(error)) {
      for (const slope of slopes.slice(1)) slope.fill(0);
    }
    h *= Math.min(5, Math.max(0.2, 0.9 * Math.pow(error + 1e-10, -0.2) || 0));
    if (t < end && !(h > 1e-14 * end)) throw new Error(`the flow is lost at t = ${t}`);
  }
  return taken;
}

// A hundredth of the time in which the velocity would double the start.
function firstStep(y, slope, { rtol, atol }) {
  let [size, speed] = [0, 0];
  for (let i = 0; i < y.length; i += 1) {
    const allowed = atol + rtol * Math.abs(y[i]);
    size += (y[i] / allowed) ** 2;
    speed += (slope[i] / allowed) ** 2;
  }
  return speed > 0 ? 0.01 * Math.sqrt(size / speed) : Infinity;
}

// out = base + h sum_s row[s] slopes[s], written out because it is where the time goes.
function combine(out, base, row, slopes, h) {
  const [a, b, c, d] = [h * row[0], h * row[1], h * row[2], h * row[3]];
  const [e, f, g] = [h * row[4], h * row[5], h * row[6]];
  const [p, q, r, s] = [slopes[0], slopes[1], slopes[2], slopes[3]];
  const [t, u, v] = [slopes[4], slopes[5], slopes[6]];
  for (let i = 0; i < out.length; i += 1) {
    out[i] = base[i] + a * p[i] + b * q[i] + c * r[i] + d * s[i] + e * t[i] + f * u[i] +
      g * v[i];
  }
  return out;
}

// Size of the error of one step, in units of what is allowed.
function sizeOf(error, y, next, { rtol, atol }) {
  let total = 0;
  for (let i = 0; i < y.length; i += 1) {
    const share = error[i] / (atol + rtol * Math.max(Math.abs(y[i]), Math.abs(next[i])));
    total += share * share;
  }
  return Math.sqrt(total / y.length);
}

// Hairer, Norsett and Wanner's polynomial of order 4, at a share of the step.
function between(out, zero, y, next, slopes, h, share) {
  const rest = 1 - share;
  combine(out, zero, BETWEEN, slopes, rest * h);
  for (let i = 0; i < y.length; i += 1) {
    const change = next[i] - y[i];
    const bend = h * slopes[0][i] - change;
    const inner = change - h * slopes[6][i] - bend + out[i];
    out[i] = y[i] + share * (change + rest * (bend + share * inner));
  }
  return out;
}

/**
 * Minus the gradient of ||C - I||^2 in W, as `follow` wants it.
 *
 * @param {ArrayLike<number>} gammas (m,)
 * @param {number} d
 * @returns {function(Float64Array, Float64Array): void}
 */
export function downhill(gammas, d) {
  const m = gammas.length;
  const pulled = new Float64Array(d * m); // W Gamma
  const missing = new Float64Array(d * d); // I - C
  return (W, out) => {
    for (let i = 0; i < d; i += 1) {
      for (let j = 0; j < m; j += 1) pulled[i * m + j] = W[i * m + j] * gammas[j];
    }
    for (let i = 0; i < d; i += 1) {
      for (let k = 0; k <= i; k += 1) {
        let sum = i === k ? 1 : 0;
        for (let j = 0; j < m; j += 1) sum -= pulled[i * m + j] * W[k * m + j];
        missing[i * d + k] = missing[k * d + i] = sum;
      }
    }
    for (let i = 0; i < d; i += 1) {
      for (let j = 0; j < m; j += 1) {
        let sum = 0;
        for (let k = 0; k < d; k += 1) sum += missing[i * d + k] * pulled[k * m + j];
        out[i * m + j] = 4 * sum;
      }
    }
  };
}

/**
 * The true flow from any start.
 *
 * @param {ArrayLike<number>} W0 (d, m), row after row.
 * @param {ArrayLike<number>} gammas (m,), of any sign.
 * @param {ArrayLike<number>} t (T,)
 * @param {{rtol: number, atol: number}} [tolerance] By default good to 1e-6.
 * @returns {{eigenvalues: number[][], loss: number[], weights: Float64Array[], steps: number}}
 *   Eigenvalues of C (T, d), descending at each time; W at each time.
 */
export function integrate(W0, gammas, t, tolerance) {
  const d = W0.length / gammas.length;
  const eigenvalues = [];
  const weights = [];
  const look = (W, k) => {
    weights[k] = W.slice();
    eigenvalues[k] = eigen(correlation(W, gammas, d), d, false).values;
  };
  const size = Math.sqrt(W0.reduce((sum, w) => sum + w * w, 0) / W0.length);
  const limits = tolerance ?? { rtol: 1e-7, atol: 1e-8 * Math.min(size, 1) };
  const steps = follow(downhill(gammas, d), W0, t, look, limits);
  const loss = eigenvalues.map((c) => c.reduce((sum, value) => sum + (1 - value) ** 2, 0));
  return { eigenvalues, loss, weights, steps };
}

/** C = W diag(gammas) W^T, (d, d) row after row. */
export function correlation(W, gammas, d) {
  const m = gammas.length;
  const C = new Float64Array(d * d);
  for (let i = 0; i < d; i += 1) {
    for (let k = 0; k <= i; k += 1) {
      let sum = 0;
      for (let j = 0; j < m; j += 1) sum += W[i * m + j] * gammas[j] * W[k * m + j];
      C[i * d + k] = C[k * d + i] = sum;
    }
  }
  return C;
}
