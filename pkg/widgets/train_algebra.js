/**
 * The little linear algebra that a network in a page needs: eigenvalues, Gram-Schmidt, and
 * random numbers from a seed. Matrices are Float64Array, row after row.
 */

/**
 * Eigenvalues and eigenvectors of a symmetric matrix, by cyclic Jacobi rotations.
 *
 * @param {ArrayLike<number>} matrix (n, n), row after row.
 * @param {number} n
 * @returns {{values: Float64Array, vectors: Float64Array}} Descending; eigenvector j is row
 *   j of `vectors`, its largest entry positive.
 */
export function eigenSymmetric(matrix, n) {
  const a = Float64Array.from(matrix);
  const v = identity(n);
  let total = 0;
  for (let i = 0; i < n * n; i += 1) total += a[i] * a[i];
  for (let sweep = 0; sweep < 60; sweep += 1) {
    let off = 0;
    for (let p = 0; p < n; p += 1) {
      for (let q = p + 1; q < n; q += 1) off += a[p * n + q] * a[p * n + q];
    }
    if (!(off > 1e-32 * total)) break;
    for (let p = 0; p < n; p += 1) for (let q = p + 1; q < n; q += 1) rotate(a, v, n, p, q);
  }
  return sorted(a, v, n);
}

function identity(n) {
  const v = new Float64Array(n * n);
  for (let i = 0; i < n; i += 1) v[i * n + i] = 1;
  return v;
}

// One rotation in the plane of p and q, which makes entry (p, q) zero.
function rotate(a, v, n, p, q) {
  const apq = a[p * n + q];
  if (apq === 0) return;
  const theta = (a[q * n + q] - a[p * n + p]) / (2 * apq);
  const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
  const c = 1 / Math.hypot(t, 1);
  const s = t * c;
  for (let k = 0; k < n; k += 1) {
    const left = a[k * n + p];
    const right = a[k * n + q];
    a[k * n + p] = c * left - s * right;
    a[k * n + q] = s * left + c * right;
  }
  turnRows(a, n, p, q, c, s);
  turnRows(v, n, p, q, c, s);
  a[p * n + q] = 0;
  a[q * n + p] = 0;
}

function turnRows(a, n, p, q, c, s) {
  for (let k = 0; k < n; k += 1) {
    const upper = a[p * n + k];
    const lower = a[q * n + k];
    a[p * n + k] = c * upper - s * lower;
    a[q * n + k] = s * upper + c * lower;
  }
}

function sorted(a, v, n) {
  const order = Array.from({ length: n }, (_, i) => i).sort(
    (i, j) => a[j * n + j] - a[i * n + i],
  );
  const vectors = new Float64Array(n * n);
  order.forEach((from, to) => {
    let largest = 0;
    for (let k = 0; k < n; k += 1) {
      if (Math.abs(v[from * n + k]) > Math.abs(largest)) largest = v[from * n + k];
    }
    const sign = largest < 0 ? -1 : 1;
    for (let k = 0; k < n; k += 1) vectors[to * n + k] = sign * v[from * n + k];
  });
  return { values: Float64Array.from(order, (i) => a[i * n + i]), vectors };
}

/**
 * The aligned start that a generic small one behaves like: s0_j = R_jj of W(0) V = Q R.
 *
 * @param {ArrayLike<number>} W0 (d, m) weights at the start.
 * @param {ArrayLike<number>} vectors Eigenvectors of Gamma, row j for mode j; d are used.
 * @param {number} d
 * @param {number} m
 * @returns {Float64Array} (d,)
 */
export function effectiveStart(W0, vectors, d, m) {
  const columns = Array.from({ length: d }, (_, j) =>
    Float64Array.from({ length: d }, (_unused, i) => {
      let sum = 0;
      for (let p = 0; p < m; p += 1) sum += W0[i * m + p] * vectors[j * m + p];
      return sum;
    }),
  );
  const s0 = new Float64Array(d);
  columns.forEach((column, j) => {
    // Twice: what one pass of Gram-Schmidt leaves, the second takes.
    for (let pass = 0; pass < 2; pass += 1) {
      for (let k = 0; k < j; k += 1) {
        let part = 0;
        for (let i = 0; i < d; i += 1) part += columns[k][i] * column[i];
        for (let i = 0; i < d; i += 1) column[i] -= part * columns[k][i];
      }
    }
    s0[j] = Math.hypot(...column);
    for (let i = 0; i < d; i += 1) column[i] /= s0[j];
  });
  return s0;
}

/**
 * Random numbers from a seed (mulberry32): the same seed, the same run, in every browser.
 *
 * @param {number} seed
 * @returns {{uniform: function(): number, below: function(number): number,
 *   normal: function(): number}}
 */
export function generator(seed) {
  let state = (seed * 2654435761) >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const normal = () =>
    Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return { uniform, below: (n) => Math.floor(n * uniform()), normal };
}
