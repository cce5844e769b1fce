"""What a graphics card would have to do for a solver step, from its compiled program. No card is needed.

    python -m venv gpu && gpu/bin/pip install "jax[cuda12]" "jaxp2p[bench]"      4 GB, once
    gpu/bin/python benchmarks/compile_gpu.py                                     all steps, some minutes
    gpu/bin/python benchmarks/compile_gpu.py --step pool/newton --homes 1000 --scenarios 1 100 --dtype float32

The steps are those of `bench_gpu.py`, compiled for an H100 that is only described; nothing is run. Per step:
kernels and bytes of one iteration of all scenarios together; open loops in it, which end when the data say so
(TURNS of each are reckoned with, or --turns); where the host waits for the device; and a prediction,

    max(bytes / 3.0e12 B/s, kernels x 2.5 us) + waits x 10 us,

as updates of a home per second, and as a share of what the bandwidth allows (`counted_floats`).
"""

import argparse
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from bench_gpu import KERNELS, STEPS, Tasks, step_functions, steps_of  # noqa: E402
from gpu_compiler import Compiled, compile_for, h100  # noqa: E402
from gpu_program import Loop  # noqa: E402

BANDWIDTH = 3.0e12  # bytes per second, of 3.35e12 on paper
LAUNCH = 2.5e-6  # seconds from one small kernel to the next
WAIT = 10e-6  # seconds until the host knows what the device found, and has the next kernel there
# of an open loop in a step, counted on a processor: until the last of 1,000 homes in 100 scenarios is done,
# in the mean over 60 steps from a cold start (4.2 and 6.0; Newton's, which limits no home, 0.1: entered once
# at most, and asked whether to in any case)
TURNS = {"pool/admm": 4, "bilateral/admm": 6, "pool/newton": 1}
VARIANTS = ("xla", "fused")  # in which a step can be compiled
HOMES, SCENARIOS = (153, 1000, 10_000), (1, 100, 1000)
MOST = 10**7  # homes times scenarios
OUT = HERE / "results" / "compile_gpu_h100.jsonl"
COLUMNS = (
    ("step", "step"),
    ("dtype", "dtype"),
    ("n", "homes"),
    ("scenarios", "scenarios"),
    ("kernels", "kernels"),
    ("pallas", "Pallas"),
    ("open_loops", "open loops"),
    ("waits", "waits"),
    ("bytes_per_update", "B/update"),
    ("bytes_counted", "counted"),
    ("ratio", "ratio"),
    ("arrays_mb", "arrays MB"),
    ("temporary_mb", "temp. MB"),
    ("us_per_step", "us/step"),
    ("limited_by", "limited by"),
    ("updates_per_second", "updates/s"),
    ("of_bandwidth", "of bandwidth"),
)


def step_names() -> list[str]:
    """ "pool/admm" and so on, one per step of `bench_gpu.py` and variant; that of XLA has no suffix."""
    suffix = lambda variant: "" if variant == VARIANTS[0] else f"/{variant}"
    return [f"{market}/{kernel}{suffix(v)}" for market, kernel in KERNELS for v in VARIANTS]


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = step_names()
    parser.add_argument("--step", nargs="+", choices=names, default=names, help="market/solver")
    parser.add_argument("--homes", type=int, nargs="+", default=list(HOMES), metavar="N")
    parser.add_argument(
        "--scenarios", type=int, nargs="+", default=list(SCENARIOS), metavar="S",
        help=f"that take a step together; N x S beyond {MOST:,} are left out",
    )  # fmt: skip
    parser.add_argument("--dtype", nargs="+", choices=("float32", "float64"), default=["float32", "float64"])
    parser.add_argument("--turns", type=float, help=f"of an open loop, per iteration ({TURNS})")
    parser.add_argument(
        "--loops-in-graphs", action="store_true",
        help="let XLA put loops into CUDA graphs (XLA_FLAGS=--xla_gpu_enable_command_buffer=+WHILE in a run)",
    )  # fmt: skip
    parser.add_argument("--keep", metavar="FOLDER", help="write the compiled programs there, to look into")
    parser.add_argument("--out", default=str(OUT), help=f"file to append lines to ({OUT.name}); '-': none")
    return parser.parse_args(argv)


def of_kind(loop: Loop, kind: str) -> int:
    return sum(kernel.kind == kind for each in loop.every() for kernel in each.kernels)


def prediction(kernels: float, moved: float, waits: float) -> dict:
    """Time that so much takes at least, in parts and in all (us), and what limits it; moved: bytes."""
    parts = {"bytes": moved / BANDWIDTH, "launches": kernels * LAUNCH, "waits": waits * WAIT}
    micro = lambda seconds: float(f"{1e6 * seconds:.4g}")
    return {
        **{f"us_{name}": micro(seconds) for name, seconds in parts.items()},
        "us_per_step": micro(max(parts["bytes"], parts["launches"]) + parts["waits"]),
        "limited_by": max(parts, key=lambda name: parts[name]),
    }


def figures(compiled: Compiled, *, homes: int, scenarios: int, counted: int, turns: float) -> dict:
    """What the table and the lines show of one compiled step: of the loop of `STEPS` steps."""
    loop = next(loop for loop in compiled.read().every() if loop.turns == STEPS)
    updates = homes * scenarios
    moved = loop.total("moved", turns)
    found = prediction(*(loop.total(what, turns) for what in ("kernels", "moved", "waits")))
    per_second = updates / (1e-6 * found["us_per_step"])
    open_loops = [inner for inner in loop.every()[1:] if inner.turns is None]
    rounded = lambda x: float(f"{x:.4g}")
    return {
        "kernels": round(loop.total("kernels", turns), 1),
        "kernels_outside_of_open_loops": round(loop.total("kernels", 0), 1),
        "pallas": of_kind(loop, "pallas"),
        "library": of_kind(loop, "library"),
        "copies": of_kind(loop, "copy"),
        "open_loops": len(open_loops),
        "launches": None if loop.launches is None else round(loop.total("launches", turns), 1),
        "waits": None if loop.waits is None else round(loop.total("waits", turns), 1),
        "bytes_per_step": round(moved),
        "bytes_per_update": rounded(moved / updates),
        "bytes_counted": counted,
        "ratio": rounded(moved / updates / counted),
        "temporary_mb": round(compiled.temporary / 1e6, 2),
        "arrays_mb": round(compiled.arrays / 1e6, 2),
        **found,
        "updates_per_second": rounded(per_second),
        "of_bandwidth": float(f"{per_second * counted / BANDWIDTH:.3g}"),
    }


def compile_step(
    place, task, kernel: str, scenarios: int, dtype: str, loops_in_graphs: bool, variant: str = "xla"
):
    """The program of `STEPS` steps of all scenarios, and the bytes that an update must move."""
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(dtype == "float64"):
        begin, step, counted = step_functions(task, kernel, jnp.dtype(dtype), variant)
        factor = jax.ShapeDtypeStruct((scenarios,), jnp.dtype(dtype))
        begun = jax.eval_shape(jax.vmap(begin), factor)
        made = compile_for(place, steps_of(step, STEPS), *begun, loops_in_graphs=loops_in_graphs)
    return made, counted


def columns(rows: list[list]) -> str:
    """Rows under their headings, the first of them."""
    show = lambda value: "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
    cells = [[show(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in cells)


def main(argv=None) -> list[dict]:
    options = arguments(argv)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # where the communities are made
    import jax

    place, tasks, lines = h100(), Tasks(), []
    for homes in options.homes:
        for name in options.step:
            market, kernel, *variant = name.split("/")
            sizes = [(s, d) for s in options.scenarios if homes * s <= MOST for d in options.dtype]
            for scenarios, dtype in sizes:
                task = tasks.get(homes, market)
                compiled, counted = compile_step(
                    place, task, kernel, scenarios, dtype, options.loops_in_graphs, *variant
                )
                turns = TURNS[f"{market}/{kernel}"] if options.turns is None else options.turns
                found = figures(compiled, homes=homes, scenarios=scenarios, counted=counted, turns=turns)
                line = {
                    "device": "H100, described", "jax": jax.__version__, "step": name, "n": homes,
                    "scenarios": scenarios, "dtype": dtype, "turns": turns,
                    "loops_in_graphs": options.loops_in_graphs, **found,
                }  # fmt: skip
                lines.append(line)
                print(".", end="", file=sys.stderr, flush=True)
                if options.keep:
                    keep(
                        Path(options.keep),
                        f"{'-'.join([market, kernel, *variant])}-{homes}-{scenarios}-{dtype}",
                        compiled,
                    )
                if options.out != "-":
                    with open(options.out, "a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
    print(file=sys.stderr)
    titles = [title for _, title in COLUMNS]
    print(columns([titles, *([line[name] for name, _ in COLUMNS] for line in lines)]))
    return lines


def keep(folder: Path, name: str, compiled: Compiled) -> None:
    """The text of a program and the sequence of its host."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.hlo").write_text(compiled.text, encoding="utf-8")
    (folder / f"{name}.sequence").write_text(compiled.sequence, encoding="utf-8")


if __name__ == "__main__":
    main()
