// Calls exported functions of a module: {module, calls: [[name, ...arguments]]} on standard
// input, a list of results on standard output. What JSON cannot hold travels as a string.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const numbers = { Infinity, "-Infinity": -Infinity, NaN };
const revive = (_, value) =>
  typeof value === "string" && value in numbers ? numbers[value] : value;
const { module, calls } = JSON.parse(readFileSync(0, "utf8"), revive);
const functions = await import(pathToFileURL(module));
const plain = (_, value) =>
  typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
const results = calls.map(([name, ...given]) => functions[name](...given));
process.stdout.write(JSON.stringify(results, plain));
