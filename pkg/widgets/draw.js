/**
 * What every figure draws with: elements, scales, ticks, lines, colours, dragging.
 */

const SVG = "http://www.w3.org/2000/svg";

// matplotlib's cividis at 33 even steps; lines between them stay within 5/255 of it.
const CIVIDIS = (
  "00224e 00285b 002e6a 053371 1a386f 273e6e 32436d 3b496c 434e6c 4b546c 535a6d " +
  "5a5f6e 61656f 686a71 6f7073 767676 7d7c78 848279 8c8878 938e78 9b9476 a39a74 " +
  "aba072 b4a76f bcae6c c4b468 cdbb63 d5c25e dec958 e7d150 f0d846 f9e03a fee838"
)
  .split(" ")
  .map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));

/**
 * Colour of cividis at `u` in [0, 1], as red, green, blue in 0..255.
 *
 * @param {number} u
 * @returns {number[]}
 */
export function cividis(u) {
  const place = Math.min(Math.max(u, 0), 1) * (CIVIDIS.length - 1);
  const left = Math.min(Math.floor(place), CIVIDIS.length - 2);
  return CIVIDIS[left].map((low, k) =>
    Math.round(low + (CIVIDIS[left + 1][k] - low) * (place - left)),
  );
}

/**
 * Colour of each mode, earliest darkest: on paper the static figures' own. On a dark page
 * the same colours, the first ones lightened, because they vanish there.
 *
 * @param {number} d How many modes.
 * @returns {{light: string, dark: string}[]}
 */
export function modeColours(d) {
  return Array.from({ length: d }, (_, j) => {
    const place = j / Math.max(d - 1, 1);
    const colour = cividis(0.05 + 0.8 * place);
    const lit = colour.map((part) => Math.round(part + (255 - part) * 0.38 * (1 - place)));
    return { light: `rgb(${colour})`, dark: `rgb(${lit})` };
  });
}

/**
 * Make an element, with attributes, inside `parent`.
 *
 * @param {string} name Tag; a name starting with "svg:" lies in the SVG namespace.
 * @param {Object} attributes `text` sets the text, everything else an attribute.
 * @param {Element} [parent]
 * @returns {Element}
 */
export function make(name, attributes = {}, parent = undefined) {
  const element = name.startsWith("svg:")
    ? document.createElementNS(SVG, name.slice(4))
    : document.createElement(name);
  put(element, attributes);
  if (parent) parent.append(element);
  return element;
}

const written = new WeakMap(); // what each element was last given: the page is slow to ask

/**
 * Set attributes that changed; null removes one.
 *
 * @param {Element} element
 * @param {Object} attributes
 */
export function put(element, attributes) {
  let seen = written.get(element);
  if (!seen) written.set(element, (seen = {}));
  for (const key in attributes) {
    const value = attributes[key];
    if (seen[key] === value) continue;
    seen[key] = value;
    if (key === "text") element.textContent = value;
    else if (value === null) element.removeAttribute(key);
    else element.setAttribute(key, value);
  }
}

/**
 * A linear or logarithmic map from [low, high] to [from, to] pixels.
 *
 * @param {{low: number, high: number, log: boolean}} range
 * @param {number} from
 * @param {number} to
 * @returns {{at: function(number): number, value: function(number): number}}
 */
export function scale(range, from, to) {
  const share = fraction(range);
  return {
    at: (value) => from + (to - from) * share.of(value),
    value: (pixel) => share.value((pixel - from) / (to - from)),
  };
}

/**
 * Share of [low, high] that lies below a value, and back; outside is clamped.
 *
 * @param {{low: number, high: number, log: boolean}} range
 * @returns {{of: function(number): number, value: function(number): number}}
 */
export function fraction({ low, high, log }) {
  const clamp = (u) => Math.min(Math.max(u, 0), 1);
  if (!log) {
    return {
      of: (value) => clamp((value - low) / (high - low)),
      value: (u) => low + (high - low) * clamp(u),
    };
  }
  const span = Math.log(high / low);
  return {
    of: (value) => (value > low ? clamp(Math.log(value / low) / span) : 0),
    value: (u) => low * Math.exp(span * clamp(u)),
  };
}

const STEPS = [1, 1.5, 2, 3, 4, 5, 6, 8, 10];

/**
 * The nearest round number at or above (`up`) or at or below `value`.
 *
 * @param {number} value Positive.
 * @param {boolean} up
 * @param {number[]} steps Round numbers between 1 and 10, both included.
 * @returns {number}
 */
export function round(value, up, steps = STEPS) {
  const power = Math.pow(10, Math.floor(Math.log10(value)));
  const lead = value / power;
  const fits = up
    ? steps.find((step) => step >= lead * (1 - 1e-9))
    : [...steps].reverse().find((step) => step <= lead * (1 + 1e-9));
  return Number(((fits ?? 1) * power).toPrecision(3));
}

/**
 * Round numbers to write along an axis.
 *
 * @param {{low: number, high: number, log: boolean}} range
 * @param {number} wanted About how many fit.
 * @returns {number[]}
 */
export function ticks({ low, high, log }, wanted) {
  return log ? logTicks(low, high, wanted) : linearTicks(low, high, wanted);
}

function linearTicks(low, high, wanted) {
  const step = round((high - low) / Math.max(wanted, 1), true, [1, 2, 2.5, 5, 10]);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) =>
    Number(((first + i) * step).toPrecision(12)),
  );
}

function logTicks(low, high, wanted) {
  const decades = Math.log10(high / low);
  const leads = decades * 3 <= wanted ? [1, 2, 5] : decades * 2 <= wanted ? [1, 3] : [1];
  const stride = Math.max(1, Math.ceil(decades / Math.max(wanted, 1)));
  const found = [];
  for (let k = Math.floor(Math.log10(low)); k <= Math.ceil(Math.log10(high)); k += 1) {
    if (k % stride !== 0) continue;
    for (const lead of leads) {
      const tick = Number(`${lead}e${k}`);
      if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) found.push(tick);
    }
  }
  return found;
}

const TENTHS = []; // "12.3" at 123: each is written once, not once a point

/** A pixel position to a tenth, as text. */
function tenth(value) {
  return TENTHS[value] ?? (TENTHS[value] = String(value / 10));
}

/**
 * Path data through points in pixels, to a tenth; inner points of level stretches drop out.
 *
 * @param {ArrayLike<number>} xs
 * @param {ArrayLike<number>} ys
 * @returns {string}
 */
export function path(xs, ys) {
  const last = xs.length - 1;
  let text = "";
  let before = NaN;
  let y = Math.round(ys[0] * 10);
  for (let i = 0; i <= last; i += 1) {
    const next = i < last ? Math.round(ys[i + 1] * 10) : NaN;
    if (i === 0 || y !== before || y !== next) {
      text += (i ? "L" : "M") + tenth(Math.round(xs[i] * 10)) + " " + tenth(y);
    }
    before = y;
    y = next;
  }
  return text;
}

/**
 * Let a pointer (mouse, touch or pen) drag an element.
 *
 * @param {Element} element
 * @param {function(PointerEvent): (function(PointerEvent, boolean): void)} grab Called when
 *   the drag starts; returns what to call on each move, and once more with true at its end.
 * @returns {function(): void} Removes the listeners.
 */
export function draggable(element, grab) {
  let move = null;
  const down = (event) => {
    if (event.button > 0 || move) return;
    event.preventDefault();
    element.setPointerCapture(event.pointerId);
    move = grab(event);
  };
  const drag = (event) => move && move(event, false);
  const end = (event) => {
    if (!move) return;
    const finish = move;
    move = null;
    finish(event, true);
  };
  const listeners = [
    ["pointerdown", down],
    ["pointermove", drag],
    ["pointerup", end],
    ["pointercancel", end],
  ];
  for (const [name, listener] of listeners) element.addEventListener(name, listener);
  return () => {
    for (const [name, listener] of listeners) element.removeEventListener(name, listener);
  };
}
