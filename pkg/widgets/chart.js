/**
 * One or two panels of curves over one horizontal axis, in the book's line styles.
 *
 * How to use:
 *
 *   const chart = createChart(figure.root, { onMarker: (value, done) => ... });  // optional
 *   chart.resize(width, height);                 // pixels; then draw again
 *   chart.draw({
 *     words: "Loss and eigenvalues against ...", // what a reader who does not see it hears
 *     x: { low: 0.1, high: 30, log: true, name: "flow time" },
 *     panels: [
 *       { title: "loss", low: 0, high: 5, share: 0.4, curves: [...], levels: [...] },
 *       { title: "eigenvalues", low: -0.05, high: 1.1, curves: [...] },  // log: true allowed
 *     ],
 *     modes: 5,                                  // how many modes share the colours
 *     times: [{ at: 1.7, text: "τ₁" }],          // dotted verticals: predicted times
 *     marker: 3.2,                               // the reader's hand; left out, there is none
 *   });
 *
 * A curve is { kind, xs, ys, mode }: arrays of numbers in the axes' units, of one length;
 * kind "measured" (solid; broad and pale where the panel has theory, too, unless the curve
 * says `broad: false`), "theory" (dashed, on top) or "points"; without `mode` it has the
 * colour of the text. Of one kind, the first lies on top. Values outside the panel are drawn
 * at its edge; the first one that is not finite ends its curve. A level is { at, text }: a
 * dotted horizontal.
 */

import { draggable, make, modeColours, path, put, scale, ticks } from "./draw.js";
import { tickText } from "./words.js";

const TOP = 26; // title of the first panel, names of the times
const GAP = 36; // title of the next one
const RAIL = 14; // where the marker's grip runs
const FOOT = 46; // ticks, name of the axis

/**
 * Build an empty chart.
 *
 * @param {Element} parent
 * @param {{onMarker: function(number, boolean)}} [options] Called as the marker is dragged.
 * @returns {{svg: Element, resize: function(number, number), draw: function(Object),
 *   destroy: function}}
 */
export function createChart(parent, { onMarker } = {}) {
  const svg = make("svg:svg", { class: "sf-chart", role: "img" }, parent);
  const frame = make("svg:g", { class: "sf-frame" }, svg);
  const times = make("svg:g", { class: "sf-times" }, svg);
  const panels = make("svg:g", { class: "sf-panels" }, svg);
  const parts = { svg, frame, times, panels, marker: null, size: [700, 400], key: "", x: null };
  let release = () => {};
  if (onMarker) {
    const group = make("svg:g", { class: "sf-marker" }, svg);
    const [line, grip] = ["sf-line", "sf-grip"].map((name) =>
      make("svg:path", { class: name }, group));
    const hit = make("svg:rect", { class: "sf-drag", "data-drag": "marker" }, group);
    parts.marker = { group, line, grip, hit };
    release = draggable(hit, () => (event, done) => {
      const left = svg.getBoundingClientRect().left;
      onMarker(parts.x.value(event.clientX - left), done);
    });
  }
  return {
    svg,
    resize(width, height) {
      parts.size = [width, height];
      put(svg, { width, height, viewBox: `0 0 ${width} ${height}` });
    },
    draw: (picture) => draw(parts, picture),
    destroy: () => release(),
  };
}

function draw(parts, picture) {
  const places = arrange(parts, picture);
  parts.x = places.x;
  const shape = picture.panels.map(({ title, low, high, log, share, levels }) =>
    [title, low, high, log, share, levels]);
  const key = JSON.stringify([parts.size, picture.x, shape, picture.modes]);
  if (key !== parts.key) drawFrame(parts, picture, places);
  parts.key = key;
  drawTimes(parts, picture, places);
  picture.panels.forEach((panel, k) =>
    drawCurves(parts.panels.children[k], panel, picture, places, k));
  drawMarker(parts, picture, places);
  put(parts.svg, { "aria-label": picture.words });
}

// Where everything stands, in pixels.
function arrange({ size: [width, height], marker }, { x, panels }) {
  const labels = panels.map((panel) => yTicks(panel).map(tickText));
  const longest = Math.max(...labels.flat().map((text) => text.length), 2);
  const left = 12 + 7.5 * longest;
  const right = width - 14;
  const foot = FOOT + (marker ? RAIL : 0);
  const room = height - TOP - GAP * (panels.length - 1) - foot;
  const rest = panels.filter(({ share }) => share === undefined).length;
  const given = panels.reduce((sum, { share }) => sum + (share ?? 0), 0);
  let top = TOP;
  const boxes = panels.map((panel) => {
    const base = Math.round(top + (panel.share ?? (1 - given) / rest) * room);
    const box = { top, base, y: scale(panel, base, top) };
    top = base + GAP;
    return box;
  });
  return { left, right, width, height, boxes, x: scale(x, left, right) };
}

function yTicks(panel) {
  return panel.ticks ?? ticks(panel, 4);
}

function drawFrame(parts, picture, { left, right, width, height, boxes, x }) {
  const { frame, panels } = parts;
  frame.replaceChildren();
  const text = (at, y, words, name) =>
    make("svg:text", { x: at, y, class: name, text: words }, frame);
  const line = (x1, x2, y1, y2, name) =>
    make("svg:line", { x1, x2, y1, y2, class: name }, frame);
  const base = boxes[boxes.length - 1].base;
  picture.panels.forEach((panel, k) => {
    const box = boxes[k];
    text(0, box.top - 12, panel.title, "sf-title");
    for (const value of yTicks(panel)) {
      const y = box.y.at(value);
      line(left, right, y, y, "sf-grid");
      text(left - 7, y + 4, tickText(value), "sf-tick sf-end");
    }
    for (const { at, text: words } of panel.levels ?? []) {
      const y = Math.round(box.y.at(at)) + 0.5;
      line(left, right, y, y, "sf-level");
      if (words) text(right - 2, y - 5, words, "sf-hint sf-end");
    }
    line(left, right, box.base, box.base, "sf-axis");
  });
  const drop = parts.marker ? RAIL : 0;
  for (const value of ticks(picture.x, Math.floor((right - left) / 58))) {
    const at = x.at(value);
    line(at, at, base, base + 5, "sf-axis");
    text(Math.min(at, width - 6), base + 18 + drop, tickText(value), "sf-tick sf-middle");
  }
  text(0, height - 6, picture.x.name, "sf-title");
  panels.replaceChildren();
  for (let k = 0; k < boxes.length; k += 1) make("svg:g", { class: "sf-panel" }, panels);
}

// Vertical lines through every panel, but not through the words between them.
function uprights(at, boxes) {
  return boxes.map(({ top, base }) => `M${at} ${top - 4}V${base}`).join("");
}

function drawTimes({ times: layer }, { times = [], x: axis, panels }, { boxes, x }) {
  const inside = times.filter(({ at }) => at >= axis.low && at <= axis.high);
  while (layer.childElementCount > inside.length) layer.lastElementChild.remove();
  while (layer.childElementCount < inside.length) {
    const group = make("svg:g", {}, layer);
    make("svg:path", {}, group);
    make("svg:text", {}, group);
  }
  // The first panel's title stands left of this; a label that does not fit drops out.
  let free = 8 * panels[0].title.length + 8;
  [...inside].sort((a, b) => a.at - b.at).forEach(({ at, text = "" }, k) => {
    const [line, label] = layer.children[k].children;
    const pixel = Math.floor(x.at(at)) + 0.5; // on the pixel: all lines equally thin
    const half = 4 + 4 * text.length;
    const fits = pixel - half > free;
    put(line, { d: uprights(pixel, boxes) });
    put(label, { x: pixel, y: 14, text: fits ? text : "" });
    if (fits && text) free = pixel + half;
  });
}

const ORDER = ["measured", "theory", "points"]; // from below to above

function drawCurves(layer, panel, picture, places, k) {
  const { curves } = panel;
  const colours = modeColours(picture.modes ?? 1);
  const covered = curves.some(({ kind }) => kind === "theory");
  const sorted = ORDER.flatMap((kind) => curves.filter((c) => c.kind === kind).reverse());
  while (layer.childElementCount > sorted.length) layer.lastElementChild.remove();
  while (layer.childElementCount < sorted.length) {
    const group = make("svg:g", {}, layer);
    make("svg:path", { class: "sf-casing" }, group);
    make("svg:path", { class: "sf-curve" }, group);
  }
  sorted.forEach((curve, i) => {
    const group = layer.children[i];
    const [casing, line] = group.children;
    const { kind, mode } = curve;
    const broad = kind === "measured" && (curve.broad ?? covered);
    const colour = colours[mode];
    put(group, {
      class: `sf-${kind}${broad ? " sf-broad" : ""}` +
        `${colour ? " sf-mode" : ""}`,
      style: colour ? `--light: ${colour.light}; --dark: ${colour.dark}` : null,
      "data-kind": kind,
      "data-mode": mode ?? null,
    });
    const d = trace(curve, picture.x, places.x, places.boxes[k].y);
    // The last colours are too pale for white paper: they get a dark edge.
    const pale = colour && picture.modes > 1 && 0.05 + (0.8 * mode) / (picture.modes - 1) > 0.6;
    put(casing, { d: pale && !broad ? d : "" });
    put(line, { d });
  });
}

function trace({ kind, xs, ys }, axis, x, y) {
  const across = [];
  const up = [];
  for (let i = 0; i < ys.length; i += 1) {
    if (!Number.isFinite(ys[i])) break;
    if (xs[i] < axis.low || xs[i] > axis.high) continue;
    across.push(x.at(xs[i]));
    up.push(y.at(ys[i]));
  }
  if (kind === "points") {
    return across.map((at, i) =>
      `M${(at - 5).toFixed(1)} ${up[i].toFixed(1)}l5 -5l5 5l-5 5z`).join("");
  }
  return across.length > 1 ? path(across, up) : "";
}

function drawMarker({ marker }, picture, { boxes, x }) {
  if (!marker) return;
  put(marker.group, { visibility: picture.marker === undefined ? "hidden" : null });
  if (picture.marker === undefined) return;
  const at = Number(x.at(picture.marker).toFixed(1));
  const { top } = boxes[0];
  const { base } = boxes[boxes.length - 1];
  put(marker.line, { d: uprights(at, boxes) });
  put(marker.grip, { d: `M${at} ${base + 1}l8 8v7a3 3 0 0 1 -3 3h-10a3 3 0 0 1 -3 -3v-7z` });
  put(marker.hit, { x: at - 15, width: 30, y: top - 4, height: base - top + 26 });
}
