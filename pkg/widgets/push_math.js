/**
 * The push of a loss on each embedding: minus its gradient, times the number of pairs.
 *
 * The losses are those of pkg.losses in their published form and in the form that climbs
 * stairs; a batch is an array of rows. Written out by hand, as the chapter derives them.
 */

import { digits } from "./words.js";

export const LOSSES = [["barlow_twins", "Barlow Twins"], ["simclr", "SimCLR"],
  ["vicreg", "VICReg"]];
const FORMS = {
  barlow_twins: { published: { lambd: 0.0051, guard: 1e-5, normalize: true },
    stepwise: { lambd: 1, normalize: false } },
  simclr: { published: { temperature: 0.5, normalize: true },
    stepwise: { temperature: 1, normalize: false } },
  vicreg: { published: { cov: 1, eps: 1e-4, target: 1 },
    stepwise: { cov: 10, eps: 0.1, target: Math.sqrt(1.1) } },
};
const SIM = 25; // VICReg's weights of invariance and variance
const STD = 25;
export const LOW = 1e-4; // of the size
export const HIGH = 10;
export const RATE = 0.01; // of the one step that the sentence tells

const times = (rows, factor) => rows.map((row) => row.map((value) => value * factor));
const dot = (u, v) => u.reduce((sum, value, k) => sum + value * v[k], 0);
const columns = (rows) => rows[0].map((_, k) => rows.map((row) => row[k]));
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const table = (a, b) => a.map((u) => b.map((v) => dot(u, v))); // rows with rows: a bᵀ
const product = (a, b) => table(a, columns(b)); // a b
const off = (matrix) => matrix.map((row, i) => row.map((value, j) => (i === j ? 0 : value)));

function centred(rows) {
  const means = columns(rows).map(mean);
  return rows.map((row) => row.map((value, k) => value - means[k]));
}

/** Root mean square length of the rows of both views. */
export function size(z, y) {
  return Math.sqrt(mean([...z, ...y].map((row) => dot(row, row))));
}

/**
 * Push on every embedding of both views.
 *
 * @param {string} loss barlow_twins, simclr or vicreg.
 * @param {string} form published or stepwise.
 * @param {number[][]} z First views, a row each.
 * @param {number[][]} y Second views.
 * @returns {number[][][]} The same shapes as z and y.
 */
export function pushes(loss, form, z, y) {
  const terms = FORMS[loss][form];
  const push = { barlow_twins: barlowTwins, simclr, vicreg }[loss];
  return push(z, y, terms).map((slopes) => times(slopes, -z.length));
}

function barlowTwins(z, y, { lambd, guard, normalize }) {
  const [a, b] = [z, y].map((rows) => (normalize ? divided(centred(rows), guard)
    : { rows: centred(rows) }));
  const n = z.length;
  const C = times(table(columns(a.rows), columns(b.rows)), 1 / n);
  const slope = C.map((row, i) => row.map((value, j) => (i === j
    ? 2 * (value - 1) : 2 * lambd * (normalize ? value : (value + C[j][i]) / 2))));
  const toward = [product(b.rows, columns(slope)), product(a.rows, slope)];
  return [a, b].map(({ rows, deviations }, k) => {
    const g = times(toward[k], 1 / n);
    return centred(deviations ? throughDivision(g, rows, deviations) : g);
  });
}

function divided(rows, guard) {
  const deviations = columns(rows).map((values) => Math.sqrt(dot(values, values) / rows.length + guard));
  return { rows: rows.map((row) => row.map((value, k) => value / deviations[k])), deviations };
}

function throughDivision(g, unit, deviations) {
  const along = columns(g).map((values, k) => mean(values.map((value, i) => value * unit[i][k])));
  return g.map((row, i) => row.map((value, k) => (value - unit[i][k] * along[k]) / deviations[k]));
}

function simclr(z, y, { temperature, normalize }) {
  const n = z.length;
  const both = [...z, ...y];
  const lengths = both.map((row) => (normalize ? Math.sqrt(dot(row, row)) : 1));
  const unit = both.map((row, i) => row.map((value) => value / lengths[i]));
  const logits = times(table(unit, unit), 1 / temperature);
  const chances = logits.map((row, i) => {
    const most = Math.max(...row.filter((_, j) => j !== i));
    const parts = row.map((value, j) => (j === i ? 0 : Math.exp(value - most)));
    const sum = parts.reduce((all, part) => all + part, 0);
    return parts.map((part, j) => part / sum - (j === (i + n) % (2 * n) ? 1 : 0));
  });
  const slope = chances.map((row, i) => row.map((value, j) =>
    (value + chances[j][i]) / (2 * n * temperature)));
  const g = product(slope, unit);
  const turned = normalize ? g.map((row, i) => {
    const along = dot(row, unit[i]);
    return row.map((value, k) => (value - along * unit[i][k]) / lengths[i]);
  }) : g;
  return [turned.slice(0, n), turned.slice(n)];
}

function vicreg(z, y, { cov, eps, target }) {
  const n = z.length;
  const d = z[0].length;
  return [[z, y], [y, z]].map(([own, other]) => {
    const rows = centred(own);
    const S = times(table(columns(rows), columns(rows)), 1 / (n - 1));
    const deviations = S.map((row, k) => Math.sqrt(row[k] + eps));
    const spread = deviations.map((s) => (s < target ? STD / (2 * d * (n - 1) * s) : 0));
    const apart = times(product(rows, off(S)), (4 * cov) / (d * (n - 1)));
    return own.map((row, i) => row.map((value, k) => (2 * SIM / (n * d)) *
      (value - other[i][k]) - spread[k] * rows[i][k] + apart[i][k]));
  });
}

/**
 * How the push of a loss depends on the size where a law is known: while the cloud is tiny,
 * or for the published Barlow Twins while it is not.
 *
 * @returns {{power: number, factor: number}} push = factor * size ** power.
 */
export function law(loss, form, z, y) {
  const scaleFree = form === "published" && loss !== "vicreg";
  // Large for what does not feel the size, tiny for what is linear: no limit is left to take.
  const at = scaleFree ? 1e6 : 1e-6;
  const power = scaleFree ? -1 : 1;
  return { power, factor: strength(loss, form, z, y, at) / at ** power };
}

// Root mean square push on a cloud made as large as `at`.
function strength(loss, form, z, y, at) {
  const factor = at / size(z, y);
  return size(...pushes(loss, form, times(z, factor), times(y, factor)));
}

/**
 * Everything that the figure shows.
 *
 * @param {{z: number[][], z_prime: number[][], scale: number, form: string}} state
 * @returns {Object} xs (sizes) and, for each loss, its name, its cloud and arrows in units of
 *   the size, push, its law, the push at all sizes, and the growth of the size in one step.
 */
export function stage({ z, z_prime, scale, form }) {
  const count = 81;
  const xs = Array.from({ length: count }, (_, k) => LOW * (HIGH / LOW) ** (k / (count - 1)));
  const unit = 1 / size(z, z_prime);
  const views = [times(z, unit), times(z_prime, unit)];
  const losses = LOSSES.map(([loss, name]) => {
    const now = views.map((rows) => times(rows, scale));
    const arrows = pushes(loss, form, ...now);
    const moved = now.map((rows, v) => rows.map((row, i) =>
      row.map((value, k) => value + RATE * arrows[v][i][k])));
    return { loss, name, arrows, push: size(...arrows), growth: size(...moved) / scale,
      law: law(loss, form, ...views), ys: xs.map((at) => strength(loss, form, ...views, at)) };
  });
  return { xs, scale, form, views, losses };
}

/** Slope of a curve on log axes at `scale`, by a small step. */
export function slope(loss, form, z, y, scale) {
  const [low, high] = [0.99, 1.01].map((part) => strength(loss, form, z, y, part * scale));
  return Math.log(high / low) / Math.log(1.01 / 0.99);
}

/** The sentence. */
export function words({ scale, form, losses, views }) {
  const which = form === "published" ? "As published" : "In the form for a small start";
  const each = losses.map(({ loss, name, push, growth }) => {
    const power = slope(loss, form, ...views, scale).toFixed(1).replace("-", "−");
    return `${name} pushes with ${digits(push)} (power ${power} of the size), one step ×\u00a0` +
      digits(growth);
  });
  return `${which}, size ${digits(scale)}, rate ${RATE}: ${each.join("; ")}.`;
}
