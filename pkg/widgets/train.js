/**
 * A network that trains in a page: two nets, three losses, and their gradients.
 *
 * Float64 throughout; gradients are held to torch's to 1e-6 by tests/test_train.py. The
 * inner loop allocates nothing. A net is f(x) = W h(x): h is the view itself in the linear
 * net, tanh(V x) in the one with two layers.
 */

import { normals } from "./random.js";
import { PIXELS, PLACES, writeView } from "./train_views.js";

export const OUTPUTS = 5; // d, embedding dimensions
export const HIDDEN = 32; // units of the hidden layer
export const BATCH = 256; // pairs of views a step

/** The weight of off-diagonal terms in each Barlow Twins loss; the other loss has none. */
export const LOSSES = { barlow_twins: 1, barlow_twins_weighted: 0.3, spectral: null };

/**
 * A net at its start: readout W small, hidden V of ordinary size.
 *
 * @param {string} kind "linear" or "two-layer".
 * @param {Object} views The population, for the size of its views.
 * @param {number} scale Standard deviation of the entries of W.
 * @param {number} seed
 * @returns {Object}
 */
export function createNet(kind, views, scale, seed) {
  const normal = normals(seed);
  const deep = kind === "two-layer";
  const size = deep ? HIDDEN : PIXELS;
  const draw = (count, spread) =>
    Float64Array.from({ length: count }, () => spread * normal());
  const W = draw(OUTPUTS * size, scale);
  // Then what reaches a hidden unit has variance one, averaged over units and views.
  const V = deep ? draw(HIDDEN * PIXELS, 1 / Math.sqrt(views.power)) : null;
  return netOf(W, V, OUTPUTS, size);
}

/** A net from its weights: W (d, size), and V (size, 64) or null. */
export function netOf(W, V, d, size) {
  return { W: Float64Array.from(W), V: V && Float64Array.from(V), d, size };
}

/** Room for one batch of `count` pairs: views, features, embeddings and all gradients. */
export function workspace(net, count) {
  const { d, size, V } = net;
  const room = (n) => new Float64Array(n);
  const x = room(2 * count * PIXELS);
  return {
    count,
    x,
    h: V ? room(2 * count * size) : x,
    z: room(2 * count * d),
    dz: room(2 * count * d),
    C: room(d * d),
    S: room(d * d),
    gW: room(d * size),
    gV: V ? room(size * PIXELS) : null,
  };
}

/** Inner product of n entries from `a[i]` and `b[j]` on; n is a multiple of four. */
export function innerProduct(a, i, b, j, n) {
  // Four sums at once: each addition would otherwise wait for the one before.
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  const end = i + n - 3;
  for (; i < end; i += 4, j += 4) {
    s0 += a[i] * b[j];
    s1 += a[i + 1] * b[j + 1];
    s2 += a[i + 2] * b[j + 2];
    s3 += a[i + 3] * b[j + 3];
  }
  return s0 + s1 + s2 + s3;
}

/** Features and embeddings of all views in `work.x`: both views of pair b in rows b, count + b. */
export function forward(net, work) {
  const { W, V, d, size } = net;
  const { x, h, z, count } = work;
  if (V) hide(V, size, x, h, 2 * count);
  for (let r = 0; r < 2 * count; r += 1) {
    for (let i = 0; i < d; i += 1) z[r * d + i] = innerProduct(W, i * size, h, r * size, size);
  }
}

// h = tanh(V x), two views and two units at a time: every number read serves twice.
function hide(V, size, x, h, rows) {
  for (let r = 0; r < rows; r += 2) {
    for (let u = 0; u < size; u += 2) {
      let s0 = 0;
      let s1 = 0;
      let s2 = 0;
      let s3 = 0;
      for (let p = 0, k = u * PIXELS, i = r * PIXELS; p < PIXELS; p += 1, k += 1, i += 1) {
        const one = x[i];
        const two = x[i + PIXELS];
        s0 += V[k] * one;
        s1 += V[k] * two;
        s2 += V[k + PIXELS] * one;
        s3 += V[k + PIXELS] * two;
      }
      const to = r * size + u;
      h[to] = tanh(s0);
      h[to + size] = tanh(s1);
      h[to + 1] = tanh(s2);
      h[to + size + 1] = tanh(s3);
    }
  }
}

// Exact to the last digits of one, in two thirds of the time of Math.tanh.
function tanh(y) {
  return 1 - 2 / (Math.exp(2 * y) + 1);
}

/** C = E[z z'] made symmetric and S = E[z z], over the batch in `work`. */
export function correlate(net, work) {
  const { d } = net;
  const { z, C, S, count } = work;
  C.fill(0);
  S.fill(0);
  for (let b = 0; b < count; b += 1) {
    const one = b * d;
    const two = (count + b) * d;
    for (let i = 0; i < d; i += 1) {
      for (let j = 0; j <= i; j += 1) {
        C[i * d + j] += z[one + i] * z[two + j] + z[two + i] * z[one + j];
        S[i * d + j] += z[one + i] * z[one + j] + z[two + i] * z[two + j];
      }
    }
  }
  for (let i = 0; i < d; i += 1) {
    for (let j = 0; j <= i; j += 1) {
      C[j * d + i] = C[i * d + j] /= 2 * count;
      S[j * d + i] = S[i * d + j] /= 2 * count;
    }
  }
}

/**
 * Loss of a batch; its gradient by the embeddings goes to `work.dz`.
 *
 * Barlow Twins: sum (1 - C_ii)^2 + lambda sum C_ij^2, neither centred nor normalised, so
 * dL/dz = (2/B) M z' with M = diag(C) - I + lambda offdiag(C). Spectral contrastive:
 * d - 2 tr C + ||S||^2, so dL/dz = (2/B) (S z - z').
 */
function lossOfBatch(net, work, lambd) {
  const { d } = net;
  const { z, dz, C, S, count } = work;
  let loss = 0;
  const M = lambd === null ? S : C;
  for (let i = 0; i < d; i += 1) {
    for (let j = 0; j < d; j += 1) {
      const k = i * d + j;
      if (lambd === null) {
        loss += S[k] * S[k] + (i === j ? 1 - 2 * C[k] : 0);
      } else if (i === j) {
        C[k] -= 1;
        loss += C[k] * C[k];
      } else {
        loss += lambd * C[k] * C[k];
        C[k] *= lambd;
      }
    }
  }
  const half = count * d;
  for (let b = 0; b < 2 * count; b += 1) {
    const own = b * d;
    const other = b < count ? own + half : own - half;
    const from = lambd === null ? own : other;
    for (let i = 0; i < d; i += 1) {
      let sum = lambd === null ? -z[other + i] : 0;
      for (let j = 0; j < d; j += 1) sum += M[i * d + j] * z[from + j];
      dz[own + i] = (2 / count) * sum;
    }
  }
  return loss;
}

/**
 * Loss and gradient of the batch in `work.x`; gradients go to `work.gW` and `work.gV`.
 *
 * @param {Object} net
 * @param {Object} work
 * @param {?number} lambd Off-diagonal weight of Barlow Twins; null for the spectral loss.
 * @returns {number} The loss.
 */
export function lossGradient(net, work, lambd) {
  const { W, V, d, size } = net;
  const { h, dz, gW, count } = work;
  forward(net, work);
  correlate(net, work);
  const loss = lossOfBatch(net, work, lambd);
  gW.fill(0);
  for (let r = 0; r < 2 * count; r += 1) {
    for (let i = 0; i < d; i += 1) {
      const slope = dz[r * d + i];
      for (let u = 0; u < size; u += 1) gW[i * size + u] += slope * h[r * size + u];
    }
  }
  if (V) backward(net, work);
  return loss;
}

// Gradient by V: through the readout and tanh, whose slope is 1 - h^2. Overwrites h.
function backward({ W, d, size }, { x, h, dz, gV, count }) {
  const rows = 2 * count;
  for (let r = 0; r < rows; r += 1) {
    for (let u = 0; u < size; u += 1) {
      let sum = 0;
      for (let i = 0; i < d; i += 1) sum += W[i * size + u] * dz[r * d + i];
      const y = h[r * size + u];
      h[r * size + u] = sum * (1 - y * y);
    }
  }
  gV.fill(0);
  // Two views and two units at a time, as in `hide`.
  for (let r = 0; r < rows; r += 2) {
    for (let u = 0; u < size; u += 2) {
      const at = r * size + u;
      const [a, b, c, e] = [h[at], h[at + size], h[at + 1], h[at + size + 1]];
      for (let p = 0, k = u * PIXELS, i = r * PIXELS; p < PIXELS; p += 1, k += 1, i += 1) {
        const one = x[i];
        const two = x[i + PIXELS];
        gV[k] += a * one + b * two;
        gV[k + PIXELS] += c * one + e * two;
      }
    }
  }
}

/** Draw fresh pairs of views into `work.x`: a patch, and two of its places. */
export function drawPairs(views, work, uniform) {
  const { x, count } = work;
  const below = (n) => Math.floor(n * uniform());
  for (let b = 0; b < count; b += 1) {
    const patch = below(views.n);
    writeView(views, patch, below(PLACES), x, b * PIXELS);
    writeView(views, patch, below(PLACES), x, (count + b) * PIXELS);
  }
}

