/**
 * Eigenvalues as bars to drag, each between its neighbours: the first d are learned.
 *
 * How to use:
 *
 *   const bars = createSpectrum(parent, (mode, gamma, done) => ...);
 *   bars.resize(240, 200);
 *   bars.draw({ gammas, d: 3, words: "Spectrum of 5 eigenvalues: ..." });
 *
 * A bar stops at its neighbours, so that none changes its name; there they are tied.
 */

import { draggable, make, modeColours, put, scale, ticks } from "./draw.js";
import { gammaName, tickText } from "./words.js";

const TOP = 26;
const FOOT = 26;
const LEFT = 36;

/**
 * Build the bars.
 *
 * @param {Element} parent
 * @param {function(number, number, boolean): void} act Called as a bar is dragged.
 * @returns {{resize: function(number, number), draw: function(Object), destroy: function}}
 */
export function createSpectrum(parent, act) {
  const svg = make("svg:svg", { class: "sf-spectrum", role: "img" }, parent);
  const parts = { svg, act, frame: make("svg:g", {}, svg), bars: [], range: null,
    held: false, size: [240, 200] };
  return {
    resize(width, height) {
      parts.size = [width, height];
      put(svg, { width, height, viewBox: `0 0 ${width} ${height}` });
    },
    draw: (scene) => draw(parts, scene),
    destroy: () => parts.bars.forEach(({ release }) => release()),
  };
}

function draw(parts, { gammas, d, words }) {
  const [width, height] = parts.size;
  parts.gammas = gammas;
  // The range only changes once the hand lets go, or the bar would run away from it.
  if (!parts.held || !parts.range) {
    const top = Math.max(...gammas, 0.1);
    parts.range = { low: Math.min(-0.3 * top, 1.15 * gammas[gammas.length - 1]),
      high: 1.12 * top, log: false };
  }
  const y = scale(parts.range, height - FOOT, TOP);
  drawFrame(parts.frame, parts.range, y, width);
  if (parts.bars.length !== gammas.length) build(parts);
  const each = (width - LEFT - 4) / gammas.length;
  const colours = modeColours(d);
  gammas.forEach((gamma, j) => {
    const { group, bar, hit, name } = parts.bars[j];
    const colour = colours[j];
    put(group, { class: colour ? "sf-bar sf-mode" : "sf-bar sf-beyond",
      style: colour ? `--light: ${colour.light}; --dark: ${colour.dark}` : null });
    const x = LEFT + j * each;
    const [from, to] = [y.at(Math.max(gamma, 0)), y.at(Math.min(gamma, 0))];
    put(bar, { x: x + 0.16 * each, width: 0.68 * each, y: from,
      height: Math.max(to - from, 1.5) });
    put(hit, { x, width: each, y: from - 14, height: to - from + 28 });
    put(name, { x: x + each / 2, y: height - 7, text: gammaName(j) });
  });
  put(parts.svg, { "aria-label": words });
}

function drawFrame(frame, range, y, width) {
  const key = JSON.stringify([range, width, y.at(0)]);
  if (frame.dataset.key === key) return;
  frame.dataset.key = key;
  frame.replaceChildren();
  make("svg:text", { x: 0, y: 14, class: "sf-title", text: "eigenvalues γ of Γ" }, frame);
  for (const value of ticks(range, 4)) {
    const line = { x1: LEFT, x2: width, y1: y.at(value), y2: y.at(value) };
    make("svg:line", { ...line, class: value === 0 ? "sf-axis" : "sf-grid" }, frame);
    make("svg:text", { x: LEFT - 7, y: y.at(value) + 4, class: "sf-tick sf-end",
      text: tickText(value) }, frame);
  }
}

function build(parts) {
  parts.bars.forEach(({ group, release }) => {
    release();
    group.remove();
  });
  parts.bars = parts.gammas.map((_, j) => {
    const group = make("svg:g", {}, parts.svg);
    const bar = make("svg:rect", {}, group);
    const name = make("svg:text", { class: "sf-middle" }, group);
    const hit = make("svg:rect", { class: "sf-drag sf-updown", "data-drag": `gamma-${j}` }, group);
    return { group, bar, name, hit, release: draggable(hit, (event) => grab(parts, j, event)) };
  });
}

function grab(parts, j, begun) {
  const y = scale(parts.range, parts.size[1] - FOOT, TOP);
  const from = parts.gammas[j];
  parts.held = true;
  return (event, done) => {
    // Only the change counts: the bar does not jump to where it was touched.
    const pixel = y.at(from) + event.clientY - begun.clientY;
    const [high, low] = [parts.gammas[j - 1] ?? Infinity, parts.gammas[j + 1] ?? -Infinity];
    const near = Math.abs(y.value(0) - y.value(3)); // three pixels: a tie is easy to meet
    let gamma = Math.min(Math.max(Number(y.value(pixel).toPrecision(3)), low), high);
    if (gamma > high - near) gamma = high;
    else if (gamma < low + near) gamma = low;
    parts.held = !done;
    parts.act(j, gamma, done);
  };
}
