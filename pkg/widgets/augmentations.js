/**
 * The augmentations figure: four strengths, and the modes that the views let through.
 */

import {
  PARTS, indexOf, pictureWords, stage, tauName, unpack, words,
} from "./augmentations_math.js";
import { createBars, createRows } from "./augmentations_pictures.js";
import { createChart } from "./chart.js";
import { addChoice, addKey, addPanel, addRow, addSentence, addSlider } from "./controls.js";
import { make, round } from "./draw.js";
import { mount } from "./mount.js";
import { digits, list } from "./words.js";

const TRAITS = ["grid", ...PARTS, "s0", "reference"];
const LABEL = "Interactive figure: the strength of each augmentation, and the modes it leaves";
const NAMES = { crop: "crop", jitter: "colour jitter", grey: "grey", blur: "blur" };

function render(context) {
  const figure = mount(context, { traits: TRAITS, label: LABEL });
  const state = figure.read();
  const { grid } = state;
  const view = { figure, pictures: unpack(grid), now: settingOf(state), past: null,
    range: rangeOf(grid) };
  const top = make("div", { class: "sf-picture" }, figure.root);
  view.bars = createBars(top);
  view.chart = createChart(top);
  view.rows = createRows(figure.root, { side: grid.side, count: grid.gammas[0].length });
  addKey(figure.root, [["theory", "predicted"], ["time", "step time τ"]]);
  view.told = addSentence(figure.root);
  view.controls = addControls(view);
  make("p", { class: "sf-note", text: noteOf(grid) }, figure.root);
  figure.onWidth((width) => {
    const narrow = width < 600;
    const side = narrow ? width : Math.round(0.4 * width);
    view.bars.resize(side, narrow ? 200 : 320);
    view.chart.resize(narrow ? width : width - side - 22, 320);
    view.rows.resize(width);
    drawAll(view);
  });
  figure.onChange(() => moveTo(view));
  for (const part of [view.told, view.chart]) figure.onDestroy(part.destroy);
  drawAll(view);
  return figure.destroy;
}

function settingOf(state) {
  return Object.fromEntries(PARTS.map((part) => [part, state[part]]));
}

// One axis for all settings, so that a bar that falls is seen to fall.
function rangeOf({ gammas }) {
  const all = gammas.flat();
  return { low: round(0.8 * Math.min(...all), false), high: round(1.1 * Math.max(...all), true),
    log: true };
}

function noteOf({ spread, made }) {
  const [middle, most] = spread.map((share) => (100 * share).toFixed(0));
  return `${made} An eigenvalue of one draw differs from the mean of all draws by ${middle} % in ` +
    `the median and by ${most} % at most. A mode counts as the same while at least half of its ` +
    "square lies along the old one.";
}

function addControls(view) {
  const { figure } = view;
  const { levels } = figure.read().grid;
  const change = (patch, done = true) => {
    figure.commit(patch, done);
    moveTo(view);
  };
  const panel = addPanel(figure.root);
  const row = addRow(panel);
  const sliders = PARTS.map((part, k) => addSlider(row, { control: part, label: NAMES[part], min: 0,
    max: levels[k].length - 1, step: 1, show: (level) => levels[k][level] },
  (level, done) => change({ [part]: level }, done)));
  const s0 = addSlider(row, { control: "s0", label: "start s₀", min: 1e-6, max: 0.01, log: true,
    step: 0.25, show: digits }, (value, done) => change({ s0: value }, done));
  const reference = addChoice(panel, { control: "reference", label: "compare with",
    options: [["before", "the setting before"], ["none", "no augmentation"]] },
  (value) => change({ reference: value }));
  return (state) => {
    PARTS.forEach((part, k) => sliders[k].set(state[part]));
    s0.set(state.s0);
    reference.set(state.reference);
  };
}

/** What was shown becomes the setting before. */
function moveTo(view) {
  const state = view.figure.read();
  const next = settingOf(state);
  if (indexOf(state.grid, next) !== indexOf(state.grid, view.now)) {
    view.past = view.now;
    view.now = next;
  }
  drawAll(view);
}

function drawAll(view) {
  const state = view.figure.read();
  const scene = stage(state, view.pictures, state.reference === "before" ? view.past : null);
  view.controls(state);
  view.bars.draw({ gammas: scene.gammas, past: scene.gammasBefore, range: view.range,
    words: `Eigenvalues of Gamma: ${list(scene.gammas.map(digits))}; before: ` +
      `${list(scene.gammasBefore.map(digits))}.` });
  view.rows.draw({ ...scene, words: pictureWords(scene),
    titles: [scene.past ? "modes of the setting before" : "modes without augmentation",
      "modes now, in the order in which they are learned"] });
  drawChart(view.chart, scene);
  view.told.say(words(scene));
}

function drawChart(chart, { axis, xs, curves, taus, gammas }) {
  const kind = "theory";
  chart.draw({
    words: "Predicted loss and eigenvalues of the cross-correlation against flow time; steps at " +
      `${taus.map(digits).join(", ")}.`,
    x: { ...axis, name: "flow time" },
    modes: gammas.length,
    panels: [
      { title: "loss", low: 0, high: 1.04 * gammas.length, share: 0.42,
        curves: [{ kind, xs, ys: curves.loss }] },
      { title: "eigenvalues of C", low: -0.04, high: 1.1, curves: gammas.map((_, mode) =>
        ({ kind, mode, xs, ys: curves.eigenvalues.map((row) => row[mode]) })) },
    ],
    times: taus.map((at, j) => ({ at, text: tauName(j) })),
  });
}

export default { render };
