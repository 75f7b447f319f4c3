/**
 * Random numbers from a seed: the same draw in every browser, and again on every visit.
 */

import { orthonormal } from "./algebra.js";

/**
 * A source of uniform numbers in [0, 1): the generator known as mulberry32.
 *
 * @param {number} seed
 * @returns {function(): number}
 */
export function uniforms(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 4294967296;
  };
}

/**
 * A source of standard normal numbers (Box and Muller's pairs).
 *
 * @param {number} seed
 * @returns {function(): number}
 */
export function normals(seed) {
  const uniform = uniforms(seed);
  let spare = null;
  return () => {
    if (spare !== null) {
      const kept = spare;
      spare = null;
      return kept;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
    const angle = 2 * Math.PI * uniform();
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
}

/**
 * A generic small start: d orthonormal random directions in m dimensions, times s0.
 *
 * @param {number} d
 * @param {number} m At least d.
 * @param {number} s0
 * @param {number} seed
 * @returns {Float64Array} (d, m), row after row
 */
export function genericStart(d, m, s0, seed) {
  const normal = normals(seed);
  const rows = Array.from({ length: d }, () => Array.from({ length: m }, normal));
  return Float64Array.from(orthonormal(rows).basis.flat(), (value) => s0 * value);
}
