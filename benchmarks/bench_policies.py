"""Every policy on real windows: what it costs, what it captures, and what the limits of the grid change.

    python benchmarks/bench_policies.py --quick             a summer week, one tariff, and the village
    python benchmarks/bench_policies.py --part seasons      four windows of four weeks, three tariffs
    python benchmarks/bench_policies.py --out lines.jsonl --markdown tables.md
    python benchmarks/bench_policies.py --read lines.jsonl --markdown tables.md     tables only, no runs

Parts: `seasons` (capture of every policy, pool market, network included), `bound` (the lower bound found
from scratch, without the duals of perfect foresight) and `grid` (the overloaded village, with and without its
network limits). One JSON line per run and policy, one with `"summary": true` per window. Seconds are those of
the policy alone, compilation not counted.
"""

import argparse
import json
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SEASONS = {"winter": "2016-01-11", "spring": "2016-04-11", "summer": "2016-07-04", "autumn": "2016-10-10"}
SUNNY = "2016-05-23"  # the week with the most sun
PRICES = ("tou_noise", "tou", "dynamic")
PV_SCALES = (1.0, 2.5)
VERDICT = {True: "vacuous", False: "it says something", None: "-"}
PARTS = ("seasons", "bound", "grid")
POWER_KW, VOLTAGE_PU = 0.05, 1e-4  # what counts as within the limits of the grid
KEPT = (  # of the key figures
    "cost_eur",
    "saving_eur",
    "capture",
    "p2p_kwh",
    "curtailed_kwh",
    "self_sufficiency",
    "battery_cycles",
    "stored_worth_eur",
    "soc_violation_kwh",
    "voltage_min_pu",
    "voltage_max_pu",
    "voltage_violation_pu",
    "voltage_violation_slots",
    "line_loading_max",
    "transformer_loading_max",
    "line_violation_kw",
    "overload_hours",
    "balance_error_kw",
    "status_counts",
    "slots_not_solved",
    "iterations_median",
    "iterations_p95",
    "iterations_max",
    "ms_per_slot",
)
TITLES = {  # of the village: columns, how they are written
    "transformer %": ("transformer_loading_max", 0, 100),
    "line %": ("line_loading_max", 0, 100),
    "voltage max p.u.": ("voltage_max_pu", 4),
    "P out kW": ("line_violation_kw", 3),
    "V out p.u.": ("voltage_violation_pu", 5),
    "overload h": ("overload_hours", 2),
    "slots outside": ("breach_slots", 0),
    "unsolved": ("slots_not_solved", 0),
    "curtailed kWh": ("curtailed_kwh", 0),
    "cost EUR": ("cost_eur", 2),
    "limits cost EUR": ("limits_cost_eur", 2),
    "capture %": ("capture", 1, 100),
}


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--part", choices=[*PARTS, "all"], default="all")
    add("--case", help="embedded case; default: rural3, and rural1 for the part grid")
    add("--days", type=float, help="default: 28 for seasons, 7 for bound and grid")
    add("--season", nargs="+", choices=list(SEASONS), default=list(SEASONS))
    add("--price", nargs="+", choices=PRICES, default=list(PRICES), help="tariffs; grid uses the first")
    add("--market", choices=["pool", "bilateral", "none"], default="pool")
    add("--policies", nargs="+", help="default: all but the slow mpc_persistence, mpc_mean, mpc_perfect")
    add("--pv-scale", type=float, nargs="+", default=list(PV_SCALES), help="of the part grid")
    add("--quick", action="store_true", help="a summer week with one tariff instead of the seasons")
    add("--out", help="file to append the lines to; default: standard output")
    add("--markdown", help="file for the tables; default: standard output, after the lines")
    add("--read", nargs="+", help="JSONL files of earlier runs: make the tables, run nothing")
    options = parser.parse_args(argv)
    if options.quick:
        options.season, options.price, options.days = ["summer"], options.price[:1], options.days or 7
    return options


def device_name() -> str:
    """The processor, or the accelerator that JAX uses."""
    import jax

    if jax.default_backend() != "cpu":
        return jax.devices()[0].device_kind
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class Window:
    """One community and horizon, all policies run on it, and the lines that come of it."""

    def __init__(self, case: str, options, *, start: str, days: float, price: str, network=True, **devices):
        from jaxp2p import POLICIES, build_community, build_horizon, evaluate, load_case, window
        from jaxp2p.control.catalogue import MPC_POLICIES
        from jaxp2p.data import days_before
        from jaxp2p.runs.runner import HISTORY_DAYS, run

        whole = load_case(case, price=price, **devices)
        tables = window(whole, start=start, days=days)
        self.times = tables.profiles["time"]
        self.community = build_community(tables, market=options.market, network=network)
        self.horizon = build_horizon(self.community, tables)
        wanted = options.policies or POLICIES
        chosen = [name for name in (*POLICIES, *MPC_POLICIES) if name in wanted]
        plans = set(chosen) & set(MPC_POLICIES)
        before = days_before(whole, self.times.iloc[0], HISTORY_DAYS) if plans else None
        history = None if before is None else build_horizon(self.community, before)
        self.run = run(self.community, self.horizon, policies=chosen, history=history)
        self.evaluations = evaluate(self.community, self.horizon, self.run)
        self.kpis = {name: evaluation.kpis for name, evaluation in self.evaluations.items()}
        self.about = {"case": case, "start": start, "days": days, "slots": self.horizon.slots, "price": price}
        self.about |= {"market": options.market, "network": network, **devices}

    def cost(self, policy: str):
        """EUR, or None where the policy was not run."""
        return self.kpis.get(policy, {}).get("cost_eur")

    @property
    def possible(self):
        """EUR that perfect control of the batteries saves on top of trade alone."""
        trade_only, best = self.cost("no_storage"), self.run.perfect_foresight_eur
        return None if trade_only is None or best is None else trade_only - best

    def breaches(self, policy: str) -> list[dict]:
        """Slots outside the limits of the grid beyond tolerance, with the worst bus and branch of each."""
        import numpy as np

        from jaxp2p import Status

        network, grid = self.community.network, self.evaluations[policy].grid
        low, high = np.asarray(network.voltage_min, float), np.asarray(network.voltage_max, float)
        volts = np.maximum(low - grid.voltage, grid.voltage - high)
        status = self.run.trajectories[policy].status
        found = []
        for t in np.flatnonzero((grid.excess.max(1) > POWER_KW) | (volts.max(1) > VOLTAGE_PU)):
            row = {"slot": int(t), "time": str(self.times.iloc[t]), "status": Status(int(status[t])).name}
            if grid.excess[t].max() > POWER_KW:
                worst = int(grid.excess[t].argmax())
                row |= {"branch": network.branch_ids[worst], "kw": round(float(grid.excess[t, worst]), 4)}
            if volts[t].max() > VOLTAGE_PU:
                worst = int(volts[t].argmax())
                row |= {"bus": network.bus_ids[worst], "pu": round(float(volts[t, worst]), 6)}
            found.append(row)
        return found

    def lines(self, **labels) -> list[dict]:
        """One line per policy."""
        lines = []
        for name, kpis in self.kpis.items():
            breaches = self.breaches(name)
            line = {**labels, **self.about, "policy": name, "seconds": self.run.seconds[name]}
            line |= {key: kpis[key] for key in KEPT} | {"breach_slots": len(breaches)}
            if self.about["network"]:
                line["breaches"] = breaches[:20]
            lines.append(line)
        return lines

    def summary(self, **labels) -> dict:
        """The bounds around the policies: is everything in order, is the certificate worth something."""
        from jaxp2p.runs.runner import make_certificate

        best, bound, possible = self.run.perfect_foresight_eur, self.run.lower_bound_eur, self.possible
        line = {"summary": True, **labels, **self.about, "terminal_price": self.run.terminal_price}
        line |= {"perfect_foresight_eur": best, "lower_bound_eur": bound, "possible_saving_eur": possible}
        line["perfect_foresight_is_bound"] = self.run.perfect_foresight_is_bound
        certificate = make_certificate(self.community, self.horizon, self.run.terminal_price)
        line["certificate_eur"] = certificate.bound_eur
        if possible:
            line["certificate_ratio"] = certificate.bound_eur / possible
            line["vacuous"] = line["certificate_ratio"] > 1
        if best is not None:
            slack = 1e-5 * max(abs(best), 1)  # float32
            fair = [n for n in self.kpis if n != "perfect_foresight" and not self.breaches(n)]
            line["lower_bound_in_order"] = bound <= best + slack
            line["cheaper_than_perfect_foresight"] = [n for n in fair if self.cost(n) < best - slack]
        if self.cost("lyapunov") is not None and self.cost("lyapunov_standard") is not None:
            line["lyapunov_beats_standard_eur"] = self.cost("lyapunov_standard") - self.cost("lyapunov")
        line |= {"compile_s": round(self.run.compile_seconds, 2), "device": device_name()}
        return line | {"dtype": str(self.horizon.load.dtype), "version": version()}


def version() -> str:
    import jax

    import jaxp2p

    return f"jaxp2p {jaxp2p.__version__}, jax {jax.__version__}"


def seasons(options, put) -> None:
    """Every policy in four windows of the year."""
    for price in options.price:
        for season in options.season:
            days = options.days or 28
            done = Window(options.case or "rural3", options, start=SEASONS[season], days=days, price=price)
            for line in done.lines(part="seasons", season=season):
                put(line)
            put(done.summary(part="seasons", season=season))


def bound(options, put) -> None:
    """Perfect foresight less the lower bound found from scratch, as a share of the possible saving."""
    from jaxp2p import best_lower_bound

    policies, options.policies = options.policies, ["no_storage", "perfect_foresight"]
    for price in options.price:
        days = options.days or 7
        done = Window(options.case or "rural3", options, start=SEASONS["summer"], days=days, price=price)
        found = best_lower_bound(done.community, done.horizon, terminal_price=done.run.terminal_price)
        value = float(found.value_eur)
        gap = done.run.perfect_foresight_eur - value
        line = done.summary(part="bound", season="summer")
        line |= {"lower_bound_with_duals_eur": line.pop("lower_bound_eur"), "lower_bound_eur": value}
        put({**line, "gap_eur": gap, "gap_share": gap / done.possible})
    options.policies = policies


def grid(options, put) -> None:
    """The village whose PV overloads its transformer, with and without network limits."""
    for scale in options.pv_scale:
        costs = {}
        for network in (False, True):
            devices = {"pv_scale": scale} if scale != 1 else {}
            where = {"start": SUNNY, "days": options.days or 7, "price": options.price[0]}
            done = Window(options.case or "rural1", options, network=network, **where, **devices)
            costs[network] = {name: done.cost(name) for name in done.kpis}
            for line in done.lines(part="grid"):
                line["pv_scale"] = scale
                if network:
                    line["limits_cost_eur"] = line["cost_eur"] - costs[False][line["policy"]]
                put(line)
            put({**done.summary(part="grid"), "pv_scale": scale})


# --- tables -------------------------------------------------------------------------------------------------


def table(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---", *("---:" for _ in titles[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value, digits: int = 2, factor: float = 1.0) -> str:
    return "-" if value is None else f"{factor * value:,.{digits}f}"


def names(lines: list[dict]) -> list[str]:
    return list(dict.fromkeys(line["policy"] for line in lines if "policy" in line))


def season_tables(lines: list[dict]) -> list[str]:
    """Capture, cost and bounds per tariff."""
    lines = [line for line in lines if line["part"] == "seasons"]
    blocks = []
    for price in dict.fromkeys(line["price"] for line in lines):
        chosen = [line for line in lines if line["price"] == price]
        windows = list(dict.fromkeys(line["season"] for line in chosen))
        at = {(line["season"], line.get("policy")): line for line in chosen}  # None: the summary
        head = at[windows[0], None]
        capture, cost = [], []
        for name in names(chosen):
            runs = [at[season, name] for season in windows]
            saved = [run["capture"] for run in runs]
            whole = None
            if None not in saved:  # ratio of sums
                possible = [at[season, None]["possible_saving_eur"] for season in windows]
                whole = sum(c * p for c, p in zip(saved, possible, strict=True)) / sum(possible)
            capture.append([name, *(number(c, 1, 100) for c in [*saved, whole])])
            cost.append([name, *(number(run["cost_eur"]) for run in runs)])
        summaries = [at[season, None] for season in windows]
        cost.append(["lower bound", *(number(line["lower_bound_eur"]) for line in summaries)])
        lead = [line.get("lyapunov_beats_standard_eur") for line in summaries]
        facts = [
            ["possible saving, EUR", *(number(line["possible_saving_eur"]) for line in summaries)],
            ["Lyapunov cheaper than standard by, EUR", *(number(value) for value in lead)],
            ["certificate / possible saving", *(number(line.get("certificate_ratio")) for line in summaries)],
            ["", *(VERDICT[line.get("vacuous")] for line in summaries)],
        ]
        order = [
            line.get("lower_bound_in_order") and not line["cheaper_than_perfect_foresight"]
            for line in summaries
        ]
        said = {True: "yes", False: "no", None: "-"}
        facts.append(["lower bound <= perfect foresight <= every policy", *(said[value] for value in order)])
        unsolved = [sum(r.get("slots_not_solved", 0) for r in chosen if r["season"] == s) for s in windows]
        facts.append(["slots without a certified answer, all policies", *(str(count) for count in unsolved)])
        blocks += [
            f"### {head['case']}, {head['days']:g} days, {head['market']} market, tariff `{price}`",
            "Capture in %:",
            table(["policy", *windows, "together"], capture),
            "Cost in EUR, less the worth of the energy gained in the batteries:",
            table(["policy", *windows], cost),
            table(["window", *windows], facts),
        ]
    return blocks


def bound_tables(lines: list[dict]) -> list[str]:
    """The lower bound from scratch."""
    rows = [line for line in lines if line["part"] == "bound"]
    if not rows:
        return []
    shown = (("lower_bound_eur", 2), ("perfect_foresight_eur", 2), ("possible_saving_eur", 2))
    shown += (("gap_share", 2, 100),)
    body = [[f"`{line['price']}`", *(number(line[key], *how) for key, *how in shown)] for line in rows]
    titles = ["tariff", "lower bound EUR", "perfect foresight EUR", "possible saving EUR", "gap %"]
    head = f"{rows[0]['case']}, {rows[0]['days']:g} days from {rows[0]['start']}, {rows[0]['market']} market"
    say = f"The lower bound from scratch ({head}); gap: (perfect foresight - bound) / possible saving."
    return [say, table(titles, body)]


def grid_tables(lines: list[dict]) -> list[str]:
    """With and without limits, one table per PV size."""
    lines = [line for line in lines if line["part"] == "grid" and "policy" in line]
    blocks = []
    for scale in dict.fromkeys(line["pv_scale"] for line in lines):
        chosen = [line for line in lines if line["pv_scale"] == scale]
        body = [
            [
                line["policy"],
                "yes" if line["network"] else "no",
                *(number(line.get(key), *how) for key, *how in TITLES.values()),
            ]
            for name in names(chosen)
            for line in chosen
            if line["policy"] == name
        ]
        head = chosen[0]
        where = f"{head['case']}, {head['days']:g} days from {head['start']}, {head['market']} market"
        blocks += [
            f"### {where}, PV times {scale:g}, tariff `{head['price']}`",
            table(["policy", "limits", *TITLES], body),
        ]
    return blocks


def markdown(lines: list[dict]) -> str:
    made_on = next((line for line in lines if line.get("summary")), {})
    source = f"`benchmarks/bench_policies.py`, {made_on.get('version')}, {made_on.get('dtype')}"
    blocks = [f"Made by {source}, on: {made_on.get('device')}."]
    for title, make in (
        ("## Four windows of the year", season_tables),
        ("## How tight the lower bound is", bound_tables),
        ("## The overloaded village", grid_tables),
    ):
        content = make(lines)
        blocks += [title, *content] if content else []
    return "\n\n".join(blocks) + "\n"


def main(argv=None) -> list[dict]:
    options = arguments(argv)
    lines: list[dict] = []
    if options.read:
        for name in options.read:
            lines += [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]
    else:

        def put(line: dict) -> None:
            lines.append(line)
            text = json.dumps(line, default=float)
            if options.out:
                with open(options.out, "a", encoding="utf-8") as file:
                    file.write(text + "\n")
            else:
                print(text, flush=True)

        work = {"seasons": seasons, "bound": bound, "grid": grid}
        for part in PARTS if options.part == "all" else (options.part,):
            work[part](options, put)
    text = markdown(lines)
    if options.markdown:
        Path(options.markdown).write_text(text, encoding="utf-8")
    else:
        print(text)
    return lines


if __name__ == "__main__":
    main()
