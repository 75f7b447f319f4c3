/**
 * Two rows of modes as small pictures, with a line from each to what it has become, and bars.
 */

import { make, modeColours, put, scale, ticks } from "./draw.js";
import { lowered, tickText } from "./words.js";

const LINES = 34; // height of the lines between the rows
const TOP = 26; // title
const FOOT = 22;
const LEFT = 42; // numbers of the axis

/**
 * The two rows.
 *
 * @param {Element} parent
 * @param {{side: number, count: number}} size Of a picture, in pixels; how many.
 * @returns {{resize: function(number), draw: function(Object)}} draw({ before, now, was,
 *   signs, words, title }).
 */
export function createRows(parent, { side, count }) {
  const root = make("div", { class: "au-rows", role: "img", "data-picture": "modes" }, parent);
  const rows = ["before", "now"].map((name) => {
    const caption = make("p", { class: "au-caption" }, root);
    const row = make("div", { class: `au-row au-${name}` }, root);
    const faces = modeColours(count).map(({ light, dark }) => {
      const frame = make("span", { class: "au-frame sf-mode",
        style: `--light: ${light}; --dark: ${dark}` }, row);
      const canvas = make("canvas", { width: side, height: side }, frame);
      const pen = canvas.getContext("2d");
      return { frame, pen, image: pen.createImageData(side, side) };
    });
    return { caption, row, faces };
  });
  const svg = make("svg:svg", { class: "au-lines", "aria-hidden": "true" });
  rows[1].caption.before(svg);
  const lines = Array.from({ length: count }, () => make("svg:path", { class: "au-line" }, svg));
  let width = 700;
  return {
    resize(now) {
      width = now;
      put(svg, { width, height: LINES, viewBox: `0 0 ${width} ${LINES}` });
    },
    draw({ before, now, was, signs, words, titles }) {
      const x = (j) => Math.round(((j + 0.5) * width) / count);
      const colours = modeColours(count);
      before.forEach((mode, i) => paint(rows[0].faces[i], mode, 1));
      now.forEach((mode, j) => paint(rows[1].faces[j], mode, signs[j]));
      lines.forEach((line, j) => put(line, { class: `au-line sf-mode${was[j] === j ? "" : " au-moved"}`,
        style: `--light: ${colours[j].light}; --dark: ${colours[j].dark}`,
        d: was[j] < 0 ? "" : `M${x(was[j])} 2L${x(j)} ${LINES - 2}` }));
      rows[0].faces.forEach(({ frame }, i) =>
        put(frame, { "data-gone": was.includes(i) ? null : "yes" }));
      rows[1].faces.forEach(({ frame }, j) => put(frame, { "data-new": was[j] < 0 ? "yes" : null }));
      titles.forEach((text, k) => put(rows[k].caption, { text }));
      put(root, { "aria-label": words });
    },
  };
}

// Grey where the mode is zero in all three colours.
function paint({ pen, image }, mode, sign) {
  for (let p = 0; 3 * p < mode.length; p += 1) {
    for (let c = 0; c < 3; c += 1) image.data[4 * p + c] = 128 + sign * mode[3 * p + c];
    image.data[4 * p + 3] = 255;
  }
  pen.putImageData(image, 0, 0);
}

/**
 * Eigenvalues as bars on a log axis that stays, with marks where the modes were.
 *
 * @param {Element} parent
 * @returns {{resize: function(number, number), draw: function(Object)}} draw({ gammas,
 *   past, range, words }): `past` are the eigenvalues of the other setting.
 */
export function createBars(parent) {
  const svg = make("svg:svg", { class: "au-bars", role: "img", "data-picture": "spectrum" }, parent);
  const frame = make("svg:g", {}, svg);
  const bars = make("svg:g", {}, svg);
  const marks = make("svg:path", { class: "au-past" }, svg);
  let size = [240, 330];
  let key = "";
  return {
    resize(width, height) {
      size = [width, height];
      put(svg, { width, height, viewBox: `0 0 ${width} ${height}` });
    },
    draw({ gammas, past, range, words }) {
      const [width, height] = size;
      const y = scale(range, height - FOOT, TOP);
      const each = (width - LEFT) / gammas.length;
      const now = JSON.stringify([size, range]);
      if (now !== key) drawFrame(frame, range, y, size, gammas.length);
      key = now;
      const colours = modeColours(gammas.length);
      while (bars.childElementCount < gammas.length) {
        make("svg:rect", {}, make("svg:g", {}, bars));
      }
      gammas.forEach((gamma, j) => {
        const group = bars.children[j];
        put(group, { class: "sf-bar sf-mode",
          style: `--light: ${colours[j].light}; --dark: ${colours[j].dark}` });
        const top = y.at(gamma);
        put(group.firstElementChild, { x: LEFT + (j + 0.16) * each, width: 0.68 * each, y: top,
          height: Math.max(height - FOOT - top, 0) });
      });
      put(marks, { d: past.map((gamma, j) =>
        `M${(LEFT + (j + 0.04) * each).toFixed(1)} ${y.at(gamma).toFixed(1)}h${(0.92 * each).toFixed(1)}`).join("") });
      put(svg, { "aria-label": words });
    },
  };
}

function drawFrame(frame, range, y, [width, height], count) {
  frame.replaceChildren();
  make("svg:text", { x: 0, y: 14, class: "sf-title", text: "eigenvalues of Γ (line: before)" }, frame);
  for (const value of ticks(range, 4)) {
    const at = y.at(value);
    make("svg:line", { x1: LEFT, x2: width, y1: at, y2: at, class: "sf-grid" }, frame);
    make("svg:text", { x: LEFT - 7, y: at + 4, class: "sf-tick sf-end", text: tickText(value) }, frame);
  }
  const each = (width - LEFT) / count;
  for (let j = 0; j < count; j += 1) {
    make("svg:text", { x: LEFT + (j + 0.5) * each, y: height - 6, class: "sf-tick sf-middle",
      text: `γ${lowered(j + 1)}` }, frame);
  }
}
