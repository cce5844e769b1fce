"use strict";
// Pictures over time and otherwise: what to draw comes from run.js, members.js and study.js, uPlot draws it.
//
// spec: x, series [{label, values, colour(), dashes, step, band, faint}], unit, time (x is in s), xLabel, daily
// ("mean", "last", "range": what the table of numbers has of a day), linear (a scale that is logarithmic beyond it,
// on both sides of zero), range, mark (a moment that a line stands at).

const charts = new Map(); // figure -> {plot, spec}
const hiddenSeries = new WeakMap(); // figure -> labels that the reader has switched off
let shownDays = null; // [from, to] in s, of all pictures over time

const PAPER = 690; // px, width of a picture on paper
let onPaper = false;

const widthOf = (figure) => (onPaper ? PAPER : Math.max(figure.querySelector(".plot").clientWidth, 200));
const heightOf = (width) => Math.round(Math.min(290, Math.max(200, 0.42 * width)));

function drawChart(figure, spec) {
  if (!figure) return;
  removeChart(figure);
  figure.hidden = !spec || !spec.series.length;
  if (figure.hidden) return;
  const holder = figure.querySelector(".plot");
  const width = widthOf(figure);
  const off = hiddenSeries.get(figure) ?? new Set();
  hiddenSeries.set(figure, off);
  const plot = new uPlot(optionsOf(spec, width, off), [spec.x, ...spec.series.map((one) => one.values)], holder);
  charts.set(figure, { plot, spec });
  const unit = figure.querySelector("figcaption .unit");
  unit.textContent = spec.unit === "1" ? "" : spec.unit;
  label(figure, plot, spec);
  keysOfLegend(plot, off);
  const numbers = figure.querySelector(".numbers");
  numbers.ontoggle = () => numbers.open && numbers.querySelector("div").replaceChildren(numbersOf(figure, spec));
  if (numbers.open) numbers.ontoggle();
}

function removeChart(figure) {
  charts.get(figure)?.plot.destroy();
  charts.delete(figure);
}

function optionsOf(spec, width, off) {
  const ink = { stroke: () => tint("--soft"), grid: { stroke: () => tint("--grid"), width: 1 }, ticks: { stroke: () => tint("--line"), width: 1 } };
  const last = spec.x.length - 1;
  const xScale = { time: Boolean(spec.time), range: () => (spec.time && shownDays) || [spec.x[0], spec.x[last]] };
  const font = "12px system-ui, sans-serif";
  const xAxis = { ...ink, font, labelFont: font, space: spec.time ? 64 : 50, size: 30 };
  if (spec.time) {
    xAxis.values = (u, splits, axis, space, step) => splits.map((t) => (step >= DAY || t % DAY === 0 ? dayText(t) : clockText(t)));
  } else {
    Object.assign(xAxis, { label: spec.xLabel, labelSize: 20, labelGap: 0, values: (u, splits) => splits.map(valueText) });
  }
  const yAxis = {
    ...ink,
    font,
    values: (u, splits) => {
      const step = Math.abs(splits[1] - splits[0]) || 1;
      const digits = spec.linear ? 4 : Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
      return splits.map((v) => (v === null ? "" : v.toLocaleString("en", { maximumFractionDigits: digits })));
    },
    size: (u, values) => 20 + 7 * Math.max(3, ...(values ?? []).map((text) => text.length)),
  };
  if (spec.linear) yAxis.splits = (u, axis, low, high) => decades(spec.linear, low, high);
  const yScale = spec.linear ? { distr: 4, asinh: spec.linear } : {};
  if (spec.range) yScale.range = (u, low, high) => spec.range(low, high);
  return {
    width,
    height: heightOf(width),
    tzDate: (t) => uPlot.tzDate(new Date(t * 1e3), "Etc/UTC"),
    scales: { x: xScale, y: yScale },
    axes: [xAxis, yAxis],
    series: [{ label: spec.time ? "time" : spec.xLabel, value: (u, v) => (v === null ? "-" : spec.time ? momentText(v) : valueText(v)) }, ...spec.series.map((one) => seriesOf(one, spec, off))],
    bands: bandsOf(spec),
    cursor: { drag: { x: true, y: false }, points: { size: 6 }, ...(spec.time ? { sync: { key: "time", setSeries: false } } : {}) },
    legend: { live: true, markers: { fill: (u, number) => markerOf(spec.series[number - 1]) } },
    hooks: { draw: [(u) => spec.mark && drawMark(u, spec.mark())] },
    padding: [10, 32, 0, 0],
  };
}

function seriesOf(one, spec, off) {
  return {
    label: one.label,
    show: !off.has(one.label),
    stroke: one.faint ? "transparent" : () => one.colour(),
    width: one.width ?? 1.6,
    dash: one.dashes ?? [],
    points: { show: false },
    spanGaps: Boolean(one.span),
    paths: one.step ? uPlot.paths.stepped({ align: 1 }) : undefined,
    value: (u, v) => (v === null || v === undefined ? "-" : `${valueText(v)}${spec.unit === "1" ? "" : ` ${spec.unit}`}`),
  };
}

/** Powers of ten on both sides of zero, from the linear part on. */
function decades(linear, low, high) {
  const found = [0];
  for (let value = linear; value <= Math.max(high, -low); value *= 10) found.push(value, -value);
  return found.filter((value) => value >= low && value <= high).sort((a, b) => a - b);
}

const markerOf = (one) => one && (one.faint ? transparent(one.colour(), 0.3) : one.colour());

/** A line at a moment. */
function drawMark(u, moment) {
  const x = Math.round(u.valToPos(moment, "x", true));
  const { ctx, bbox } = u;
  if (x < bbox.left || x > bbox.left + bbox.width) return;
  ctx.save();
  ctx.strokeStyle = tint("--accent");
  ctx.lineWidth = 2 * devicePixelRatio;
  ctx.setLineDash([]);
  ctx.beginPath();
  ctx.moveTo(x, bbox.top);
  ctx.lineTo(x, bbox.top + bbox.height);
  ctx.stroke();
  ctx.restore();
}

/** Series that have `band`, the place of a lower one, are filled down to it. */
function bandsOf(spec) {
  return spec.series.flatMap((one, place) =>
    one.band === undefined ? [] : [{ series: [place + 1, one.band + 1], fill: () => transparent(one.colour(), one.strength ?? 0.22) }],
  );
}

function transparent(colour, share) {
  const parts = colour.startsWith("#") ? channels(colour) : colour.match(/[\d.]+/g).slice(0, 3);
  return `rgba(${parts.join(",")},${share})`;
}

// --- for keyboards and screen readers ---

function label(figure, plot, spec) {
  const caption = figure.querySelector("figcaption").textContent.trim().replace(/\s+/g, " ");
  const over = plot.over;
  over.tabIndex = 0;
  over.setAttribute("role", "img");
  over.setAttribute("aria-label", `${caption}: ${spec.series.map((one) => one.label).join(", ")}. Arrow keys read values; the numbers are in the table below.`);
  over.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -24, PageDown: 24 }[event.key];
    if (!by) return;
    event.preventDefault();
    const at = Math.min(Math.max((plot.cursor.idx ?? 0) + by, 0), spec.x.length - 1);
    plot.setCursor({ left: plot.valToPos(spec.x[at], "x"), top: plot.over.clientHeight / 2 });
  });
}

function keysOfLegend(plot, off) {
  const heads = plot.root.querySelectorAll(".u-legend .u-series th");
  heads.forEach((head, number) => {
    if (!number) return;
    const series = plot.series[number];
    head.tabIndex = 0;
    head.setAttribute("role", "button");
    const say = () => {
      head.setAttribute("aria-pressed", String(series.show));
      if (series.show) off.delete(series.label);
      else off.add(series.label);
    };
    say();
    head.addEventListener("click", () => queueMicrotask(say));
    head.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      head.click();
    });
  });
}

/** The picture as a table: a day per row, or some of the places along x. */
function numbersOf(figure, spec) {
  const series = spec.series.filter((one) => !one.faint);
  const heads = series.map((one) => one.label);
  if (!spec.time) {
    const step = Math.max(1, Math.round((spec.x.length - 1) / 10));
    const places = spec.x.map((_, at) => at).filter((at) => at % step === 0);
    const rows = places.map((at) => [valueText(spec.x[at]), ...series.map((one) => valueText(one.values[at]))]);
    return makeTable(`Some of the values, in ${spec.unit}`, [spec.xLabel, ...heads], rows);
  }
  const days = new Map();
  const late = spec.daily === "last" ? 1 : 0; // the end of a day belongs to it
  spec.x.forEach((t, at) => {
    const day = Math.floor((t - late) / DAY) * DAY;
    if (at < spec.x.length - 1 || late) days.set(day, [...(days.get(day) ?? []), at]);
  });
  const rows = [...days].map(([day, places]) => [dayText(day), ...series.map((one) => ofDay(places.map((at) => one.values[at]), spec.daily))]);
  const what = { last: "At the end of every day", range: "Lowest to highest of every day" }[spec.daily] ?? "Mean of every day";
  return makeTable(`${what}${spec.unit === "1" ? "" : `, in ${spec.unit}`}`, ["day", ...heads], rows);
}

function ofDay(values, how) {
  const known = values.filter((value) => value !== null);
  if (!known.length) return "-";
  if (how === "last") return valueText(known.at(-1));
  if (how === "range") return `${valueText(Math.min(...known))} to ${valueText(Math.max(...known))}`;
  return valueText(known.reduce((sum, value) => sum + value, 0) / known.length);
}

// --- all of them together ---

function showDays(range) {
  shownDays = range;
  for (const { plot, spec } of charts.values()) {
    if (spec.time) plot.setScale("x", range ? { min: range[0], max: range[1] } : { min: spec.x[0], max: spec.x.at(-1) });
  }
}

function fitCharts() {
  for (const [figure, { plot }] of charts) {
    const width = widthOf(figure);
    if (width !== plot.width) plot.setSize({ width, height: heightOf(width) });
  }
}

/** After the colours have changed: markers of legends are made once, so the pictures are made again. */
function redrawCharts() {
  for (const [figure, { spec }] of [...charts]) drawChart(figure, spec);
}
