"""XLA's flags for programs that are compiled in a fifth of the time; `python quick_programs.py` prints them.

Nearly all of the suite's time is compilation. XLA's older emitters of fused loops and LLVM without its
optimisation give the same numbers to rounding, and programs fast enough for what the tests run. Three passes
over loops look how often each of them turns, on a copy of all that is within it, and again in every round of
the pipeline: with loops in loops that is half of what is left, and none of our loops has a number of turns to
be found.
"""

import os

from jaxp2p._xla_flags import joined, known

LOOPS = ("while-loop-invariant-code-motion", "simplify-while-loops", "while-loop-trip-count-annotator")
QUICK = {
    "xla_cpu_use_fusion_emitters": "false",
    "xla_cpu_parallel_codegen_split_count": "1",
    "xla_backend_optimization_level": "0",
    "xla_disable_hlo_passes": ",".join(LOOPS),
}


def flags() -> str:
    """What XLA_FLAGS holds already, and the quick ones that this version knows."""
    given = os.environ.get("XLA_FLAGS", "")
    return joined(given, {flag: QUICK[flag] for flag in QUICK if flag not in given and known(flag)})


if __name__ == "__main__":
    print(flags())
