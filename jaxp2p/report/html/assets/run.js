"use strict";
// The pictures of a run: all policies where they are compared, else the chosen one.

/** Time axes of a part whose slots are `step` seconds long: starts (drawn as steps) and ends (as lines). */
function axisOf(part, step) {
  const end = part.start + part.slots * part.slot;
  const count = Math.ceil((part.slots * part.slot) / step);
  const starts = Array.from({ length: count }, (_, slot) => part.start + slot * step);
  const ends = starts.map((t) => Math.min(t + step, end));
  return { steps: { x: [...starts, end], time: true }, ends: { x: ends, time: true } };
}

const stepped = (label, values, hex, more = {}) => ({ label, values: [...values, values.at(-1)], colour: () => seen(hex), step: true, ...more });
const lineOf = (label, values, hex, more = {}) => ({ label, values, colour: () => seen(hex), ...more });
const ofPolicy = (policy, values, more = {}) =>
  lineOf(page.policies[policy].label, values, page.policies[policy].colour, { dashes: page.policies[policy].dashes, ...more });

const nameOf = (figure, text) => {
  const place = figure?.querySelector("figcaption .of");
  if (place) place.textContent = text;
};

const mergedText = (part) => (part.part > part.slot ? `, means of ${Math.round(part.part / 60)} min` : "");

class RunPart {
  constructor(article, part) {
    this.article = article;
    this.part = part;
    this.members = new Members(article, part, (bus) => this.map?.choose("bus", part.feeder.buses.indexOf(bus)));
    const figure = article.querySelector("[data-map]");
    if (figure && !part.feeder) figure.hidden = true; // a network without a tree
    else if (figure) this.map = new FeederMap(figure, part, (kind, number) => this.chosen(kind, number));
    this.precision();
  }

  figure(name) {
    return this.article.querySelector(`[data-chart="${name}"]`);
  }

  /** On paper all members are in their table, where they are not too many. */
  paper(on) {
    this.members.shown = on ? PRINTED : ROWS;
    this.members.table();
  }

  async show(policy) {
    this.policy = policy;
    for (const block of this.article.querySelectorAll(".of-policy")) block.hidden = block.dataset.policy !== policy;
    for (const row of this.article.querySelectorAll("[data-row]")) row.classList.toggle("chosen", row.dataset.row === policy);
    await Promise.all([this.allPolicies(), this.onePolicy(policy), this.fairness(), this.members.load(policy), this.feeder(policy)]);
  }

  /** One series of every policy. */
  async everywhere(name) {
    const { part } = this;
    const known = part.policies.filter((policy) => part.series[policy][name]);
    return Object.fromEntries(await Promise.all(known.map(async (policy) => [policy, await readRow(part.series[policy][name])])));
  }

  async allPolicies() {
    const { part } = this;
    const time = axisOf(part, part.step);
    const [cost, stored] = await Promise.all([this.everywhere("cost"), this.everywhere("stored")]);
    const others = part.policies.filter((policy) => policy !== part.reference);
    const saving = part.reference && others.map((policy) => ofPolicy(policy, cost[policy].map((value, at) => cost[part.reference][at] - value)));
    drawChart(this.figure("saving"), { ...time.ends, series: saving ?? [], unit: "EUR", daily: "last" });
    drawChart(this.figure("cost"), { ...time.ends, series: part.policies.map((policy) => ofPolicy(policy, cost[policy])), unit: "EUR", daily: "last" });
    // batteries that nobody uses are no line
    const used = part.policies.filter((policy) => most([stored[policy]]) > least([stored[policy]]));
    drawChart(this.figure("stored"), { ...time.ends, series: used.map((policy) => ofPolicy(policy, stored[policy])), unit: "kWh", daily: "last" });
  }

  async onePolicy(policy) {
    const { part } = this;
    const time = axisOf(part, part.step);
    const references = part.series[policy];
    const names = Object.keys(references);
    const rows = await Promise.all(names.map((name) => readRow(references[name])));
    if (policy !== this.policy) return;
    const values = Object.fromEntries(names.map((name, at) => [name, rows[at]]));
    const words = page.quantities.run;
    const line = (name, hex, more) => stepped(words[name][0], values[name], hex, more);
    const draw = (name, series, unit, more = {}) => {
      drawChart(this.figure(name), { ...time.steps, series: series.filter(Boolean), unit, ...more });
      nameOf(this.figure(name), page.policies[policy].label);
    };
    const differs = (a, b) => values[a].some((value, at) => Math.abs(value - values[b][at]) > 0.01);
    draw("power", [line("load", "#000000"), line("pv", "#E69F00"), differs("pv", "pv_available") && line("pv_available", "#D55E00", { dashes: [3, 3] })], "kW");
    draw("trade", [line("import", "#0072B2"), line("export", "#CC79A7"), line("peers", "#009E73")], "kW");
    const moved = values.charge.some(Boolean) || values.discharge.some(Boolean);
    draw("battery", moved ? [line("charge", "#56B4E9"), line("discharge", "#D55E00")] : [], "kW");
    if (values.ev_charge) draw("vehicles", [line("ev_charge", "#56B4E9"), line("ev_discharge", "#D55E00")], "kW");
    const traded = values.peers.some(Boolean);
    const local = [line("price_max", "#009E73", { faint: true, band: 1 }), line("price_min", "#009E73", { faint: true }), line("price_mean", "#009E73")];
    draw("prices", [...(traded ? local : []), line("price_buy", "#D55E00"), line("price_sell", "#0072B2")], "EUR/kWh");
    draw("voltages", [line("voltage_max", "#D55E00", { band: 1, strength: 0.15 }), line("voltage_min", "#0072B2")], "p.u.", { daily: "range" });
    const percent = (name, hex) => values[name].some(Boolean) && stepped(words[name][0], values[name].map((x) => (x === null ? null : 100 * x)), hex);
    draw("loadings", [percent("line", "#0072B2"), percent("transformer", "#D55E00")], "%", { daily: "range", range: (low, high) => [0, Math.max(1.05 * high, 1)] });
    draw("iterations", values.iterations.some(Boolean) ? [line("iterations", "#0072B2")] : [], "1", { daily: "range" });
    draw("gap", values.gap.some(Boolean) ? [line("gap", "#CC79A7")] : [], "EUR");
  }

  async fairness() {
    const { part } = this;
    const { reference, members } = part;
    if (!reference) return;
    await this.members.ready();
    const others = part.policies.filter((policy) => policy !== reference);
    const count = members.ids.length;
    const sorted = others.map((policy) => ofPolicy(policy, members.ids.map((_, n) => this.members.benefit(policy, n)).sort((a, b) => a - b)));
    const all = sorted.flatMap((one) => one.values.map(Math.abs)).filter((value) => value > 0).sort((a, b) => a - b);
    // a few members own most of the devices: a linear scale would press all others to the axis
    const linear = 10 ** Math.floor(Math.log10(Math.max(all[Math.floor(all.length / 2)] ?? 1, 0.1)));
    drawChart(this.figure("benefits"), { x: members.ids.map((_, n) => (100 * (n + 1)) / count), xLabel: "% of the members", series: count > 1 ? sorted : [], unit: "EUR", linear });
    const curves = others.filter((policy) => members.lorenz[policy]);
    const share = Array.from({ length: 101 }, (_, n) => n);
    const equal = lineOf("equal", share, "#888888", { width: 1 });
    drawChart(this.figure("lorenz"), {
      x: share,
      xLabel: "% of the members, those who gain least first",
      series: curves.length ? [...curves.map((policy) => ofPolicy(policy, members.lorenz[policy].map((x) => 100 * x))), equal] : [],
      unit: "% of the benefit",
    });
  }

  async feeder(policy) {
    if (!this.map) {
      for (const name of ["bus", "branch"]) if (this.figure(name)) this.figure(name).hidden = true;
      return;
    }
    await this.map.load(policy);
    nameOf(this.map.figure, `${page.policies[policy].label}${this.part.part > this.part.slot ? `, of ${Math.round(this.part.part / 60)} min the value nearest to a limit` : ""}`);
    this.ofBus();
    this.ofBranch();
  }

  chosen(kind) {
    if (kind === "bus") this.ofBus();
    if (kind === "branch") this.ofBranch();
    if (kind === "slot") for (const name of ["bus", "branch"]) charts.get(this.figure(name))?.plot.redraw(false);
  }

  /** The slider's moment, in the pictures of the bus and the branch. */
  mark() {
    return this.part.start + (this.map.slot + 0.5) * this.part.part;
  }

  ofBus() {
    const { part } = this;
    const { feeder } = part;
    const { bus } = this.map;
    const time = axisOf(part, part.part).steps;
    const limit = (label, value) => stepped(label, new Array(time.x.length - 1).fill(value), "#C0392B", { dashes: [6, 4], width: 1 });
    const voltage = this.map.voltage[bus];
    const series = [stepped(`voltage of ${feeder.buses[bus]}`, voltage, "#0072B2"), limit("upper limit", feeder.high[bus]), limit("lower limit", feeder.low[bus])];
    // limits far away from the voltages would flatten the picture
    const range = () => {
      const [low, high] = [least([voltage]), most([voltage])];
      const room = Math.max(high - low, 0.005);
      const near = (value) => value > low - 2 * room && value < high + 2 * room;
      return [Math.min(low - 0.2 * room, near(feeder.low[bus]) ? feeder.low[bus] - 0.1 * room : low), Math.max(high + 0.2 * room, near(feeder.high[bus]) ? feeder.high[bus] + 0.1 * room : high)];
    };
    drawChart(this.figure("bus"), { ...time, series, unit: "p.u.", daily: "range", range, mark: () => this.mark() });
    const here = part.members.ids.filter((_, n) => part.members.buses[n] === feeder.buses[bus]);
    const who = here.length ? `; ${here.length} member${here.length > 1 ? "s" : ""}: ${here.slice(0, 4).join(", ")}${here.length > 4 ? ", ..." : ""}` : "";
    nameOf(this.figure("bus"), `${feeder.buses[bus]}, ${page.policies[this.policy].label}${who}`);
  }

  ofBranch() {
    const { part } = this;
    const { feeder } = part;
    const { branch } = this.map;
    const time = axisOf(part, part.part).steps;
    const rated = feeder.rating[branch] !== null;
    const values = this.map.loading[branch].map((x) => (x === null ? null : 100 * x));
    const series = [stepped(`loading of ${feeder.branches[branch]}`, values, "#D55E00")];
    drawChart(this.figure("branch"), { ...time, series: rated ? series : [], unit: "%", daily: "range", range: (low, high) => [0, Math.max(1.05 * high, 1)], mark: () => this.mark() });
    nameOf(this.figure("branch"), `${feeder.branches[branch]}, ${rated ? `${numberText(feeder.rating[branch], 0)} kVA` : "no rating"}, ${page.policies[this.policy].label}`);
  }

  /** What this file holds, and how exactly. */
  precision() {
    const { part } = this;
    const rows = new Map();
    const note = (room, name, reference, step) => {
      const [words, unit] = page.quantities[room][name];
      const key = `${room} ${name}`;
      const scale = Math.min(reference.scale, rows.get(key)?.scale ?? Infinity);
      rows.set(key, { scale, words: room === "member" ? `member: ${words}` : words, unit, step });
    };
    for (const policy of part.policies) {
      for (const [name, reference] of Object.entries(part.series[policy])) note("run", name, reference, part.step);
      for (const [name, reference] of Object.entries(part.members.series?.[policy] ?? {})) note("member", name, reference, part.part);
      for (const name of ["voltage", "loading"]) if (part.feeder) note("feeder", name, part.feeder[name][policy], part.part);
    }
    const texts = [...rows.values()].map(({ scale, words, unit, step }) => {
      const half = (0.5 / scale).toLocaleString("en", { maximumSignificantDigits: 3 });
      return [words, unit === "1" && scale === 1 ? "nothing" : `${half} ${unit}`, `${Math.round(step / 60)} min`];
    });
    this.article.querySelector(".precision").replaceChildren(makeTable("How exactly this file holds the series", ["series", "rounded by at most", "step"], texts));
  }
}

/** Cost so far of a policy in every run that has it, from the run's beginning on. */
async function drawSideBySide(policy) {
  const figure = document.querySelector('#comparison [data-chart="side-by-side"]');
  const runs = page.parts.filter((part) => part.kind === "run" && part.series[policy]);
  if (!figure) return;
  const costs = await Promise.all(runs.map((part) => readRow(part.series[policy].cost)));
  const tables = runs.map((part, at) => [axisOf(part, part.step).ends.x.map((t) => (t - part.start) / 3600), costs[at]]);
  const [x, ...values] = runs.length ? uPlot.join(tables) : [[]];
  const series = runs.map((part, at) => lineOf(part.name, values[at], RUNS[at % RUNS.length], { span: true, dashes: [[], [6, 3], [2, 3]][Math.floor(at / RUNS.length) % 3] }));
  drawChart(figure, { x, xLabel: "hours from the beginning", series, unit: "EUR" });
  nameOf(figure, page.policies[policy].label);
}

const RUNS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]; // Okabe and Ito
