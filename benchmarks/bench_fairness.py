"""Shapley values and the least core of a village of 153 members over its default week.

    python benchmarks/bench_fairness.py                        half a minute on two cores
    python benchmarks/bench_fairness.py --errors 0.02          only the default accuracy

Runs one policy in a pool and prints JSON lines. shapley: a line per stated error that was asked for. error:
95 % half-widths of all members together as share of the total benefit, largest_error: the widest of one
member's; away: how far the values are, together, from those of another seed at a tenth of the smallest error,
as the same share. coalitions: values per second. exact: of the members that exchange most, by all coalitions,
and how far sampled values are from that. least_core: between epsilon and claim. seconds: by the clock, after
one round to warm up.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", default="rural3")
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--policy", default="lyapunov")
    parser.add_argument("--errors", nargs="+", type=float, default=[0.02, 0.01, 0.005, 0.002])
    return parser.parse_args(argv)


def game_of(name: str, days: float, policy: str):
    """The game of one policy's run."""
    import jaxp2p as jp
    from jaxp2p.report.fairness import statements_of
    from jaxp2p.report.results import gathered

    case = jp.build(name, days=days, market="pool")
    result = jp.run(case, policies=[policy], foresight="off", lower_bound=False)
    results = gathered(
        case.community,
        case.horizon,
        result.run,
        result.evaluations,
        time=case.time,
        case=name,
        homes=True,
    )
    return statements_of(results)[policy].game


def timed(work):
    """What it gives, and seconds."""
    begin = time.perf_counter()
    found = work()
    return found, time.perf_counter() - begin


def lines_of(chosen):
    """All lines."""
    import numpy as np

    from jaxp2p.fairness.game import PoolGame
    from jaxp2p.fairness.least_core import least_core
    from jaxp2p.fairness.shapley import enumerated, sampled

    game = game_of(chosen.case, chosen.days, chosen.policy)
    about = {
        "case": chosen.case,
        "policy": chosen.policy,
        "members": game.members,
        "slots": len(game.weight),
        "slots_with_both_sides": len(game.slots.weight),
        "total_eur": round(game.total, 2),
        "cores": os.cpu_count(),
    }
    away = lambda one, other: float(np.abs(one - other).sum() / game.total)
    sampled(game, error=1)
    judge = sampled(game, error=min(chosen.errors) / 10, seed=1)
    for error in chosen.errors:
        found, seconds = timed(lambda error=error: sampled(game, error=error))
        yield about | {
            "what": "shapley",
            "asked": error,
            "error": found.error,
            "largest_error": found.largest_error,
            "away": away(found.value, judge.value),
            "permutations": found.permutations,
            "seconds": round(seconds, 3),
            "permutations_per_second": round(found.permutations / seconds),
        }
    masks = np.random.default_rng(0).random((20_000, game.members)) < 0.5
    _, seconds = timed(lambda: game.values(masks))
    yield about | {"what": "coalitions", "per_second": round(len(masks) / seconds)}
    for members in (8, 16):
        most = np.argsort(-game.gross)[:members]
        small = PoolGame(game.weight, game.power[:, most])
        exact, seconds = timed(lambda small=small: enumerated(small))
        found = sampled(small, error=min(chosen.errors))
        yield about | {
            "what": "exact",
            "members": members,
            "total_eur": round(small.total, 2),
            "seconds": round(seconds, 3),
            "sampled_error": found.error,
            "sampled_away": float(np.abs(found.value - exact.value).sum() / small.total),
        }
    core, seconds = timed(lambda: least_core(game))
    yield about | {
        "what": "least_core",
        "epsilon_eur": core.epsilon,
        "claim_eur": core.claim,
        "exact": core.exact,
        "coalitions": core.coalitions,
        "seconds": round(seconds, 3),
    }


def main(argv=None) -> None:
    for line in lines_of(arguments(argv)):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
