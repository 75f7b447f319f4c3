/**
 * The push figure: one slider makes a cloud of embeddings smaller, and three losses answer.
 */

import { createChart } from "./chart.js";
import { addChoice, addKey, addPanel, addRow, addSentence, addSlider } from "./controls.js";
import { make } from "./draw.js";
import { mount } from "./mount.js";
import { HIGH, LOSSES, LOW, stage, words } from "./push_math.js";
import { createPlane } from "./push_pictures.js";
import { digits } from "./words.js";

const TRAITS = ["z", "z_prime", "scale", "form"];
const LABEL = "Interactive figure: what each loss does to a small embedding";
const RANGE = { low: 1e-4, high: 1e5, log: true };

function render(context) {
  const figure = mount(context, { traits: TRAITS, label: LABEL });
  const change = (patch, done = true) => {
    figure.commit(patch, done);
    draw();
  };
  const rows = ["pu-planes", "pu-charts"].map((name) => make("div", { class: name }, figure.root));
  const planes = LOSSES.map(([loss]) => createPlane(rows[0], loss));
  const charts = LOSSES.map(() =>
    createChart(rows[1], { onMarker: (scale, done) => change({ scale }, done) }));
  addKey(figure.root, [["measured", "push of the loss on this cloud, computed"],
    ["theory", "the law of its size"]]);
  const told = addSentence(figure.root);
  const panel = addPanel(figure.root);
  const scale = addSlider(addRow(panel), { control: "scale", label: "size of the embedding",
    min: LOW, max: HIGH, log: true, show: digits, speak: (value) => `size ${digits(value)}` },
  (value, done) => change({ scale: value }, done));
  const form = addChoice(panel, { control: "form", label: "losses",
    options: [["published", "as published"], ["stepwise", "for a small start"]] },
  (value) => change({ form: value }));

  function draw() {
    const state = figure.read();
    const scene = stage(state);
    scale.set(state.scale);
    form.set(state.form);
    scene.losses.forEach((one, k) => {
      drawPlane(planes[k], one, scene);
      drawChart(charts[k], one, scene);
    });
    told.say(words(scene));
  }

  figure.onWidth((width) => {
    const narrow = width < 600;
    const side = Math.floor((width - 2 * (narrow ? 8 : 22)) / 3);
    for (const plane of planes) plane.resize(side);
    for (const chart of charts) chart.resize(narrow ? width : side, narrow ? 190 : 260);
    draw();
  });
  figure.onChange(draw);
  for (const part of [told, ...charts]) figure.onDestroy(part.destroy);
  return figure.destroy;
}

function drawPlane(plane, { name, arrows, push, growth }, { views, scale }) {
  plane.draw({ title: name, below: `one step: × ${digits(growth)}`, views, arrows,
    words: `${name}: pairs of points in the plane, the square as large as the cloud of size ` +
      `${digits(scale)}, with an arrow for the push on each, ${digits(push)} on average.` });
}

function drawChart(chart, { name, ys, law, push }, { xs, scale }) {
  const lawful = xs.map((at) => law.factor * at ** law.power);
  chart.draw({
    words: `${name}: push against size of the embedding, both on log scales; at size ` +
      `${digits(scale)} the push is ${digits(push)}, and the law is the power ${law.power}.`,
    x: { low: LOW, high: HIGH, log: true, name: "size" },
    panels: [{ title: `push of ${name}`, ...RANGE, curves: [
      inside({ kind: "theory", xs, ys: lawful }), inside({ kind: "measured", xs, ys }),
    ] }],
    marker: scale,
  });
}

// A curve ends where it leaves the panel: at the edge it would look flat.
function inside({ kind, xs, ys }) {
  const seen = xs.map((_, i) => i).filter((i) => ys[i] >= RANGE.low && ys[i] <= RANGE.high);
  return { kind, xs: seen.map((i) => xs[i]), ys: seen.map((i) => ys[i]) };
}

export default { render };
