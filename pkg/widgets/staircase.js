/**
 * The staircase figure: drag a spectrum, and the steps of learning follow.
 *
 * State lives in the model's traits; every view is a picture of them. This file turns what
 * the reader does into new state, and new state into one drawing.
 */

import { fraction, make, round } from "./draw.js";
import { createBars } from "./staircase_bars.js";
import { createControls } from "./staircase_controls.js";
import { createCurves } from "./staircase_curves.js";
import {
  FEWEST, MOST, countWords, cursorTime, cursorWords, gammaWords, guessTime, openingWords,
  revealWords, scaleWords, stage,
} from "./staircase_story.js";
import { digits } from "./words.js";

const TRAITS = ["gammas", "s0", "time", "log_time", "revealed", "asking", "guess"];
const PLAY = 8000; // milliseconds from end to end of the time axis
const UNVEIL = 900; // milliseconds in which the curtain opens
const SAVE = 100; // milliseconds between two messages to the kernel
const BURST = 1500; // changes of one control closer than this are one change

function render({ model, el }) {
  const root = make("div", { class: "stepwise-staircase", role: "group",
    "aria-label": "Interactive figure: the staircase of learning" }, el);
  const figure = { model, root, scene: null, axis: null, range: null, held: null,
    dragging: false, quiet: false, before: null, frame: 0, play: 0, unveil: 0, save: 0,
    cut: null, drawn: false };
  const picture = make("div", { class: "ss-picture" }, root);
  figure.curves = createCurves(picture, {
    cursor: () => (time, done) => moveTime(figure, time, done),
    guess: () => (time, done) => moveGuess(figure, time, done),
  });
  figure.bars = createBars(picture, (mode) => {
    let at = mode;
    return (gamma, done) => {
      at = moveGamma(figure, at, gamma, done, null);
    };
  });
  figure.controls = createControls(root, actions(figure));
  const destroy = connect(figure);
  refresh(figure);
  layout(figure);
  figure.controls.say(openingWords(figure.scene));
  return destroy;
}

function connect(figure) {
  const { model, root } = figure;
  // JupyterLab reads arrow keys pressed in an output as its own commands.
  const keep = (event) => event.stopPropagation();
  root.addEventListener("keydown", keep);
  const changed = () => {
    if (figure.quiet || figure.frame) return;
    figure.frame = requestAnimationFrame(() => {
      figure.frame = 0;
      refresh(figure);
      figure.controls.say(openingWords(figure.scene));
    });
  };
  for (const name of TRAITS) model.on(`change:${name}`, changed);
  const observer = new ResizeObserver(() => layout(figure));
  observer.observe(root);
  return () => {
    observer.disconnect();
    for (const name of TRAITS) model.off(`change:${name}`, changed);
    root.removeEventListener("keydown", keep);
    for (const name of ["frame", "play", "unveil"]) cancelAnimationFrame(figure[name]);
    clearTimeout(figure.play);
    clearTimeout(figure.save);
    for (const part of ["curves", "bars", "controls"]) figure[part].destroy();
    root.remove();
  };
}

function layout(figure) {
  const width = Math.max(figure.root.clientWidth || 700, 240);
  if (width === figure.width) return;
  figure.width = width;
  const narrow = width < 600;
  figure.root.classList.toggle("ss-narrow", narrow);
  const side = narrow ? width : Math.round(Math.min(0.34 * width, 300));
  // Side by side, both pictures stand on one line.
  figure.bars.resize(side, narrow ? 250 : 412, narrow ? 44 : 58);
  figure.curves.resize(narrow ? width : width - side - 22, narrow ? 372 : 412);
  figure.drawn = true;
  drawAll(figure);
}

function refresh(figure) {
  const state = Object.fromEntries(TRAITS.map((name) => [name, figure.model.get(name)]));
  const scene = stage(state);
  figure.scene = scene;
  figure.axis = steadyAxis(figure, scene);
  figure.range = rangeFor(scene.gammas, figure.range);
  if (figure.drawn) drawAll(figure);
}

function drawAll(figure) {
  const { axis, range, held, play } = figure;
  const scene = figure.cut === null ? figure.scene : { ...figure.scene, cut: figure.cut };
  figure.curves.draw(scene, axis);
  figure.bars.draw(scene, axis, range);
  figure.controls.sync(scene, axis, { range, held, playing: play !== 0 });
}

// While a control is dragged the axis only grows: a picture that shrinks under the hand
// cannot be read.
function steadyAxis({ dragging, axis }, { fit }) {
  if (!dragging || !axis || axis.log !== fit.log) return fit;
  return { low: Math.min(axis.low, fit.low), high: Math.max(axis.high, fit.high), log: fit.log };
}

function rangeFor(gammas, range) {
  const top = gammas[0];
  const bottom = gammas[gammas.length - 1];
  if (range && top <= range.high && bottom >= range.low) return range;
  const high = round(1.25 * Math.max(top, -bottom / 2, 1e-6), true);
  const step = round(high / 150, false, [1, 2, 5, 10]);
  const low = -step * Math.ceil(Math.max(high / 3, -1.1 * bottom) / step - 1e-9);
  return { low: Number(low.toPrecision(12)), high, step };
}

/** Write new state, draw it once, and tell the kernel (not on every move of a drag). */
function commit(figure, patch, done = true) {
  figure.quiet = true;
  for (const [name, value] of Object.entries(patch)) figure.model.set(name, value);
  figure.quiet = false;
  figure.dragging = !done;
  refresh(figure);
  if (done) {
    clearTimeout(figure.save);
    figure.save = 0;
    figure.model.save_changes();
  } else if (!figure.save) {
    figure.save = setTimeout(() => {
      figure.save = 0;
      figure.model.save_changes();
    }, SAVE);
  }
}

// What the sentence compares with: the state when this burst of changes began.
function remember(figure, key, snapshot) {
  const now = performance.now();
  const { before } = figure;
  const same = before && before.key === key && (now - before.stamp < BURST || figure.dragging);
  figure.before = same ? { ...before, stamp: now } : { ...snapshot, key, stamp: now };
  return figure.before;
}

function moveGamma(figure, mode, gamma, done, slot) {
  const { scene, controls } = figure;
  const from = remember(figure, `gamma-${mode}`, {
    gamma: scene.gammas[mode], mode, tau: scene.taus[mode] });
  const others = scene.gammas.filter((_, k) => k !== mode);
  const ahead = others.filter((other, k) => (k < mode ? other >= gamma : other > gamma));
  const place = ahead.length;
  figure.held = slot === null || done ? null : { slot, mode: place };
  figure.before.key = `gamma-${place}`;
  const patch = { gammas: [...others.slice(0, place), gamma, ...others.slice(place)] };
  if (!scene.asking) patch.guess = null;
  commit(figure, patch, done);
  controls.say(gammaWords(figure.scene, figure.axis, from, place));
  return place;
}

function moveTime(figure, time, done) {
  const end = Math.min(figure.scene.cut, figure.axis.high);
  stopPlaying(figure);
  // null is "at the end of what is shown": the cursor then rides along when more is.
  commit(figure, { time: time >= end * (1 - 1e-9) ? null : time }, done);
  figure.controls.say(cursorWords(figure.scene, figure.axis));
}

function moveGuess(figure, time, done) {
  const { scene, axis } = figure;
  if (!scene.asking) return;
  commit(figure, { guess: Math.min(Math.max(time, scene.cut), axis.high) }, done);
  figure.controls.say(`You guess that step ${scene.shown + 1} falls at t = ` +
    `${digits(figure.scene.guess)}. Press Show to see.`);
}

function actions(figure) {
  const at = (share) => fraction(figure.axis).value(share);
  return {
    gamma: (value, done, slot) => {
      const mode = figure.held?.slot === slot ? figure.held.mode : slot;
      const place = moveGamma(figure, mode, value, done, slot);
      const focused = figure.root.querySelector(`[data-control="gamma-${slot}"]:focus`);
      if (done && focused && place !== slot) figure.controls.focusGamma(place);
    },
    scale: (s0, done) => moveScale(figure, s0, done),
    time: (share, done) => moveTime(figure, at(share), done),
    guess: (share, done) => moveGuess(figure, at(share), done),
    log: (checked) => {
      commit(figure, { log_time: checked });
      figure.controls.say(`The time axis is now ${checked
        ? "logarithmic: every step is equally wide"
        : "linear: later steps are wider"}. ${cursorWords(figure.scene, figure.axis)}`);
    },
    play: () => (figure.play ? stopPlaying(figure) : startPlaying(figure)),
    add: () => addBar(figure),
    remove: () => removeBar(figure),
    show: () => showNext(figure),
    showAll: () => {
      const { cut } = figure.scene;
      commit(figure, { revealed: MOST, asking: false, guess: null });
      figure.controls.say(openingWords(figure.scene));
      unveil(figure, cut);
    },
  };
}

function moveScale(figure, s0, done) {
  const { scene } = figure;
  const tau = scene.steps.length ? scene.steps[0].time : Infinity;
  const from = remember(figure, "s0", { s0: scene.s0, tau });
  commit(figure, { s0, ...(scene.asking ? {} : { guess: null }) }, done);
  figure.controls.say(scaleWords(figure.scene, figure.axis, from));
}

function addBar(figure) {
  const { scene, range, controls } = figure;
  if (scene.gammas.length >= MOST) {
    controls.say(`${MOST} bars are as many as this picture holds.`);
    return;
  }
  const least = scene.gammas.filter((gamma) => gamma > 0).pop() ?? range.high;
  const gamma = Math.max(Math.round((0.6 * least) / range.step), 1) * range.step;
  const gammas = [...scene.gammas, Number(gamma.toPrecision(12))].sort((a, b) => b - a);
  commit(figure, { gammas, ...(scene.asking ? {} : { guess: null }) });
  controls.say(countWords(figure.scene, figure.axis, "added"));
}

function removeBar(figure) {
  const { scene, controls } = figure;
  if (scene.gammas.length <= FEWEST) {
    controls.say(`${FEWEST} bars are the fewest that make a staircase.`);
    return;
  }
  commit(figure, { gammas: scene.gammas.slice(0, -1),
    ...(scene.asking ? {} : { guess: null }) });
  controls.say(countWords(figure.scene, figure.axis, "removed"));
}

// One button, three labels: show this step, predict the next, start again.
function showNext(figure) {
  const { scene, axis, controls } = figure;
  if (scene.asking) {
    const guess = guessTime(scene, axis);
    commit(figure, { revealed: scene.shown + 1, asking: false, guess });
    controls.say(revealWords(figure.scene, guess, scene.shown));
    unveil(figure, scene.cut);
    return;
  }
  const again = scene.open ? { revealed: 1, time: null } : { revealed: scene.shown };
  commit(figure, { ...again, asking: true, guess: null });
  controls.say(openingWords(figure.scene));
}

function still() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** Open the curtain from where it was to where it now belongs. */
function unveil(figure, from) {
  cancelAnimationFrame(figure.unveil);
  figure.cut = null;
  if (still()) return;
  const begun = performance.now();
  const share = fraction(figure.axis);
  const step = (now) => {
    const done = Math.min(Math.max((now - begun) / UNVEIL, 0), 1);
    const end = share.of(Math.min(figure.scene.cut, figure.axis.high));
    const start = share.of(from);
    figure.cut = done < 1 && start < end ? share.value(start + (end - start) * done) : null;
    figure.unveil = figure.cut === null ? 0 : requestAnimationFrame(step);
    drawAll(figure);
  };
  step(begun);
}

function stopPlaying(figure) {
  if (!figure.play) return;
  cancelAnimationFrame(figure.play);
  clearTimeout(figure.play);
  figure.play = 0;
  commit(figure, {});
}

function startPlaying(figure) {
  const end = () => Math.min(figure.scene.cut, figure.axis.high);
  const now = cursorTime(figure.scene, figure.axis);
  const restart = now >= end() * (1 - 1e-9);
  let last = performance.now();
  let place = restart ? 0 : fraction(figure.axis).of(now);
  const advance = (stamp) => {
    const share = fraction(figure.axis);
    place = still() ? nextStop(figure, place) : place + Math.max(stamp - last, 0) / PLAY;
    last = stamp;
    const time = share.value(place);
    const over = time >= end() * (1 - 1e-9);
    figure.play = over ? 0 : schedule(advance);
    commit(figure, { time: over ? null : time }, over);
    figure.controls.say(cursorWords(figure.scene, figure.axis));
  };
  figure.play = schedule(advance);
  if (restart) commit(figure, { time: figure.axis.low }, false);
  drawAll(figure);
}

// Without motion, playing is a series of stills: just after each step in turn.
function nextStop({ scene, axis }, place) {
  const share = fraction(axis);
  const stops = scene.steps.slice(0, scene.shown).map(({ time }) => share.of(time) + 0.01);
  return stops.find((stop) => stop > place + 1e-6) ?? 1;
}

function schedule(advance) {
  return still()
    ? setTimeout(() => advance(performance.now()), 900)
    : requestAnimationFrame(advance);
}

export default { render };
