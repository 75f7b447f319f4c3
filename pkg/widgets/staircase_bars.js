/**
 * The spectrum as a bar chart whose bars are the control: drag a top, change an eigenvalue.
 */

import { draggable, make, modeColours, put, scale, ticks } from "./draw.js";
import { barValue, cursorTime, momentAt, spectrumWords } from "./staircase_story.js";
import { gammaName } from "./words.js";

const SNAP = 5; // pixels within which a bar ties with its neighbour
const TOP = 52;

/**
 * Build the bar chart.
 *
 * @param {Element} parent
 * @param {function(number): function} grabBar Called with the mode whose bar is taken; it
 *   returns what to call with (gamma, done) as it moves.
 * @returns {{resize: function, draw: function, destroy: function}}
 */
export function createBars(parent, grabBar) {
  const svg = make("svg:svg", { class: "ss-bars", role: "img" }, parent);
  const parts = {
    svg,
    frame: make("svg:g", { class: "ss-frame" }, svg),
    modes: make("svg:g", { class: "ss-modes" }, svg),
    items: [],
    frameKey: "",
    scene: null,
    grab: grabBar,
    box: null,
    y: null,
  };
  return {
    resize: (width, height, foot) => resize(parts, width, height, foot),
    draw: (scene, axis, range) => draw(parts, scene, axis, range),
    destroy: () => parts.items.forEach((item) => item.release()),
  };
}

function resize(parts, width, height, foot) {
  const box = { width, height, left: 36, right: width - 4, top: TOP, base: height - foot };
  parts.box = box;
  put(parts.svg, { width, height, viewBox: `0 0 ${width} ${height}` });
  parts.frameKey = "";
}

function draw(parts, scene, axis, range) {
  const { box } = parts;
  const d = scene.gammas.length;
  parts.scene = scene;
  parts.range = range;
  parts.y = scale({ ...range, log: false }, box.base, box.top);
  const key = JSON.stringify([d, range.low, range.high, box]);
  if (key !== parts.frameKey) drawFrame(parts, d);
  parts.frameKey = key;
  const { eigenvalues } = momentAt(scene, cursorTime(scene, axis));
  parts.items.forEach((item, j) => drawBar(parts, item, scene.gammas[j], eigenvalues[j]));
  put(parts.svg, { "aria-label": spectrumWords(scene) });
}

function drawFrame(parts, d) {
  const { frame, box, y, range } = parts;
  frame.replaceChildren();
  const text = (x, at, words, name) =>
    make("svg:text", { x, y: at, class: name, text: words }, frame);
  text(0, 14, "eigenvalues γ of Γ", "ss-title");
  text(0, 32, "drag a bar up or down", "ss-hint");
  for (const value of ticks({ ...range, log: false }, 5)) {
    const at = y.at(value);
    make("svg:line", { x1: box.left, x2: box.right, y1: at, y2: at,
      class: value === 0 ? "ss-axis" : "ss-grid" }, frame);
    text(box.left - 7, at + 4, String(value).replace("-", "−"), "ss-tick ss-end");
  }
  if (parts.items.length === d) return;
  parts.items.forEach((item) => item.release());
  parts.modes.replaceChildren();
  parts.items = modeColours(d).map((colour, j) => makeBar(parts, colour, j));
}

function makeBar(parts, colour, j) {
  const group = make("svg:g", { class: "ss-mode ss-bar", "data-mode": j }, parts.modes);
  group.style.setProperty("--light", colour.light);
  group.style.setProperty("--dark", colour.dark);
  const hit = make("svg:rect", { class: "ss-drag ss-updown", "data-drag": `gamma-${j}` });
  const item = {
    tint: make("svg:rect", { class: "ss-tint" }, group),
    fill: make("svg:rect", { class: "ss-fill" }, group),
    grip: make("svg:rect", { class: "ss-grip", rx: 3.5, height: 7 }, group),
    value: make("svg:text", { class: "ss-value ss-middle" }, group),
    name: make("svg:text", { class: "ss-name ss-middle", text: gammaName(j) }, group),
    hit,
    release: draggable(hit, (event) => takeBar(parts, j, event)),
  };
  group.append(hit);
  return item;
}

// The bar keeps its distance from the pointer, so that taking it moves nothing.
function takeBar(parts, j, start) {
  const offset = parts.y.at(parts.scene.gammas[j]) - start.clientY;
  const others = parts.scene.gammas.filter((_, k) => k !== j);
  const move = parts.grab(j);
  return (event, done) => {
    const pixel = event.clientY + offset;
    const twin = others.find((gamma) => Math.abs(parts.y.at(gamma) - pixel) < SNAP);
    const { low, high, step } = parts.range;
    const value = Math.min(Math.max(parts.y.value(pixel), low), high);
    move(twin ?? Number((Math.round(value / step) * step).toPrecision(12)), done);
  };
}

function drawBar({ box, y, items }, item, gamma, c) {
  const slot = (box.right - box.left) / items.length;
  const width = Math.min(0.7 * slot, 44);
  const x = box.left + slot * items.indexOf(item) + (slot - width) / 2;
  const middle = x + width / 2;
  const zero = y.at(0);
  const tip = y.at(gamma);
  const size = Math.abs(tip - zero);
  const learned = gamma > 0 ? Math.min(Math.max(c, 0), 1) * size : 0;
  const at = (value) => value.toFixed(1);
  put(item.tint, { x: at(x), width: at(width), y: at(Math.min(tip, zero)), height: at(size) });
  put(item.fill, { x: at(x), width: at(width), y: at(zero - learned), height: at(learned) });
  const pill = Math.min(width - 4, 24);
  put(item.grip, { x: at(middle - pill / 2), width: at(pill), y: at(tip - 3.5) });
  const label = barValue(gamma);
  put(item.value, {
    x: at(middle),
    y: at(gamma < 0 ? tip + 17 : tip - 8),
    // Eight bars leave no room for trailing zeros.
    text: slot < 32 ? label.replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "") : label,
  });
  put(item.name, { x: at(middle), y: box.height - 27 });
  put(item.hit, {
    x: at(middle - slot / 2),
    width: at(slot),
    y: at(Math.min(tip, zero) - 16),
    height: at(size + 32),
  });
}
