"""Perfect foresight and the lower bound in random small communities: against a reference, and every policy.

    python benchmarks/bench_bounds.py               500 communities, all policies, a quarter of an hour
    python benchmarks/bench_bounds.py --quick       24 communities
    python benchmarks/bench_bounds.py --out FILE    append the lines to FILE instead of printing them

`rivals/random_communities.py` says what is drawn: 1 to 12 homes, 4 to 24 slots, all markets, with connection
limits, trade limits, networks and batteries that leak below a lower limit. In each of them, in EUR as a share
of all power at the largest price (never 0),

    reference   perfect foresight less the optimum of the whole horizon written out member by member
                (`rivals/horizon.py`); in the bilateral market a relaxation, so it may be below, never above
    bound       lower bound (with the duals of perfect foresight) less perfect foresight: 0
    policy      the cheapest policy less perfect foresight, unserved energy and broken limits priced: >= 0

Prints one JSON line per market and kind of limits with the worst of each; "beaten" counts communities in
which a policy costs less than perfect foresight or perfect foresight less than the bound, by more than 1e-6.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
sys.path[:0] = [str(HERE), str(HERE.parent)]

AGREE = 1e-6  # of `money_at_stake`


def check(seed: int, *, policies: bool = True, shapes: int | None = None) -> dict:
    """What the docstring above names for one community, as shares; `policy` only with `policies`."""
    import jax.numpy as jnp
    import numpy as np
    from rivals import random_communities
    from rivals.horizon import horizon_optimum

    from jaxp2p.control.policy import suggest_penalties
    from jaxp2p.hindsight.lower_bound import lower_bound
    from jaxp2p.hindsight.perfect_foresight import perfect_foresight

    community, horizon, terminal_price = random_communities.random_community(
        seed, shapes=shapes or random_communities.SHAPES
    )
    penalties = suggest_penalties(horizon)
    row, unserved = float(penalties.row), float(penalties.unserved)
    prices = {"terminal_price": terminal_price, "row_penalty": row, "unserved_price": unserved}
    begin = time.perf_counter()
    best = perfect_foresight(community, horizon, tolerance=1e-6, **prices)
    seconds = time.perf_counter() - begin
    optimum = horizon_optimum(community, horizon, **prices)
    rows = None if not community.feeder.rows else jnp.asarray(np.clip(best.row_duals, -row, row))
    bound = lower_bound(
        community,
        horizon,
        storage_value=jnp.asarray(best.storage_duals),
        terminal_price=terminal_price,
        row_price=rows,
        unserved_price=unserved,
    )
    scale = random_communities.money_at_stake(community, horizon)
    trade_limit = np.asarray(community.market.limit)
    found = {
        "seed": seed,
        "market": community.market.kind,
        "network": community.feeder.rows > 0,
        "limits": community.prosumers.limited or bool(np.isfinite(trade_limit[trade_limit > 0]).any()),
        "reference": (best.objective_eur - optimum) / scale,
        "bound": (float(bound.value_eur) - best.objective_eur) / scale,
        "seconds": seconds,
    }
    if policies:
        costs = policy_costs(community, horizon, penalties, terminal_price)
        found["cheapest"] = min(costs, key=lambda name: costs[name])
        found["policy"] = (costs[found["cheapest"]] - best.objective_eur) / scale
    return found


def policy_costs(community, horizon, penalties, terminal_price: float) -> dict[str, float]:
    """EUR of every online policy as perfect foresight counts it: unserved energy and broken rows included."""
    import jax
    import numpy as np

    from jaxp2p.hindsight.horizon_settlement import row_excess
    from jaxp2p.hindsight.merit import unserved_cost
    from jaxp2p.hindsight.perfect_foresight import horizon_data
    from jaxp2p.model.trajectory import net_cost
    from jaxp2p.runs.runner import make_policies
    from jaxp2p.simulation.forward import simulate_in_pieces
    from jaxp2p.slot.solvers import choose_solver

    row, unserved = float(penalties.row), float(penalties.unserved)
    data, _ = horizon_data(
        community, horizon, terminal_price=terminal_price, row_penalty=row, unserved_price=unserved
    )
    arrays = jax.tree.map(jax.numpy.asarray, (community, horizon))
    solver, costs = choose_solver(community), {}
    for name, policy in make_policies(*arrays).items():
        run = simulate_in_pieces(*arrays, penalties, policy, solver)
        beyond = row * np.abs(row_excess(data, np.asarray(run.injection))).sum()
        missing = unserved_cost(data, np.asarray(run.unserved)).sum()
        paid = net_cost(run, community.prosumers.battery, terminal_price)
        costs[name] = paid + data.slot_hours * float(beyond + missing)
    return costs


def summary(rows: list[dict]) -> list[dict]:
    """One line per market and kind of limits."""
    lines = []
    for market in ("pool", "none", "bilateral"):
        for limits in (False, True):
            part = [r for r in rows if r["market"] == market and r["limits"] == limits]
            if not part:
                continue
            worst = lambda name, pick, part=part: float(f"{pick(r[name] for r in part):.2g}")
            beaten = [r["seed"] for r in part if r.get("policy", 0) < -AGREE or r["bound"] > AGREE]
            lines.append(
                {
                    "bench": "bounds",
                    "market": market,
                    "limits": limits,
                    "communities": len(part),
                    "with_network": sum(r["network"] for r in part),
                    "reference_max": worst("reference", max),
                    "reference_min": worst("reference", min),
                    "bound_max": worst("bound", max),
                    "bound_min": worst("bound", min),
                    "policy_min": worst("policy", min) if "policy" in part[0] else None,
                    "beaten": len(beaten),
                    "beaten_seeds": beaten[:10],
                    "foresight_s": round(sum(r["seconds"] for r in part), 2),
                }
            )
    return lines


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--communities", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="seed of the first community")
    parser.add_argument("--quick", action="store_true", help="24 communities")
    parser.add_argument("--out", help="file to append the lines to; default: standard output")
    options = parser.parse_args(argv)
    import jax

    jax.config.update("jax_enable_x64", True)
    count = 24 if options.quick else options.communities
    rows = []
    for seed in range(options.first, options.first + count):
        rows.append(check(seed))
        print(f"{len(rows)} of {count}", end="\r", file=sys.stderr, flush=True)
    lines = [json.dumps(line) for line in summary(rows)]
    if options.out is None:
        print("\n".join(lines))
        return
    with open(options.out, "a") as file:
        file.write("".join(line + "\n" for line in lines))


if __name__ == "__main__":
    main()
