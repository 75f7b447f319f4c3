/**
 * How a generic small start is read: as the aligned start it behaves like (chapter 4).
 *
 * In Gamma's eigenbasis. Pure functions, held to `pkg.dynamics.effective_start` and
 * `error_order` by tests/test_small_start.py.
 */

import { dot, eigen, orthonormal } from "./algebra.js";

/**
 * The aligned start W(0) = U diag(s0) V^T that W(0) behaves like.
 *
 * @param {ArrayLike<number>} W0 (d, m), row after row.
 * @param {number[]} gammas (m,), descending.
 * @param {number} [reach] How much wider a near-tie may be than 0.3 / ln(1/s0) of its gamma,
 *   though no wider than 15 %.
 * @returns {{U: number[][], V: number[][], s0: number[], apart: number[],
 *   together: number[], nearTies: number[][]}} U[j] and V[j] belong to mode j. s0 is the
 *   diagonal of QR, and the singular values inside exact ties; `apart` never uses them,
 *   `together` also inside the half-open ranges of `nearTies`.
 */
export function alignedStart(W0, gammas, reach = 1) {
  const m = gammas.length;
  const d = W0.length / m;
  const columns = gammas.map((_, j) => Array.from({ length: d }, (_unused, i) => W0[i * m + j]));
  const exact = tiedRuns(gammas, d, () => 1e-6);
  const start = gramSchmidt(columns, d, exact);
  const narrow = nearness(gammas, start.s0);
  const near = Math.min(reach * narrow, Math.max(narrow, 0.15));
  const runs = tiedRuns(gammas, d, (j) => (gammas[j + 1] > 0 ? near : 1e-6));
  const same = (a) => exact.some((b) => a[0] === b[0] && a[1] === b[1]);
  return {
    ...start,
    apart: gramSchmidt(columns, d, []).s0,
    together: gramSchmidt(columns, d, runs).s0,
    nearTies: runs.filter((run) => !same(run)),
  };
}

// Relative gap below which two modes grow up almost together: 0.3 / ln(1/s0).
function nearness(gammas, s0) {
  const c0 = s0.map((s, j) => gammas[j] * s * s).filter((_, j) => gammas[j] > 0);
  if (!c0.length) return 1e-6;
  c0.sort((a, b) => a - b);
  const half = c0.length / 2;
  const median = (c0[Math.ceil(half) - 1] + c0[Math.floor(half)]) / 2;
  return Math.max(0.3 / Math.max(1, -0.5 * Math.log(median)), 1e-6);
}

function tiedRuns(gammas, d, near) {
  const runs = [];
  for (let from = 0; from < d; from = runs[runs.length - 1][1]) {
    let to = from + 1;
    while (to < gammas.length && tied(gammas[to - 1], gammas[to], near(to - 1))) to += 1;
    runs.push([from, to]);
  }
  return runs;
}

function tied(gamma, next, near) {
  return gamma - next <= near * Math.max(Math.abs(gamma), Math.abs(next));
}

function gramSchmidt(columns, d, runs) {
  const { basis, lengths } = orthonormal(columns.slice(0, d));
  const start = {
    U: basis,
    V: basis.map((_, j) => columns.map((_unused, k) => (k === j ? 1 : 0))),
    s0: lengths,
  };
  // Tied modes grow together: singular values of their block take the diagonal's place. A
  // tie may reach beyond mode d; then all its modes compete for the last outputs.
  for (const [from, to] of runs) if (to - from > 1) turnBlock(start, columns, from, to);
  return start;
}

function turnBlock({ U, V, s0 }, columns, from, to) {
  const outputs = U.slice(from, to); // fewer than to - from where the tie reaches beyond d
  const block = outputs.map((u) => columns.slice(from, to).map((column) => dot(u, column)));
  const rows = block.length;
  const square = block.flatMap((a) => block.map((b) => dot(a, b)));
  const { values, vectors } = eigen(square, rows);
  vectors.forEach((left, i) => {
    const s = Math.sqrt(values[i]);
    s0[from + i] = s;
    U[from + i] = U[0].map((_, k) => dot(left, outputs.map((u) => u[k])));
    V[from + i].fill(0);
    for (let k = from; k < to; k += 1) {
      V[from + i][k] = dot(left, block.map((row) => row[k - from])) / s;
    }
  });
}

/**
 * Powers of the start's scale with which the prediction becomes right, for d <= positives.
 *
 * @param {number[]} gammas (m,), descending.
 * @param {number} d
 * @returns {{weights: number, subspace: number}} Infinity where there is no mode d + 1.
 */
export function errorOrder(gammas, d) {
  const ratios = gammas.slice(1, d + 1).map((gamma, j) => gamma / gammas[j]);
  const weights = 1 - Math.max(...ratios, 0);
  if (d === gammas.length) return { weights, subspace: Infinity };
  const last = gammas[d];
  return { weights, subspace: 1 - last / gammas[last >= 0 ? d - 1 : 0] };
}

/**
 * How far the learned directions lie outside the top ones: ||P_W V_{>k}||_F.
 *
 * @param {ArrayLike<number>} W (d, m)
 * @param {number} m
 * @param {number} k How many modes have been learned, at most d.
 * @returns {number} 0 where the space is right, sqrt(k) where nothing of it is.
 */
export function outside(W, m, k) {
  const rows = Array.from({ length: W.length / m }, (_, i) =>
    Array.from(W.slice(i * m, i * m + m)),
  );
  const { vectors } = eigen(rows.flatMap((a) => rows.map((b) => dot(a, b))), rows.length);
  let sum = 0;
  for (const u of vectors.slice(0, k)) {
    const along = rows[0].map((_, j) => dot(u, rows.map((row) => row[j])));
    sum += dot(along.slice(k), along.slice(k)) / dot(along, along);
  }
  return Math.sqrt(sum);
}
