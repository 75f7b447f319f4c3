/**
 * The staircase itself: loss above, eigenvalues below, one time axis under both.
 */

import { eigenvalue } from "./closed_form.js";
import { draggable, make, modeColours, path, put, scale, ticks } from "./draw.js";
import { cursorTime, guessTime, momentAt, pictureWords } from "./staircase_story.js";
import { digits, lowered, tickText } from "./words.js";

const TOP = 26; // title of the loss
const GAP = 34; // title of the eigenvalues
const FOOT = 58; // rail of the cursor, time ticks, name of the time axis

/**
 * Build the picture of the curves.
 *
 * @param {Element} parent
 * @param {{cursor: function(): function, guess: function(): function}} grab What to call
 *   when a handle is taken; it returns what to call with (time, done) as it moves.
 * @returns {{resize: function, draw: function, destroy: function}}
 */
export function createCurves(parent, grab) {
  const svg = make("svg:svg", { class: "ss-curves", role: "img" }, parent);
  const layer = (name) => make("svg:g", { class: name }, svg);
  const parts = {
    svg,
    frame: layer("ss-frame"),
    steps: layer("ss-steps"),
    modes: layer("ss-modes"),
    loss: make("svg:path", { class: "ss-loss" }, svg),
    veil: make("svg:path", { class: "ss-veil" }, svg),
    far: make("svg:text", { class: "ss-far ss-end" }, svg),
    hint: make("svg:text", { class: "ss-hint ss-end" }, svg),
    cursor: handle(svg, "cursor"),
    guess: handle(svg, "guess"),
    items: [],
    frameKey: "",
    grid: null,
    box: null,
    axis: null,
  };
  parts.guess.tag = make("svg:text", { class: "ss-tag" }, parts.guess.group);
  parts.lossDot = make("svg:circle", { class: "ss-loss-dot", r: 4 }, svg);
  svg.insertBefore(parts.lossDot, parts.cursor.group);
  const release = ["cursor", "guess"].map((name) =>
    draggable(parts[name].hit, () => {
      const move = grab[name]();
      return (event, done) => move(timeUnder(parts, event), done);
    }),
  );
  return {
    resize: (width, height) => resize(parts, width, height),
    draw: (scene, axis) => draw(parts, scene, axis),
    destroy: () => release.forEach((remove) => remove()),
  };
}

// A vertical line through both panels, but not through the words between them.
function panels(x, { lossTop, lossBase, top, base }) {
  return `M${x} ${lossTop - 6}V${lossBase}M${x} ${top - 4}V${base}`;
}

// A vertical line with a grip, and an invisible strip wide enough for a finger.
function handle(svg, name) {
  const group = make("svg:g", { class: `ss-${name}` }, svg);
  return {
    group,
    line: make("svg:path", { class: "ss-line" }, group),
    grip: make("svg:path", { class: "ss-grip" }, group),
    hit: make("svg:rect", { class: "ss-drag ss-sideways", "data-drag": name }, group),
  };
}

function timeUnder({ svg, axis, box }, event) {
  const left = svg.getBoundingClientRect().left;
  return scale(axis, box.left, box.right).value(event.clientX - left);
}

function resize(parts, width, height) {
  const left = width < 420 ? 34 : 40;
  const room = height - TOP - GAP - FOOT;
  const lossHeight = Math.round(room * 0.4);
  parts.box = {
    width,
    height,
    left,
    right: width - 14,
    lossTop: TOP,
    lossBase: TOP + lossHeight,
    top: TOP + lossHeight + GAP,
    base: height - FOOT,
  };
  put(parts.svg, { width, height, viewBox: `0 0 ${width} ${height}` });
  parts.frameKey = "";
}

function draw(parts, scene, axis) {
  const { box } = parts;
  parts.axis = axis;
  const scales = fitScales(scene, axis, box);
  const key = JSON.stringify([axis, scene.gammas.length, scales.ranges, box.width]);
  if (key !== parts.frameKey) drawFrame(parts, scene, axis, scales);
  parts.frameKey = key;
  drawSteps(parts, scene, axis, scales.x);
  drawModes(parts, scene, axis, scales);
  drawCursor(parts, scene, axis, scales);
  drawGuess(parts, scene, axis, scales.x);
  put(parts.svg, { "aria-label": pictureWords(scene, axis) });
}

// Every curve is monotone, so its largest value stands at the left end.
function fitScales(scene, axis, box) {
  const start = momentAt(scene, axis.low);
  const spectrum = {
    low: Math.min(-0.06, 1.06 * Math.min(...start.eigenvalues)),
    high: Math.max(1.1, 1.06 * Math.max(...start.eigenvalues)),
    log: false,
  };
  const most = Math.max(scene.gammas.length, start.loss);
  const loss = { low: -0.04 * most, high: 1.06 * most, log: false };
  return {
    x: scale(axis, box.left, box.right),
    loss: scale(loss, box.lossBase, box.lossTop),
    spectrum: scale(spectrum, box.base, box.top),
    ranges: [spectrum, loss],
    most,
  };
}

function drawFrame(parts, scene, axis, scales) {
  const { frame, modes, box } = parts;
  const d = scene.gammas.length;
  frame.replaceChildren();
  const text = (x, y, words, name) =>
    make("svg:text", { x, y, class: name, text: words }, frame);
  const line = (x1, x2, y1, y2, name) =>
    make("svg:line", { x1, x2, y1, y2, class: name }, frame);
  const level = (y, words) => {
    line(box.left, box.right, y, y, "ss-grid");
    text(box.left - 7, y + 4, words, "ss-tick ss-end");
  };
  text(0, 14, "loss", "ss-title");
  text(0, box.top - 12, "eigenvalues of the cross-correlation", "ss-title");
  text(0, box.height - 8, "flow time", "ss-title");
  const { most } = scales;
  for (const value of ticks({ low: 0, high: most, log: false }, most > 5 ? 4 : most)) {
    level(scales.loss.at(value), tickText(value));
  }
  for (const value of [0, 0.5, 1]) level(scales.spectrum.at(value), String(value));
  for (const value of ticks(axis, Math.floor((box.right - box.left) / 58))) {
    const x = scales.x.at(value);
    line(x, x, box.base, box.base + 5, "ss-axis");
    text(x, box.base + 31, tickText(value), "ss-tick ss-middle");
  }
  for (const base of [box.lossBase, box.base]) line(box.left, box.right, base, base, "ss-axis");
  parts.items = modeColours(d).map((colour, j) => makeMode(colour, j, d));
  // Earliest on top: the line at zero then has the colour of the mode to be learned next.
  modes.replaceChildren(...parts.items.map((item) => item.group).reverse());
}

function makeMode(colour, j, d) {
  const group = make("svg:g", { class: "ss-mode", "data-mode": j });
  group.style.setProperty("--light", colour.light);
  group.style.setProperty("--dark", colour.dark);
  // The last colours of the map are too pale for white paper: they get a dark edge.
  const pale = d > 1 && 0.05 + (0.8 * j) / (d - 1) > 0.6;
  return {
    group,
    casing: pale ? make("svg:path", { class: "ss-casing" }, group) : null,
    curve: make("svg:path", { class: "ss-curve" }, group),
    dot: make("svg:circle", { class: "ss-dot", r: 4 }, group),
    drawn: {},
  };
}

function drawSteps({ steps, far, box }, scene, axis, x) {
  const visible = scene.steps
    .slice(0, scene.shown)
    .filter(({ time }) => time <= Math.min(scene.cut, axis.high));
  while (steps.childElementCount > visible.length) steps.lastElementChild.remove();
  while (steps.childElementCount < visible.length) {
    const group = make("svg:g", {}, steps);
    make("svg:path", {}, group);
    make("svg:text", {}, group);
  }
  const beyond = scene.steps.slice(0, scene.shown).find(({ time }) => time > axis.high);
  put(far, {
    x: box.right - 4,
    y: box.base - 22,
    text: beyond ? `τ${lowered(beyond.mode + 1)} = ${digits(beyond.time)} →` : "",
  });
  let free = 46; // "loss" stands left of this
  visible.forEach(({ mode, time }, k) => {
    const [line, label] = steps.children[k].children;
    const at = Math.floor(x.at(time)) + 0.5; // on the pixel: all lines equally thin
    put(line, { d: panels(at, box) });
    const twin = k > 0 && visible[k - 1].time === time;
    const fits = !twin && at - 9 > free;
    const last = visible.filter((step) => step.time === time).pop().mode;
    const range = lowered(mode + 1) + (last > mode ? `₋${lowered(last + 1)}` : "");
    put(label, { x: at, y: 14, text: fits ? `τ${range}` : "" });
    if (fits) free = at + 9;
  });
}

// One sample a pixel or so, up to the curtain: what is not shown is not in the page either.
function sampleTimes(parts, scene, axis, x) {
  const { box } = parts;
  const end = x.at(Math.min(scene.cut, axis.high));
  if (parts.grid?.end === end && parts.grid.frame === parts.frameKey) return parts.grid;
  const count = Math.max(2, Math.ceil((end - box.left) / 1.2) + 1);
  const xs = Float64Array.from({ length: count }, (_, i) =>
    Math.min(box.left + (i * (end - box.left)) / (count - 1), end),
  );
  const times = xs.map((pixel) => x.value(pixel));
  const ys = new Float64Array(count); // written anew for every curve
  parts.grid = { end, frame: parts.frameKey, count, xs, ys, times };
  return parts.grid;
}

function drawModes(parts, scene, axis, scales) {
  const { items } = parts;
  const grid = sampleTimes(parts, scene, axis, scales.x);
  const loss = new Float64Array(grid.count);
  scene.gammas.forEach((gamma, j) => {
    const item = items[j];
    const { drawn } = item;
    // A drag moves one mode: the others keep their curves.
    if (drawn.grid !== grid || drawn.gamma !== gamma || drawn.s0 !== scene.s0) {
      item.drawn = sampleMode(grid, gamma, scene.s0, scales.spectrum);
    }
    const { curve, missing } = item.drawn;
    for (let i = 0; i < grid.count; i += 1) loss[i] += missing[i];
    // Tied modes lie on one another: the ones below are drawn wider.
    const above = scene.gammas.filter((other, k) => k < j && other === gamma).length;
    put(item.curve, { d: curve, "stroke-width": 2.4 + 3 * above });
    if (item.casing) put(item.casing, { d: curve, "stroke-width": 4 + 3 * above });
  });
  const zero = scales.loss.at(0);
  const height = scales.loss.at(1) - zero;
  for (let i = 0; i < grid.count; i += 1) loss[i] = zero + height * loss[i];
  put(parts.loss, { d: path(grid.xs, loss) });
  drawVeil(parts, scene, grid.end);
}

// The curve of one mode, and what it leaves in the loss.
function sampleMode(grid, gamma, s0, y) {
  const { count, times, xs, ys } = grid;
  const missing = new Float64Array(count);
  const zero = y.at(0);
  const height = y.at(1) - zero;
  for (let i = 0; i < count; i += 1) {
    const c = eigenvalue(times[i], gamma, s0);
    missing[i] = (1 - c) * (1 - c);
    ys[i] = zero + height * c;
  }
  return { grid, gamma, s0, missing, curve: path(xs, ys) };
}

function drawVeil(parts, scene, end) {
  const { box } = parts;
  const from = end.toFixed(1);
  const panel = (top, base) => `M${from} ${top}H${box.right}V${base}H${from}Z`;
  const hidden = !scene.open && box.right > end;
  const roomy = hidden && box.right - end > 200;
  put(parts.hint, { x: box.right - 8, y: box.top + 18, text: roomy ? "not shown yet" : "" });
  put(parts.veil, {
    d: hidden ? panel(box.lossTop, box.lossBase) + panel(box.top, box.base) : "",
  });
}

function drawCursor(parts, scene, axis, scales) {
  const { box, cursor, items } = parts;
  const time = cursorTime(scene, axis);
  const x = Number(scales.x.at(time).toFixed(1));
  const { eigenvalues, loss } = momentAt(scene, time);
  placeHandle(cursor, x, box);
  put(cursor.grip, {
    d: `M${x} ${box.base + 1}l8 8v7a3 3 0 0 1 -3 3h-10a3 3 0 0 1 -3 -3v-7z`,
  });
  put(parts.lossDot, { cx: x, cy: scales.loss.at(loss).toFixed(1) });
  eigenvalues.forEach((c, j) =>
    put(items[j].dot, { cx: x, cy: scales.spectrum.at(c).toFixed(1) }),
  );
}

function drawGuess({ box, guess }, scene, axis, scales) {
  const visible = scene.asking || scene.guess !== null;
  put(guess.group, { class: `ss-guess${scene.asking ? "" : " ss-past"}` });
  put(guess.group, { visibility: visible ? null : "hidden" });
  put(guess.hit, { visibility: visible && scene.asking ? null : "hidden" });
  if (!visible) return;
  const time = scene.asking ? guessTime(scene, axis) : scene.guess;
  const x = Number(scales.at(time).toFixed(1));
  placeHandle(guess, x, box);
  const y = box.lossTop + (box.lossBase - box.lossTop) * 0.62;
  put(guess.grip, {
    d: scene.asking
      ? `M${x - 15} ${y}a15 15 0 1 0 30 0a15 15 0 1 0 -30 0z` +
        `M${x - 4} ${y - 5}l-5 5l5 5M${x + 4} ${y - 5}l5 5l-5 5`
      : "",
  });
  const flip = x > box.right - 78;
  put(guess.tag, {
    x: flip ? x - 8 : x + 8,
    y: box.lossTop + 14,
    "text-anchor": flip ? "end" : "start",
    text: scene.asking ? `step ${scene.shown + 1} here?` : "your guess",
  });
}

function placeHandle({ line, hit }, x, box) {
  put(line, { d: panels(x, box) });
  put(hit, {
    x: x - 15,
    width: 30,
    y: box.lossTop - 4,
    height: box.base - box.lossTop + 24,
  });
}
