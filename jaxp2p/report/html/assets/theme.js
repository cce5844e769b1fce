"use strict";
// Colours for the screen as it is, light or dark, and for paper; words and numbers as the tables have them.

const root = document.documentElement;
const tint = (name) => getComputedStyle(root).getPropertyValue(name).trim();

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const luminance = (hex) => channels(hex).reduce((sum, value, i) => sum + [0.2126, 0.7152, 0.0722][i] * (value / 255) ** 2.2, 0);

function mixed(hex, other, share) {
  const ends = [channels(hex), channels(other)];
  return `rgb(${ends[0].map((value, i) => Math.round(value + share * (ends[1][i] - value))).join(",")})`;
}

/** The colour, moved away from the page where it could hardly be seen on it. */
function seen(hex) {
  const light = luminance(tint("--page")) > 0.5;
  if (hex === "#000000") return tint("--ink");
  if (light && luminance(hex) > 0.7) return mixed(hex, "#000000", 0.15);
  if (!light && luminance(hex) < 0.12) return mixed(hex, "#ffffff", 0.45);
  return hex;
}

const colourOf = (policy) => seen(page.policies[policy].colour);

function paintSwatches() {
  for (const mark of document.querySelectorAll("[data-look]")) {
    mark.style.setProperty("--swatch", colourOf(mark.dataset.look));
  }
}

/** Between the colours of a list, at a share from 0 to 1. */
function between(stops, share) {
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const first = Math.min(Math.floor(place), stops.length - 2);
  return mixed(stops[first], stops[first + 1], place - first);
}

const VIRIDIS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"];
const LOADING = ["#fed976", "#feb24c", "#fd8d3c", "#fc4e2a", "#e31a1c", "#bd0026", "#800026"];

const DAY = 86400;
const dayText = (t) => new Date(t * 1000).toLocaleDateString("en-GB", { timeZone: "UTC", weekday: "short", day: "numeric", month: "short" });
const clockText = (t) => new Date(t * 1000).toISOString().slice(11, 16);
const momentText = (t) => `${dayText(t)} ${clockText(t)}`;

const numberText = (value, digits = 2) =>
  value === null || value === undefined || !Number.isFinite(value)
    ? "-"
    : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** As many digits as a value of this size deserves in a legend. */
const valueText = (value) =>
  value === null || value === undefined ? "-" : value.toLocaleString("en", { maximumSignificantDigits: Math.abs(value) >= 1000 ? 6 : 4 });

/** An element with attributes, text and children. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** A table with a caption; heads are texts, rows are lists of texts, the first being the row's name. */
function makeTable(caption, heads, rows) {
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)));
  const body = rows.map(([first, ...cells]) =>
    make("tr", {}, make("th", { scope: "row" }, first), ...cells.map((text) => make("td", {}, text))),
  );
  return make("table", {}, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, ...body));
}
