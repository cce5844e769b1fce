"use strict";
// The feeder: buses coloured by voltage, branches by loading, slot by slot.

const SVG = "http://www.w3.org/2000/svg";

function shape(tag, attributes, parent) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  parent?.append(node);
  return node;
}

const VOLTAGE_SLACK = 1e-4; // p.u. and share of the rating beyond a limit that count as kept
const LOADING_SLACK = 1e-3;

class FeederMap {
  /** chosen(kind, number): somebody has chosen a bus or a branch, or another slot (kind "slot"). */
  constructor(figure, part, chosen) {
    this.figure = figure;
    this.feeder = part.feeder;
    this.part = part;
    this.chosen = chosen;
    this.bus = 0;
    const { kinds, rating } = part.feeder;
    this.rated = rating.some((value) => value !== null);
    const main = kinds.indexOf("transformer");
    this.branch = Math.max(0, main >= 0 ? main : rating.findIndex((value) => value !== null));
    this.slot = 0;
    this.slots = Math.ceil((part.slots * part.slot) / part.part);
    this.slider = figure.querySelector(".slider");
    this.reading = figure.querySelector(".reading");
    this.busChoice = figure.querySelector("select.bus");
    this.branchChoice = figure.querySelector("select.branch");
    this.holder = figure.querySelector(".plot");
    this.controls();
  }

  controls() {
    const { feeder } = this;
    this.slider.max = this.slots - 1;
    this.slider.oninput = () => this.show(Number(this.slider.value), true);
    fill(this.busChoice, feeder.buses);
    fill(this.branchChoice, feeder.branches);
    this.busChoice.onchange = () => this.choose("bus", Number(this.busChoice.value));
    this.branchChoice.onchange = () => this.choose("branch", Number(this.branchChoice.value));
    this.figure.querySelector(".worst").onclick = () => this.show(this.tightest()[0], true);
    const play = this.figure.querySelector(".play");
    play.onclick = () => {
      const playing = play.getAttribute("aria-pressed") === "true";
      play.setAttribute("aria-pressed", String(!playing));
      play.textContent = playing ? "Play" : "Stop";
      clearInterval(this.timer);
      if (!playing) this.timer = setInterval(() => this.show((this.slot + 1) % this.slots, true), 120);
    };
    this.holder.setAttribute("role", "group");
    this.holder.setAttribute("aria-label", "The feeder; arrow keys move the time");
    this.holder.onkeydown = (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -24, PageDown: 24 }[event.key];
      if (!by) return;
      event.preventDefault();
      this.show((this.slot + by + this.slots) % this.slots, true);
    };
  }

  async load(policy) {
    const { feeder, part } = this;
    [this.voltage, this.loading] = await Promise.all([read(feeder.voltage[policy], feeder.parents), read(feeder.loading[policy])]);
    if (!this.range) {
      // one scale for all policies, so that they can be compared; at least 0.01 p.u. wide
      const ends = await Promise.all(part.policies.flatMap((name) => ["voltage_min", "voltage_max"].map((end) => readRow(part.series[name][end]))));
      const extremes = await Promise.all(part.policies.flatMap((name) => ["line", "transformer"].map((kind) => readRow(part.series[name][kind]))));
      const low = least(ends), high = most(ends);
      const middle = (low + high) / 2, reach = Math.max((high - low) / 2, 0.005);
      this.range = [middle - reach, middle + reach];
      this.most = Math.max(1, most(extremes));
      [this.slot, this.bus] = this.tightest();
    }
    this.build();
    this.show(this.slot, false);
  }

  /** The slot nearest to a limit of the grid, or furthest beyond one; and the bus nearest to one. */
  tightest() {
    const { feeder } = this;
    let slot = 0, room = Infinity, bus = 0, around = Infinity;
    for (let at = 0; at < this.slots; at++) {
      this.voltage.forEach((values, number) => {
        if (values[at] === null) return;
        const band = feeder.high[number] - feeder.low[number] || 1;
        const here = Math.min(feeder.high[number] - values[at], values[at] - feeder.low[number]) / band;
        if (here < around) [bus, around] = [number, here];
        if (here < room) [slot, room] = [at, here];
      });
      this.loading.forEach((values, number) => {
        if (feeder.rating[number] !== null && 1 - values[at] < room) [slot, room] = [at, 1 - values[at]];
      });
    }
    return [slot, bus];
  }

  build() {
    const { feeder } = this;
    const width = widthOf(this.figure);
    const pad = 26;
    const tall = Math.max(...feeder.places.map(([, y]) => y)) || 0.3;
    const inner = width - 2 * pad;
    // a map keeps its proportions, a tree fills what there is
    const leaves = feeder.buses.length - new Set(feeder.upper).size;
    const scale = feeder.mapped ? Math.min(inner, 520 / tall) : inner;
    const height = feeder.mapped ? scale * tall : Math.min(560, Math.max(180, 16 * leaves));
    const left = pad + (inner - scale * Math.max(...feeder.places.map(([x]) => x))) / 2;
    this.places = feeder.places.map(([x, y]) => [left + scale * x, pad + (feeder.mapped ? scale * y : (height * y) / tall)]);
    const wholeHeight = Math.round(height + 2 * pad);
    const svg = shape("svg", { width, height: wholeHeight, viewBox: `0 0 ${width} ${wholeHeight}`, role: "img" });
    const size = (width < 500 ? 0.75 : 1) * (feeder.buses.length > 300 ? 3 : feeder.buses.length > 60 ? 5 : 7);
    this.edges = feeder.branches.map((name, number) => {
      const [a, b] = [this.places[feeder.upper[number]], this.places[feeder.lower[number]]];
      const ends = { x1: a[0], y1: a[1], x2: b[0], y2: b[1] };
      const edge = shape("line", { ...ends, class: "over", "stroke-width": 0 }, svg);
      const line = shape("line", { ...ends, class: "branch-mark", "stroke-width": Math.max(2.5, 0.8 * size) }, svg);
      if (feeder.kinds[number] === "transformer") line.setAttribute("stroke-dasharray", "2 5");
      line.addEventListener("click", () => this.choose("branch", number));
      return { edge, line, title: shape("title", {}, line) };
    });
    this.marks = feeder.buses.map((name, number) => {
      const [x, y] = this.places[number];
      const out = shape("circle", { cx: x, cy: y, r: size + 3.5, class: "out", visibility: "hidden" }, svg);
      const form = number ? shape("circle", { cx: x, cy: y, r: size }, svg) : shape("rect", { x: x - size, y: y - size, width: 2 * size, height: 2 * size }, svg);
      form.setAttribute("class", "bus-mark");
      form.addEventListener("click", () => this.choose("bus", number));
      return { form, out, title: shape("title", {}, form) };
    });
    const [x, y] = this.places[0];
    const right = x > 0.7 * width;
    shape("text", { x: right ? x - 12 : x + 12, y: y - 10, "text-anchor": right ? "end" : "start" }, svg).textContent = "grid above";
    this.ring = shape("circle", { r: size + 5, class: "ring" }, svg);
    this.band = shape("line", { class: "ring" , "stroke-opacity": 0.35, "stroke-width": 3 * size }, svg);
    svg.prepend(this.band);
    this.svg = svg;
    this.holder.replaceChildren(svg);
    this.scales();
    this.mark();
  }

  scales() {
    const bar = (stops) => `linear-gradient(to right, ${stops.join(",")})`;
    const scale = (what, low, stops, high) => {
      const strip = make("i");
      strip.style.background = bar(stops);
      return make("span", {}, `${what} ${low}`, strip, high);
    };
    const [low, high] = this.range;
    this.figure.querySelector(".scales").replaceChildren(
      scale("bus voltage", low.toFixed(3), VIRIDIS, `${high.toFixed(3)} p.u.`),
      ...(this.rated ? [scale("branch loading", "0", LOADING, `${Math.round(100 * this.most)} %`)] : []),
      make("span", {}, "dotted: transformer; red edge: outside a limit; grey: no rating, or no power flow"),
    );
  }

  mark() {
    const { feeder } = this;
    const [x, y] = this.places[this.bus];
    this.ring.setAttribute("cx", x);
    this.ring.setAttribute("cy", y);
    const [a, b] = [this.places[feeder.upper[this.branch]], this.places[feeder.lower[this.branch]]];
    Object.entries({ x1: a[0], y1: a[1], x2: b[0], y2: b[1] }).forEach(([name, value]) => this.band.setAttribute(name, value));
    this.busChoice.value = this.bus;
    this.branchChoice.value = this.branch;
  }

  choose(kind, number) {
    this[kind] = number;
    this.mark();
    this.say();
    this.chosen(kind, number);
  }

  show(slot, told) {
    const { feeder } = this;
    this.slot = slot;
    this.slider.value = slot;
    const [low, high] = this.range;
    this.marks.forEach(({ form, out, title }, bus) => {
      const value = this.voltage[bus][slot];
      form.setAttribute("fill", value === null ? tint("--unrated") : between(VIRIDIS, (value - low) / (high - low)));
      out.setAttribute("visibility", this.beyond(value, bus) ? "visible" : "hidden");
      title.textContent = `${feeder.buses[bus]}: ${value === null ? "no power flow" : `${numberText(value, 4)} p.u.`}`;
    });
    this.edges.forEach(({ edge, line, title }, branch) => {
      const value = this.loading[branch][slot];
      const rated = feeder.rating[branch] !== null && value !== null;
      line.setAttribute("stroke", rated ? between(LOADING, value / this.most) : tint("--unrated"));
      edge.setAttribute("stroke-width", rated && value > 1 + LOADING_SLACK ? 11 : 0);
      title.textContent = `${feeder.branches[branch]} (${feeder.kinds[branch]}): ${rated ? `${numberText(100 * value, 1)} %` : "no rating"}`;
    });
    this.say();
    this.slider.setAttribute("aria-valuetext", this.when());
    if (told) this.chosen("slot", slot);
  }

  when() {
    const start = this.part.start + this.slot * this.part.part;
    return `${momentText(start)} to ${clockText(start + this.part.part)}`;
  }

  say() {
    const { feeder, slot } = this;
    const volts = this.voltage.map((values) => values[slot]);
    const loads = this.loading.map((values, branch) => (feeder.rating[branch] === null ? -1 : values[slot]));
    if (volts.includes(null)) return this.tell("the power flow has no solution");
    const lowest = volts.indexOf(least([volts])), highest = volts.indexOf(most([volts]));
    const worst = loads.indexOf(most([loads]));
    const out = volts.filter((v, bus) => this.beyond(v, bus)).length + loads.filter((v) => v > 1 + LOADING_SLACK).length;
    const parts = [
      `voltage ${numberText(volts[lowest], 4)} (${feeder.buses[lowest]}) to ${numberText(volts[highest], 4)} p.u. (${feeder.buses[highest]})`,
      ...(loads[worst] >= 0 ? [`most loaded: ${feeder.branches[worst]}, ${numberText(100 * loads[worst], 1)} %`] : []),
      out ? `${out} outside their limits` : "nothing outside its limits",
    ];
    return this.tell(parts.join("; "));
  }

  beyond(value, bus) {
    const { low, high } = this.feeder;
    return value !== null && (value > high[bus] + VOLTAGE_SLACK || value < low[bus] - VOLTAGE_SLACK);
  }

  tell(what) {
    const text = `${this.when()}: ${what}.`;
    this.reading.textContent = text;
    this.svg.setAttribute("aria-label", `The feeder, ${text}`);
  }
}

const most = (rows) => rows.reduce((high, row) => row.reduce((a, b) => Math.max(a, b ?? -Infinity), high), -Infinity);
const least = (rows) => rows.reduce((low, row) => row.reduce((a, b) => Math.min(a, b ?? Infinity), low), Infinity);

/** The options of a select, numbered. */
function fill(select, names) {
  select.replaceChildren(...names.map((name, number) => make("option", { value: number }, name)));
}
