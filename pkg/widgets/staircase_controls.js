/**
 * The same state as labelled controls, for keyboard and screen reader, with the sentence.
 */

import { fraction, make, modeColours, put } from "./draw.js";
import { FEWEST, MOST, barValue, cursorTime, guessTime, momentAt } from "./staircase_story.js";
import { digits, gammaName } from "./words.js";

const NOTCHES = 400; // positions of a slider along the time axis
const PAUSE = 700; // milliseconds of rest before the sentence is spoken

/**
 * Build the controls under the picture.
 *
 * @param {Element} root
 * @param {Object} act What each control does: gamma, scale, time, guess, log, play, add,
 *   remove, show, showAll.
 * @returns {{sync: function, say: function, focusGamma: function, destroy: function}}
 */
export function createControls(root, act) {
  buildKey(root);
  const told = make("p", { class: "ss-told", "aria-hidden": "true" }, root);
  const live = make("p", { class: "ss-spoken", "aria-live": "polite" }, root);
  const panel = make("div", { class: "ss-controls" }, root);
  const parts = { told, live, act, timer: 0, gammas: [] };
  buildPrediction(parts, panel);
  buildTime(parts, panel);
  parts.scale = slider(panel, "s0", "initial scale s₀", { min: -6, max: 0, step: 0.05 },
    (value, done) => act.scale(value === 0 ? 1 : 10 ** value, done));
  buildSpectrum(parts, panel);
  return {
    sync: (scene, axis, view) => sync(parts, scene, axis, view),
    say: (words) => say(parts, words),
    focusGamma: (mode) => parts.gammas[mode].input.focus(),
    destroy: () => clearTimeout(parts.timer),
  };
}

function buildKey(root) {
  const key = make("p", { class: "ss-key" }, root);
  for (const [name, words] of [
    ["ss-key-theory", "theory: the closed form"],
    ["ss-key-step", "predicted step time τ"],
    ["ss-key-bar", "filled: learned at the cursor"],
  ]) {
    const entry = make("span", {}, key);
    make("i", { class: name }, entry);
    entry.append(words);
  }
}

function buildPrediction(parts, panel) {
  const { act } = parts;
  parts.prediction = make("div", { class: "ss-prediction", role: "group",
    "aria-label": "Predict the next step" }, panel);
  parts.guess = slider(parts.prediction, "guess", "your guess", { min: 0, max: NOTCHES, step: 1 },
    (value, done) => act.guess(value / NOTCHES, done));
  const buttons = make("span", { class: "ss-buttons" }, parts.prediction);
  parts.show = button(buttons, "show", "Show", act.show, "ss-primary");
  parts.showAll = button(buttons, "show-all", "Show everything", act.showAll);
}

function buildTime(parts, panel) {
  const { act } = parts;
  const row = make("div", { class: "ss-row" }, panel);
  parts.play = button(row, "play", "Play", act.play);
  parts.time = slider(row, "time", "time", { min: 0, max: NOTCHES, step: 1 },
    (value, done) => act.time(value / NOTCHES, done));
  const label = make("label", { class: "ss-check" }, row);
  parts.log = make("input", { type: "checkbox", "data-control": "log-time" }, label);
  label.append("logarithmic time");
  parts.log.addEventListener("change", () => act.log(parts.log.checked));
}

function buildSpectrum(parts, panel) {
  const { act } = parts;
  const group = make("fieldset", { class: "ss-spectrum" }, panel);
  make("legend", { text: "eigenvalues γ of Γ" }, group);
  parts.grid = make("div", { class: "ss-grid-of-sliders" }, group);
  const buttons = make("span", { class: "ss-buttons" }, group);
  parts.add = button(buttons, "add", "Add a bar", act.add);
  parts.remove = button(buttons, "remove", "Remove the last bar", act.remove);
}

function button(parent, control, text, act, name = "") {
  const element = make("button", { type: "button", class: `ss-button ${name}`.trim(),
    "data-control": control, text }, parent);
  element.addEventListener("click", () => act());
  return element;
}

/** A labelled range input that shows and speaks its value. */
function slider(parent, control, name, limits, act) {
  const label = make("label", { class: "ss-slider" }, parent);
  const words = make("span", { class: "ss-label", text: name }, label);
  const input = make("input", { type: "range", "data-control": control, ...limits }, label);
  const value = make("span", { class: "ss-reading", "aria-hidden": "true" }, label);
  input.addEventListener("input", () => act(Number(input.value), false));
  input.addEventListener("change", () => act(Number(input.value), true));
  return { label, words, input, value };
}

function setSlider(item, position, reading, spoken, held = false) {
  // A thumb under the reader's finger stays there.
  if (!held && Number(item.input.value) !== position) item.input.value = position;
  put(item.value, { text: reading });
  put(item.input, { "aria-valuetext": spoken });
}

function sync(parts, scene, axis, view) {
  const share = fraction(axis);
  const now = cursorTime(scene, axis);
  const { learned } = momentAt(scene, now);
  const modes = `${learned} of ${scene.gammas.length} modes learned`;
  setSlider(parts.time, Math.round(share.of(now) * NOTCHES), `t = ${digits(now)}`,
    `flow time ${digits(now)}, ${modes}`);
  setSlider(parts.scale, Math.round(Math.log10(scene.s0) * 20) / 20, digits(scene.s0),
    `s0 = ${scene.s0.toPrecision(2)}, ${firstStep(scene)}`);
  if (parts.log.checked !== scene.log_time) parts.log.checked = scene.log_time;
  put(parts.play, { text: view.playing ? "Pause" : "Play" });
  put(parts.add, { "aria-disabled": scene.gammas.length >= MOST });
  put(parts.remove, { "aria-disabled": scene.gammas.length <= FEWEST });
  syncPrediction(parts, scene, axis, share);
  syncGammas(parts, scene, view);
}

function firstStep(scene) {
  return scene.steps.length ? `first step at ${digits(scene.steps[0].time)}` : "no step";
}

function syncPrediction(parts, scene, axis, share) {
  const next = scene.shown + 1;
  parts.guess.label.hidden = !scene.asking;
  if (scene.asking) {
    const guess = guessTime(scene, axis);
    put(parts.guess.words, { text: `step ${next} falls at` });
    setSlider(parts.guess, Math.round(share.of(guess) * NOTCHES), `t = ${digits(guess)}`,
      `your guess: step ${next} falls at flow time ${digits(guess)}`);
  }
  if (scene.open && document.activeElement === parts.showAll) parts.show.focus();
  parts.showAll.hidden = scene.open;
  parts.prediction.hidden = scene.open && scene.steps.length < 2;
  parts.show.classList.toggle("ss-primary", !scene.open);
  put(parts.show, {
    text: scene.open ? "Predict again" : scene.asking ? `Show step ${next}` : `Predict step ${next}`,
  });
}

function syncGammas(parts, scene, view) {
  const d = scene.gammas.length;
  if (parts.gammas.length !== d) buildGammas(parts, d);
  const colours = modeColours(d);
  slots(d, view.held).forEach((mode, slot) => {
    const item = parts.gammas[slot];
    const gamma = scene.gammas[mode];
    const { low, high, step } = view.range;
    put(item.input, { min: low, max: high, step, "aria-label": `gamma ${mode + 1}` });
    put(item.words, { text: gammaName(mode) });
    put(item.label, {
      style: `--light: ${colours[mode].light}; --dark: ${colours[mode].dark}`,
    });
    const nearest = Number((Math.round(gamma / step) * step).toPrecision(12));
    setSlider(item, nearest, barValue(gamma), `${barValue(gamma)}, ${spokenStep(scene, mode)}`,
      view.held?.slot === slot);
  });
}

// While a slider is moved past a neighbour it keeps its place and takes the other's name.
function slots(d, held) {
  const order = Array.from({ length: d }, (_, mode) => mode);
  if (!held) return order;
  order.splice(held.mode, 1);
  order.splice(held.slot, 0, held.mode);
  return order;
}

function buildGammas(parts, d) {
  parts.grid.replaceChildren();
  parts.gammas = Array.from({ length: d }, (_, slot) =>
    slider(parts.grid, `gamma-${slot}`, gammaName(slot), {}, (value, done) =>
      parts.act.gamma(value, done, slot),
    ),
  );
  for (const { label } of parts.gammas) label.classList.add("ss-mode");
}

function spokenStep(scene, mode) {
  if (scene.gammas[mode] <= 0) return "never learned";
  const index = scene.steps.findIndex((step) => step.mode === mode);
  if (index < 0) return "learned from the start";
  if (index >= scene.shown) return `step ${index + 1}, not shown yet`;
  return `step ${index + 1} at flow time ${digits(scene.steps[index].time)}`;
}

/** Write the sentence at once; speak it when the reader pauses. */
function say(parts, words) {
  put(parts.told, { text: words });
  clearTimeout(parts.timer);
  parts.timer = setTimeout(() => put(parts.live, { text: words }), PAUSE);
}
