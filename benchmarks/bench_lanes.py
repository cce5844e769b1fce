"""How many iterations a study wastes on lanes that wait: schedules compared by counts, no device needed.

    python benchmarks/bench_lanes.py                 simulate with the stored counts: half a minute
    python benchmarks/bench_lanes.py --out FILE.jsonl --picture FILE.png
    python benchmarks/bench_lanes.py --record        count anew first: some minutes
    python benchmarks/bench_lanes.py --check         hold the engine against its simulation as well: minutes

The counts: iterations of every step of the solver (`solvers.advance`) in 96 slots of some hundred scenarios
of rural3 (`rivals/study_case.py`). Larger studies repeat whole scenarios at random, so that hard slots of one
day stay together. A schedule says which scenarios iterate together; all lanes wait for the longest of a step.
Waste is the share of the iterations of all lanes that nobody needed, as `Batch.steps_made` counts it.
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
MOST = 1200  # steps of a slot that can be recorded
CHECKED = {"scenarios": 96, "lanes": 32}


class Counts(NamedTuple):
    """Scenarios cut into pieces (slots), after each of which a lane has to be turned over."""

    turns: np.ndarray  # iterations of every step, one after the other
    steps: np.ndarray  # (pieces + 1,) where the steps of a piece begin
    pieces: np.ndarray  # (S + 1,) where the pieces of a scenario begin
    slot: np.ndarray  # (pieces,) its slot

    @property
    def scenarios(self) -> int:
        return len(self.pieces) - 1


def counts(turns, steps) -> Counts:
    """Of turns, one after the other, and how many steps (S, T) each slot took."""
    scenarios, slots = steps.shape
    begin = np.concatenate([[0], np.cumsum(steps.reshape(-1), dtype=np.int64)])
    return Counts(
        np.asarray(turns, np.int64),
        begin,
        np.arange(scenarios + 1) * slots,
        np.tile(np.arange(slots), scenarios),
    )


def one_at_a_time(found: Counts) -> Counts:
    """The same work if a step were one iteration, and every proof a reason to be turned over."""
    where = np.searchsorted(found.steps, np.arange(len(found.turns)), side="right") - 1  # piece of a step
    return Counts(
        np.ones(found.turns.sum(), np.int64),
        np.concatenate([[0], np.cumsum(found.turns)]),
        found.steps[found.pieces],
        found.slot[where],
    )


class Schedule(NamedTuple):
    lanes: int
    under_way: int = 1  # scenarios per lane that take turns; 1: a lane keeps its scenario to its end
    turnover: int = 8
    all_lanes: bool = False  # a turn-over waits for a share of all lanes, also of those without work
    longest_first: bool = False  # as if the work of a scenario were known
    narrowing: tuple[int, ...] = ()  # the batch shrinks to a lane in so many, once no more are at work


def simulate(found: Counts, rows, plan: Schedule) -> dict:
    """What `studies.engine.free_running` counts with these scenarios (and what its variants would)."""
    if plan.longest_first:
        work = np.add.reduceat(found.turns, found.steps[found.pieces[:-1]])
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
        "made": made,
        "useful": useful,
        "iterations_in_a_row": longest,
        "turn_overs": rounds,
    }


def _simulated(found: Counts, rows, size: int, plan: Schedule) -> tuple[int, int, int, int]:
    """Iterations made and useful, those one after the other, and turn-overs."""
    count = len(rows)
    width = min(plan.lanes, size)
    widths = iter([*(-(-width // part) for part in plan.narrowing), 0])
    floor = next(widths)
    group = -(-width // plan.turnover)
    piece, last = np.append(found.pieces[rows] - 1, 0), np.append(found.pieces[rows + 1], 0)
    at, end = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)  # steps of the piece at work
    place = np.where(np.arange(width) < count, np.arange(width), count)
    resting = np.append(np.arange(count) >= width, False)
    made = useful = longest = rounds = 0
    while (taken := int(np.sum(place < count))) > 0:
        if taken <= floor:
            width, floor = floor, next(widths)
            place = np.append(place[place < count], np.full(width - taken, count))
            group = -(-width // plan.turnover)
        due = min(group, -(-taken // plan.turnover))
        while True:
            busy = at[place] < end[place]
            working = place[busy]
            if not len(working) or taken - len(working) >= (group if plan.all_lanes else due):
                break
            turns = found.turns[at[working]]
            most = int(turns.max())
            made, useful, longest = made + width * most, useful + int(turns.sum()), longest + most
            at[working] += 1
        chosen = np.flatnonzero((place < count) & ~busy)[:group]
        mine = place[chosen]
        piece[mine] += 1
        alive = piece[mine] < last[mine]
        following = np.where(alive, piece[mine], 0)
        at[mine] = np.where(alive, found.steps[following], 0)
        end[mine] = np.where(alive, found.steps[following + 1], 0)
        rounds += 1
        if plan.under_way > 1:  # the fewest slots first
            resting[mine] = alive
            there = np.flatnonzero(resting)
            begun = piece[there] >= found.pieces[rows[there]]
            done = np.where(begun, found.slot[np.maximum(piece[there], 0)], -1)
            new = there[np.argsort(done, kind="stable")][: len(chosen)]
            place[chosen] = np.append(new, np.full(len(chosen) - len(new), count))
        else:
            new = np.flatnonzero(resting)[: int(np.sum(~alive))]
            place[chosen[~alive]] = np.append(new, np.full(int(np.sum(~alive)) - len(new), count))
        resting[new] = False
    return made, useful, longest, rounds


def lockstep(found: Counts, rows, lanes: int) -> dict:
    """All lanes of a group wait for the slowest in every slot, and in every step of it."""
    groups = -(-len(rows) // lanes)
    width = -(-len(rows) // groups)
    slots = int(found.pieces[1])
    made = useful = longest = 0
    for first in range(0, len(rows), width):
        start = found.pieces[rows[first : first + width]]
        for slot in range(slots):
            at, end = found.steps[start + slot], found.steps[start + slot + 1]
            while len(at):
                turns = found.turns[at]
                longest, useful = longest + int(turns.max()), useful + int(turns.sum())
                at, end = at + 1, end
                at, end = at[at < end], end[at < end]
    made = longest * width
    return {
        "waste": round(1 - useful / made, 4),
        "made": made,
        "useful": useful,
        "iterations_in_a_row": longest,
        "turn_overs": groups * slots,
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
    }


def record(market: str, scenarios: int, slots: int = SLOTS, task=None):
    """Turns of every step, one after the other, and steps (S, T) of every slot, one scenario at a time."""
    import jax
    import jax.numpy as jnp

    from jaxp2p.slot import solvers
    from jaxp2p.studies import engine

    task = task or village_task(market, slots)
    none = jnp.zeros((), jnp.int32)

    def slot(lane, _):
        problem = engine.problem_of(task, lane)

        def step(carry):
            search, turns, done = carry
            new = solvers.advance(problem, task.solver, search)
            made = (new.iterations - search.iterations).astype(turns.dtype)
            return new, turns.at[done].set(made, mode="drop"), done + jnp.ones_like(done)

        running = lambda carry: solvers.running(task.solver, carry[0])
        begin = lane.search, jnp.zeros(MOST, jnp.int16), none
        search, *counted = jax.lax.while_loop(running, step, begin)
        lane = lane._replace(search=search)
        secured, _ = engine._judge(task, lane)
        return engine._close(task, lane, secured, none, none, flows=False)[0], counted

    def scenario(number):
        return jax.lax.scan(slot, engine._start(task, number, number), length=task.slots)[1]

    every = jax.jit(lambda numbers: jax.lax.map(scenario, numbers))
    turns, steps = jax.device_get(every(jnp.arange(scenarios, dtype=jnp.int32)))
    if steps.max() > MOST:
        raise ValueError(f"a slot takes {steps.max()} steps: more than can be recorded")
    return turns[np.arange(MOST) < steps[..., None]], steps


def village_task(market: str, slots: int):
    from rivals.study_case import village

    return village(HOMES, market, slots=slots)


def check(market: str, put) -> None:
    """A study by the engine, and its simulation from the steps of the same scenarios."""
    import jax
    import jax.numpy as jnp

    from jaxp2p.studies.engine import UNDER_WAY, run_batch

    scenarios, lanes = CHECKED["scenarios"], CHECKED["lanes"]
    task = village_task(market, SLOTS)
    numbers = jnp.arange(scenarios, dtype=jnp.int32)
    batch = jax.device_get(run_batch(task, numbers, engine="free_running", lanes=lanes))
    turns, steps = record(market, scenarios, task=task)
    each = np.add.reduceat(turns.astype(int), np.concatenate([[0], np.cumsum(steps.reshape(-1))[:-1]]))
    plan = Schedule(lanes, under_way=UNDER_WAY)
    put({
        "check": market,
        **CHECKED,
        "counted_waste": round(1 - float(batch.steps_useful.sum() / batch.steps_made.sum()), 4),
        "simulated_waste": simulate(counts(turns, steps), np.arange(scenarios), plan)["waste"],
        "slots": steps.size,
        # another program rounds differently, so that a slot may take another step
        "slots_counted_otherwise": int(np.sum(each.reshape(steps.shape) != batch.series.iterations)),
    })  # fmt: skip


def compare(market: str, found: Counts, scenarios: int, put) -> None:
    """A line per schedule."""
    from jaxp2p.studies.engine import DEVICE_HOMES, UNDER_WAY

    rows = np.random.default_rng(scenarios).integers(0, found.scenarios, scenarios)
    lanes = min(DEVICE_HOMES // HOMES, -(-scenarios // UNDER_WAY))
    common = {"market": market, "scenarios": scenarios}
    put({**common, "schedule": "lockstep", "lanes": lanes, **lockstep(found, rows, lanes)})
    for name, plan in schedules(scenarios, lanes).items():
        put({**common, "schedule": name, "lanes": plan.lanes, **simulate(found, rows, plan)})
    if market == "pool":
        single = one_at_a_time(found)
        for turnover in (8, 16):
            plan = Schedule(lanes, under_way=UNDER_WAY, turnover=turnover)
            name = f"four, one iteration a step, 1/{turnover} turned over (not built)"
            put({**common, "schedule": name, "lanes": lanes, **simulate(single, rows, plan)})


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
    parser.add_argument("--record", action="store_true", help="count anew, into results/lanes_counts.npz")
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

    if options.record:
        made = {}
        for market in MARKETS:
            made[f"{market}_turns"], made[f"{market}_steps"] = record(market, RECORDED[market])
        np.savez_compressed(COUNTS, **{k: x.astype(np.int16) for k, x in made.items()})
    for market in MARKETS:
        if options.check:
            check(market, put)
        with np.load(COUNTS) as stored:
            found = counts(stored[f"{market}_turns"], stored[f"{market}_steps"])
        for scenarios in options.scenarios:
            compare(market, found, scenarios, put)
    print(table(lines))
    if options.picture:
        draw(lines, options.picture)


if __name__ == "__main__":
    main()
