"""Sharing keys on a year of quarter-hours: seconds per key, and whether every law holds to the Wh.

    python benchmarks/bench_sharing.py                 153 members that all draw and feed in, under a minute
    python benchmarks/bench_sharing.py --members 1000 --days 28
    python benchmarks/bench_sharing.py --out benchmarks/results/bench_sharing_cpu.jsonl

Prints one JSON line per key: the best of three runs of `jaxp2p.sharing.key.allot`, the share of what could be
matched that is shared, and the Wh by which the laws are broken: received or given above the meter or below 0,
and what is received but not given. Energies are random, with gaps, the same for every key.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

RUNS = 3


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, default=153)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="file to append the lines to; default: standard output")
    return parser.parse_args(argv)


def community(options, rng):
    """Everybody draws in nine quarter-hours of ten and feeds in in one of three."""
    from jaxp2p.sharing.energy import measured

    shape = (96 * options.days, options.members)
    draw = rng.gamma(0.5, 0.2, shape) * (rng.random(shape) < 0.9)
    feed = rng.gamma(0.5, 0.6, shape) * (rng.random(shape) < 1 / 3)
    starts = pd.date_range("2023-01-01", periods=shape[0], freq="15min", tz="UTC").tz_convert("Europe/Vienna")
    names = [f"m{n}" for n in range(options.members)]
    return measured(starts, feed, draw, producers=names, consumers=names)


def keys(energy, rng) -> dict:
    """By name."""
    from jaxp2p.settings.sharing import Unused
    from jaxp2p.sharing.pairs import FromMarket, Pairs
    from jaxp2p.sharing.pot import Priority, ProRata, ProRataToSurplus
    from jaxp2p.sharing.several import Participation, SeveralCommunities
    from jaxp2p.sharing.shares import Equal, FixedShares, HourlyShares

    size = len(energy.consumers)
    shares, half = rng.dirichlet(np.ones(size)), np.full(size, 0.5)
    traded = rng.normal(0, 0.05, energy.consumption.shape)
    parts = [Participation(key=key, consumption=half, generation=half) for key in (ProRata(), Equal())]
    return {
        "equal": Equal(),
        "equal, by share": Equal(Unused.BY_SHARE),
        "fixed": FixedShares(shares),
        "fixed, by share": FixedShares(shares, Unused.BY_SHARE),
        "fixed, then pro rata": FixedShares(shares, Unused.PRO_RATA),
        "hourly": HourlyShares(rng.dirichlet(np.ones(size), 24)),
        "pro rata": ProRata(),
        "pro rata to surplus": ProRataToSurplus(),
        "priority, 4 levels": Priority(rng.integers(0, 4, size)),
        "priority, a level each": Priority(np.arange(size)),
        "pairs": Pairs(rng.dirichlet(np.ones(size), size)),
        "market": FromMarket.of_net_sales(traded),
        "two communities": SeveralCommunities(parts),
    }


def broken(done) -> int:
    """Wh by which the laws are broken."""
    over = [
        np.maximum(part - most, 0).sum() + np.maximum(-part, 0).sum()
        for part, most in (
            (done.received, done.energy.consumption),
            (done.given, done.energy.generation),
        )
    ]
    return int(sum(over) + np.abs(done.received.sum(1) - done.given.sum(1)).sum())


def main(argv=None) -> None:
    options = arguments(argv)
    from jaxp2p.sharing.key import allot

    rng = np.random.default_rng(options.seed)
    energy = community(options, rng)
    matched = np.minimum(energy.generated, energy.consumed).sum()
    for name, key in keys(energy, rng).items():
        seconds = []
        for _ in range(RUNS):
            begin = time.perf_counter()
            done = allot(key, energy)
            seconds.append(time.perf_counter() - begin)
        line = {
            "bench": "sharing",
            "key": name,
            "intervals": len(energy.time),
            "members": options.members,
            "seconds": round(min(seconds), 3),
            "shared_of_matched": round(float(done.shared.sum() / matched), 4),
            "broken_wh": broken(done),
        }
        text = json.dumps(line) + "\n"
        if options.out:
            with open(options.out, "a", encoding="utf-8") as file:
                file.write(text)
        else:
            sys.stdout.write(text)


if __name__ == "__main__":
    main()
