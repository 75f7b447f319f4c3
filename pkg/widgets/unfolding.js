/**
 * The unfolding figure: a cloud that opens, beside the staircase that it climbs.
 */

import { createChart } from "./chart.js";
import {
  addButton, addCheck, addPanel, addRow, addSelect, addSentence, addSlider,
} from "./controls.js";
import { make, put } from "./draw.js";
import { MARKS } from "./marks.js";
import { mount } from "./mount.js";
import { createPlayer } from "./unfolding_film.js";
import { drawnAxes, filmReach, stage, unpack, words, wrap } from "./unfolding_math.js";
import { createCloud, createEnds, looks } from "./unfolding_pictures.js";
import { digits } from "./words.js";

const TRAITS = ["film", "time", "first", "colour", "highlight", "turn", "tilt", "fit"];
const LABEL = "Interactive figure: an embedding unfolds";

function render(context) {
  const figure = mount(context, { traits: TRAITS, label: LABEL });
  const { film } = figure.read();
  const view = { figure, film, levels: unpack(film), reaches: {}, scene: null, looks: null };
  const change = (patch, done = true) => {
    figure.commit(patch, done);
    drawAll(view);
  };
  const high = film.t[film.t.length - 1];
  const setTime = (time, done) => change({ time: time >= high ? null : time }, done);
  const byHand = (time, done) => {
    view.player.stop();
    setTime(time, done);
  };
  const turned = (degrees) => wrap(figure.read().turn + degrees);
  const pictures = make("div", { class: "uf-pictures" }, figure.root);
  view.cloud = createCloud(pictures, { onTurn: (x, y, done) => {
    const tilt = Math.min(Math.max(figure.read().tilt + 180 * y, -90), 90);
    change({ turn: turned(180 * x), tilt }, done);
  } });
  view.chart = createChart(pictures, { onMarker: byHand });
  view.key = createKey(figure.root, film);
  view.ends = createEnds(figure.root, film);
  view.told = addSentence(figure.root);
  view.player = createPlayer(figure.root, { times: film.t, now: () => view.scene.now,
    show: (time, degrees) => {
      figure.commit({ turn: turned(degrees) }, false);
      setTime(time, false);
    },
    rest: () => change({}) });
  view.controls = addControls(view, change, byHand);
  figure.onWidth((width) => {
    const narrow = width < 600;
    const side = narrow ? Math.min(width, 420) : Math.floor(Math.min(0.48 * width, 460));
    view.cloud.resize(side);
    view.chart.resize(narrow ? width : width - side - 26, narrow ? 320 : side + 48);
    drawAll(view);
  });
  figure.onChange(() => drawAll(view));
  for (const part of [view.told, view.chart, view.cloud, view.player]) {
    figure.onDestroy(part.destroy);
  }
  drawAll(view);
  return figure.destroy;
}

// What the colours mean: names of classes, each with its mark, or a scale from low to high.
function createKey(parent, { classes }) {
  const key = make("p", { class: "sf-key uf-key" }, parent);
  const entry = (name, mark, text) => {
    const span = make("span", {}, key);
    const svg = make("svg:svg", { width: 12, height: 12, "aria-hidden": "true" }, span);
    make("svg:path", { d: MARKS[mark](6, 6, 4), class: name }, svg);
    span.append(text);
  };
  let shown = "";
  return (colour) => {
    if (shown === colour) return;
    shown = colour;
    key.replaceChildren();
    if (colour === "class") {
      classes.forEach((name, k) => entry(`uf-c${k % 5}`, Math.floor(k / 5), ` ${name}`));
      return;
    }
    ["lowest seventh", "", "", "", "", "", "highest seventh"].forEach((text, k) =>
      entry(`uf-q${k}`, 0, text && ` ${k ? "" : `${colour}: `}${text}`));
  };
}

function addControls(view, change, setTime) {
  const { film, figure } = view;
  const [low, high] = [film.t[0], film.t[film.t.length - 1]];
  const panel = addPanel(figure.root);
  const row = addRow(panel);
  const play = addButton(row, { control: "play", text: "Play", primary: true }, () => {
    view.player.toggle();
    drawAll(view);
  });
  // 200 places of time: finer than the snapshots.
  const place = (time) => Math.round((200 * (time - low)) / (high - low));
  const time = addSlider(row, { control: "time", label: "time", min: 0, max: 200, step: 1 },
    (k, done) => setTime(low + ((high - low) * k) / 200, done));
  const angles = addRow(panel);
  const turn = addSlider(angles, { control: "turn", label: "turn", min: -180, max: 180, step: 5,
    show: degrees, speak: spokenDegrees }, (value, done) => change({ turn: value }, done));
  const tilt = addSlider(angles, { control: "tilt", label: "tilt", min: -90, max: 90, step: 5,
    show: degrees, speak: spokenDegrees }, (value, done) => change({ tilt: value }, done));
  const choices = addRow(panel);
  const starts = film.opened.slice(2).map((_, k) => k + 1);
  const first = addSelect(choices, { control: "first", label: "axes",
    options: starts.map((k) => [String(k), `${k}, ${k + 1}, ${k + 2}`]) },
  (value) => change({ first: Number(value) }));
  const colour = addSelect(choices, { control: "colour", label: "colour",
    options: ["class", ...Object.keys(film.quantities)].map((name) => [name, name]) },
  (value) => change({ colour: value }));
  const highlight = addSelect(choices, { control: "highlight", label: "highlight",
    options: [["", "all"], ...film.classes.map((name) => [name, name])] },
  (value) => change({ highlight: value, colour: "class" }));
  const fit = addCheck(choices, { control: "fit", label: "fit the picture to the cloud" },
    (checked) => change({ fit: checked }));
  return (state, scene) => {
    play.set({ text: view.player.playing() ? "Pause" : "Play" });
    time.set(place(scene.now), { text: `step ${scene.step}`,
      spoken: `step ${scene.step}, flow time ${digits(scene.now)}` });
    turn.set(state.turn);
    tilt.set(state.tilt);
    first.set(String(state.first));
    colour.set(state.colour);
    highlight.set(state.colour === "class" ? state.highlight : "");
    fit.set(state.fit);
  };
}

function degrees(angle) {
  return `${Math.round(angle)}°`.replace("-", "−");
}

function spokenDegrees(angle) {
  return `${Math.round(angle)} degrees`;
}

function drawAll(view) {
  const { figure, film, reaches } = view;
  const state = figure.read();
  // One scale for all times, found once for each choice of axes.
  reaches[state.first] ??= filmReach(view.levels, film, drawnAxes(state.first));
  const scene = stage(state, view.levels, reaches[state.first]);
  const key = `${state.colour}/${state.highlight}`;
  if (view.looks?.key !== key) {
    view.looks = { key, all: looks(film, state.colour, state.highlight) };
  }
  view.scene = scene;
  const said = words(scene);
  view.cloud.draw({ ...scene, turn: state.turn, tilt: state.tilt, looks: view.looks.all,
    modes: film.opened.length, words: said,
    magnified: scene.fit && scene.times > 1.01 ? `, magnified ${digits(scene.times)} times` : "" });
  drawChart(view.chart, film, scene);
  view.key(state.colour);
  view.ends.draw(scene.axes);
  view.controls(state, scene);
  put(figure.root, { "data-playing": view.player.playing() });
  view.told.say(said);
}

function drawChart(chart, { curves: { t, loss, eigenvalues, matrix } }, { now, low, high }) {
  const tops = eigenvalues.map((row) => Math.max(...row));
  chart.draw({
    words: `Loss and eigenvalues of the ${matrix} against flow time; the loss falls from ` +
      `${digits(loss[0])} to ${digits(loss[loss.length - 1])}.`,
    x: { low: Math.min(low, t[0]), high: Math.max(high, t[t.length - 1]), log: false,
      name: "flow time" },
    modes: eigenvalues.length,
    panels: [
      { title: "loss", low: Math.min(0, ...loss), high: 1.04 * Math.max(...loss), share: 0.42,
        curves: [{ kind: "measured", xs: t, ys: loss }] },
      { title: `eigenvalues of the ${matrix}`, low: 0, high: 1.06 * Math.max(...tops),
        curves: eigenvalues.map((ys, mode) => ({ kind: "measured", mode, xs: t, ys })) },
    ],
    marker: now,
  });
}

export default { render };
