/**
 * The race figure: six ways to learn the same modes, each at its own rate.
 */

import { createChart } from "./chart.js";
import {
  addButton, addChoice, addKey, addPanel, addRow, addSentence, addSlider,
} from "./controls.js";
import { make, put } from "./draw.js";
import { mount } from "./mount.js";
import { METHODS } from "./race_math.js";
import { createLanes, createTable } from "./race_pictures.js";
import { descents, learnedBy, pictureWords, row, stage, take, theory, words } from "./race_story.js";
import { createPlayer } from "./unfolding_film.js";
import { digits } from "./words.js";
import { createWork } from "./work.js";

const TRAITS = ["d", "decay", "s0", "share", "floor", "ridge", "seed", "chosen", "step"];
const LABEL = "Interactive figure: a race of six ways to learn the same modes";
const COLUMNS = ["", "flow says", "descent", "sooner than plain", "wrong space"];
const CAPTION = "steps to all modes, and what they cost";
const NOTE = "Dotted times are those of the flow from an aligned start: it knows no floor, no " +
  "long steps and no wrong directions. The descent has all three. It begins at random; draw " +
  "more starts before you trust a small difference.";
const FRAMES = Array.from({ length: 61 }, (_, k) => k / 60);

function render(context) {
  const figure = mount(context, { traits: TRAITS, label: LABEL });
  const view = { figure, scene: stage(figure.read()), changed: "", said: "" };
  const cursor = (step, done) => {
    // The right end of the axis is the end, whatever the axis becomes.
    figure.commit({ step: step >= 0.999 * view.scene.axis.high ? null : step }, done);
    view.changed = "";
    moveCursor(view);
  };
  const byHand = (step, done) => {
    view.player.stop();
    cursor(step, done);
  };
  view.choose = (chosen) => {
    figure.commit({ chosen });
    view.changed = "";
    drawAll(view);
  };
  view.lanes = createLanes(figure.root, (k) => view.choose(METHODS[k][0]));
  view.chart = createChart(figure.root, { onMarker: byHand });
  addKey(figure.root, [["points", "mode half learned, descent"], ["measured", "eigenvalues, descent"],
    ["theory", "flow in closed form"], ["time", "mode half learned, flow"]]);
  view.told = addSentence(figure.root);
  view.table = createTable(figure.root, COLUMNS, CAPTION);
  view.work = createWork(() => drawAll(view));
  view.player = createPlayer(figure.root, { times: FRAMES, now: () => place(view.scene),
    show: (u) => cursor(stepAt(view.scene, u), false), rest: () => drawAll(view) });
  view.controls = addControls(view, byHand);
  make("p", { class: "sf-note", text: NOTE }, figure.root);
  figure.onWidth((width) => {
    view.lanes.resize(width);
    view.chart.resize(width, width < 600 ? 250 : 280);
    drawAll(view);
  });
  figure.onChange(() => restart(view, ""));
  figure.onDestroy(view.work.stop);
  for (const part of [view.told, view.chart, view.player]) figure.onDestroy(part.destroy);
  restart(view, "");
  return figure.destroy;
}

// Where the cursor stands on the log axis, 0 to 1, and back.
function place({ axis, now }) {
  return Math.log(now / axis.low) / Math.log(axis.high / axis.low);
}

function stepAt({ axis }, u) {
  return axis.low * (axis.high / axis.low) ** u;
}

function addControls(view, setStep) {
  const { figure } = view;
  const change = (patch, done = true) => {
    figure.commit(patch, done);
    restart(view, Object.keys(patch)[0]);
  };
  const panel = addPanel(figure.root);
  const first = addRow(panel);
  const play = addButton(first, { control: "play", text: "Play", primary: true }, () => {
    view.player.toggle();
    drawAll(view);
  });
  const step = addSlider(first, { control: "step", label: "cursor", min: 0, max: 100, step: 1 },
    (k, done) => setStep(stepAt(view.scene, k / 100), done));
  const chosen = addChoice(panel, { control: "chosen", label: "eigenvalues of", options: METHODS },
    view.choose);
  const row_ = addRow(panel);
  const slider = (control, label, min, max, more) =>
    addSlider(row_, { control, label, min, max, ...more }, (value, done) =>
      change({ [control]: value }, done));
  const log = { log: true, step: 0.25, show: digits };
  const two = (value) => value.toFixed(2);
  const sliders = {
    s0: slider("s0", "start s₀", 1e-6, 0.1, log),
    d: slider("d", "modes d", 2, 10, { step: 1 }),
    decay: slider("decay", "decay of γ", 0.3, 1.5, { step: 0.05, show: two }),
    share: slider("share", "rate, of the limit", 0.2, 0.95, { step: 0.05, show: two }),
    floor: slider("floor", "floor under C", 1e-4, 0.1, log),
    ridge: slider("ridge", "ridge of whitened", 1e-3, 10, log),
  };
  const last = addRow(panel);
  addButton(last, { control: "draw", text: "Draw another start" },
    () => change({ seed: (figure.read().seed + 1) % 2 ** 31 }));
  return ({ state, now, axis }) => {
    play.set({ text: view.player.playing() ? "Pause" : "Play" });
    const text = state.step === null ? "the end" : `step ${Math.floor(now)}`;
    step.set(Math.round(100 * place({ axis, now })), { text, spoken: text });
    chosen.set(state.chosen);
    for (const name in sliders) sliders[name].set(state[name]);
    // What acts on one run alone is asked where that run is drawn.
    sliders.floor.label.hidden = ["plain", "whitened"].includes(state.chosen);
    sliders.ridge.label.hidden = state.chosen !== "whitened";
  };
}

/** New state: what the flow says at once, the six descents in slices. */
function restart(view, changed) {
  view.changed = changed;
  view.scene = stage(view.figure.read());
  drawAll(view);
  view.work.start(descents(view.scene), take);
}

// The cursor moves over runs that are there already.
function moveCursor(view) {
  const { axis } = view.scene;
  const { step } = view.figure.read();
  view.scene.now = Math.min(Math.max(step ?? axis.high, axis.low), axis.high);
  drawAll(view);
}

function drawAll(view) {
  const { scene, figure } = view;
  scene.state = figure.read();
  const { lanes, axis, now, state } = scene;
  const chosen = lanes.findIndex(({ method }) => method === state.chosen);
  view.controls(scene);
  view.lanes.draw({ axis, now, chosen, words: pictureWords(scene),
    lanes: lanes.map((lane) => laneOf(lane, now, state.d)) });
  drawChart(view.chart, scene, lanes[chosen]);
  view.table.draw(lanes.map((lane) => row(scene, lane)), chosen);
  put(figure.root, { "data-playing": view.player.playing() });
  const said = words(scene, view.changed);
  if (said !== view.said) view.told.say(said);
  view.said = said;
}

function laneOf(lane, now, d) {
  const { name, predicted, run } = lane;
  const count = learnedBy(lane, now);
  const told = count === null ? "…" : `${count} of ${d}`;
  const end = run.births.length ? run.births[run.births.length - 1] : 0;
  return { name, told, predicted, births: run.births, end };
}

function drawChart(chart, scene, lane) {
  const { axis, now, state } = scene;
  const { run, name, predicted } = lane;
  const { xs, columns } = theory(scene, lane);
  // A run that has settled stays where it is.
  const flat = run.done ? [axis.high] : [];
  const measured = run.columns.map((ys, mode) => ({ kind: "measured", mode,
    xs: [...run.xs, ...flat], ys: [...ys, ...flat.map(() => run.last[mode])] }));
  chart.draw({
    words: `Eigenvalues of the cross-correlation under ${name}, descent and flow, against the ` +
      `number of steps; the flow has the last mode at ${digits(Math.max(...predicted))}.`,
    x: { ...axis, name: "steps" },
    modes: state.d,
    panels: [{ title: `eigenvalues of C, ${name}`, low: -0.05, high: 1.6, ticks: [0, 0.5, 1, 1.5],
      curves: [...measured, ...columns.map((ys, mode) => ({ kind: "theory", mode, xs, ys }))] }],
    times: predicted.map((at) => ({ at })),
    marker: now,
  });
}

export default { render };
