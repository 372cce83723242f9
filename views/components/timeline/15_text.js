// Numbers and names as words, and small helpers for the page.
const WIDTHS_KEPT = 20000;
const widths = new Map();  // text in the font of marks -> px
const shortened = new Map();

function unitOf(ns) {
  return ns >= 1e9 ? [1e9, "s"] : ns >= 1e6 ? [1e6, "ms"] : ns >= 1e3 ? [1e3, "µs"] : [1, "ns"];
}

function trimZeros(text) { return text.includes(".") ? text.replace(/\.?0+$/, "") : text; }

function duration(ns) {
  const [unit, word] = unitOf(Math.abs(ns));
  const value = ns / unit;
  // Through a number, because 999.7 to three digits is written 1.00e+3.
  return Number(value.toPrecision(Math.abs(value) >= 999.5 ? 4 : 3)) + " " + word;
}

// A moment, to the digit that `step` ns make visible.
function moment(t, step) {
  const [unit, word] = unitOf(Math.abs(t));
  const digits = Math.max(0, Math.ceil(-Math.log10(Math.max(step, 1) / unit) - 1e-9));
  return (t / unit).toFixed(Math.min(digits, 9)) + " " + word;
}

function percent(share) {
  const value = share * 100;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  return (value < 10 ? trimZeros(value.toFixed(1)) : value.toFixed(0)) + " %";
}

function counted(n) { return n.toLocaleString("en-US"); }

const POWERS = ["", "k", "M", "G", "T", "P"];

// A counter's value: four digits, large ones with a prefix (1.41 GHz, or 2 G where there is no unit).
function amount(value, unit) {
  const large = Math.abs(value) >= 1e4 && unit !== "%";
  const power = large ? Math.min(Math.floor(Math.log10(Math.abs(value)) / 3), POWERS.length - 1) : 0;
  const digits = Number((value / 1000 ** power).toPrecision(4)).toLocaleString("en-US", { maximumSignificantDigits: 4 });
  const word = POWERS[power] + (unit === "bytes" ? "B" : unit);
  return word ? digits + " " + word : digits;
}

// Where a counter's scale begins and ends: a filled area that began above zero would exaggerate.
function scaleOf({ low, high, unit }) {
  return { low: Math.min(low, 0), high: Math.max(high, unit === "%" ? 100 : 0) };
}

function shorten(name) {  // void a::b<int>(float*) reads as b<int>(float*)
  let short = shortened.get(name);
  if (short === undefined) {
    const plain = name.replace(/^void /, "").replaceAll("(anonymous namespace)::", "");
    const end = plain.search(/[<(]/);
    const at = plain.slice(0, end > 0 ? end : plain.length).lastIndexOf("::");
    short = at < 0 ? plain : plain.slice(at + 2);
    if (shortened.size > WIDTHS_KEPT) shortened.clear();
    shortened.set(name, short);
  }
  return short;
}

function widthOf(g, text) {
  let width = widths.get(text);
  if (width === undefined) {
    width = g.measureText(text).width;
    if (widths.size > WIDTHS_KEPT) widths.clear();
    widths.set(text, width);
  }
  return width;
}

function forgetWidths() { widths.clear(); }

// The text, or its beginning, so that it needs no more than `room` px; "" where little would be left.
function fit(g, text, room) {
  const width = widthOf(g, text);
  if (width <= room) return text;
  let n = Math.floor(text.length * room / width);
  while (n > 2 && g.measureText(text.slice(0, n) + "…").width > room) n -= 1;
  return n > 2 ? text.slice(0, n) + "…" : "";
}

function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

const ICONS = {
  pin: "M5 1h6v1l-1 1v4l2 2v1H8.6v4L8 15l-.6-1v-4H4V9l2-2V3L5 2z",
  up: "M8 4l5 6H3z",
  down: "M8 12L3 6h10z",
  sides: "M2 3h12v10H2zM3 4v4h10V4zM3 9v3h10V9z",
  close: "M3.5 2.5L8 7l4.5-4.5 1 1L9 8l4.5 4.5-1 1L8 9l-4.5 4.5-1-1L7 8 2.5 3.5z",
};

function iconButton(name, icon, label) {
  const button = element("button", name);
  fillIcon(button, icon);
  button.title = label;
  button.setAttribute("aria-label", label);
  return button;
}

function fillIcon(button, icon) {
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  const path = document.createElementNS(space, "path");
  picture.setAttribute("viewBox", "0 0 16 16");
  picture.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[icon]);
  picture.append(path);
  button.append(picture);
}

function clamp(value, low, high) { return Math.min(Math.max(value, low), high); }
