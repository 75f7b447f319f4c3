/**
 * The small-start figure: the true flow from a random W(0), over the aligned prediction.
 */

import { createChart } from "./chart.js";
import {
  addButton, addCheck, addKey, addPanel, addRow, addSelect, addSentence, addSlider,
} from "./controls.js";
import { make, put } from "./draw.js";
import { mount } from "./mount.js";
import {
  changeWords, drawWords, orderWords, pairs, pictureWords, ratioName, ratioRange, stage,
  summary, tieWords, timeText,
} from "./small_start_story.js";
import { createSpectrum } from "./spectrum.js";
import { digits, gammaName, list, lowered, tickText } from "./words.js";

const TRAITS = ["gammas", "d", "alpha", "seed", "log_time", "pair"];
const MOST = 6; // outputs

function render(context) {
  const figure = mount(context, { traits: TRAITS,
    label: "Interactive figure: a random small start against its prediction" });
  const view = { figure, scene: null, from: null, drawn: false };
  const picture = make("div", { class: "sf-picture" }, figure.root);
  view.bars = createSpectrum(picture, (mode, gamma, done) => moveGamma(view, mode, gamma, done));
  view.chart = createChart(picture);
  addKey(figure.root, [["measured", "the flow, integrated"],
    ["theory", "predicted from the aligned start"], ["time", "predicted step time τ"],
    ["beyond", "modes beyond the top d"]]);
  view.told = addSentence(figure.root);
  view.table = make("table", { class: "sf-table" }, figure.root);
  view.note = make("p", { class: "sf-note" }, figure.root);
  view.controls = build(view);
  for (const part of [view.bars, view.chart, view.told]) figure.onDestroy(part.destroy);
  refresh(view);
  figure.onWidth((width) => layout(view, width));
  figure.onChange(() => {
    refresh(view);
    view.told.say(summary(view.scene) + tieWords(view.scene));
  });
  view.told.say(summary(view.scene) + tieWords(view.scene));
  return figure.destroy;
}

function layout(view, width) {
  const narrow = width < 600;
  const side = narrow ? width : Math.round(Math.min(0.32 * width, 280));
  view.bars.resize(side, narrow ? 190 : 400);
  view.chart.resize(narrow ? width : width - side - 22, narrow ? 350 : 400);
  view.drawn = true;
  draw(view);
}

function refresh(view, done = true) {
  const state = view.figure.read();
  // While a hand is on a control the axis only grows: a shrinking picture cannot be read.
  view.scene = stage(state, done ? undefined : view.scene?.axis);
  sync(view);
  if (view.drawn) draw(view);
}

function draw({ scene, bars, chart }) {
  const { gammas, d, t, flow, theory, axis, steps } = scene;
  bars.draw({ gammas, d, words: `Spectrum of ${gammas.length} eigenvalues: ` +
    `${list(gammas.map((gamma, j) => `${gammaName(j)} = ${tickText(shorter(gamma))}`))}.` });
  // The k-th largest eigenvalue has the colour of the mode predicted to come k-th.
  const curve = (kind, rows) => scene.modes.map((mode, k) => ({
    kind, mode, xs: t, ys: rows.map((row) => row[k]),
  }));
  const most = Math.max(d, Math.min(flow.loss[0], 3 * d));
  const highest = Math.max(1, Math.min(flow.eigenvalues[0][0], 3));
  const lowest = Math.min(-0.05 * highest, 1.1 * Math.max(flow.eigenvalues[0][d - 1], -1));
  chart.draw({
    words: pictureWords(scene),
    x: { ...axis, name: "flow time" },
    modes: d,
    times: steps.map(({ predicted, mode }) => ({
      at: predicted, text: `τ${lowered(mode + 1)}` })),
    panels: [
      { title: "loss", low: -0.03 * most, high: 1.06 * most, share: 0.36, curves: [
        { kind: "measured", xs: t, ys: flow.loss },
        { kind: "theory", xs: t, ys: theory.loss },
      ] },
      { title: "eigenvalues of the cross-correlation", low: lowest,
        high: 1.08 * highest, ticks: highest > 1 ? undefined : [0, 0.5, 1],
        curves: [...curve("measured", flow.eigenvalues), ...curve("theory", theory.eigenvalues)] },
    ],
  });
}

function shorter(gamma) {
  return Number(gamma.toPrecision(3));
}

function build(view) {
  const { root } = view.figure;
  const panel = addPanel(root);
  const row = addRow(panel);
  const draws = addButton(row, { control: "draw", text: "New draw of W(0)", primary: true },
    () => {
      commit(view, { seed: (view.scene.seed + 1) % 2 ** 32 }, true);
      view.told.say(drawWords(view.scene));
    });
  const log = addCheck(row, { control: "log-time", label: "logarithmic time" }, (checked) => {
    commit(view, { log_time: checked }, true);
    view.told.say(`The time axis is now ${checked ? "logarithmic" : "linear"}. ` +
      summary(view.scene));
  });
  const sliders = addRow(panel);
  const alpha = addSlider(sliders, { control: "alpha", label: "initial scale α", min: 1e-6,
    max: 1, log: true, show: digits, speak: (value) => `alpha ${value}` },
  (value, done) => move(view, "alpha", value, done, "α", digits));
  const outputs = addSlider(sliders, { control: "d", label: "outputs d", min: 1, max: MOST,
    step: 1 }, (value, done) => move(view, "d", value, done, "d", String));
  const gap = addRow(panel);
  const pair = addSelect(gap, { control: "pair", label: "neighbours", options: [] },
    (value) => {
      commit(view, { pair: Number(value) }, true);
      view.told.say(`The slider now moves ${ratioName(Number(value))}.`);
    });
  const ratio = addSlider(gap, { control: "ratio", label: "", min: 0, max: 1, step: 0.005,
    show: (value) => value.toFixed(3) }, (value, done) => moveRatio(view, value, done));
  return { draws, log, alpha, outputs, pair, ratio };
}

function sync({ scene, controls, table, note }) {
  const { gammas, d, alpha, log_time: logTime, m } = scene;
  controls.log.set(logTime);
  controls.alpha.set(alpha);
  controls.outputs.set(d, { max: Math.min(MOST, m), spoken: `${d} outputs, ` +
    `${scene.learnable} of them can be learned` });
  const known = pairs(gammas);
  const pair = pairOf(scene);
  const options = known.map((k) => [String(k), `${gammaName(k - 1)}, ${gammaName(k)}` +
    `${k === d ? ": the edge" : ""}`]);
  controls.pair.setOptions(options);
  controls.pair.set(String(pair));
  controls.ratio.input.disabled = !known.length;
  if (known.length) {
    const { low, high, now } = ratioRange(gammas, pair);
    controls.ratio.set(now, { name: ratioName(pair), min: Math.ceil(low / 0.005) * 0.005,
      max: high, spoken: `${now.toFixed(3)}, ${gammaName(pair)} is ${gammas[pair].toPrecision(2)}` });
  }
  fillTable(table, scene);
  put(note, { text: orderWords(scene) });
}

function pairOf({ pair, gammas }) {
  const known = pairs(gammas);
  return known.includes(pair) ? pair : known[known.length - 1];
}

// A column a step; the block's row only where modes nearly tie.
function fillTable(table, { steps, start }) {
  const rows = [
    ["step", steps.map((_, k) => String(k + 1))],
    [start.nearTies.length ? "one by one (QR)" : "predicted",
      steps.map(({ predicted }) => timeText(predicted))],
    ...(start.nearTies.length
      ? [["as one block", steps.map(({ block }) => timeText(block))]] : []),
    ["measured", steps.map(({ measured }) => timeText(measured))],
  ];
  const key = JSON.stringify(rows);
  if (table.dataset.key === key) return;
  table.dataset.key = key;
  table.replaceChildren();
  make("caption", { text: "When each step falls, in flow time" }, table);
  rows.forEach(([name, cells], i) => {
    const line = make("tr", {}, table);
    make("th", { scope: "row", text: name }, line);
    for (const text of cells) {
      make(i ? "td" : "th", i ? { text } : { text, scope: "col" }, line);
    }
  });
}

/** Write new state and draw it; `from` remembers what the hand found. */
function commit(view, patch, done) {
  view.figure.commit(patch, done);
  refresh(view, done);
}

function move(view, name, value, done, words, text) {
  view.from ??= text(view.scene[name]);
  commit(view, { [name]: value }, done);
  view.told.say(changeWords(words, view.from, text(value), view.scene));
  if (done) view.from = null;
}

function moveGamma(view, mode, gamma, done) {
  view.from ??= digits(view.scene.gammas[mode]);
  const gammas = view.scene.gammas.map((old, j) => (j === mode ? gamma : old));
  commit(view, { gammas }, done);
  view.told.say(changeWords(gammaName(mode), view.from, digits(gamma), view.scene));
  if (done) view.from = null;
}

function moveRatio(view, value, done) {
  const pair = pairOf(view.scene);
  const { low, high, now } = ratioRange(view.scene.gammas, pair);
  const ratio = Math.min(Math.max(value, low), high);
  view.from ??= now.toFixed(3);
  const gammas = view.scene.gammas.map((old, j, all) =>
    (j === pair ? Number((ratio * all[pair - 1]).toPrecision(12)) : old));
  commit(view, { gammas }, done);
  view.told.say(changeWords(ratioName(pair), view.from, ratio.toFixed(3), view.scene));
  if (done) view.from = null;
}

export default { render };
