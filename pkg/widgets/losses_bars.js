/**
 * How fast each mode grows: a bar down or up to g, inside an outline up to sigma.
 */

import { make, modeColours, put, scale, ticks } from "./draw.js";
import { lowered, tickText } from "./words.js";

const HEIGHT = 210;
const TOP = 26;
const FOOT = 42; // names and rho

/**
 * @param {Element} parent
 * @returns {{resize: function(number), draw: function(Object)}}
 */
export function createRateBars(parent) {
  const svg = make("svg:svg", { class: "sl-bars", role: "img" }, parent);
  let width = 300;
  return {
    resize(pixels) {
      width = pixels;
      put(svg, { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}` });
    },
    draw: (scene) => draw(svg, width, scene),
  };
}

function draw(svg, width, { barlow, model, g, modes }) {
  const { gammas, sigmas } = model;
  const m = gammas.length;
  const tops = barlow ? gammas : sigmas;
  const low = Math.min(0, ...gammas.map((gamma, j) => (barlow ? gamma : 2 * gamma - sigmas[j])));
  const range = { low: 1.1 * low, high: 1.08 * Math.max(...tops, 1e-9), log: false };
  const y = scale(range, HEIGHT - FOOT, TOP);
  const left = 34;
  const slot = (width - left - 4) / m;
  const half = Math.min(0.34 * slot, 20);
  const colours = modeColours(m);
  svg.replaceChildren();
  const text = (x, at, words, name) =>
    make("svg:text", { x, y: at, class: name, text: words }, svg);
  text(0, 14, barlow ? "growth γ of each mode" : "growth g = (1 − β)σ + βγ", "sf-title");
  for (const value of ticks(range, 4)) {
    const at = y.at(value);
    make("svg:line", { x1: left, x2: width, y1: at, y2: at,
      class: value === 0 ? "sf-axis" : "sf-grid" }, svg);
    text(left - 6, at + 4, tickText(value), "sf-tick sf-end");
  }
  gammas.forEach((gamma, j) => {
    const x = left + (j + 0.5) * slot;
    const group = make("svg:g", { class: "sf-mode", "data-mode": j,
      style: `--light: ${colours[j].light}; --dark: ${colours[j].dark}` }, svg);
    const bar = (value, name) => make("svg:rect", { class: name, x: x - half, width: 2 * half,
      y: Math.min(y.at(0), y.at(value)), height: Math.abs(y.at(value) - y.at(0)) }, group);
    if (!barlow) bar(sigmas[j], "sl-room");
    bar(g[j], modes.includes(j) ? "sl-rate" : "sl-rate sl-idle");
    text(x, HEIGHT - 24, String(j + 1), "sf-middle");
    if (!barlow) text(x, HEIGHT - 6, (gamma / sigmas[j]).toFixed(2), "sf-tick sf-middle");
  });
  if (!barlow) text(0, HEIGHT - 6, "ρ", "sf-tick");
  put(svg, { "aria-label": barlow ? "Eigenvalues of Gamma, one bar a mode."
    : `Growth of each mode: ${g.map((rate, j) => `g${lowered(j + 1)} = ` +
      rate.toFixed(2)).join(", ")}.` });
}
