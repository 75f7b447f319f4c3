/**
 * Linear algebra of small matrices. Pure functions; matrices lie row after row.
 */

/**
 * Eigenvalues of a symmetric matrix, descending, with unit eigenvectors: Jacobi's rotations.
 *
 * @param {ArrayLike<number>} matrix (n, n)
 * @param {number} n
 * @param {boolean} [vectors] Are they wanted? Without them it takes half the time.
 * @returns {{values: number[], vectors: number[][]}} vectors[j] belongs to values[j]; its
 *   largest entry is positive.
 */
export function eigen(matrix, n, vectors = true) {
  const a = new Float64Array(matrix);
  const v = vectors ? identity(n) : null;
  // Squared: what is left turns vectors by as much, but values only by its square.
  const nothing = vectors ? 1e-32 : 1e-24;
  for (let sweep = 0; sweep < 30; sweep += 1) {
    let turned = false;
    for (let p = 0; p < n; p += 1) {
      for (let q = p + 1; q < n; q += 1) turned = rotate(a, v, n, p, q, nothing) || turned;
    }
    if (!turned) break;
  }
  const order = [];
  for (let i = 0; i < n; i += 1) order.push(i);
  order.sort((i, j) => a[j * n + j] - a[i * n + i]);
  return {
    values: order.map((i) => a[i * n + i]),
    vectors: vectors ? order.map((i) => upright(v.subarray(i * n, i * n + n))) : [],
  };
}

function identity(n) {
  return Float64Array.from({ length: n * n }, (_, k) => (k % (n + 1) ? 0 : 1));
}

function upright(vector) {
  let largest = 0;
  for (const entry of vector) if (Math.abs(entry) > Math.abs(largest)) largest = entry;
  return Array.from(vector, (entry) => (largest < 0 ? -entry : entry));
}

// One rotation in the plane of p and q makes entry (p, q) zero; false if it was nothing.
function rotate(a, v, n, p, q, nothing) {
  const entry = a[p * n + q];
  const low = a[p * n + p];
  const high = a[q * n + q];
  if (entry * entry <= nothing * Math.abs(low * high) || entry === 0) return false;
  const theta = (high - low) / (2 * entry);
  const size = Math.abs(theta);
  // Beyond this the square overflows what it is added to. (Math.hypot is slow.)
  const root = size < 1e8 ? Math.sqrt(theta * theta + 1) : size;
  const tangent = (theta < 0 ? -1 : 1) / (size + root);
  const cosine = 1 / Math.sqrt(tangent * tangent + 1);
  const sine = tangent * cosine;
  for (let k = 0; k < n; k += 1) {
    const left = a[k * n + p];
    const right = a[k * n + q];
    a[k * n + p] = cosine * left - sine * right;
    a[k * n + q] = sine * left + cosine * right;
  }
  turnRows(a, n, p, q, cosine, sine);
  if (v) turnRows(v, n, p, q, cosine, sine);
  a[p * n + q] = 0;
  a[q * n + p] = 0;
  return true;
}

function turnRows(a, n, p, q, cosine, sine) {
  for (let k = 0; k < n; k += 1) {
    const upper = a[p * n + k];
    const lower = a[q * n + k];
    a[p * n + k] = cosine * upper - sine * lower;
    a[q * n + k] = sine * upper + cosine * lower;
  }
}

/** Inner product of two lists. */
export function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += a[i] * b[i];
  return sum;
}

/**
 * Orthonormal vectors that span what `vectors` span, each in turn (Gram and Schmidt), and
 * the length of what each one added: the diagonal of R, positive.
 *
 * @param {ArrayLike<number>[]} vectors
 * @returns {{basis: number[][], lengths: number[]}}
 */
export function orthonormal(vectors) {
  const basis = [];
  const lengths = vectors.map((vector) => {
    const rest = Array.from(vector);
    // Twice: what one pass leaves, the second takes.
    for (const other of [...basis, ...basis]) {
      const along = dot(other, rest);
      for (let i = 0; i < rest.length; i += 1) rest[i] -= along * other[i];
    }
    const length = Math.sqrt(dot(rest, rest));
    basis.push(rest.map((entry) => entry / length));
    return length;
  });
  return { basis, lengths };
}
