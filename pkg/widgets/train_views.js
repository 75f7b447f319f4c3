/**
 * Small photographs, and two random views of each: a window, moved, perhaps mirrored.
 *
 * A patch has so few views that their averages are exact: Gamma and Sigma here are those
 * of all pairs of views, not of a sample.
 */

import { eigen } from "./algebra.js";

export const SIDE = 10; // pixels of a patch, as in pkg/widgets.py
export const WINDOW = 8; // pixels of a view
export const PIXELS = WINDOW * WINDOW;
const SHIFTS = SIDE - WINDOW + 1; // places of the window along one side
export const PLACES = 2 * SHIFTS * SHIFTS; // views of a patch: every place, twice
const SOFT = 12.75; // grey levels: keeps a flat patch from becoming noise

/**
 * Patches from the text of their bytes.
 *
 * @param {string} text Base64 of n times 10 x 10 grey levels.
 * @returns {Uint8Array}
 */
export function decode(text) {
  const raw = atob(text);
  return Uint8Array.from(raw, (letter) => letter.charCodeAt(0));
}

/**
 * All there is to know about the views of these patches.
 *
 * Each patch is standardised; from all views their common mean is taken; and one number
 * scales them all so that the largest eigenvalue of Gamma is one.
 *
 * @param {Uint8Array} bytes n patches.
 * @returns {{n: number, bytes: Uint8Array, pixels: Float64Array, centre: Float64Array,
 *   Gamma: Float64Array, Sigma: Float64Array, gammas: number[], vectors: number[][],
 *   power: number}} `power` is the mean of |x|^2.
 */
export function population(bytes) {
  const n = Math.floor(bytes.length / (SIDE * SIDE));
  const views = { n, bytes, pixels: standardise(bytes, n), centre: new Float64Array(PIXELS) };
  views.centre = meanView(views);
  // The two views of a patch are drawn apart: E[x x'] is the mean view's outer product.
  const { Gamma, Sigma } = featureMoments(views, PIXELS, (view) => view);
  const { values: gammas, vectors } = eigen(Gamma, PIXELS);
  const top = gammas[0];
  divide([views.pixels, views.centre], Math.sqrt(top));
  divide([Gamma, Sigma, gammas], top);
  let power = 0;
  for (let p = 0; p < PIXELS; p += 1) power += Sigma[p * PIXELS + p];
  return { ...views, Gamma, Sigma, gammas, vectors, power };
}

function divide(arrays, by) {
  for (const array of arrays) for (let i = 0; i < array.length; i += 1) array[i] /= by;
}

function standardise(bytes, n) {
  const size = SIDE * SIDE;
  const pixels = new Float64Array(n * size);
  for (let i = 0; i < n; i += 1) {
    let sum = 0;
    let squares = 0;
    for (let p = 0; p < size; p += 1) {
      sum += bytes[i * size + p];
      squares += bytes[i * size + p] ** 2;
    }
    const mean = sum / size;
    const spread = Math.sqrt(Math.max(squares / size - mean * mean, 0)) + SOFT;
    for (let p = 0; p < size; p += 1) {
      pixels[i * size + p] = (bytes[i * size + p] - mean) / spread;
    }
  }
  return pixels;
}

/**
 * Write one view of one patch.
 *
 * @param {Object} views The population.
 * @param {number} patch
 * @param {number} place From 0 to 17: where the window stands, and whether it is mirrored.
 * @param {Float64Array} out
 * @param {number} at Where in `out` its 64 pixels start.
 */
export function writeView({ pixels, centre }, patch, place, out, at) {
  const spot = place >> 1;
  const mirrored = place & 1;
  const corner = patch * SIDE * SIDE + Math.floor(spot / SHIFTS) * SIDE + (spot % SHIFTS);
  const start = mirrored ? WINDOW - 1 : 0;
  const step = mirrored ? -1 : 1;
  for (let row = 0, p = 0; row < WINDOW; row += 1) {
    let from = corner + row * SIDE + start;
    for (let column = 0; column < WINDOW; column += 1, p += 1, from += step) {
      out[at + p] = pixels[from] - centre[p];
    }
  }
}

function meanView(views) {
  const mean = new Float64Array(PIXELS);
  const view = new Float64Array(PIXELS);
  for (let i = 0; i < views.n; i += 1) {
    for (let place = 0; place < PLACES; place += 1) {
      writeView(views, i, place, view, 0);
      for (let p = 0; p < PIXELS; p += 1) mean[p] += view[p];
    }
  }
  for (let p = 0; p < PIXELS; p += 1) mean[p] /= views.n * PLACES;
  return mean;
}

/**
 * Gamma and Sigma of features of the views, over every pair of views.
 *
 * @param {Object} views The population.
 * @param {number} size How many features.
 * @param {function(Float64Array): Float64Array} features Of one view; may return the same
 *   array every time.
 * @returns {{Gamma: Float64Array, Sigma: Float64Array}} (size, size) each.
 */
export function featureMoments(views, size, features) {
  const Gamma = new Float64Array(size * size);
  const Sigma = new Float64Array(size * size);
  const view = new Float64Array(PIXELS);
  const mean = new Float64Array(size);
  for (let i = 0; i < views.n; i += 1) {
    mean.fill(0);
    for (let place = 0; place < PLACES; place += 1) {
      writeView(views, i, place, view, 0);
      const h = features(view);
      for (let a = 0; a < size; a += 1) mean[a] += h[a] / PLACES;
      addOuter(Sigma, h, size, 1 / PLACES);
    }
    addOuter(Gamma, mean, size, 1);
  }
  for (const matrix of [Gamma, Sigma]) {
    for (let a = 0; a < size; a += 1) {
      for (let b = 0; b <= a; b += 1) {
        matrix[a * size + b] /= views.n;
        matrix[b * size + a] = matrix[a * size + b];
      }
    }
  }
  return { Gamma, Sigma };
}

function addOuter(matrix, h, size, weight) {
  for (let a = 0; a < size; a += 1) {
    const part = weight * h[a];
    for (let b = 0; b <= a; b += 1) matrix[a * size + b] += part * h[b];
  }
}
