"use strict";
// The pictures of a study: how cost spreads, how well its mean is known, the day in quantiles.

class StudyPart {
  constructor(article, part) {
    this.article = article;
    this.part = part;
  }

  figure(name) {
    return this.article.querySelector(`[data-chart="${name}"]`);
  }

  async show(policy) {
    const { part } = this;
    for (const row of this.article.querySelectorAll("[data-row]")) row.classList.toggle("chosen", row.dataset.row === policy);
    const known = part.policies.filter((name) => part.quantiles[name]);
    drawChart(this.figure("distribution"), { x: part.shares, xLabel: "% of the scenarios cost no more", series: known.map((name) => ofPolicy(name, part.quantiles[name])), unit: "EUR" });
    this.convergence(policy);
    for (const [name, column, unit] of [["import", "import_kw", "kW"], ["stored", "stored_kwh", "kWh"], ["price", "price_eur_per_kwh", "EUR/kWh"]]) {
      this.fan(this.figure(`fan-${name}`), policy, column, unit);
    }
  }

  convergence(policy) {
    const curve = this.part.convergence[policy];
    const figure = this.figure("convergence");
    const { colour, label } = page.policies[policy];
    const end = (sign) => curve.mean.map((value, at) => (curve.half[at] === null ? null : value + sign * curve.half[at]));
    const series = curve && curve.scenarios.length > 1
      ? [
          lineOf("upper end", end(1), colour, { faint: true, band: 1 }),
          lineOf("lower end", end(-1), colour, { faint: true }),
          lineOf(label, curve.mean, colour),
        ]
      : [];
    drawChart(figure, { x: curve?.scenarios ?? [], xLabel: "scenarios", series, unit: "EUR" });
    nameOf(figure, label);
  }

  fan(figure, policy, column, unit) {
    const levels = this.part.traces[policy]?.[column];
    if (!figure) return;
    const { colour, label } = page.policies[policy];
    const series = levels
      ? [
          lineOf("95 %", levels[4], colour, { faint: true, band: 1 }),
          lineOf("5 %", levels[0], colour, { faint: true }),
          lineOf("75 %", levels[3], colour, { faint: true, band: 3 }),
          lineOf("25 %", levels[1], colour, { faint: true }),
          lineOf("median", levels[2], colour),
        ]
      : [];
    const x = (levels?.[2] ?? []).map((_, slot) => this.part.hours * (slot + 1));
    drawChart(figure, { x, xLabel: "hours from the beginning of a scenario", series, unit });
    nameOf(figure, label);
  }
}
