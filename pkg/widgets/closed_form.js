/**
 * The exact solution of the linear Barlow Twins model, mode by mode.
 *
 * Pure functions in the letters of chapter 3, held to `pkg.dynamics` to 1e-12 by
 * tests/test_widgets.py. With c = gamma * s^2, every mode obeys dc/dt = 8 gamma c (1 - c).
 */

/**
 * How much the squared singular value of a mode has grown: s(t)^2 / s(0)^2.
 *
 * Only decaying exponentials: exp(+8 gamma t) overflows long before a slow mode moves.
 *
 * @param {number} t Flow time, zero or later.
 * @param {number} gamma Eigenvalue of Gamma, of any sign.
 * @param {number} s0 Initial singular value, positive.
 * @returns {number}
 */
export function growth(t, gamma, s0) {
  const c0 = gamma * s0 * s0;
  const decay = Math.exp(-8 * Math.abs(gamma) * t);
  return gamma >= 0 ? 1 / (c0 + (1 - c0) * decay) : decay / (1 - c0 + c0 * decay);
}

/**
 * Eigenvalue of the embedding's cross-correlation along one mode, c = gamma * s^2.
 *
 * @param {number} t
 * @param {number} gamma
 * @param {number} s0
 * @returns {number}
 */
export function eigenvalue(t, gamma, s0) {
  return gamma * s0 * s0 * growth(t, gamma, s0);
}

/**
 * Loss ||C - I||^2 and eigenvalues of C at every time.
 *
 * @param {number[]} t
 * @param {number[]} gammas
 * @param {number} s0
 * @returns {{eigenvalues: number[][], loss: number[]}} (T, d) and (T,)
 */
export function closedForm(t, gammas, s0) {
  const eigenvalues = t.map((time) =>
    gammas.map((gamma) => eigenvalue(time, gamma, s0)),
  );
  return { eigenvalues, loss: eigenvalues.map(lossOf) };
}

/**
 * Loss of one spectrum of C: each mode contributes (1 - c)^2.
 *
 * @param {number[]} spectrum
 * @returns {number}
 */
export function lossOf(spectrum) {
  return spectrum.reduce((sum, c) => sum + (1 - c) * (1 - c), 0);
}

/**
 * Time at which each mode is half learned, c = 1/2.
 *
 * Infinity for gamma <= 0, which is never learned. NaN for gamma * s0^2 >= 1/2: the mode
 * starts past its half, so it has no step.
 *
 * @param {number[]} gammas
 * @param {number} s0
 * @returns {number[]} (d,)
 */
export function stepTimes(gammas, s0) {
  return gammas.map((gamma) => {
    if (gamma <= 0) return Infinity;
    const c0 = gamma * s0 * s0;
    // ln(1/c0 - 1), exact also where c0 nears one half.
    return c0 < 0.5 ? Math.log1p((1 - 2 * c0) / c0) / (8 * gamma) : NaN;
  });
}
