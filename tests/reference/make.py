"""Makes the golden cases anew, or checks that the package still agrees with them; not run in CI.

    python tests/reference/make.py slots            tests/reference/slots, some minutes
    python tests/reference/make.py weeks            tests/reference/weeks, two minutes
    python tests/reference/make.py weeks --check    run every week and compare, write nothing

Slots are drawn by `tests/nasty_slots.py`, the first seed of a kind in which what the slot is about matters,
rounded to six digits and judged by `tests/slot_judge.py` (Clarabel on a quadratic program made from the
model, with a lower bound in closed form) and by the QP of `jaxp2p verify`. No solver of the package has a
say in a slot's answer. Weeks are figures of the package itself: they say what it gave, perfect foresight and
lower bound beside it, and by how much a later version may differ.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[up]) for up in (1, 2)]

FOLDER = Path(__file__).resolve().parent
SEEDS = 400
MATTERS = 0.01  # share of the scale by which what a slot is about must move its optimum
NAMED = 1e-4  # share from which it is written down
EXACT = 1e-7  # error of the reference, as a share of the scale
SLOT_TOLERANCES = {
    "reference": EXACT,
    "float64": 1e-4,  # with the solver's tolerances divided by ten
    "float32": 1e-3,  # the pass rule of the model
}


# Slots: layout, what it is called, recipes in order, what must matter.


def _layouts():
    from nasty_slots import Layout

    every = {"homes": 8, "buses": 6, "elastic": True}
    return {
        "pool": Layout("pool", **every),
        "pool_limited": Layout("pool", **every, limited=True, capped=True),
        "bilateral": Layout("bilateral", 8, 4),
        "bilateral_limited": Layout("bilateral", partners=4, **every, limited=True),
        "none_limited": Layout("none", **every, limited=True),
    }


KINDS = {
    "pool": {
        "day": (("day",), ("storage", "trade", "elastic")),
        "elastic_loads": (("elastic",), ("elastic", "trade")),
        "curtailed_at_a_cost": (("tight_feeder",), ("curtailment", "network")),
        "curtailed_for_nothing": (("tight_feeder",), ("network",)),
        "tight_voltage": (("lv_feeder",), ("network", "storage")),
        "penalty_too_small": (("saturated",), ("network",)),
        "infeasible_feeder": (("infeasible_feeder",), ("network",)),
        "slack_outside": (("slack_outside",), ("network",)),
        "rules": (("rules",), ("forced", "trade")),
        "refilled_after_self_discharge": (("leaking",), ("forced",)),
        "wear": (("flat_values",), ("wear", "storage")),
        "negative_prices": (("negative",), ("storage", "trade")),
        "one_price": (("one_price",), ("storage",)),
        "solar_park": (("solar_park", "lv_feeder"), ("network", "trade")),
        "watts_to_megawatts": (("heavy_tail",), ("storage",)),
    },
    "pool_limited": {
        "trade_limits": (("trade_limits", "connections"), ("trade_limits",)),
        "narrow_trades": (("narrow_trades",), ("trade_limits", "trade")),
        "closed": (("closed",), ("trade_limits", "storage")),
        "sell_max": (("zero_export",), ("connections", "storage")),
        "unserved": (("narrow_trades", "unserved"), ("connections", "trade")),
        "unserved_behind_a_tight_feeder": (
            ("tight_feeder", "narrow_trades", "unserved"),
            ("connections", "network"),
        ),
        "no_connection": (("narrow_trades", "no_connection"), ("connections", "trade")),
    },
    "bilateral": {
        "day": (("day",), ("storage", "trade", "wear")),
        "rules": (("rules",), ("forced", "trade")),
        "free_trades": (("free_trades",), ("trade", "storage")),
        "trade_limits": (("narrow_trades",), ("trade_limits", "trade")),
        "disconnected": (("disconnected",), ("trade_limits", "trade")),
        "closed": (("closed",), ("trade_limits", "storage")),
        "refilled_after_self_discharge": (("leaking",), ("forced", "trade")),
        "curtailed_at_a_cost": (("negative",), ("curtailment", "storage")),
        "equal_homes": (("equal",), ("storage",)),
    },
    "bilateral_limited": {
        "tight_feeder": (("tight_feeder",), ("network", "trade", "storage")),
        "infeasible_feeder": (("infeasible_feeder",), ("network",)),
        "penalty_too_small": (("saturated",), ("network",)),
        "sell_max": (("zero_export",), ("connections", "trade")),
        "unserved": (("narrow_trades", "unserved"), ("connections", "trade")),
        "no_connection": (("no_connection", "disconnected"), ("connections", "trade_limits")),
        "elastic_loads": (("elastic", "lv_feeder"), ("elastic", "network")),
        "everything": (("leaking", "trade_limits", "tight_feeder", "connections"), ("forced", "network")),
    },
    "none_limited": {
        "day": (("day",), ("storage", "elastic")),
        "tight_feeder": (("tight_feeder",), ("network", "elastic")),
        "infeasible_feeder": (("infeasible_feeder",), ("network",)),
        "unserved": (("unserved",), ("connections",)),
        "sell_max": (("zero_export",), ("connections", "storage")),
        "rules": (("rules",), ("forced",)),
    },
}
FREE = {"curtailed_for_nothing"}  # curtailment costs nothing there
ENDS = dict.fromkeys(("penalty_too_small", "infeasible_feeder", "slack_outside"), "NETWORK_VIOLATED")
ENDS |= dict.fromkeys(("unserved", "unserved_behind_a_tight_feeder", "no_connection"), "UNSERVED")
ENDS |= dict.fromkeys(
    ("day", "tight_voltage", "wear", "trade_limits", "closed", "sell_max", "elastic_loads", "rules"), "SOLVED"
)


def without(problem) -> dict:
    """The slot without one of its parts, for every part: what its optimum changes by is what it matters."""
    from jaxp2p.model.network import NoRows

    nought, inf = np.zeros_like(problem.load), np.full_like(problem.load, np.inf)
    market, found = problem.market, {}
    if problem.feeder.rows:
        none = dict.fromkeys(("row_offset", "row_lower", "row_upper"), problem.row_offset[:0])
        found["network"] = {"feeder": NoRows(), **none}
    if problem.buy_max is not None:
        found["connections"] = {"buy_max": inf, "sell_max": inf}
    if market.kind != "none":
        found["trade"] = {"market": replace(market, limit=0 * np.minimum(market.limit, 1))}
        found["trade_limits"] = {"market": replace(market, limit=0 * np.minimum(market.limit, 1) + 1e6)}
    if problem.load_cost is not None:
        found["elastic"] = {"load_min": problem.load, "load_max": problem.load}
    found["storage"] = {"charge_max": problem.charge_min, "discharge_max": problem.discharge_min}
    found["forced"] = {"charge_min": nought, "discharge_min": nought}
    found["curtailment"] = {"curtailment_cost": nought}
    found["wear"] = {"wear_cost": nought}
    return {name: replace(problem, **fields) for name, fields in found.items()}


def status_of(best) -> str | None:
    """What the model calls this optimum; None too near to a tolerance to say."""
    from slot_judge import POWER_KW

    # of all homes together, so that one of eight is beyond its tolerance for sure
    if 0.5 < best.beyond < 2 or 0.5 < best.unserved / POWER_KW < 8:
        return None
    if best.beyond > 1:
        return "NETWORK_VIOLATED"
    return "UNSERVED" if best.unserved > POWER_KW else "SOLVED"


def slot_record(layout: str, kind: str, seed: int) -> dict | None:
    """One golden slot, or None where this seed does not show what the kind is about."""
    import golden
    from nasty_slots import Family, draw_on_host
    from slot_judge import optimum

    recipes, must = KINDS[layout][kind]
    family = Family(f"golden.{layout}.{kind}", _layouts()[layout], recipes, plausible=True)
    inputs = golden.plain(draw_on_host(family, seed, np.float64))
    problem = golden.problem_of({"problem": inputs}, "float64")
    if kind in FREE and problem.curtailment_cost.any():
        return None
    best = optimum(problem)
    status = status_of(best)
    if status is None or best.error > EXACT * best.scale or status != ENDS.get(kind, status):
        return None
    change = {name: optimum(other).value - best.value for name, other in without(problem).items()}
    if any(abs(change[name]) < MATTERS * best.scale for name in must):
        return None
    larger = status
    if status == "NETWORK_VIOLATED":  # as `diagnose` does: is it the penalty, or can nobody keep the limit?
        larger = status_of(optimum(replace(problem, row_penalty=10 * problem.row_penalty)))
        wanted = {"penalty_too_small": "SOLVED", "infeasible_feeder": status}.get(kind, larger)
        if larger is None or larger != wanted:
            return None
    return {
        "name": f"{layout}.{kind}",
        "layout": layout,
        "origin": {
            "drawn": f"tests/nasty_slots.py, {family.name!r}, recipes {', '.join(recipes)}, seed {seed}",
            "layout": asdict(family.layout),
            "solver": f"clarabel {version('clarabel')}, tests/slot_judge.py",
            "jaxp2p": version("jaxp2p"),
        },
        "answer": best._asdict(),
        "qp_eur": second_opinion(problem),
        "status": status,
        "status_with_ten_times_the_row_penalty": larger,
        "tolerances": SLOT_TOLERANCES,
        "changes_eur_without": {n: x for n, x in change.items() if abs(x) > NAMED * best.scale},
        "problem": inputs,
    }


def second_opinion(problem) -> float:
    """EUR: the optimum of the other formulation, `to_qp`, which `jaxp2p verify` uses."""
    import jax.numpy as jnp

    from jaxp2p.runs.verification import optimum

    return optimum(jax.tree.map(jnp.asarray, problem)).objective


def make_slots() -> None:
    """Write all slots in place of those that are there."""
    made, missing = {}, []
    for layout, kinds in KINDS.items():
        for kind in kinds:
            record = next(filter(None, (slot_record(layout, kind, seed) for seed in range(SEEDS))), None)
            if record is None:
                missing.append(f"{layout}.{kind}")
                continue
            made[record["name"]] = text(record)
            answer = record["answer"]
            off = (record["qp_eur"] - answer["value"]) / answer["scale"]
            print(f"{record['name']:45} {record['status']:17} qp off {off:8.1e}", flush=True)
    if missing:
        raise SystemExit(f"none of {SEEDS} seeds shows what they are about: {', '.join(missing)}")
    for old in (FOLDER / "slots").glob("*.json"):
        old.unlink()
    for name, content in made.items():
        (FOLDER / "slots" / f"{name}.json").write_text(content)


# Weeks: windows of the embedded cases, every policy.

WEEK = {"market": "bilateral", "start": "2016-07-04", "days": 7, "options": {}}
SUN = {"price": "tou_noise", "pv_scale": 2.5}
SUNNY = {"case": "rural1", "market": "pool", "start": "2016-05-23", "days": 7, "options": SUN}
WINDOWS = {
    "rural3": WEEK | {"case": "rural3"},  # `jaxp2p run`
    "rural1": WEEK | {"case": "rural1"},
    "ieee33": WEEK | {"case": "ieee33"},
    "rural1_overloaded": SUNNY,
    "rural1_day": WEEK | {"case": "rural1", "days": 1},  # this and the next are run by the tests
    "rural1_overloaded_day": SUNNY | {"days": 1},
}
RIVAL_DAYS = 1  # windows up to this length get perfect foresight by `benchmarks/rivals/horizon.py` as well
SPREAD = 3  # margins are this many times what tolerance and dtype make of a figure, at least these shares
# of the largest cost, the load, 1, 1 p.u. and the slots:
LEAST = {"money": 1e-3, "energy": 2e-3, "share": 2e-3, "volts": 5e-4, "slots": 0.005}
# storage at a constant value per slot: many optima, and which one is met moves a day by 5 % of its cost
# (Newton and ADMM, float32 and float64: -95.5 to -90.7 EUR on rural1_overloaded_day, all slots solved)
LOOSE, LOOSE_LEAST = "lyapunov_standard", 0.05


def margins_of(found: dict, exact: dict, slots: int) -> dict:
    """By how much a later version may differ, figure by figure."""
    from golden_weeks import BOUNDS, ENERGY, LIMITS, MONEY, PRICES, SHARES, VOLTS

    costs = [abs(figures["total_cost_eur"]) for figures in found["policies"].values()]
    load = found["policies"]["no_storage"]["load_kwh"]

    def margin(stored, other, least):
        return max(SPREAD * abs(stored - other) if stored is not None else 0.0, least)

    def of(name, policy):
        stored, other = found["policies"][policy], exact["policies"][policy]
        loose = LOOSE_LEAST if policy == LOOSE else 0.0
        if name in LIMITS:
            return LIMITS[name]
        kinds = {"money": (MONEY, max(costs)), "energy": (ENERGY, load), "share": (SHARES, 1.0)}
        kinds["volts"] = (VOLTS, 1.0)
        ((kind, scale),) = [(kind, scale) for kind, (names, scale) in kinds.items() if name in names]
        return margin(stored[name], other[name], max(LEAST[kind], loose) * scale)

    names = (*MONEY, *ENERGY, *SHARES, *VOLTS, *LIMITS)
    policies = {
        policy: {name: float(f"{of(name, policy):.2g}") for name in names}
        | {"slots_of_a_status": max(1, round(LEAST["slots"] * slots))}
        for policy in found["policies"]
    }
    bounds = {name: margin(found[name], exact[name], LEAST["money"] * max(costs)) for name in BOUNDS[:2]}
    prices = {name: 1e-3 * abs(found[name]) for name in (*BOUNDS[2:], *PRICES)}
    return bounds | prices | {"policies": policies}


def rival_foresight(settings: dict, found: dict) -> float | None:
    """EUR: the horizon as one program with every variable of every member, by Clarabel; None: too long."""
    if settings["days"] > RIVAL_DAYS:
        return None
    sys.path.append(str(FOLDER.parents[1] / "benchmarks"))
    from rivals.horizon import horizon_optimum

    from jaxp2p import build_community, build_horizon, load_case, window

    tables = load_case(settings["case"], **settings["options"])
    tables = window(tables, start=settings["start"], days=settings["days"])
    community = build_community(tables, market=settings["market"], dtype="float64")
    horizon = build_horizon(community, tables)
    # the rival takes all members as flexible: what stands in the base of the rows comes out of it again
    still = np.asarray(horizon.load) * ~np.asarray(community.prosumers.flexible)
    network, bus = community.network, np.asarray(community.prosumers.bus)
    horizon = replace(
        horizon,
        voltage_base=horizon.voltage_base + 2 * still @ np.asarray(network.paths.resistance)[:, bus].T,
        flow_base=horizon.flow_base + still @ np.asarray(network.paths.downstream)[:, bus].T,
    )
    return horizon_optimum(
        community,
        horizon,
        terminal_price=found["end_value_eur_per_kwh"],
        row_penalty=found["row_price_eur_per_kwh"],
        unserved_price=found["unserved_price_eur_per_kwh"],
    )


def make_weeks(names: list[str], *, check: bool) -> None:
    """Run the windows and write them, or say what differs from what is written."""
    import golden
    from golden_weeks import differences, run_window

    wrong = 0
    for name in names or WINDOWS:
        begin, settings = time.process_time(), WINDOWS[name]
        found = run_window(settings)
        seconds = time.process_time() - begin
        if check:
            said = differences(golden.week(name), found)
            wrong += len(said)
            print(f"{name}: {len(said)} differ, {seconds:.0f} s of CPU", *said, sep="\n  ", flush=True)
            continue
        exact = run_window(settings, dtype="float64", tolerance=0.1)
        slots = round(settings["days"] * 96)
        record = {
            "name": name,
            "settings": settings,
            "origin": {
                "figures": f"jaxp2p {version('jaxp2p')}, jax {version('jax')}, float32, default tolerances",
                "margins": "from float64 at a tenth of the tolerances, see tests/reference/make.py",
                "rival": f"clarabel {version('clarabel')}, benchmarks/rivals/horizon.py",
                "seconds_of_cpu": round(seconds),
            },
            "rival_foresight_eur": rival_foresight(settings, found),
            **found,
            "margins": margins_of(found, exact, slots),
        }
        (FOLDER / "weeks" / f"{name}.json").write_text(text(record))
        print(f"{name}: {seconds:.0f} s of CPU, {time.process_time() - begin:.0f} in all", flush=True)
    if wrong:
        raise SystemExit(1)


def text(record: dict) -> str:
    """JSON with one line per field."""
    lines, dumps = [], partial(json.dumps, default=float, allow_nan=False)
    for name, value in record.items():
        if isinstance(value, dict):
            inner = ",\n".join(f"  {dumps(n)}: {dumps(x)}" for n, x in value.items())
            lines.append(f" {dumps(name)}: {{\n{inner}\n }}")
        else:
            lines.append(f" {dumps(name)}: {dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["slots", "weeks"])
    parser.add_argument("names", nargs="*", help="of weeks; default: all")
    parser.add_argument("--check", action="store_true", help="weeks: compare, write nothing")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    if options.what == "slots":
        make_slots()
    else:
        make_weeks(options.names, check=options.check)


if __name__ == "__main__":
    main()
