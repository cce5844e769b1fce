"""How many iterations a study wastes on lanes that wait: schedules compared by counts, no device needed.

    python benchmarks/bench_lanes.py                 simulate with the stored counts: a minute
    python benchmarks/bench_lanes.py --out FILE.jsonl --picture FILE.png
    python benchmarks/bench_lanes.py --record        count anew first: some minutes
    python benchmarks/bench_lanes.py --check         hold the engine against its simulation as well: minutes

The counts: turns (`solvers.turn`) up to every proof in 96 slots of some hundred scenarios of rural3
(`rivals/study_case.py`). Larger studies repeat whole scenarios at random, so that hard slots of one day stay
together. A schedule says which scenarios take their turns together. Waste is the share of the iterations of
all lanes that nobody needed, as `Batch.steps_made` counts it.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).parent
COUNTS = HERE / "results" / "lanes_counts.npz"
MARKETS, RECORDED = ("pool", "bilateral"), {"pool": 512, "bilateral": 384}
HOMES, SLOTS, SCENARIOS = 153, 96, (1000, 10_000, 100_000)
MOST = 60  # proofs of a slot that can be recorded
CHECKED = {"scenarios": 96, "lanes": 32}


class Counts(NamedTuple):
    """Scenarios cut into pieces, each of which ends with a proof: one per slot, and those that failed."""

    turns: np.ndarray  # (pieces,)
    each: int  # iterations of a turn
    pieces: np.ndarray  # (S + 1,) where the pieces of a scenario begin
    slot: np.ndarray  # (pieces,) its slot

    @property
    def scenarios(self) -> int:
        return len(self.pieces) - 1


def counts(turns, proofs, each: int) -> Counts:
    """Of the turns up to every proof, one after the other, and how many proofs (S, T) each slot took."""
    scenarios, slots = proofs.shape
    begin = np.concatenate([[0], np.cumsum(proofs.sum(axis=1), dtype=np.int64)])
    slot = np.repeat(np.tile(np.arange(slots), scenarios), proofs.reshape(-1))
    return Counts(np.asarray(turns, np.int64), int(each), begin, slot)


def stored_counts(market: str) -> Counts:
    with np.load(COUNTS) as stored:
        return counts(*(stored[f"{market}_{name}"] for name in ("turns", "proofs", "each")))


class Schedule(NamedTuple):
    lanes: int
    under_way: int = 1  # scenarios per lane that take turns; 1: a lane keeps its scenario to its end
    turnover: int = 8
    all_lanes: bool = False  # a turn-over waits for a share of all lanes, also of those without work
    longest_first: bool = False  # as if the work of a scenario were known
    narrowing: tuple[int, ...] = ()  # the batch shrinks to a lane in so many, once no more are at work
    whole: bool = False  # lanes wait for the longest of their ways to a proof, not for a turn


def simulate(found: Counts, rows, plan: Schedule) -> dict:
    """What `studies.free_running` counts with these scenarios (and what its variants would)."""
    if plan.longest_first:
        work = np.add.reduceat(found.turns, found.pieces[:-1])
        rows = rows[np.argsort(-work[rows], kind="stable")]
    groups = 1
    if plan.under_way > 1:
        groups = -(-len(rows) // (plan.under_way * plan.lanes))
    size = -(-len(rows) // groups)
    if groups > 1:
        plan = plan._replace(lanes=-(-size // plan.under_way))
    parts = [_simulated(found, rows[k * size : (k + 1) * size], size, plan) for k in range(groups)]
    made, useful, longest, rounds = (sum(part[k] for part in parts) for k in range(4))
    return {
        "waste": round(1 - useful / made, 4),
        "made": made * found.each,
        "useful": useful * found.each,
        "iterations_in_a_row": longest * found.each,
        "turn_overs": rounds,
    }


def _simulated(found: Counts, rows, size: int, plan: Schedule) -> tuple[int, int, int, int]:
    """Turns made and useful, those one after the other, and turn-overs."""
    count = len(rows)
    width = min(plan.lanes, size)
    widths = iter([*(-(-width // part) for part in plan.narrowing), 0])
    floor = next(widths)
    group = -(-width // plan.turnover)
    nobody, not_yet = count, count + 1  # in a lane
    piece, last = found.pieces[rows], found.pieces[rows + 1]
    left = np.zeros(count + 2, np.int64)  # turns of the piece at work
    place = np.full(width, not_yet)
    resting = np.ones(count, bool)
    made = useful = longest = rounds = 0
    while (taken := int(np.sum(place != nobody))) > 0:
        if taken <= floor:
            width, floor = floor, next(widths)
            place = np.append(place[place != nobody], np.full(width - taken, nobody))
            group = -(-width // plan.turnover)
        due = min(group, -(-taken // plan.turnover))
        while True:
            busy = left[place] > 0
            working = place[busy]
            if not len(working) or taken - len(working) >= (group if plan.all_lanes else due):
                break
            step = left[working] if plan.whole else np.ones(len(working), np.int64)
            most = int(step.max())
            made, useful, longest = made + width * most, useful + int(step.sum()), longest + most
            left[working] -= step
        chosen = np.flatnonzero((place != nobody) & ~busy)[:group]
        mine = place[chosen]
        there = mine < count
        piece[mine[there]] += 1
        stays = np.zeros(len(chosen), bool)
        now = piece[mine[there]]
        alive = now < last[mine[there]]
        same = found.slot[np.minimum(now, len(found.slot) - 1)] == found.slot[now - 1]
        stays[there] = alive & (same | (plan.under_way == 1))
        resting[mine[there][alive & ~stays[there]]] = True
        rounds += 1
        new = np.flatnonzero(resting)
        if plan.under_way > 1:  # the fewest slots first
            new = new[np.argsort(found.slot[piece[new]], kind="stable")]
        lanes = chosen[~stays]
        new = new[: len(lanes)]
        place[lanes] = np.append(new, np.full(len(lanes) - len(new), nobody))
        resting[new] = False
        begin = np.append(mine[stays], new)
        left[begin] = found.turns[piece[begin]]
    return made, useful, longest, rounds


def lockstep(found: Counts, rows, lanes: int) -> dict:
    """All lanes of a group wait for the slowest in every slot, and up to every proof of it."""
    groups = -(-len(rows) // lanes)
    width = -(-len(rows) // groups)
    slots = int(found.slot.max()) + 1
    useful = longest = proofs = 0
    for first in range(0, len(rows), width):
        at, last = found.pieces[rows[first : first + width]], found.pieces[rows[first : first + width] + 1]
        for slot in range(slots):
            busy = np.ones(len(at), bool)
            while busy.any():
                turns = found.turns[at[busy]]
                longest, useful, proofs = longest + int(turns.max()), useful + int(turns.sum()), proofs + 1
                at = at + busy
                busy &= at < last
                busy[busy] = found.slot[at[busy]] == slot
    made = longest * width
    return {
        "waste": round(1 - useful / made, 4),
        "made": made * found.each,
        "useful": useful * found.each,
        "iterations_in_a_row": longest * found.each,
        "turn_overs": groups * slots,
        "proofs": proofs,
    }


def schedules(scenarios: int, lanes: int) -> dict[str, Schedule]:
    """By name: what was, what was tried, what is."""
    return {
        "a lane keeps its scenario, 4,096 lanes (before)": Schedule(min(4096, scenarios), all_lanes=True),
        "a lane keeps its scenario": Schedule(lanes, all_lanes=True),
        "turned over by those that are left": Schedule(lanes),
        "and longest first (as if known)": Schedule(lanes, longest_first=True),
        "and a quarter of the lanes": Schedule(-(-lanes // 4)),
        "and the batch shrinks to a quarter": Schedule(lanes, narrowing=(4,)),
        "and by halves to 1/64": Schedule(lanes, narrowing=(2, 4, 8, 16, 32, 64)),
        "two take turns at a lane": Schedule(min(4 * lanes, scenarios) // 2, under_way=2),
        "three take turns": Schedule(min(4 * lanes, scenarios) // 3, under_way=3),
        "four take turns (now)": Schedule(lanes, under_way=4),
        "four, 1/16 turned over": Schedule(lanes, under_way=4, turnover=16),
        "four, 1/4 turned over": Schedule(lanes, under_way=4, turnover=4),
        "four, a step up to a proof": Schedule(lanes, under_way=4, whole=True),
    }


def record(market: str, scenarios: int, slots: int = SLOTS, task=None):
    """Turns up to every proof, in a row, and proofs (S, T) of every slot: one scenario at a time."""
    import jax
    import jax.numpy as jnp

    from jaxp2p.slot import solvers
    from jaxp2p.studies.lane import begun, closed, judged, opened, problem_of

    task = task or village_task(market, slots)
    none = jnp.zeros((), jnp.int32)

    def slot(rest, _):
        lane = opened(task, rest)
        problem = problem_of(task, lane)

        def turn(carry):
            search, made = carry
            return solvers.turn(problem, task.solver, search), made + jnp.ones_like(made)

        def piece(carry):
            search, turns, done = carry
            seeking = lambda carry: solvers.seeking(task.solver, carry[0])
            search, made = jax.lax.while_loop(seeking, turn, (search, none))
            search = solvers.prove(problem, task.solver, search)
            return search, turns.at[done].set(made, mode="drop"), done + jnp.ones_like(done)

        running = lambda carry: solvers.running(task.solver, carry[0])
        begin = lane.search, jnp.zeros(MOST, jnp.int32), none
        search, *counted = jax.lax.while_loop(running, piece, begin)
        lane = lane._replace(search=search)
        secured, _ = judged(task, lane)
        return closed(task, lane, secured, flows=False)[0], counted

    def scenario(number):
        return jax.lax.scan(slot, begun(task, number), length=task.slots)[1]

    every = jax.jit(lambda numbers: jax.lax.map(scenario, numbers))
    turns, proofs = jax.device_get(every(jnp.arange(scenarios, dtype=jnp.int32)))
    if proofs.max() > MOST:
        raise ValueError(f"a slot takes {proofs.max()} proofs: more than can be recorded")
    return turns[np.arange(MOST) < proofs[..., None]], proofs


def iterations_of(turns, proofs, each: int):
    """(S, T) of every slot."""
    begin = np.concatenate([[0], np.cumsum(proofs.reshape(-1))[:-1]])
    return each * np.add.reduceat(turns.astype(int), begin).reshape(proofs.shape)


def iterations_per_turn(task) -> int:
    """Of the task's solver."""
    return getattr(task.solver, "check_every", 1)


def village_task(market: str, slots: int):
    from rivals.study_case import village

    return village(HOMES, market, slots=slots)


def check(market: str, put) -> None:
    """A study by the engine, and its simulation from the steps of the same scenarios."""
    import jax
    import jax.numpy as jnp

    from jaxp2p.studies.engine import run_batch
    from jaxp2p.studies.free_running import UNDER_WAY

    scenarios, lanes = CHECKED["scenarios"], CHECKED["lanes"]
    task = village_task(market, SLOTS)
    numbers = jnp.arange(scenarios, dtype=jnp.int32)
    batch = jax.device_get(run_batch(task, numbers, engine="free_running", lanes=lanes))
    turns, proofs = record(market, scenarios, task=task)
    each = iterations_per_turn(task)
    plan = Schedule(lanes, under_way=UNDER_WAY)
    put({
        "check": market,
        **CHECKED,
        "counted_waste": round(1 - float(batch.steps_useful.sum() / batch.steps_made.sum()), 4),
        "simulated_waste": simulate(counts(turns, proofs, each), np.arange(scenarios), plan)["waste"],
        "slots": proofs.size,
        # another program rounds differently, so that a slot may take another step
        "slots_counted_otherwise": int(
            np.sum(iterations_of(turns, proofs, each) != batch.series.iterations)
        ),
    })  # fmt: skip


def compare(market: str, found: Counts, scenarios: int, put) -> None:
    """A line per schedule."""
    from jaxp2p.studies.engine import DEVICE_HOMES
    from jaxp2p.studies.free_running import UNDER_WAY

    rows = np.random.default_rng(scenarios).integers(0, found.scenarios, scenarios)
    lanes = min(DEVICE_HOMES // HOMES, -(-scenarios // UNDER_WAY))
    slots = found.scenarios * (int(found.slot.max()) + 1)
    common = {"market": market, "scenarios": scenarios, "proofs_per_slot": round(len(found.turns) / slots, 3)}
    put({**common, "schedule": "lockstep", "lanes": lanes, **lockstep(found, rows, lanes)})
    for name, plan in schedules(scenarios, lanes).items():
        put({**common, "schedule": name, "lanes": plan.lanes, **simulate(found, rows, plan)})


def table(lines: list[dict]) -> str:
    """Waste in % by schedule (rows), market and scenarios (columns)."""
    lines = [line for line in lines if "schedule" in line]
    columns = list(dict.fromkeys((line["market"], line["scenarios"]) for line in lines))
    waste = {(line["schedule"], line["market"], line["scenarios"]): line["waste"] for line in lines}
    text = ["| schedule | " + " | ".join(f"{market}, {s:,}" for market, s in columns) + " |"]
    text.append("| --- |" + " ---: |" * len(columns))
    for name in dict.fromkeys(line["schedule"] for line in lines):
        cells = [waste.get((name, *column)) for column in columns]
        text.append(f"| {name} | " + " | ".join("" if x is None else f"{100 * x:.1f}" for x in cells) + " |")
    return "\n".join(text)


def draw(lines: list[dict], path: str) -> None:
    """Waste against how long a study takes, in iterations one after the other, of 10,000 scenarios."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    figure, panels = plt.subplots(1, 2, figsize=(11, 4), sharey=True, layout="constrained")
    for panel, market in zip(panels, MARKETS, strict=True):
        shown = [x for x in lines if "schedule" in x and (x["market"], x["scenarios"]) == (market, 10_000)]
        for number, line in enumerate(shown):
            x, y = line["iterations_in_a_row"] / 1e3, 100 * line["waste"]
            label = f"{number + 1} {line['schedule']}"
            mark = "o" if "(now)" in label else "."
            panel.plot(x, y, mark, color=f"C{number % 10}", label=label)
            panel.annotate(f" {number + 1}", (x, y), fontsize=8, va="top" if number % 2 else "bottom")
        panel.axhline(10, color="grey", linewidth=0.8)
        panel.set(title=f"{market}, 10,000 scenarios", xscale="log", ylim=(0, 100))
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set(xlabel="thousand iterations, one after the other")
    panels[0].set(ylabel="waste, %")
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize=7, frameon=False, loc="outside right")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--record", nargs="*", choices=MARKETS, help="count anew, into results/lanes_counts.npz (all markets)"
    )
    parser.add_argument("--check", action="store_true", help="the engine against its simulation, as well")
    parser.add_argument("--scenarios", type=int, nargs="*", default=list(SCENARIOS))
    parser.add_argument("--out", help="file to append the lines to; default: standard output")
    parser.add_argument("--picture", help="PNG")
    options = parser.parse_args(argv)
    lines: list[dict] = []

    def put(line: dict) -> None:
        lines.append(line)
        text = json.dumps(line)
        if options.out:
            with open(options.out, "a", encoding="utf-8") as file:
                file.write(text + "\n")
        else:
            print(text, flush=True)

    if options.record is not None:
        with np.load(COUNTS) as stored:
            made = dict(stored)
        for market in options.record or MARKETS:
            task = village_task(market, SLOTS)
            made[f"{market}_turns"], made[f"{market}_proofs"] = record(market, RECORDED[market], task=task)
            made[f"{market}_each"] = np.asarray(iterations_per_turn(task))
        np.savez_compressed(COUNTS, **{k: x.astype(np.int16) for k, x in made.items()})
    for market in MARKETS:
        if options.check:
            check(market, put)
        found = stored_counts(market)
        for scenarios in options.scenarios:
            compare(market, found, scenarios, put)
    print(table(lines))
    if options.picture:
        draw(lines, options.picture)


if __name__ == "__main__":
    main()
