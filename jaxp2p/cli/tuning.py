"""The work behind `jaxp2p tune`: tune on some weeks, test on the next, write the controller."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from jaxp2p.cli.console import OK, RunProgress, user_input
from jaxp2p.cli.running import build_both, first_slot_of_week
from jaxp2p.cli.source import Source, choose_days, load_whole

SHOWN = ("no_storage", "lyapunov", "community_self_consumption", "perfect_foresight")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Everything `jaxp2p tune` can be told besides the source."""

    train_days: float
    test_days: float
    steps: int
    learning_rate: float
    features: str
    knots: int
    pieces: int
    fee: float | None
    network: bool
    out: Path
    resume: bool
    json: str | None
    pictures: bool
    quiet: bool
    market: str = "pool"
    graph: str | None = None
    partners: int = 0
    dtype: str = "float32"


def tune(source: Source, options: Options) -> int:
    """Do it all; returns the exit code."""
    begin = time.perf_counter()
    stages = ("test before", "tuning", "test after")
    with RunProgress(stages, 100, quiet=options.quiet) as progress:
        progress.say("reading the community")
        whole = load_whole(source)
        tables = choose_days(whole, source)
        from jaxp2p.data import window
        from jaxp2p.runner import run, suggest_terminal_price
        from jaxp2p.tuning.controller_file import write_controller
        from jaxp2p.tuning.train import Settings, columns
        from jaxp2p.tuning.train import tune as tune_value

        moments = tables.profiles["time"]
        asked = [name.strip() for name in options.features.split(",") if name.strip()]
        settings = Settings(
            features=("one", *(name for name in asked if name != "one")),
            knots=options.knots,
            pieces=options.pieces,
            steps=options.steps,
            learning_rate=options.learning_rate,
        )
        with user_input():
            earlier = window(tables, start=moments.iloc[0], days=options.train_days)
            middle = earlier.profiles["time"].iloc[-1] + (moments.iloc[1] - moments.iloc[0])
            later = window(tables, start=middle, days=options.test_days)
            community, train = build_both(earlier, source, options)
            _, test = build_both(later, source, options)
        first, second = (first_slot_of_week(part.profiles["time"]) for part in (earlier, later))
        worth = suggest_terminal_price(community, train)
        shared: dict[str, Any] = {"policies": SHOWN, "terminal_price": worth, "lower_bound": False}
        with user_input():
            before = {
                "train": run(community, train, slot_of_day=first, **shared),
                "test": run(community, test, slot_of_day=second, progress=progress, **shared),
            }
        costs = {part: _costs(community, found) for part, found in before.items()}
        checkpoint = options.out.with_name(options.out.name + ".checkpoint")
        if not options.resume:
            checkpoint.unlink(missing_ok=True)

        def told(row) -> None:
            progress("tuning", round(100 * (row.step + 1) / options.steps), 100)
            progress.say(f"tuning: loss {row.loss:.3f}")

        with user_input():
            tuned = tune_value(
                community,
                train,
                terminal_price=worth,
                best_eur=costs["train"]["perfect_foresight"],
                possible_saving_eur=costs["train"]["no_storage"] - costs["train"]["perfect_foresight"],
                slot=first,
                settings=settings,
                checkpoint=checkpoint,
                told=told,
            )
        progress.say("test after")
        own: dict[str, Any] = {**shared, "policies": (), "controller": tuned.value}
        for part, horizon, slot in (("train", train, first), ("test", test, second)):
            costs[part] |= _costs(community, run(community, horizon, slot_of_day=slot, **own))
    capture = {part: _captures(found) for part, found in costs.items()}
    about = {
        "case": source.name,
        "train": [str(earlier.profiles["time"].iloc[0]), options.train_days],
        "test": [str(middle), options.test_days],
        "settings": settings._asdict(),
        "capture": capture,
    }
    write_controller(options.out, tuned.value, about=about)
    checkpoint.unlink(missing_ok=True)
    written = [str(options.out)]
    if options.pictures:
        from jaxp2p.report.tuning import draw_tuning

        target = options.out.with_suffix(".png")
        draw_tuning(target, tuned.value, community.prosumers, columns(tuned.history), capture)
        written.append(str(target))
    seconds = time.perf_counter() - begin
    _report(options, source, capture, costs, seconds, tuned.history, written)
    return OK


def _costs(community: Any, found: Any) -> dict[str, float]:
    """EUR of every policy, less the worth of the energy gained."""
    import numpy as np

    start = float(np.sum(np.asarray(community.prosumers.battery.energy_start, float)))
    costs = {
        name: float(np.sum(np.asarray(row.cost, float)))
        - found.terminal_price * (float(np.sum(np.asarray(row.energy[-1], float))) - start)
        for name, row in found.trajectories.items()
    }
    if found.perfect_foresight_eur is not None:
        costs["perfect_foresight"] = found.perfect_foresight_eur
    return costs


def _captures(costs: dict[str, float]) -> dict[str, float | None]:
    """Share of the possible saving that each policy keeps; null where nothing can be saved."""
    possible = costs["no_storage"] - costs["perfect_foresight"]
    if possible < max(0.01, 1e-3 * abs(costs["no_storage"])):
        return dict.fromkeys(costs)
    return {name: (costs["no_storage"] - cost) / possible for name, cost in costs.items()}


def _report(
    options: Options,
    source: Source,
    capture: dict[str, dict[str, float | None]],
    costs: dict[str, dict[str, float]],
    seconds: float,
    history: list,
    written: list[str],
) -> None:
    report = {
        "case": source.name,
        "capture": capture,
        "cost_eur": costs,
        "steps": len(history),
        "seconds": round(seconds, 2),
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()},
    }
    if options.json is not None:
        from jaxp2p.results import json_text, write_json

        if options.json == "-":
            typer.echo(json_text(report), nl=False)
            return
        write_json(options.json, report)
    if options.quiet:
        return
    typer.echo(f"capture in %, {len(history)} steps, {seconds:.0f} s\n")
    typer.echo(f"{'policy':<28}{'train':>8}{'test':>8}")
    for name in capture["train"]:
        cells = (capture[part][name] for part in ("train", "test"))
        typer.echo(f"{name:<28}" + "".join("       -" if x is None else f"{100 * x:8.1f}" for x in cells))
    typer.echo("\nwritten: " + ", ".join(written))
    typer.echo(f"run it: jaxp2p run {source.name} --market pool --controller {options.out}")
