/**
 * Six lanes over one axis of steps, and the table of what each one took.
 */

import { make, modeColours, put, scale } from "./draw.js";

const TOP = 26; // title
const LANE = 37;
const LEFT = 34.5; // as chart.js leaves it for labels of three letters, and on the right
const RIGHT = 14;

/**
 * The lanes.
 *
 * @param {Element} parent
 * @param {function(number): void} choose Called with the lane that was clicked.
 * @returns {{resize: function(number), draw: function(Object)}} draw({ lanes, axis, now,
 *   chosen, words }): each lane is { name, told, predicted, births, end }.
 */
export function createLanes(parent, choose) {
  const svg = make("svg:svg", { class: "ra-lanes", role: "img", "data-picture": "lanes" }, parent);
  make("svg:text", { x: 0, y: 14, class: "sf-title", text: "modes learned, against steps" }, svg);
  const parts = { svg, choose, lanes: [], cursor: null, width: 700 };
  parts.body = make("svg:g", {}, svg);
  parts.cursor = make("svg:path", { class: "ra-cursor" }, svg);
  return {
    resize(width) {
      parts.width = width;
    },
    draw: (scene) => draw(parts, scene),
  };
}

function draw(parts, { lanes, axis, now, chosen, words }) {
  const { svg, width } = parts;
  const height = TOP + LANE * lanes.length + 14;
  put(svg, { width, height, viewBox: `0 0 ${width} ${height}`, "aria-label": words });
  const x = scale(axis, LEFT, width - RIGHT);
  const colours = modeColours(lanes[0].predicted.length);
  while (parts.lanes.length < lanes.length) addLane(parts);
  lanes.forEach((lane, k) => {
    const base = TOP + LANE * (k + 1) - 9;
    drawLane(parts.lanes[k], lane, { base, x, width, now, colours, picked: k === chosen });
  });
  const at = tenth(x.at(now));
  put(parts.cursor, { d: `M${at} ${TOP - 6}V${height - 10}` });
}

function addLane({ body, lanes, choose }) {
  const group = make("svg:g", { class: "ra-lane" }, body);
  const k = lanes.length;
  group.addEventListener("click", () => choose(k));
  lanes.push({
    group,
    hit: make("svg:rect", { class: "ra-hit", x: 0, y: TOP + LANE * k, height: LANE }, group),
    name: make("svg:text", { x: 0 }, group),
    told: make("svg:text", { class: "sf-tick sf-end" }, group),
    track: make("svg:path", { class: "sf-axis" }, group),
    way: make("svg:path", { class: "ra-way" }, group),
    predicted: make("svg:path", { class: "ra-predicted" }, group),
    marks: make("svg:g", {}, group),
  });
}

function drawLane(parts, { name, told, predicted, births, end }, { base, x, width, now, colours,
  picked }) {
  put(parts.group, { class: picked ? "ra-lane ra-picked" : "ra-lane" });
  put(parts.name, { y: base - 15, text: name });
  put(parts.hit, { width });
  put(parts.told, { x: width - RIGHT - 6, y: base - 15, text: told });
  put(parts.track, { d: `M${LEFT} ${base}H${width - RIGHT}` });
  put(parts.way, { d: `M${LEFT} ${base}H${tenth(x.at(Math.min(now, end)))}` });
  put(parts.predicted, { d: predicted.map((at) =>
    `M${Math.floor(x.at(at)) + 0.5} ${base - 11}v22`).join("") });
  const { marks } = parts;
  while (marks.childElementCount > births.length) marks.lastElementChild.remove();
  while (marks.childElementCount < births.length) {
    make("svg:path", { class: "sf-curve" }, make("svg:g", {}, marks));
  }
  // The first mode lies on top where several come at once.
  births.forEach((at, j) => {
    const group = marks.children[births.length - 1 - j];
    const { light, dark } = colours[j];
    put(group, { class: `sf-points sf-mode${at <= now ? "" : " ra-ahead"}`, "data-mode": j,
      style: `--light: ${light}; --dark: ${dark}` });
    put(group.firstElementChild, { d: `M${tenth(x.at(at) - 6)} ${base}l6 -6l6 6l-6 6z` });
  });
}

function tenth(value) {
  return Math.round(10 * value) / 10;
}

/**
 * The table: a row a lane.
 *
 * @param {Element} parent
 * @param {string[]} columns Heads; the first names the rows.
 * @param {string} caption
 * @returns {{draw: function(string[][], number)}} Rows, and which one is chosen.
 */
export function createTable(parent, columns, caption) {
  const table = make("table", { class: "sf-table ra-table" }, parent);
  make("caption", { text: caption }, table);
  const head = make("tr", {}, make("thead", {}, table));
  for (const text of columns) make("th", { scope: "col", text }, head);
  const body = make("tbody", {}, table);
  const draw_ = (rows, chosen) => {
    while (body.childElementCount < rows.length) {
      const line = make("tr", {}, body);
      columns.forEach((_, k) => make(k ? "td" : "th", k ? {} : { scope: "row" }, line));
    }
    rows.forEach((cells, i) => {
      put(body.children[i], { class: i === chosen ? "ra-picked" : "" });
      cells.forEach((text, k) => put(body.children[i].children[k], { text }));
    });
  };
  return { draw: draw_ };
}
