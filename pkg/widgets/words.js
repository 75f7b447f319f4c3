/**
 * How every figure writes numbers, names and lists. Pure functions.
 */

const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const LOWERED = "₀₁₂₃₄₅₆₇₈₉";

/** A number in three digits, or as a power of ten where it is very large or small. */
export function digits(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 0.01 && size < 99950) {
    const places = Math.max(0, 2 - Math.floor(Math.log10(size)));
    return (value < 0 ? "−" : "") + size.toFixed(Math.min(places, 3));
  }
  const floor = Math.floor(Math.log10(size) + 1e-9);
  const power = size / 10 ** floor < 9.95 ? floor : floor + 1; // 9.96 would round to 10
  const lead = (size / 10 ** power).toFixed(1).replace(/\.0$/, "");
  const raised = (power < 0 ? "⁻" : "") +
    [...String(Math.abs(power))].map((k) => RAISED[k]).join("");
  return `${value < 0 ? "−" : ""}${lead === "1" ? "" : `${lead}×`}10${raised}`;
}

/** A tick without trailing zeros: "5", "0.5", "10⁻³". */
export function tickText(value) {
  const size = Math.abs(value);
  if (size < 0.01 || size >= 1e5) return digits(value);
  return (value < 0 ? "−" : "") + String(size);
}

/** A small whole number as a subscript: "₁₂" for 12. */
export function lowered(number) {
  return [...String(number)].map((digit) => LOWERED[digit]).join("");
}

/** "γ₂" for mode 1. */
export function gammaName(mode) {
  return `γ${lowered(mode + 1)}`;
}

/** "a, b and c". */
export function list(words) {
  return words.length < 2
    ? words.join("")
    : `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`;
}

/** "1 step", "2 steps". */
export function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
