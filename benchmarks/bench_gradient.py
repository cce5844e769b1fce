"""What the derivative of a simulation costs: time against the run alone, and memory against its length.

    python benchmarks/bench_gradient.py           rural3: merged batteries, all 153 homes, their network too
    python benchmarks/bench_gradient.py --quick   a day

Prints one JSON line per community and number of days: seconds of the run, of the run with its derivative
along one direction (forward mode) and with that by all weights of a value curve (reverse mode), the fastest
of three; ratios to the run; and the temporary memory of the reverse program in bytes per slot and home.
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, nargs="+", default=[7, 14, 28])
    parser.add_argument("--start", default="2016-06-06")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", help="file to append the lines to; default: standard output")
    options = parser.parse_args(argv)
    if options.quick:
        options.days = [1]
    return options


def fastest(function, *inputs) -> float:
    """Seconds, the first call not counted."""
    import jax

    jax.block_until_ready(function(*inputs))
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        jax.block_until_ready(function(*inputs))
        times.append(time.perf_counter() - begin)
    return min(times)


def main(argv=None) -> None:
    options = arguments(argv)
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxp2p.data import load_case, window
    from jaxp2p.model.build import build_community, build_horizon
    from jaxp2p.tuning.objective import course
    from jaxp2p.tuning.reduce import merged, without_network
    from jaxp2p.tuning.windows import Window, start_value

    whole = load_case("rural3", price="tou_noise")
    for days in options.days:
        tables = window(whole, start=options.start, days=days)
        community = build_community(tables, market="pool")
        whole_grid = community, build_horizon(community, tables)
        bare = without_network(*whole_grid)
        group = np.zeros(community.size, int)
        communities = {"merged": merged(*bare, group)[:2], "all homes": bare, "with network": whole_grid}
        for name, (members, horizon) in communities.items():
            alone = Window(members, jax.tree.map(lambda x: x[None], horizon), 0, group[: members.size])
            value, slot = start_value(alone), jnp.zeros((), jnp.int32)

            weights = {key: getattr(value, key) for key in ("level", "drop")}

            def cost(weights, horizon, adjoint, members=members, slot=slot, value=value):
                changed = dataclasses.replace(value, **weights)
                return course(members, horizon, slot, 0.2, changed, adjoint=adjoint).cost

            run = jax.jit(lambda w, h, cost=cost: cost(w, h, None))
            one = jax.jit(
                lambda w, h, cost=cost: jax.jvp(
                    lambda x: cost(x, h, "implicit"), (w,), (jax.tree.map(jnp.ones_like, w),)
                )
            )
            both = jax.jit(lambda w, h, cost=cost: jax.value_and_grad(cost)(w, h, "implicit"))
            memory = both.lower(weights, horizon).compile().memory_analysis()
            forward, along, gradient = (fastest(f, weights, horizon) for f in (run, one, both))
            found = {
                "community": name,
                "homes": members.size,
                "days": days,
                "run_s": round(forward, 4),
                "run_and_direction_s": round(along, 4),
                "run_and_gradient_s": round(gradient, 4),
                "ratio_direction": round(along / forward, 2),
                "ratio_gradient": round(gradient / forward, 2),
                "temporary_mb": round(memory.temp_size_in_bytes / 1e6, 1),
                "bytes_per_slot_and_home": round(memory.temp_size_in_bytes / horizon.slots / members.size),
                "device": jax.devices()[0].device_kind,
            }
            text = json.dumps(found)
            if options.out:
                with open(options.out, "a", encoding="utf-8") as file:
                    file.write(text + "\n")
            else:
                print(text, flush=True)


if __name__ == "__main__":
    main()
