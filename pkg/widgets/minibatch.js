/**
 * The minibatch figure: fresh pairs at every step, and a plateau below one.
 */

import { createChart } from "./chart.js";
import {
  addButton, addChoice, addKey, addPanel, addRow, addSentence, addSlider,
} from "./controls.js";
import { make } from "./draw.js";
import {
  averageFlow, descend, learningRate, measuredLevel, plateau, restLevel,
} from "./minibatch_math.js";
import { mount } from "./mount.js";
import { digits } from "./words.js";
import { createWork } from "./work.js";

const TRAITS = ["batch", "d", "rho", "estimator", "seed"];
const LABEL = "Interactive figure: descent on minibatches";
const START = 0.01; // s0
const END = 12; // flow time
const POINTS = 240;
const REST = 150; // milliseconds without a change before the simulation starts
const TIMES = Array.from({ length: POINTS + 1 }, (_, k) => (k * END) / POINTS);
const BATCHES = Array.from({ length: 65 }, (_, k) => 2 ** (1 + k / 8));

function render(context) {
  const figure = mount(context, { traits: TRAITS, label: LABEL });
  const view = { figure, state: figure.read(), run: [], seen: [], rest: 0 };
  const pictures = make("div", { class: "sf-picture" }, figure.root);
  view.chart = createChart(pictures);
  view.levels = createChart(pictures);
  view.work = createWork((done) => finishSlice(view, done));
  addKey(figure.root, [["measured", "mean of the eigenvalues, each one thin"],
    ["theory", "predicted mean"], ["level", "predicted plateau"],
    ["points", "measured plateau"]]);
  view.told = addSentence(figure.root);
  view.controls = addControls(view);
  figure.onWidth((width) => {
    const narrow = width < 600;
    const side = narrow ? width : Math.round(0.36 * width);
    view.chart.resize(narrow ? width : width - side - 22, 330);
    view.levels.resize(side, narrow ? 250 : 330);
    drawAll(view);
  });
  figure.onChange(() => restart(view));
  figure.onDestroy(view.work.stop);
  figure.onDestroy(() => clearTimeout(view.rest));
  for (const part of [view.told, view.chart, view.levels]) figure.onDestroy(part.destroy);
  restart(view);
  return figure.destroy;
}

function addControls(view) {
  const change = (patch, done = true) => {
    view.figure.commit(patch, done);
    restart(view);
  };
  const panel = addPanel(view.figure.root);
  const row = addRow(panel);
  // Half powers of two; the text tells the whole number.
  const batch = addSlider(row, { control: "batch", label: "batch size B", min: 1, max: 9,
    step: 0.5 }, (power, done) => change({ batch: Math.round(2 ** power) }, done));
  const d = addSlider(row, { control: "d", label: "dimensions d", min: 1, max: 10, step: 1 },
    (value, done) => change({ d: value }, done));
  const rho = addSlider(row, { control: "rho", label: "correlation ρ", min: 0.3, max: 1,
    step: 0.02, show: (value) => value.toFixed(2) },
  (value, done) => change({ rho: value }, done));
  const estimator = addChoice(panel, { control: "estimator", label: "gradient from",
    options: [["paired", "one batch"], ["split", "two independent halves of it"]] },
  (value) => change({ estimator: value }));
  const last = addRow(panel);
  addButton(last, { control: "draw", text: "Draw other pairs" },
    () => change({ seed: (view.state.seed + 1) % 2 ** 31 }));
  return (state) => {
    const pairs = `${state.batch}`;
    batch.set(Math.log2(state.batch), { text: pairs, spoken: `${pairs} pairs a step` });
    d.set(state.d);
    rho.set(state.rho);
    estimator.set(state.estimator);
  };
}

/** New state: the prediction at once, the descent when the hand rests. */
function restart(view) {
  const { figure, work } = view;
  const state = figure.read();
  // What was measured stays while it can be compared.
  if (state.d !== view.state.d || state.rho !== view.state.rho) view.seen = [];
  view.state = state;
  view.run = [];
  work.stop();
  clearTimeout(view.rest);
  view.rest = setTimeout(() => {
    work.start(descend(state, START, END, POINTS), (point) => view.run.push(point));
  }, REST);
  drawAll(view);
  view.told.say(predicted(view));
}

function finishSlice(view, done) {
  const { run, state, seen, told } = view;
  if (done) {
    const level = measuredLevel(run);
    view.seen = [...seen, { batch: state.batch, level }];
    told.say(predicted(view) + measured(level, run));
  }
  drawChart(view);
  if (done) drawLevels(view);
}

function predicted({ state }) {
  const { batch, d, rho, estimator } = state;
  const level = plateau(d, rho, batch);
  const setting = `B = ${batch}, d = ${d}, ρ = ${rho.toFixed(2)}`;
  return estimator === "paired"
    ? `${setting}: on average the eigenvalues rest at c* = ${level.toFixed(3)}, not at one.`
    : `${setting}: two independent halves measure the gradient without bias, so the ` +
      `eigenvalues rest near one, not at c* = ${level.toFixed(3)}.`;
}

function measured(level, run) {
  const last = run[run.length - 1];
  return Number.isFinite(level)
    ? ` Measured: ${level.toFixed(3)}, the mean over the last third.`
    : ` Here the descent ran away by t = ${digits(last.t)}: without bias, but the noise ` +
      "of so small halves is too strong. Take a larger batch.";
}

function drawAll(view) {
  view.controls(view.state);
  const { d } = view.state;
  view.flow = averageFlow(view.state, START, TIMES);
  view.order = Array.from({ length: d }, (_, j) => j);
  drawChart(view);
  drawLevels(view);
}

function drawChart({ chart, state, run, flow, order }) {
  const level = restLevel(state);
  const column = (j) => run.map(({ eigenvalues }) => eigenvalues[j]);
  const xs = TIMES.slice(0, run.length);
  const top = state.estimator === "paired" ? 1.15 : 1.8; // the cure is noisier
  chart.draw({
    words: `Eigenvalues of the cross-correlation against flow time, descending on batches ` +
      `of ${state.batch}; predicted plateau ${level.toFixed(3)}.`,
    x: { low: 0, high: END, log: false, name: `flow time (learning rate ` +
      `${digits(learningRate(state))})` },
    modes: state.d,
    panels: [{ title: "eigenvalues of C = WΓWᵀ", low: -0.03, high: top, curves: [
      { kind: "theory", xs: TIMES, ys: flow.map(mean) },
      { kind: "measured", xs, ys: run.map(({ eigenvalues }) => mean(eigenvalues)) },
      ...order.map((j) => ({ kind: "measured", mode: j, broad: false, xs, ys: column(j) })),
    ], levels: [{ at: level }] }],
  });
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function drawLevels({ levels, state, seen }) {
  const { d, rho, batch } = state;
  const found = seen.filter(({ level }) => Number.isFinite(level));
  // The biased level stays in sight beside the cure.
  const estimators = state.estimator === "paired" ? ["paired"] : ["paired", "split"];
  levels.draw({
    words: `Predicted plateau against batch size; at ${batch} pairs it is ` +
      `${plateau(d, rho, batch).toFixed(3)}.`,
    x: { low: 1.7, high: 600, log: true, name: "batch size B" },
    panels: [{ title: "plateau", low: -0.03, high: 1.15, curves: [
      ...estimators.map((one) => ({ kind: "theory", xs: BATCHES,
        ys: BATCHES.map((size) => restLevel({ ...state, batch: size, estimator: one })) })),
      { kind: "points", xs: found.map((one) => one.batch), ys: found.map((one) => one.level) },
    ] }],
    times: [{ at: batch, text: "" }],
  });
}

export default { render };
