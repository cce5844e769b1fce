"""The AC power flow against power-grid-model and pandapower (`pip install ".[grid]"`).

    python benchmarks/bench_power_flow.py --right         errors of voltages in families of feeders
    python benchmarks/bench_power_flow.py --fast          10,000 flows at a time on all cores
    python benchmarks/bench_power_flow.py --cases FILE    reference cases for the tests, as data
    ... --trees N (of --right), --out FILE: append the lines to FILE instead of printing them

--right: random trees of 2 to 10,000 buses (ratios, shunts, charging, loads that go with the voltage; light
and heavy load; r/x from 0.2 to 20) and the embedded cases. Flows of the kernel up to 256 buses, of the same
code in NumPy beyond, which needs no compilation for every tree. A family is a line: the largest difference
of complex voltages in p.u., and of losses and branch flows as share of the largest flow, by dtype.

--fast: both take the same injections in turns; times are the best of several, `voltages` without and `all`
with flows, losses and loading; every core is a device with its share of the flows. power-grid-model: the
fastest of its methods that is exact, on all cores, with a tolerance of 1e-8 p.u. and voltages as the only
output. `single`: one flow after another in `lax.scan`.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402
from rivals import power_flow as rivals  # noqa: E402

from jaxp2p.data import CASES, load_case, window  # noqa: E402
from jaxp2p.model.build import branches_of, build_community, build_horizon  # noqa: E402
from jaxp2p.model.network import (  # noqa: E402
    FlowStatus,
    Matrices,
    Network,
    Pi,
    VoltageDependent,
    power_flow,
    power_flows,
    tree_of,
)

FLOWS = 10_000
SIZES = (2, 3, 5, 10, 20, 33, 60, 129, 200, 256, 300, 500, 1000, 2000, 5000, 10_000)
KINDS = ("float64", "float32")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for flag in ("--right", "--fast"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--trees", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    if args.cases:
        args.cases.write_text(json.dumps(reference_cases(), indent=1) + "\n")
    for lines in ([right(args.trees)] if args.right else []) + ([fast()] if args.fast else []):
        for line in lines:
            text = json.dumps(line)
            print(text, flush=True)
            if args.out:
                with args.out.open("a") as file:
                    file.write(text + "\n")


def network_of(pi: Pi, shunt: np.ndarray, slack: float, kind: str) -> Network:
    """A network for AC only: its linear matrices are empty."""
    buses, none = len(shunt), np.zeros((1, 1))
    array = lambda x: jnp.asarray(x, kind)
    return Network(
        paths=Matrices(resistance=array(none), reactance=array(none), downstream=array(none)),
        slack_voltage=array(slack),
        voltage_min=array(np.full(buses, 0.9)),
        voltage_max=array(np.full(buses, 1.1)),
        rating=array(np.full(buses - 1, np.inf)),
        tree=tree_of(pi, shunt, np.ones(buses - 1), np.dtype(kind)),
    )


def right(trees: int):
    """A line for every family."""
    rng = np.random.default_rng(2026)
    jitted = jax.jit(power_flow)
    families: dict[str, dict] = {}
    for number in range(trees):
        buses = int(rng.choice(SIZES, p=_shares()))
        pi, shunt = rivals.random_tree(rng, buses, spread=int(rng.choice([1, 3, 10, 10_000])))
        drop = float(rng.choice([0.01, 0.05, 0.1, 0.2]))
        power = -rng.random((2, buses)) * (1 + rng.uniform(-0.3, 0.6) * 1j)
        power[1] *= rng.choice([-0.5, 0.3])
        pi, shunt = rivals.scaled_to_drop(pi, shunt, power[0], drop)
        shares = [None] if number % 2 else [rng.random((4, buses)) / 2]
        parts = (
            None
            if shares[0] is None
            else VoltageDependent(
                *(s * x for s, x in zip(shares[0], 2 * [power.real, power.imag], strict=True))
            )
        )
        size = "2 to 256" if buses <= 256 else "300 to 10,000"
        load = "heavy" if drop > 0.08 else "light"
        compare(families, f"random trees, {size} buses, {load} load", pi, shunt, 1.02, power, parts, jitted)
    for name in CASES:
        tables = window(load_case(name), days=7)
        community = build_community(tables, dtype="float64")
        horizon, network = build_horizon(community, tables), community.network
        moving = np.asarray(community.moving)
        at_bus = network.at_buses(
            np.asarray(horizon.pv - horizon.load) * moving, np.asarray(community.prosumers.bus)
        )
        power = np.asarray(horizon.active_base) + at_bus + 1j * np.asarray(horizon.reactive_base)
        pi, shunt = branches_of(tables, network.bus_ids)
        some = power[:: max(1, len(power) // 96)]
        compare(
            families, f"case {name}", pi, shunt, float(network.slack_voltage), some, None, jitted, panda=True
        )
    yield from families.values()


def _shares() -> np.ndarray:
    weight = 1 / np.maximum(np.array(SIZES), 100)
    return weight / weight.sum()


def judge(pi, shunt, slack, power, parts) -> dict | None:
    """power-grid-model's answer at the smallest tolerance that it reaches; None: it has none."""
    from power_grid_model.errors import PowerGridError

    for tolerance in (1e-12, 1e-10, 1e-9):  # sums over very many buses do not get below their rounding
        try:
            return rivals.grid_model_flow(
                pi, shunt, slack, power.real, power.imag, parts, tolerance=tolerance
            )
        except PowerGridError:
            continue
    return None


def compare(families, family, pi, shunt, slack, power, parts, jitted, *, panda=False) -> None:
    """Adds the differences of one feeder to its family's line."""
    line = families.setdefault(
        family, {"family": family, "feeders": 0, "flows": 0, "without_answer": 0, "judge_failed": 0}
    )
    line["feeders"] += 1
    line["flows"] += len(power)
    active, reactive = power.real, power.imag
    judged = judge(pi, shunt, slack, power, parts)
    if judged is None and len(power) > 1:  # flow by flow: one without a solution is enough
        line["feeders"] -= len(power)
        line["flows"] -= len(power)
        for at in range(len(power)):
            cut = lambda part, at=at: part[at : at + 1]
            compare(families, family, pi, shunt, slack, cut(power), jax.tree.map(cut, parts), jitted)
        return
    if judged is None:
        network = jax.tree.map(np.asarray, network_of(pi, shunt, slack, "float64"))
        ours = power_flow(network, active, reactive, dependent=parts).status[0]
        line["judge_failed"] += 1
        line["no_solution_either"] = line.get("no_solution_either", 0) + int(ours != FlowStatus.SOLVED)
        return
    size = max(np.abs(judged["from"]).max(), 1e-9)
    worst = lambda name, value: line.update({name: max(line.get(name, 0.0), float(value))})
    if panda:
        hardest = np.abs(judged["voltage"]).min(1).argmin()
        volts = rivals.pandapower_voltage(pi, shunt, slack, active[hardest], reactive[hardest])
        worst("judges_differ_pu", np.abs(volts - judged["voltage"][hardest]).max())
    for kind in KINDS:
        network = network_of(pi, shunt, slack, kind)
        if len(shunt) <= 256:
            array, solve = (lambda x, kind=kind: jnp.asarray(x, kind)), jitted
        else:
            network = jax.tree.map(np.asarray, network)
            array, solve = (lambda x, kind=kind: np.asarray(x, kind)), power_flow
        dependent = None if parts is None else VoltageDependent(*map(array, parts))
        flow = jax.tree.map(np.asarray, solve(network, array(active), array(reactive), dependent=dependent))
        line["without_answer"] += int((flow.status != FlowStatus.SOLVED).sum())
        worst(f"voltage_pu_{kind}", np.abs(flow.real + 1j * flow.imag - judged["voltage"]).max())
        outward = pi.from_bus == np.asarray(network.tree.near)
        entering = np.where(outward, -flow.near_active, flow.far_active)
        worst(f"flow_share_{kind}", np.abs(entering - judged["from"].real).max() / size)
        lost = (judged["from"] + judged["to"]).real.sum(-1)
        worst(f"losses_share_{kind}", np.abs(flow.losses - lost).max() / size)
        line[f"iterations_{kind}"] = max(line.get(f"iterations_{kind}", 0), int(flow.iterations.max()))


def fast():
    """A line for every size."""
    for buses in (15, 33, 129, 2000):
        yield measured(buses, FLOWS)


def measured(buses: int, flows: int) -> dict:
    """Times of one random tree whose loads make a drop of about 0.05 p.u. on average."""
    rng = np.random.default_rng(buses)
    pi, shunt = rivals.random_tree(rng, buses, spread=5, plain=True)
    load = rng.random((flows, buses)) * -5
    load[:, 0] = 0
    pi, shunt = rivals.scaled_to_drop(pi, shunt, load.mean(0) * (1 + 0.3j), 0.05)
    network = network_of(pi, shunt, 1.0, "float32")
    mesh = jax.make_mesh((len(jax.devices()),), ("flows",))
    spread = lambda flows: jax.jit(
        jax.shard_map(flows, mesh=mesh, in_specs=(P(), P("flows"), P("flows")), out_specs=P("flows"))
    )
    volts = spread(lambda g, p, q: _volts(power_flows(g, p, q)))
    whole = spread(power_flows)
    alone = jnp.asarray(load[:500], jnp.float32)
    active = jax.device_put(np.asarray(load, np.float32), NamedSharding(mesh, P("flows")))
    reactive = 0.3 * active
    everywhere = jax.device_put(network, NamedSharding(mesh, P()))
    single = jax.jit(lambda g, p, q: jax.lax.scan(lambda c, x: (c, _volts(power_flow(g, *x))), 0, (p, q))[1])
    model, ids = rivals.grid_model(pi, shunt, 1.0)
    update = {"sym_load": rivals.load_update(ids, [load * (1 + 0.3j)])}
    tasks = {
        "voltages": lambda: jax.block_until_ready(volts(everywhere, active, reactive)),
        "all": lambda: jax.block_until_ready(whole(everywhere, active, reactive)),
        "single": lambda: jax.block_until_ready(single(network, alone, 0.3 * alone)),
        "pgm_iterative_current": lambda: rivals.grid_model_batch(model, update, "iterative_current"),
        "pgm_newton_raphson": lambda: rivals.grid_model_batch(model, update, "newton_raphson"),
    }
    best: dict[str, float] = {}
    answers = {}
    for _ in range(4 if buses < 1000 else 3):
        for name, task in tasks.items():
            begin = time.perf_counter()
            answers[name] = task()
            took = (time.perf_counter() - begin) / (500 if name == "single" else flows)
            best[name] = min(best.get(name, np.inf), 1e6 * took)
    ours = np.hypot(*map(np.asarray, answers["voltages"][:2]))
    peer = min(best[name] for name in best if name.startswith("pgm"))
    return {
        "buses": buses,
        "flows": flows,
        "cores": os.cpu_count(),
        **{f"{name}_us": round(took, 3) for name, took in best.items()},
        "ratio_voltages": round(peer / best["voltages"], 2),
        "ratio_all": round(peer / best["all"], 2),
        "voltage_error_pu": float(np.abs(ours - answers["pgm_newton_raphson"]).max()),
        "solved": float((np.asarray(answers["voltages"][2]) == FlowStatus.SOLVED).mean()),
        "lowest_pu": float(ours.min()),
    }


def _volts(flow):
    return flow.real, flow.imag, flow.status


def reference_cases() -> dict:
    """A tree with everything in power-grid-model, and a small net in pandapower."""
    rng = np.random.default_rng(12)
    pi, shunt = rivals.random_tree(rng, 12, spread=4)
    pi = pi._replace(ratio=np.where(np.arange(11) % 4 == 1, 1.03, pi.ratio))
    power = -rng.random((3, 12)) * 5 * (1 + 0.3j)
    power[1:] *= [[0.3], [-0.5]]
    pi, shunt = rivals.scaled_to_drop(pi, shunt, power[0], 0.08)
    shares = rng.random((2, 12)) / 2
    current, impedance = shares[:, None] * power
    parts = VoltageDependent(current.real, current.imag, impedance.real, impedance.imag)
    found = rivals.grid_model_flow(pi, shunt, 1.02, power.real, power.imag, parts)
    both = lambda x: {"re": x.real.tolist(), "im": x.imag.tolist()}
    numbers = {"z": pi.impedance, "y": pi.admittance, "shunt": shunt, "power": power}
    numbers |= {"current": current, "impedance": impedance, **found}
    tree = {"from_bus": pi.from_bus.tolist(), "to_bus": pi.to_bus.tolist(), "k": pi.ratio.tolist()}
    return {
        "origin": f"benchmarks/bench_power_flow.py --cases, with {rivals.versions()}",
        "power_grid_model": tree | {name: both(values) for name, values in numbers.items()},
        "pandapower": rivals.pandapower_case(),
    }


if __name__ == "__main__":
    main()
