/**
 * Small grey pictures: the views that go in, and what the network has made of each mode.
 */

import { make, modeColours, put } from "./draw.js";
import { innerProduct } from "./train.js";
import { PIXELS, WINDOW } from "./train_views.js";

const PAIRS = 6; // pairs of views on show

/**
 * Build the strip under the curves.
 *
 * @param {Element} parent
 * @param {number} d Modes.
 * @returns {{views: function(Object), theory: function(Object), modes: function(Object, string)}}
 */
export function createPictures(parent, d) {
  const strip = make("div", { class: "tn-strip" }, parent);
  const seen = album(strip, "going in: two views of each patch", "tn-views");
  const pairs = Array.from({ length: PAIRS }, () => {
    const column = make("span", { class: "tn-pair" }, seen.row);
    return [thumbnail(column), thumbnail(column)];
  });
  const colours = modeColours(d);
  const books = [["learned", "what the network looks for, mode by mode"],
    ["theory", "predicted: the eigenvectors of Γ"]];
  const both = make("div", { class: "tn-both" }, strip);
  const [now, foreseen] = books.map(([name, words]) => {
    const book = album(both, words, `tn-${name}`);
    return { ...book, faces: colours.map(({ light, dark }) => {
      const frame = make("span", { class: "tn-frame sf-mode",
        style: `--light: ${light}; --dark: ${dark}` }, book.row);
      return thumbnail(frame);
    }) };
  });
  return {
    views: ({ work }) => {
      pairs.forEach(([one, two], b) => {
        paint(one, work.x.subarray(b * PIXELS));
        paint(two, work.x.subarray((work.count + b) * PIXELS));
      });
      put(seen.row, { "aria-label": "Six patches of photographs, two views of each." });
    },
    theory: (run) => {
      const { moments } = run;
      foreseen.faces.forEach((face, j) =>
        paint(face, inPixels(run, moments.vectors[j])));
      put(foreseen.row, { "aria-label": `The first ${d} eigenvectors of Gamma as pictures.` });
    },
    modes: (run, words) => {
      now.faces.forEach((face, j) => paint(face, response(run, j)));
      put(now.row, { "aria-label": words });
    },
  };
}

function album(parent, words, name) {
  const figure = make("div", { class: `tn-album ${name}` }, parent);
  make("p", { class: "tn-caption", text: words }, figure);
  return { row: make("div", { class: "tn-row", role: "img" }, figure) };
}

function thumbnail(parent) {
  const canvas = make("canvas", { width: WINDOW, height: WINDOW }, parent);
  const pen = canvas.getContext("2d");
  return { pen, image: pen.createImageData(WINDOW, WINDOW) };
}

// Grey where the picture is zero, white and black at its extremes.
function paint({ pen, image }, picture) {
  let most = 1e-300;
  for (let p = 0; p < PIXELS; p += 1) most = Math.max(most, Math.abs(picture[p]));
  for (let p = 0; p < PIXELS; p += 1) {
    const grey = Math.round(128 + (120 * picture[p]) / most);
    image.data.fill(grey, 4 * p, 4 * p + 3);
    image.data[4 * p + 3] = 255;
  }
  pen.putImageData(image, 0, 0);
}

/**
 * What the network looks for in mode j: the weights of the output into which it puts that
 * mode, W^T W v_j; behind a hidden layer, the average view, weighted by that output.
 *
 * @param {Object} run
 * @param {number} j
 * @returns {Float64Array} (64,)
 */
export function response(run, j) {
  const { net, moments } = run;
  const { W, d, size } = net;
  const features = new Float64Array(size);
  for (let i = 0; i < d; i += 1) {
    const share = innerProduct(W, i * size, moments.vectors[j], 0, size);
    for (let u = 0; u < size; u += 1) features[u] += share * W[i * size + u];
  }
  return inPixels(run, features);
}

function inPixels({ net, probe }, features) {
  if (!probe) return features;
  const { size } = net;
  const picture = new Float64Array(PIXELS);
  for (let r = 0; r < 2 * probe.count; r += 1) {
    const answer = innerProduct(features, 0, probe.h, r * size, size);
    for (let p = 0, i = r * PIXELS; p < PIXELS; p += 1, i += 1) picture[p] += answer * probe.x[i];
  }
  return picture;
}
