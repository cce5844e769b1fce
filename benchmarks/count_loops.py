"""How many turns the open loops of a study take, all lanes together: counted on a processor.

    python benchmarks/count_loops.py                                   both markets and engines, some minutes
    python benchmarks/count_loops.py --market bilateral --engine free_running --lanes 1024 --slots 24

What `compile_study.py` cannot know of a compiled program (its TURNS). The study is that of `compile_study.py`
with fewer lanes and the kernels of XLA, twice as many scenarios as lanes. A line per loop: the function in
which it stands and those around it, how often it was come to, and the mean and the most turns of it. A loop
of lanes takes the turns of the slowest, so that more lanes take more; a loop of at most one turn
(`_once.py`) has the share of times that it was entered as its mean.
"""

import argparse
import json
import sys
import traceback
from collections import defaultdict
from itertools import product
from pathlib import Path
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from bench_lanes import MARKETS  # noqa: E402

PACKAGE = "jaxp2p/"
HOMES = 153


class Counter:
    """Turns of every loop, by where it stands."""

    def __init__(self):
        self.found = defaultdict(lambda: [0, 0, 0])  # times, turns, most

    def note(self, name: str, turns) -> None:
        turns = int(turns.max())
        times, total, most = self.found[name]
        self.found[name] = [times + 1, total + turns, max(most, turns)]

    def counted(self, while_loop):
        """`jax.lax.while_loop` that says how many turns it took."""
        import jax
        import jax.numpy as jnp
        import numpy as np

        def loop(condition, body, begun):
            name = place()

            def back(turns):
                self.note(name, turns)
                return np.zeros(np.shape(turns), np.int32)

            none = jnp.zeros((), jnp.int32)
            turn = lambda carry: (carry[0] + 1, body(carry[1]))
            turns, ended = while_loop(lambda carry: condition(carry[1]), turn, (none, begun))
            kind = jax.ShapeDtypeStruct((), jnp.int32)
            nought = jax.pure_callback(back, kind, turns, vmap_method="expand_dims")
            # what nobody asks for would not be counted: it is added to whatever may be asked for
            more = lambda x: x if jnp.issubdtype(x.dtype, bool) else x + nought.astype(x.dtype)
            return jax.tree.map(more, ended)

        return loop


def place() -> str:
    """The functions of the package that are being traced, the innermost first."""
    calls = [c for c in traceback.extract_stack() if PACKAGE in c.filename]
    names = [f"{c.filename.rsplit(PACKAGE, 1)[1]}:{c.name}" for c in reversed(calls)]
    return " < ".join(names[:7])


def count(market: str, engine: str, lanes: int, slots: int) -> list[dict]:
    import jax
    import jax.numpy as jnp
    from rivals.study_case import village

    from jaxp2p.studies.engine import ENGINES

    counter, fori_loop = Counter(), jax.lax.fori_loop
    task = jax.tree.map(jnp.asarray, village(HOMES, market, slots=slots))
    numbers = jnp.arange(2 * lanes, dtype=jnp.int32)
    loop = counter.counted(jax.lax.while_loop)

    def for_loop(low, high, body, begun, **options):
        """A loop of a length that depends on the data is an open one."""
        if not isinstance(high, jax.core.Tracer):
            return fori_loop(low, high, body, begun, **options)
        turn = lambda carry: (carry[0] + 1, body(carry[0], carry[1]))
        high = jnp.asarray(high, jnp.int32)
        return loop(lambda carry: carry[0] < high, turn, (jnp.full_like(high, low), begun))[1]

    with mock.patch.multiple(jax.lax, while_loop=loop, fori_loop=for_loop):
        batch = jax.jit(lambda task, numbers: ENGINES[engine](task, numbers, lanes=lanes))(task, numbers)
        jax.block_until_ready(batch)
    head = {"market": market, "engine": engine, "n": HOMES, "lanes": lanes, "slots": slots}
    head["iterations"] = round(float(batch.series.iterations.mean()), 2)
    return [
        head | {"loop": name, "times": times, "mean": round(turns / times, 2), "most": most}
        for name, (times, turns, most) in counter.found.items()
    ]


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    markets, engines = list(MARKETS), ["lockstep", "free_running"]
    parser.add_argument("--market", nargs="+", choices=markets, default=markets)
    parser.add_argument("--engine", nargs="+", choices=engines, default=engines)
    parser.add_argument("--lanes", type=int, default=256)
    parser.add_argument("--slots", type=int, default=96)
    options = parser.parse_args(argv)
    for market, engine in product(options.market, options.engine):
        for line in count(market, engine, options.lanes, options.slots):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
