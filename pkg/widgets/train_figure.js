/**
 * A network trains in the page: press play, and its own eigenvalues climb.
 *
 * The settings live in the model's traits; a run lives here, and starts anew when one of them
 * changes. Training goes on in slices of a few milliseconds, one a frame, so that every
 * control answers; it rests when the figure is out of sight.
 */

import { createChart } from "./chart.js";
import {
  addButton, addCheck, addKey, addPanel, addRow, addSelect, addSentence, addSlider,
} from "./controls.js";
import { make, put, round } from "./draw.js";
import { mount } from "./mount.js";
import { OUTPUTS } from "./train.js";
import { createPictures } from "./train_pictures.js";
import { advance, createRun, record } from "./train_run.js";
import {
  horizon, learned, matrixName, onset, openingWords, pictureWords, restingWords, statusWords,
  stepName, stepsAhead, theoryCurves, thin, trainingWords,
} from "./train_story.js";
import { decode, population } from "./train_views.js";
import { digits } from "./words.js";

const TRAITS = ["patches", "net", "loss", "start", "rate", "seed", "pace", "log_steps"];
const SLICE = 12; // milliseconds of training a frame: the rest is for hands and pictures
const STRIDE = 4; // steps between two looks at the net with a hidden layer
const DRAW = 30; // milliseconds between two drawings: the rest of the time it trains
const SHOW = 500; // milliseconds between two sets of views on show: no flicker
const PACES = { 30: "30 steps a second", 120: "120 steps a second", 0: "as fast as it goes" };

function render(context) {
  const frame = mount(context, { traits: TRAITS,
    label: "Interactive figure: a network trains in the page" });
  const figure = { frame, root: frame.root, views: null, patches: null, run: null, axis: null,
    theory: null, playing: false, request: 0, last: 0, due: 0, drawn: 0, shown: 0, sight: true };
  frame.root.classList.add("stepwise-training");
  figure.chart = createChart(frame.root);
  figure.pictures = createPictures(frame.root, OUTPUTS);
  addKey(frame.root, [["measured", "the network"], ["theory", "theory, known before the start"],
    ["time", "predicted step τ"]]);
  figure.sentence = addSentence(frame.root);
  buildControls(figure);
  const watch = new IntersectionObserver(([{ isIntersecting }]) => {
    figure.sight = isIntersecting;
    resume(figure);
  });
  watch.observe(frame.root);
  frame.onDestroy(() => {
    pause(figure);
    watch.disconnect();
    figure.chart.destroy();
    figure.sentence.destroy();
  });
  restart(figure);
  frame.onWidth((width) => {
    figure.chart.resize(width, width < 600 ? 400 : 430);
    draw(figure);
  });
  frame.onChange(() => restart(figure));
  return frame.destroy;
}

// --- the run -------------------------------------------------------------------------------

/** A new run from the present settings, at step 0; one that was going goes on. */
function restart(figure) {
  const settings = figure.frame.read();
  if (figure.patches !== settings.patches) {
    figure.patches = settings.patches;
    figure.views = population(decode(settings.patches));
  }
  figure.settings = settings;
  figure.run = createRun(figure.views, { ...settings, scale: settings.start });
  figure.end = horizon(figure.run.prediction);
  figure.due = 0;
  fitAxis(figure);
  figure.pictures.theory(figure.run);
  figure.pictures.views(figure.run);
  syncControls(figure);
  draw(figure);
  say(figure);
}

function fitAxis(figure) {
  const { settings, end } = figure;
  const low = onset(figure.run.prediction, settings.log_steps);
  figure.axis = { low, high: end, log: settings.log_steps, name: "steps of training" };
  figure.theory = theoryCurves(figure.run.prediction, figure.axis);
}

function train(figure, most) {
  const { run } = figure;
  const begun = performance.now();
  for (let k = 0; k < most && run.step < figure.end && !run.lost; k += 1) {
    const loss = advance(run);
    // The first steps one by one: on a logarithmic axis they are far apart.
    if (!run.probe || run.step % STRIDE === 0 || run.step < STRIDE || run.lost) {
      record(run, loss);
    }
    if (performance.now() - begun > SLICE) break;
  }
}

function tick(figure, now) {
  figure.request = 0;
  const { run, settings } = figure;
  // After a pause of the page, no burst of steps makes up for it.
  const passed = Math.min(now - figure.last, 100);
  figure.last = now;
  figure.due += settings.pace ? (passed * settings.pace) / 1000 : Infinity;
  const before = [run.step, learned(run)];
  train(figure, Math.floor(figure.due));
  const paced = figure.due - (run.step - before[0]);
  figure.due = settings.pace ? Math.min(paced, 1 + settings.pace / 10) : 0;
  if (now - figure.shown > SHOW) {
    figure.shown = now;
    figure.pictures.views(run);
  }
  if (run.lost || run.step >= figure.end) {
    stop(figure);
    return;
  }
  if (now - figure.drawn > DRAW) {
    figure.drawn = now;
    draw(figure);
  }
  if (learned(run) !== before[1]) say(figure);
  resume(figure);
}

/** Ask for the next frame, if there is something to do in it. */
function resume(figure) {
  if (!figure.playing || figure.request || !figure.sight) return;
  figure.request = requestAnimationFrame((now) => tick(figure, now));
}

function pause(figure) {
  figure.playing = false;
  cancelAnimationFrame(figure.request);
  figure.request = 0;
}

function stop(figure) {
  pause(figure);
  if (figure.run.lost) {
    figure.end = round(1.5 * figure.run.step, true); // what led there fills the picture
    fitAxis(figure);
  }
  figure.pictures.views(figure.run);
  syncControls(figure);
  draw(figure);
  say(figure);
}

function play(figure) {
  const { run } = figure;
  if (figure.playing) {
    stop(figure);
    return;
  }
  if (run.lost) restart(figure);
  else if (run.step >= figure.end) {
    // Played to the end of the axis: there is more to see beyond it.
    figure.end *= 2;
    fitAxis(figure);
  }
  figure.playing = true;
  figure.last = performance.now();
  figure.due = 1;
  syncControls(figure);
  say(figure);
  resume(figure);
}

function stepOnce(figure) {
  pause(figure);
  if (figure.run.lost) restart(figure);
  if (figure.run.step >= figure.end) {
    figure.end *= 2;
    fitAxis(figure);
  }
  record(figure.run, advance(figure.run));
  stop(figure);
}

// --- the picture ---------------------------------------------------------------------------

function draw(figure) {
  const { chart, run, axis, theory, playing } = figure;
  const { steps, eigenvalues, losses } = run.history;
  const kept = thin(steps, axis);
  const xs = kept.map((i) => steps[i]);
  const modes = run.measured.map((_, j) => j);
  const first = xs.length > 1 ? 1 : 0; // at step 0 there is no batch, hence no loss
  const wild = run.prediction.lr >= run.prediction.limit; // it will overshoot
  const high = Math.max(wild ? 2.5 : 1.15, 1.06 * Math.max(...run.prediction.levels));
  chart.draw({
    words: pictureWords(run, axis),
    x: axis,
    panels: [
      { title: "loss", low: 0, high: run.net.d + 0.4, share: 0.32, curves: [
        { kind: "measured", xs: xs.slice(first), ys: kept.slice(first).map((i) => losses[i]) },
        { kind: "theory", xs: theory.xs, ys: theory.loss },
      ] },
      { title: `eigenvalues of the ${matrixName(run)}`, low: -0.03, high, curves: [
        ...modes.map((mode) =>
          ({ kind: "measured", mode, xs, ys: kept.map((i) => eigenvalues[i][mode]) })),
        ...theory.modes.map((ys, mode) => ({ kind: "theory", mode, xs: theory.xs, ys })),
      ] },
    ],
    modes: modes.length,
    times: stepsAhead(run.prediction).map(({ time }, k) => ({ at: time, text: stepName(k) })),
  });
  const count = learned(run);
  figure.pictures.modes(run, `Pictures of ${modes.length} modes in the network: ` +
    `${count ? `${count} learned, the others still noise` : "all of them noise"}.`);
  put(figure.status, { text: statusWords(run) });
  put(figure.root, { "data-step": run.step, "data-playing": playing });
}

function say(figure) {
  const words = figure.playing ? trainingWords : restingWords;
  figure.sentence.say(words(figure.run, figure.settings));
}

function share(rate) {
  return String(Number(rate.toPrecision(2)));
}

// --- the controls --------------------------------------------------------------------------

function buildControls(figure) {
  const { root, frame } = figure;
  const panel = addPanel(root);
  const set = (patch, done = true) => {
    frame.commit(patch, done);
    restart(figure);
  };
  const row = addRow(panel);
  figure.play = addButton(row, { control: "play", text: "Play", primary: true },
    () => play(figure));
  addButton(row, { control: "step", text: "One step" }, () => stepOnce(figure));
  addButton(row, { control: "reset", text: "Start again" }, () => {
    pause(figure);
    restart(figure);
  });
  addButton(row, { control: "draw", text: "New start" }, () => {
    pause(figure);
    set({ seed: (frame.read().seed + 1) % 1000 });
  });
  figure.status = make("span", { class: "tn-status" }, row);
  const choices = addRow(panel);
  figure.controls = [
    ["net", addSelect(choices, { control: "net", label: "network",
      options: [["linear", "linear"], ["two-layer", "one hidden layer"]] },
    (net) => set({ net }))],
    ["loss", addSelect(choices, { control: "loss", label: "loss", options: [
      ["barlow_twins", "Barlow Twins, λ = 1"],
      ["barlow_twins_weighted", "Barlow Twins, λ = 0.3"],
      ["spectral", "spectral contrastive"]] }, (loss) => set({ loss }))],
    ["pace", addSelect(choices, { control: "pace", label: "pace",
      options: Object.entries(PACES).sort((a, b) => (a[0] || 1e9) - (b[0] || 1e9)) }, (pace) => {
      frame.commit({ pace: Number(pace) });
      figure.settings.pace = Number(pace);
      figure.due = 0;
    })],
    ["start", addSlider(panel, { control: "start", label: "start: size of the weights",
      min: 1e-6, max: 1, log: true, show: digits }, (start, done) => set({ start }, done))],
    ["rate", addSlider(panel, { control: "rate", label: "learning rate", min: 0.01, max: 4,
      log: true, show: (rate) => `${share(rate)} × limit`,
      speak: (rate) => `${share(rate)} times the stable limit` },
    (rate, done) => set({ rate }, done))],
    ["log_steps", addCheck(panel, { control: "log-steps", label: "logarithmic steps" },
      (log_steps) => {
        frame.commit({ log_steps });
        figure.settings.log_steps = log_steps;
        fitAxis(figure);
        draw(figure);
      })],
  ];
}

function syncControls({ controls, settings, play: button, playing, run }) {
  for (const [name, control] of controls) {
    control.set(name === "pace" ? String(settings.pace) : settings[name]);
  }
  const begun = run.step > 0 && !run.lost;
  button.set({ text: playing ? "Pause" : begun ? "Go on" : "Play" });
}

export default { render };
