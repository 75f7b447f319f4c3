/**
 * Six ways to learn the same modes: closed forms, the rates they bear, and descent itself.
 *
 * In Gamma's eigenbasis; letters and names of methods are those of chapter 15. The closed
 * forms are held to `pkg.dynamics.accelerated` to 1e-9, descent to `pkg.flow`'s to 1e-8.
 */

import { eigen, orthonormal } from "./algebra.js";
import { correlation } from "./flow.js";

/** Names for code and for the eye, in the order of the lanes. */
export const METHODS = [["plain", "plain"], ["inverse_root", "inverse root"],
  ["inverse", "inverse"], ["bures", "Bures loss"], ["logdet", "LogDet loss"],
  ["whitened", "whitened"]];

/** gamma_j = j^-decay for twice as many modes as are learned: half must be left out. */
export function spectrum(d, decay) {
  return Array.from({ length: 2 * d }, (_, j) => (j + 1) ** -decay);
}

/**
 * Eigenvalue of C along one mode of an aligned start.
 *
 * @param {number} t Flow time of the method's own flow.
 * @param {number} gamma Positive.
 * @param {number} s0
 * @param {string} method
 * @param {number} ridge Of "whitened".
 * @returns {number}
 */
export function eigenvalueOf(t, gamma, s0, method, ridge) {
  const c0 = gamma * s0 * s0;
  const root = Math.sqrt(c0);
  if (method === "inverse_root") {
    const push = Math.tanh(4 * gamma * t);
    return ((push + root) / (1 + root * push)) ** 2;
  }
  if (method === "bures") return (1 - (1 - root) * Math.exp(-2 * gamma * t)) ** 2;
  if (method === "logdet" || method === "inverse") {
    return 1 - (1 - c0) * Math.exp(-(method === "logdet" ? 4 : 8) * gamma * t);
  }
  return c0 / (c0 + (1 - c0) * Math.exp(-logisticRate(gamma, method, ridge) * t));
}

function logisticRate(gamma, method, ridge) {
  return method === "whitened" ? (8 * gamma) / (gamma + ridge) : 8 * gamma;
}

/** Flow time at which that eigenvalue is one half, from a start below it. */
export function stepTimeOf(gamma, s0, method, ridge) {
  const c0 = gamma * s0 * s0;
  const root = Math.sqrt(c0);
  if (method === "inverse_root") {
    return (Math.atanh(Math.SQRT1_2) - Math.atanh(root)) / (4 * gamma);
  }
  if (method === "bures") return Math.log((1 - root) / (1 - Math.SQRT1_2)) / (2 * gamma);
  if (method === "logdet" || method === "inverse") {
    return Math.log(2 * (1 - c0)) / ((method === "logdet" ? 4 : 8) * gamma);
  }
  return Math.log1p((1 - 2 * c0) / c0) / logisticRate(gamma, method, ridge);
}

/**
 * The learning rate at which the leading mode, once learned, no longer settles.
 *
 * @param {string} method
 * @param {number[]} gammas Descending.
 * @param {{floor: number, ridge: number}} bounds
 * @returns {number}
 */
export function rateLimit(method, gammas, { floor, ridge }) {
  const plain = 1 / (4 * gammas[0]);
  return plain * {
    plain: 1,
    inverse_root: Math.sqrt(1 + floor),
    inverse: 1 + floor,
    bures: 4 / (1 - floor), // it settles at 1 - floor
    logdet: 2 / (1 - floor),
    whitened: gammas[0] + ridge,
  }[method];
}

// What multiplies W from the left has C's eigenvectors, and this value where C has c.
const PUSHES = {
  plain: (c) => 4 * (1 - c),
  inverse_root: (c, floor) => (4 * (1 - c)) / Math.sqrt(Math.abs(c) + floor),
  inverse: (c, floor) => (4 * (1 - c)) / (Math.abs(c) + floor),
  bures: (c, floor) => 2 / Math.sqrt(Math.abs(c) + floor) - 2,
  logdet: (c, floor) => 2 / (Math.abs(c) + floor) - 2,
  whitened: (c) => 4 * (1 - c),
};

/**
 * Descent, one look before the first step and one after each.
 *
 * @param {ArrayLike<number>} W0 (d, m), row after row.
 * @param {number[]} gammas (m,)
 * @param {{method: string, lr: number, steps: number, floor: number, ridge: number}} run
 * @yields {{step: number, eigenvalues: number[], W: Float64Array}} Eigenvalues of C,
 *   descending; W is the same array at every look.
 */
export const descend = function* (W0, gammas, { method, lr, steps, floor, ridge }) {
  const m = gammas.length;
  const d = W0.length / m;
  const W = Float64Array.from(W0);
  const right = gammas.map((gamma) =>
    lr * (method === "whitened" ? gamma / (Math.abs(gamma) + ridge) : gamma));
  const turned = !["plain", "whitened"].includes(method); // is C's eigenbasis needed?
  for (let step = 0; ; step += 1) {
    const C = correlation(W, gammas, d);
    const { values, vectors } = eigen(C, d, turned);
    yield { step, eigenvalues: values, W };
    if (step === steps) return;
    const left = turned ? fromEigen(values.map((c) => PUSHES[method](c, floor)), vectors, d)
      : C.map((c, k) => 4 * ((k % (d + 1) ? 0 : 1) - c));
    move(W, left, right);
  }
};

/** `descend` gone through at once. */
export function wholeDescent(W0, gammas, run) {
  return Array.from(descend(W0, gammas, run), ({ eigenvalues, W }) =>
    ({ eigenvalues, W: Array.from(W) }));
}

function fromEigen(values, vectors, d) {
  const matrix = new Float64Array(d * d);
  vectors.forEach((u, k) => {
    for (let i = 0; i < d; i += 1) {
      const scaled = values[k] * u[i];
      for (let j = 0; j < d; j += 1) matrix[i * d + j] += scaled * u[j];
    }
  });
  return matrix;
}

// W += left W diag(right)
function move(W, left, right) {
  const m = right.length;
  const d = W.length / m;
  const column = new Float64Array(d);
  for (let j = 0; j < m; j += 1) {
    for (let i = 0; i < d; i += 1) column[i] = W[i * m + j];
    for (let i = 0; i < d; i += 1) {
      let sum = 0;
      for (let k = 0; k < d; k += 1) sum += left[i * d + k] * column[k];
      W[i * m + j] += right[j] * sum;
    }
  }
}

/**
 * Share of the learned space that lies outside the d leading directions: the price.
 *
 * @param {ArrayLike<number>} W (d, m)
 * @param {number} d
 * @returns {number} 0 where the right modes were learned, 1 where none was.
 */
export function outsideShare(W, d) {
  const m = W.length / d;
  const rows = Array.from({ length: d }, (_, i) => Array.from(W.slice(i * m, i * m + m)));
  let inside = 0;
  for (const row of orthonormal(rows).basis) {
    for (const entry of row.slice(0, d)) inside += entry * entry;
  }
  return Math.max(0, 1 - inside / d);
}

/**
 * The aligned start that a generic one behaves like: the diagonal of QR (chapter 4).
 *
 * @param {ArrayLike<number>} W0 (d, m)
 * @param {number} d
 * @returns {number[]} (d,)
 */
export function startSizes(W0, d) {
  const m = W0.length / d;
  const columns = Array.from({ length: d }, (_, j) =>
    Array.from({ length: d }, (_unused, i) => W0[i * m + j]));
  return orthonormal(columns).lengths;
}
