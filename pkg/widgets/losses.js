/**
 * The losses figure: another loss, other levels, other times, and sometimes a late swap.
 */

import { createChart } from "./chart.js";
import {
  addButton, addCheck, addChoice, addKey, addPanel, addRow, addSentence, addSlider,
} from "./controls.js";
import { make } from "./draw.js";
import { createRateBars } from "./losses_bars.js";
import { flow, levels } from "./losses_math.js";
import {
  changeWords, flowWords, openingWords, pictureWords, short, stage,
} from "./losses_story.js";
import { mount } from "./mount.js";
import { lowered } from "./words.js";
import { createWork } from "./work.js";

const TRAITS = ["loss", "lambd", "beta", "d", "gammas", "sigmas", "s0", "seed", "log_time"];
const LABEL = "Interactive figure: other losses in the linear model";

function render(context) {
  const figure = mount(context, { traits: TRAITS, label: LABEL });
  const view = { figure, scene: stage(figure.read()), looks: [], width: 700 };
  const pictures = make("div", { class: "sf-picture" }, figure.root);
  view.chart = createChart(pictures);
  view.bars = createRateBars(pictures);
  view.work = createWork((done) => {
    drawChart(view);
    if (done) view.told.say(view.words + flowWords(view.scene, view.looks));
  });
  addKey(figure.root, [["measured", "the flow itself, from a random start"],
    ["theory", "predicted"], ["time", "predicted times: τ a step, ⇄ a swap"]]);
  view.told = addSentence(figure.root);
  view.controls = addControls(view);
  figure.onWidth((width) => {
    const narrow = width < 600;
    const side = narrow ? width : Math.round(Math.min(0.3 * width, 280));
    view.bars.resize(side);
    view.chart.resize(narrow ? width : width - side - 22, narrow ? 380 : 420);
    drawAll(view);
  });
  figure.onChange(() => restart(view, null));
  figure.onDestroy(view.work.stop);
  figure.onDestroy(view.told.destroy);
  figure.onDestroy(view.chart.destroy);
  restart(view, null);
  return figure.destroy;
}

function addControls(view) {
  const change = (patch, done = true) => {
    // During a drag, the sentence compares with how things were before it.
    view.before = view.before ?? view.scene;
    view.figure.commit(patch, done);
    restart(view, view.before);
    if (done) view.before = null;
  };
  const panel = addPanel(view.figure.root);
  const loss = addChoice(panel, { control: "loss", label: "loss",
    options: [["barlow_twins", "Barlow Twins"], ["vicreg", "VICReg and spectral"]] },
  (value) => change({ loss: value }));
  const row = addRow(panel);
  // Whole steps of the slider's scale, so that one is among them.
  const lambd = addSlider(row, { control: "lambd", label: "off-diagonal weight λ",
    min: 10 ** -2.5, max: 2, log: true, show: short,
    speak: (value) => `lambda ${value.toPrecision(2)}` },
  (value, done) => change({ lambd: value }, done));
  const beta = addSlider(row, { control: "beta", label: "agreement β", min: 0, max: 2,
    step: 0.02, show: (value) => value.toFixed(2),
    speak: (value) => `beta ${value.toFixed(2)}${value === 1 ? ", the spectral loss" : ""}` },
  (value, done) => change({ beta: value }, done));
  const d = addSlider(row, { control: "d", label: "dimensions d", min: 1, max: 5, step: 1 },
    (value, done) => change({ d: value }, done));
  const last = addRow(panel);
  addButton(last, { control: "draw", text: "Draw another start" },
    () => change({ seed: (view.scene.model.seed + 1) % 2 ** 31 }));
  const log = addCheck(last, { control: "log-time", label: "logarithmic time" },
    (checked) => change({ log_time: checked }));
  return ({ barlow, model, axis }) => {
    loss.set(model.loss === "vicreg" ? "vicreg" : "barlow_twins");
    lambd.label.hidden = !barlow;
    beta.label.hidden = barlow;
    lambd.set(model.lambd);
    beta.set(model.beta);
    d.set(model.d, { max: model.gammas.length });
    log.set(axis.log);
  };
}

/** New state: all that is predicted at once, and the flow in slices. */
function restart(view, before) {
  const { figure, told, work } = view;
  const scene = stage(figure.read());
  view.scene = scene;
  view.words = before ? changeWords(before, scene) : openingWords(scene);
  view.looks = [];
  drawAll(view);
  told.say(view.words);
  work.start(flow(scene.model, scene.W, scene.times), (look) => view.looks.push(look));
}

function drawAll(view) {
  view.controls(view.scene);
  view.bars.draw(view.scene);
  drawChart(view);
}

function drawChart({ chart, scene, looks }) {
  const { barlow, model, axis, times, theory, taus, modes, swaps } = scene;
  const xs = times.slice(0, looks.length);
  const columns = barlow ? model.d : model.gammas.length;
  // Broad below curves of theory that it should cover, thin beside stairs.
  const broad = !barlow || model.lambd >= 1;
  const measured = { kind: "measured", broad, xs };
  const flowed = Array.from({ length: columns }, (_, j) => ({ ...measured, mode: j,
    ys: looks.map(({ eigenvalues, shares }) => (barlow ? eigenvalues : shares)[j]) }));
  const predicted = theory.eigenvalues.map(({ mode, values }) =>
    ({ kind: "theory", mode, xs: theory.xs, ys: values }));
  const top = barlow ? levels(model.d, model.lambd).eigenvalue[1] : 1;
  const numbered = [...taus].sort((a, b) => a - b);
  chart.draw({
    words: pictureWords(scene),
    x: { ...axis, name: "flow time" },
    modes: model.gammas.length,
    panels: [
      { title: "loss", low: -0.03 * model.d, high: 1.05 * model.d, share: 0.36, curves: [
        { ...measured, ys: looks.map(({ loss }) => loss) },
        { kind: "theory", xs: theory.xs, ys: theory.loss },
      ] },
      { title: barlow ? "eigenvalues of the cross-correlation" : "variance along each mode",
        low: -0.04 * top, high: 1.1 * top, curves: [...predicted, ...flowed] },
    ],
    times: [
      ...numbered.filter((tau) => tau > 0).map((at, k) => ({ at,
        text: `τ${lowered((barlow ? k : modes[taus.indexOf(at)]) + 1)}` })),
      ...swaps.map(({ time }) => ({ at: time, text: "⇄" })),
    ],
  });
}

export default { render };
