"""Penalties of the ADMM: default, residual balancing, tuned, and tuned per slot, by iterations to solve.

    python benchmarks/bench_penalty.py              300 homes, bilateral, one day to tune, the next to test
    python benchmarks/bench_penalty.py --quick      40 homes, a few steps

Prints one JSON line per variant: median, mean and 95th percentile of the iterations on both days, slots at
the iteration limit, and what the tuning took. Tuned on the first day only; slots warm-started, float32.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
sys.path[:0] = [str(HERE), str(HERE.parent)]


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=300, help="homes (default 300)")
    parser.add_argument("--slots", type=int, default=96, help="to tune on, and as many to test on")
    parser.add_argument("--iterations", type=int, default=40, help="that the gradient goes through")
    parser.add_argument("--steps", type=int, default=200, help="of Adam")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="of the minibatches")
    parser.add_argument("--after", type=int, nargs="*", default=[8], help="checks before late balancing")
    parser.add_argument("--community", type=int, default=0, help="seed of homes, trading graph and prices")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", help="file to append the lines to; default: standard output")
    options = parser.parse_args(argv)
    if options.quick:
        options.n, options.slots, options.steps = 40, 16, 5
    return options


def spread(needed, limit: int) -> dict:
    """How many iterations a day took."""
    import numpy as np

    return {
        "median": float(np.median(needed)),
        "mean": round(float(needed.mean()), 1),
        "p95": float(np.percentile(needed, 95)),
        "at_limit": int((needed >= limit).sum()),
    }


def main(argv=None) -> None:
    options = arguments(argv)
    import jax
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    from dataclasses import replace

    from rivals.case import cast, make_case

    from jaxp2p.slot.admm.method import ADMM
    from jaxp2p.tuning.penalty import constant_rule, iterations_needed, sample, tune_penalties

    case = make_case(options.n, "bilateral", seed=options.community, length=2 * options.slots)
    problems = [cast(p, "float32") for p in case.problems]
    balancing, fixed = ADMM(), ADMM(rho_clamp=1.0)
    train, test = (sample(part, balancing) for part in (problems[: options.slots], problems[options.slots :]))

    def line(variant: str, rule, **more) -> None:
        row = {"case": f"ieee33 bilateral {options.n}", "community": options.community, "variant": variant}
        row["dtype"] = "float32"
        for name, day in (("train", train), ("test", test)):
            row[name] = spread(iterations_needed(day, rule), rule.admm.max_iter)
        text = json.dumps(row | more)
        if options.out:
            with open(options.out, "a") as file:
                file.write(text + "\n")
        else:
            print(text, flush=True)

    line("fixed default", constant_rule(fixed))
    line("residual balancing", constant_rule(balancing))
    for seed in options.seed:
        for by_feature in (False, True):
            begin = time.perf_counter()
            tuned = tune_penalties(
                train,
                fixed,
                by_feature=by_feature,
                iterations=options.iterations,
                steps=options.steps,
                seed=seed,
            )
            more = {
                "seed": seed,
                "tuning_s": round(time.perf_counter() - begin, 1),
                "loss": [round(float(np.mean(x)), 3) for x in (tuned.loss[:5], tuned.loss[-20:])],
                "weights": np.asarray(tuned.rule.weights, float).round(3).tolist(),
            }
            name = "tuned per slot" if by_feature else "tuned"
            line(name, tuned.rule, **more)
            line(f"{name} + balancing", replace(tuned.rule, admm=balancing), seed=seed)
            for checks in options.after:
                late = replace(tuned.rule, admm=ADMM(adapt_after=checks), inherit=False)
                line(f"{name}, balancing after {checks * late.admm.check_every}", late, seed=seed)


if __name__ == "__main__":
    main()
