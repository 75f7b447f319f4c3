/**
 * The kernel figure: one slider widens the kernel, and everything learned follows.
 */

import { createChart } from "./chart.js";
import {
  addChoice, addKey, addPanel, addRow, addSentence, addSlider,
} from "./controls.js";
import { make, put } from "./draw.js";
import { beyond, stage, timeAxis, timeWords, unpack, widthWords } from "./kernel_width_math.js";
import { createEnds, createScatter, halfWidth } from "./kernel_width_pictures.js";
import { mount } from "./mount.js";
import { digits, gammaName, lowered } from "./words.js";

const TRAITS = ["frames", "s0", "index", "d", "first", "time"];
const LABEL = "Interactive figure: the width of a kernel";

function render(context) {
  const figure = mount(context, { traits: TRAITS, label: LABEL });
  const state = figure.read();
  const view = { figure, levels: unpack(state.frames), plane: planeOf(state.frames) };
  const pictures = make("div", { class: "kw-pictures" }, figure.root);
  view.points = createScatter(pictures, "points");
  view.embedding = createScatter(pictures, "embedding");
  view.ends = createEnds(pictures);
  const change = (patch, done = true) => {
    figure.commit(patch, done);
    drawAll(view, "time" in patch ? timeWords : "first" in patch ? modeWords : widthWords);
  };
  const setTime = (time, done) =>
    change({ time: time >= 0.999 * view.scene.axis.high ? null : time }, done);
  view.chart = createChart(figure.root, { onMarker: setTime });
  addKey(figure.root, [["theory", "predicted"], ["time", "step time τ"],
    ["beyond", "mode beyond d, or negative"]]);
  const key = make("p", { class: "sf-key kw-key" }, figure.root);
  for (const k of [0, 1, 2]) make("span", { class: `kw-${k}`, text: "●■▲"[k] }, key);
  put(make("span", {}, key), { text: "the three clusters, in colours of their own (not those of modes)" });
  put(make("span", { class: "kw-hand" }, key), { text: "○" });
  put(make("span", {}, key), { text: "the radius is the width of the kernel; a wide one leaves the picture" });
  view.told = addSentence(figure.root);
  view.controls = addControls(view, change, setTime);
  figure.onWidth((width) => {
    const narrow = width < 600;
    const side = Math.floor(narrow ? (width - 12) / 2 : (width - 44) / 3);
    for (const picture of [view.points, view.embedding]) picture.resize(side);
    view.ends.resize(narrow ? width : side, narrow ? 200 : side + 46);
    view.chart.resize(width, 330);
    drawAll(view);
  });
  figure.onChange(() => drawAll(view, widthWords));
  for (const part of [view.told, view.chart]) figure.onDestroy(part.destroy);
  drawAll(view, widthWords);
  return figure.destroy;
}

// The plane does not change: a square around all views, and where the ring stands.
function planeOf({ views, labels }) {
  const [xs, ys] = [0, 1].map((k) => views.map((view) => view[k]));
  const middle = (all) => (Math.min(...all) + Math.max(...all)) / 2;
  const half = 1.08 * Math.max(...[xs, ys].map((all) => Math.max(...all) - middle(all)));
  const first = views.filter((_, i) => labels[i % labels.length] === 0);
  const mean = (k) => first.reduce((sum, view) => sum + view[k] - middle([xs, ys][k]), 0) /
    Math.max(first.length, 1);
  return { across: xs.map((x) => x - middle(xs)), up: ys.map((y) => y - middle(ys)),
    low: -half, high: half, ring: { x: mean(0), y: mean(1) } };
}

function addControls(view, change, setTime) {
  const { frames, s0 } = view.figure.read();
  const axis = timeAxis(frames, s0);
  const panel = addPanel(view.figure.root);
  const row = addRow(panel);
  const width = addSlider(row, { control: "width", label: "width of the kernel", min: 0,
    max: frames.widths.length - 1, step: 1 }, (index, done) => change({ index }, done));
  const d = addSlider(row, { control: "d", label: "outputs d", min: 1,
    max: frames.gammas[0].length, step: 1 }, (value, done) => change({ d: value }, done));
  // Twentieths of a decade; the text tells the time.
  const place = (at) => 20 * Math.log10(at / axis.low);
  const time = addSlider(row, { control: "time", label: "time", min: 0,
    max: Math.round(place(axis.high)), step: 1 },
  (k, done) => setTime(axis.low * 10 ** (k / 20), done));
  const modes = addChoice(panel, { control: "modes", label: "embedding in",
    options: [1, 2, 3].map((k) => [String(k), `modes ${k} and ${k + 1}`]) },
  (value) => change({ first: Number(value) }));
  return (state, scene) => {
    const text = digits(scene.width);
    width.set(state.index, { text, spoken: `width ${text}` });
    d.set(state.d);
    // A mode may need longer than the axis is: then its right end is not the end of training.
    const end = scene.learned < scene.d ? "end of the time shown" : "after training";
    const last = state.time === null;
    time.set(place(scene.now), { text: last ? "the end" : digits(scene.now),
      spoken: last ? end : `flow time ${digits(scene.now)}` });
    modes.set(String(state.first));
  };
}

function modeWords({ first, d }) {
  const [one, two] = [first, first + 1];
  return `Embedding drawn in modes ${one} and ${two}; the marks in the plane are as large as ` +
    `mode ${one} is there, hollow where it is negative.${beyond(first, d)}`;
}

/** Draw everything; `words` tells what has changed. */
function drawAll(view, words) {
  const state = view.figure.read();
  const scene = stage(state, view.levels);
  view.scene = scene;
  view.controls(state, scene);
  drawPoints(view, state, scene);
  view.ends.draw({ gammas: scene.all, negatives: scene.negatives, d: state.d,
    words: `Largest eigenvalues: ${scene.all.map(digits).join(", ")}. ` +
      `Lowest: ${scene.negatives.map(digits).join(", ")}.` });
  drawChart(view.chart, scene);
  if (words) view.told.say(words(scene));
}

function drawPoints({ points, embedding, plane }, { frames: { labels } }, scene) {
  const { first, final, width } = scene;
  points.draw({ ...plane, labels, title: `the plane, mode ${first}`, limit: "",
    sizes: final[first - 1], ring: { ...plane.ring, radius: width },
    words: `Points in three clusters, marked by the size of mode ${first}, and a ring as wide ` +
      `as the kernel, ${digits(width)}.` });
  const half = halfWidth([final[first - 1], final[first]]);
  const [across, up] = scene.embedding;
  embedding.draw({ across, up, labels, low: -half, high: half, limit: `±${half}`,
    title: `modes ${first} → and ${first + 1} ↑`,
    words: `Embedding of the points by modes ${first} and ${first + 1} at time ` +
      `${digits(scene.now)}.` });
}

function drawChart(chart, { axis, xs, curves, taus, d, now, gammas }) {
  const column = (j) => curves.eigenvalues.map((row) => row[j]);
  chart.draw({
    words: `Predicted loss and eigenvalues of the cross-correlation against flow time; steps at ` +
      `${taus.map(digits).join(", ")} for ${gammas.map((_, j) => gammaName(j)).join(", ")}.`,
    x: { ...axis, name: "flow time" },
    modes: d,
    panels: [
      { title: "loss", low: 0, high: 1.04 * d, share: 0.42,
        curves: [{ kind: "theory", xs, ys: curves.loss }] },
      { title: "eigenvalues of the cross-correlation", low: -0.04, high: 1.1,
        curves: gammas.map((_, j) => ({ kind: "theory", mode: j, xs, ys: column(j) })) },
    ],
    times: taus.map((at, j) => ({ at, text: `τ${lowered(j + 1)}` })),
    marker: now,
  });
}

export default { render };
