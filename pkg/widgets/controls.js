/**
 * Labelled controls for keyboard and screen reader, the key, and the sentence.
 *
 * How to use: each add... builds one control inside `parent` and returns what moves it; `act`
 * is called with the reader's value, and for sliders with `done` (false while dragging).
 *
 *   const rate = addSlider(panel, { control: "lr", label: "rate η", min: 1e-3, max: 1,
 *     log: true, show: digits, speak: (lr) => `rate ${lr}` }, (lr, done) => ...);
 *   rate.set(0.1);                                  // from the state, after every change
 *   const told = addSentence(root);  told.say("..."); figure.onDestroy(told.destroy);
 *   addKey(root, [["measured", "the flow"], ["theory", "predicted"], ["time", "step time τ"]]);
 *
 * `control` becomes data-control, the name by which tests find the control.
 */

import { make, put } from "./draw.js";

const PAUSE = 700; // milliseconds of rest before the sentence is spoken

/** A panel for controls; `name` makes it a fieldset with a legend. */
export function addPanel(parent, name = "") {
  if (!name) return make("div", { class: "sf-controls" }, parent);
  const group = make("fieldset", { class: "sf-controls" }, parent);
  make("legend", { text: name }, group);
  return group;
}

/** A row of controls that wraps where it is narrow. */
export function addRow(parent) {
  return make("div", { class: "sf-row" }, parent);
}

/**
 * A labelled range input that shows and speaks its value.
 *
 * @param {Element} parent
 * @param {Object} options control, label, min, max; step (in decades of 10 where `log`),
 *   log, show(value) -> text beside it, speak(value) -> words for aria-valuetext.
 * @param {function(number, boolean): void} act With the value, and whether the hand let go.
 * @returns {{set: function(number, Object=), label: Element, name: Element, input: Element}}
 *   set(value, { name, min, max, text, spoken }) puts it to the state; all but value optional.
 */
export function addSlider(parent, options, act) {
  const { control, log = false, show = String, speak = show } = options;
  const place = (value) => (log ? Math.log10(value) : value);
  const step = options.step ?? (log ? 0.05 : (options.max - options.min) / 200);
  const label = make("label", { class: "sf-slider" }, parent);
  const name = make("span", { class: "sf-label", text: options.label }, label);
  const input = make("input", { type: "range", "data-control": control,
    min: place(options.min), max: place(options.max), step }, label);
  const reading = make("span", { class: "sf-reading", "aria-hidden": "true" }, label);
  // 10 ** -3 is not 0.001; twelve digits are.
  const value = () =>
    log ? Number((10 ** Number(input.value)).toPrecision(12)) : Number(input.value);
  input.addEventListener("input", () => act(value(), false));
  input.addEventListener("change", () => act(value(), true));
  const set = (now, { name: text, min, max, text: shown, spoken } = {}) => {
    if (text !== undefined) put(name, { text });
    if (min !== undefined) put(input, { min: place(min) });
    if (max !== undefined) put(input, { max: place(max) });
    const nearest = Number((Math.round(place(now) / step) * step).toPrecision(12));
    if (Number(input.value) !== nearest) input.value = nearest;
    put(reading, { text: shown ?? show(now) });
    put(input, { "aria-valuetext": spoken ?? speak(now) });
  };
  return { set, label, name, input };
}

/**
 * A checkbox.
 *
 * @returns {{set: function(boolean), input: Element}}
 */
export function addCheck(parent, { control, label }, act) {
  const line = make("label", { class: "sf-check" }, parent);
  const input = make("input", { type: "checkbox", "data-control": control }, line);
  line.append(label);
  input.addEventListener("change", () => act(input.checked));
  const set = (checked) => {
    if (input.checked !== checked) input.checked = checked;
  };
  return { set, input };
}

/**
 * A button; `primary` makes it the one to press.
 *
 * @returns {{set: function({text: string, disabled: boolean}), element: Element}} A disabled
 *   button keeps the focus and its act is not called.
 */
export function addButton(parent, { control, text, primary = false }, act) {
  const name = `sf-button${primary ? " sf-primary" : ""}`;
  const element = make("button", { type: "button", class: name, "data-control": control, text },
    parent);
  element.addEventListener("click", () => {
    if (element.getAttribute("aria-disabled") !== "true") act();
  });
  const set = ({ text: words, disabled = false }) => {
    if (words !== undefined) put(element, { text: words });
    put(element, { "aria-disabled": disabled ? "true" : null });
  };
  return { set, element };
}

let groups = 0; // radio buttons of one group share a name, and no two groups do

/**
 * One of a few, as radio buttons in a row.
 *
 * @param {Element} parent
 * @param {{control: string, label: string, options: string[][]}} what Options are
 *   [value, words].
 * @param {function(string): void} act
 * @returns {{set: function(string), group: Element}}
 */
export function addChoice(parent, { control, label, options }, act) {
  const group = make("fieldset", { class: "sf-choice" }, parent);
  make("legend", { text: label }, group);
  groups += 1;
  const name = `sf-choice-${groups}-${Math.random().toString(36).slice(2)}`;
  const inputs = options.map(([value, words]) => {
    const line = make("label", { class: "sf-check" }, group);
    const input = make("input", { type: "radio", name, value,
      "data-control": `${control}-${value}` }, line);
    line.append(words);
    input.addEventListener("change", () => input.checked && act(value));
    return input;
  });
  const set = (value) => {
    for (const input of inputs) input.checked = input.value === value;
  };
  return { set, group };
}

/**
 * One of many, as a list that opens. Parameters as of addChoice; setOptions(options) changes
 * what there is to choose from.
 *
 * @returns {{set: function(string), setOptions: function(string[][]), input: Element}}
 */
export function addSelect(parent, { control, label, options }, act) {
  const line = make("label", { class: "sf-select" }, parent);
  make("span", { class: "sf-label", text: label }, line);
  const input = make("select", { "data-control": control }, line);
  let known = "";
  const setOptions = (entries) => {
    const key = JSON.stringify(entries);
    if (key === known) return;
    known = key;
    input.replaceChildren();
    for (const [value, words] of entries) make("option", { value, text: words }, input);
  };
  setOptions(options);
  input.addEventListener("change", () => act(input.value));
  const set = (value) => {
    if (input.value !== value) input.value = value;
  };
  return { set, setOptions, input };
}

/**
 * The one sentence that says what just changed: seen at once, spoken when the hand rests.
 *
 * @returns {{say: function(string), destroy: function}}
 */
export function addSentence(parent) {
  const told = make("p", { class: "sf-told", "aria-hidden": "true" }, parent);
  const live = make("p", { class: "sf-spoken", "aria-live": "polite" }, parent);
  let timer = 0;
  const say = (words) => {
    put(told, { text: words });
    clearTimeout(timer);
    timer = setTimeout(() => put(live, { text: words }), PAUSE);
  };
  return { say, destroy: () => clearTimeout(timer) };
}

/**
 * What the lines mean.
 *
 * @param {Element} parent
 * @param {string[][]} entries [kind, words]; kind is measured, theory, time, level, points or
 *   beyond (a bar left out).
 */
export function addKey(parent, entries) {
  const key = make("p", { class: "sf-key" }, parent);
  for (const [kind, words] of entries) {
    const entry = make("span", {}, key);
    make("i", { class: `sf-key-${kind}` }, entry);
    entry.append(words);
  }
}
