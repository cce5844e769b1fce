"use strict";
// Members: the table of all of them, the bill of a chosen one under every policy, what it did.

const ROWS = 25; // of the table of members before more are asked for
const PRINTED = 500; // of them on paper

class Members {
  /** chosen(bus): somebody has chosen a member, who is at this bus. */
  constructor(article, part, chosen) {
    this.article = article;
    this.part = part;
    this.chosen = chosen;
    this.member = 0;
    this.order = { column: 0, down: false };
    this.shown = ROWS;
    this.choice = article.querySelector("select.member");
    fill(this.choice, part.members.ids);
    this.choice.onchange = () => this.pick(Number(this.choice.value));
    const find = article.querySelector(".find");
    find.oninput = () => {
      this.wanted = find.value.trim().toLowerCase();
      this.table();
    };
    this.wanted = "";
  }

  /** Bills and devices of all members, once. */
  ready() {
    this.all ??= (async () => {
      const { members, policies } = this.part;
      const everywhere = async (references) => Object.fromEntries(await Promise.all(policies.map(async (name) => [name, await readRow(references[name])])));
      [this.bills, this.losses, this.pv, this.battery, this.vehicle] = await Promise.all([
        everywhere(members.bills),
        everywhere(members.losses),
        readRow(members.pv),
        readRow(members.battery),
        members.vehicle && readRow(members.vehicle),
      ]);
    })();
    return this.all;
  }

  async load(policy) {
    this.policy = policy;
    await this.ready();
    this.table();
    await this.choose(this.member);
  }

  pick(member) {
    this.chosen(this.part.members.buses[member]);
    return this.choose(member).catch(trouble);
  }

  async choose(member) {
    this.member = member;
    this.choice.value = member;
    this.billTable();
    for (const row of this.article.querySelectorAll("[data-member]")) row.classList.toggle("chosen", Number(row.dataset.member) === member);
    await this.pictures();
  }

  benefit(policy, member) {
    const { reference } = this.part;
    return reference === null ? null : this.bills[reference][member] - this.bills[policy][member];
  }

  billTable() {
    const { policies, members, reference } = this.part;
    const { member } = this;
    const heads = ["policy", "bill EUR", ...(reference ? ["benefit EUR"] : []), "share of the losses EUR"];
    const rows = policies.map((policy) => [
      page.policies[policy].label,
      numberText(this.bills[policy][member]),
      ...(reference ? [numberText(this.benefit(policy, member))] : []),
      numberText(this.losses[policy][member]),
    ]);
    const devices = [`${numberText(this.pv[member], 1)} kW of PV`, `${numberText(this.battery[member], 1)} kWh of batteries`];
    if (this.vehicle) devices.push(`${numberText(this.vehicle[member], 1)} kWh of vehicles`);
    const about = make("p", { class: "words" }, `At bus ${members.buses[member]}: ${devices.join(", ")}.`);
    const table = makeTable(`Bill of ${members.ids[member]} by policy`, heads, rows);
    table.querySelectorAll("tbody tr").forEach((row, number) => {
      row.classList.toggle("chosen", policies[number] === this.policy);
      row.firstChild.prepend(make("i", { class: "swatch", "data-look": policies[number], "aria-hidden": "true" }));
    });
    this.article.querySelector(".member-bills").replaceChildren(about, table);
    paintSwatches();
  }

  async pictures() {
    const { part, member, policy } = this;
    const figure = (name) => this.article.querySelector(`[data-chart="${name}"]`);
    if (!part.members.series) return;
    const series = part.members.series[policy];
    const found = {};
    for (const name of Object.keys(series)) found[name] = (await read(series[name]))[member];
    if (member !== this.member || policy !== this.policy) return; // another was chosen meanwhile
    const words = page.quantities.member;
    const colours = { load: "#000000", pv: "#E69F00", battery: "#009E73", vehicle: "#CC79A7", peers: "#56B4E9", undone: "#D55E00" };
    const used = Object.keys(colours).filter((name) => found[name] && (name === "load" || found[name].some((value) => value)));
    const others = used.filter((name) => name !== "load");
    const utility = found.load.map((load, at) => others.reduce((rest, name) => rest - found[name][at], load));
    const lines = [...used.map((name) => stepped(words[name][0], found[name], colours[name])), stepped("bought from the utility", utility, "#0072B2")];
    const time = axisOf(part, part.part);
    drawChart(figure("member"), { ...time.steps, series: lines, unit: "kW" });
    const battery = this.battery[member] > 0;
    drawChart(figure("member-stored"), battery ? { ...time.ends, series: [lineOf(words.stored[0], found.stored, "#009E73")], unit: "kWh", daily: "last" } : null);
    // what limits of the grid do to the price at this member's bus, where they do
    const parts = Object.entries({ of_losses: "#56B4E9", of_voltage: "#0072B2", of_branches: "#D55E00" }).filter(([name]) => found[name]?.some(Boolean));
    const prices = [["price", "#CC79A7"], ...parts].map(([name, hex]) => stepped(words[name][0], found[name], hex));
    drawChart(figure("member-price"), { ...time.steps, series: prices, unit: "EUR/kWh" });
    for (const name of ["member", "member-stored", "member-price"]) nameOf(figure(name), `${part.members.ids[member]}, ${page.policies[policy].label}${mergedText(part)}`);
  }

  // --- all members ---

  columns() {
    const { members, reference } = this.part;
    const bill = this.bills[this.policy];
    return [
      ["member", (n) => members.ids[n], null],
      ["bus", (n) => members.buses[n], null],
      ["PV kW", (n) => this.pv[n], 1],
      ["battery kWh", (n) => this.battery[n], 1],
      ...(this.vehicle ? [["vehicles kWh", (n) => this.vehicle[n], 1]] : []),
      ["bill EUR", (n) => bill[n], 2],
      ...(reference && reference !== this.policy ? [["alone EUR", (n) => this.bills[reference][n], 2], ["benefit EUR", (n) => this.benefit(this.policy, n), 2]] : []),
    ];
  }

  table() {
    const { ids, buses } = this.part.members;
    const columns = this.columns();
    const at = Math.min(this.order.column, columns.length - 1);
    const value = columns[at][1];
    const found = ids.map((_, n) => n).filter((n) => !this.wanted || `${ids[n]} ${buses[n]}`.toLowerCase().includes(this.wanted));
    if (at || this.order.down) {
      const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
      found.sort((a, b) => (this.order.down ? -1 : 1) * compare(value(a), value(b)));
    }
    const heads = columns.map(([name], number) => {
      const button = make("button", { type: "button" }, name);
      button.onclick = () => {
        this.order = { column: number, down: this.order.column === number && !this.order.down };
        this.table();
        this.article.querySelectorAll(".member-table th > button")[number]?.focus();
      };
      const sorted = number === at ? (this.order.down ? "descending" : "ascending") : "none";
      return make("th", { scope: "col", "aria-sort": sorted, class: columns[number][2] === null ? "text" : null }, button);
    });
    const rows = found.slice(0, this.shown).map((n) => {
      const cells = columns.map(([, of, digits]) => (digits === null ? of(n) : numberText(of(n), digits)));
      const name = make("button", { type: "button" }, cells[0]);
      name.onclick = () => {
        this.pick(n);
        this.choice.scrollIntoView({ block: "center" });
      };
      const row = make("tr", { "data-member": n }, make("th", { scope: "row" }, name), ...cells.slice(1).map((text, at) => make("td", { class: columns[at + 1][2] === null ? "text" : null }, text)));
      row.classList.toggle("chosen", n === this.member);
      return row;
    });
    const caption = `${found.length.toLocaleString("en")} of ${ids.length.toLocaleString("en")} members, ${page.policies[this.policy].label}`;
    const table = make("table", {}, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
    const parts = [table];
    if (found.length > this.shown) {
      const more = make("button", { type: "button" }, `Show ${Math.min(found.length - this.shown, 4 * ROWS)} more`);
      more.onclick = () => {
        this.shown += 4 * ROWS;
        this.table();
      };
      parts.push(more);
    }
    this.article.querySelector(".member-table").replaceChildren(...parts);
  }
}
