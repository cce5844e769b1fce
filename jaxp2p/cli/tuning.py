"""The work behind `jaxp2p tune`: tune on some weeks, test on the next, write the controller."""

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from jaxp2p.cli import places
from jaxp2p.cli.console import OK, UNSOLVED, RunProgress, UsageError, echo_json, user_input
from jaxp2p.cli.running import UNSOLVED_SHARE, say_impossible, unsolved_text
from jaxp2p.cli.source import Source, choose_days, load_whole, say_remarks
from jaxp2p.settings.commands import TUNE
from jaxp2p.settings.commands import TuneOptions as Options

if TYPE_CHECKING:
    from jaxp2p.data import Tables

SHOWN = ("no_storage", "lyapunov", "community_self_consumption", "perfect_foresight")


def tune(source: Source, options: Options) -> int:
    """Do it all; returns the exit code."""
    places.check_file(options.out, option="--out")  # before the work, not after it
    places.check_json(options.json)
    begin = time.perf_counter()
    stages = ("test before", "tuning", "test after")
    with RunProgress(stages, 100, quiet=options.quiet) as progress:
        progress.say("reading the community")
        whole = load_whole(source)
        tables = choose_days(whole, source)
        if options.until is not None:
            options = replace(options, test_days=_tested(tables, options))
        from jaxp2p.control.tuned import stage
        from jaxp2p.data import window
        from jaxp2p.model.chosen import build_both, first_slot_of_week
        from jaxp2p.report.config_file import write_config
        from jaxp2p.runs.runner import check_end_value, run, suggest_terminal_price
        from jaxp2p.scenarios.parse import parse_model
        from jaxp2p.tuning.controller_file import write_controller
        from jaxp2p.tuning.stages import flat, steps_in_all, tune_stages
        from jaxp2p.tuning.windows import check_features, check_tunable

        plan, settings = _plan(options, tables.profiles["time"].iloc[0])
        with user_input():
            settings.objective.check()
            check_features(settings.features)
            begun = tables.profiles["time"].iloc[0]
            earlier = window(tables, start=begun.tz_localize("UTC"), days=options.train_days)
            later = window(tables, start=plan.begin.tz_localize("UTC"), days=options.test_days)
            community, train = build_both(earlier, options, seed=source.seed)
            _, test = build_both(later, options, seed=source.seed)
            parse_model(plan.model, horizon=train, community=community)  # all that can be refused is, now
            check_tunable(community, train)
            check_end_value(options.end_value)
            for part in (train, test):
                if options.network:
                    say_impossible(community, part, quiet=options.quiet)
        say_remarks(tables, quiet=options.quiet)
        first, second = (first_slot_of_week(part.profiles["time"]) for part in (earlier, later))
        worth = suggest_terminal_price(community, train) if options.end_value is None else options.end_value
        shared: dict[str, Any] = {"policies": SHOWN, "terminal_price": worth, "lower_bound": False}
        with user_input():
            before = {
                "train": run(community, train, slot_of_week=first, **shared),
                "test": run(community, test, slot_of_week=second, progress=progress, **shared),
            }
        horizons = {"train": train, "test": test}
        costs = {part: _costs(community, horizons[part], found) for part, found in before.items()}
        checkpoint = options.out.with_name(options.out.name + ".checkpoint")
        checkpoints = [checkpoint.with_name(f"{checkpoint.name}.{k + 1}") for k in range(plan.stages)]
        if not options.resume:
            _remove(checkpoints)
        total, told = steps_in_all(plan, settings), [0]

        def tell(number: int, row: Any) -> None:
            told[0] += 1
            progress("tuning", round(100 * told[0] / total), 100)
            of = f" {number + 1} of {plan.stages}" if plan.stages > 1 else ""
            progress.say(f"tuning{of}: step {row.step + 1}, loss {row.loss:.3f}")

        with user_input():
            tuned = tune_stages(
                plan,
                lambda start, days: build_both(
                    window(whole, start=start.tz_localize("UTC"), days=days), options, seed=source.seed
                ),
                terminal_price=worth,
                settings=settings,
                checkpoint=checkpoint,
                told=tell,
            )
        progress.say("test after")
        own: dict[str, Any] = {**shared, "policies": (), "controller": tuned.value}
        after = run(community, test, slot_of_week=second, **own)
        costs["test"] |= _costs(community, test, after)
        own["controller"] = stage(tuned.value, 0)  # the one that was tuned on the window called "train"
        trained = run(community, train, slot_of_week=first, **own)
        costs["train"] |= _costs(community, train, trained)
    capture = {part: _captures(found) for part, found in costs.items()}
    about = {
        "case": source.name,
        "train": [str(earlier.profiles["time"].iloc[0]), options.train_days],
        "test": [str(plan.begin), options.test_days],
        "settings": settings._asdict() | {"objective": settings.objective._asdict()},
        "plan": plan._asdict() | {"begin": str(plan.begin)},
        "end_value_eur_per_kwh": worth,
        "capture": capture,
    }
    begins = tuned.begins if plan.stages > 1 else None
    write_controller(options.out, tuned.value, about=about, begins=begins)
    _remove(checkpoints)
    history = flat(tuned.histories)
    config = options.out.with_suffix(".config.toml")
    write_config(config, TUNE, source, options)
    written = [str(options.out), str(config)]
    if options.pictures:
        from jaxp2p.report.tuning import draw_tuning

        target = options.out.with_suffix(".png")
        rows = before["test"].trajectories | after.trajectories
        stored: dict[str, Any] = {name: row.energy for name, row in rows.items()}
        draw_tuning(target, tuned.value, community.prosumers, history, capture, stored)
        written.append(str(target))
    seconds = time.perf_counter() - begin
    _report(options, source, capture, costs, worth, seconds, history, written)
    return _verdict([before["train"], trained, before["test"], after])


def _tested(tables: "Tables", options: Options) -> int:
    """Days to test on, where --until says when they are over; raises UsageError where none is left."""
    from jaxp2p.data.validation import slot_hours

    time = tables.profiles["time"]
    days = len(time) * slot_hours(time) / 24 - options.train_days
    if round(days) < 1 or abs(round(days) - days) > 1e-6:  # slots of some lengths are no exact fractions
        raise UsageError(
            f"--until: {days:g} days are left to test on, after {options.train_days} to tune on; whole days "
            "are needed"
        )
    return round(days)


def _plan(options: Options, first: Any) -> tuple[Any, Any]:
    """When to tune on what, and how."""
    import pandas as pd

    from jaxp2p.tuning.stages import Plan
    from jaxp2p.tuning.train import make_settings

    plan = Plan(
        begin=first + pd.Timedelta(days=options.train_days),
        train_days=options.train_days,
        stages=-(-options.test_days // 7) if options.rolling else 1,
        validation_days=options.validation_days,
        groups=options.groups,
        scenarios=options.scenarios,
        sun=options.sun,
        model=options.scenario_model,
    )
    return plan, make_settings(options, options)


def _remove(files: list[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _costs(community: Any, horizon: Any, found: Any) -> dict[str, float]:
    """EUR of every policy in all: less the worth of the energy gained, with what was left undone."""
    from jaxp2p.report.kpis import evaluate

    return {name: row.kpis["total_cost_eur"] for name, row in evaluate(community, horizon, found).items()}


def _verdict(runs: list[Any]) -> int:
    """The exit code: whether the slots behind the captures are solved; its reason on stderr."""
    import numpy as np

    from jaxp2p.report.kpis import UNSOLVED as KINDS

    code = OK
    for part, found in zip(("train", "train", "test", "test"), runs, strict=True):
        for name, row in found.trajectories.items():
            status = np.asarray(row.status)
            counts = {kind.name: int((status == kind).sum()) for kind in KINDS}
            missing = sum(counts.values())
            if missing > UNSOLVED_SHARE * status.size or counts["NUMERICAL_ERROR"]:
                text = unsolved_text(f"{name} ({part})", missing, status.size, counts)
                typer.echo(f"warning: {text}", err=True)
                code = UNSOLVED
    return code


def _captures(costs: dict[str, float]) -> dict[str, float | None]:
    """Share of the possible saving that each policy keeps; null where nothing can be saved."""
    from jaxp2p.report.kpis import compare

    figures = compare({name: {"total_cost_eur": cost} for name, cost in costs.items()})
    return {name: row["capture"] for name, row in figures.items()}


def _report(
    options: Options,
    source: Source,
    capture: dict[str, dict[str, float | None]],
    costs: dict[str, dict[str, float]],
    worth: float,
    seconds: float,
    history: dict[str, list],
    written: list[str],
) -> None:
    report = {
        "case": source.name,
        "capture": capture,
        "total_cost_eur": costs,
        "end_value_eur_per_kwh": worth,
        "steps": len(history["step"]),
        "history": history,
        "seconds": round(seconds, 2),
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()},
    }
    if options.json is not None:
        from jaxp2p.report.files import json_text, write_json

        if options.json == "-":
            echo_json(json_text(report))
            return
        write_json(options.json, report)
    if options.quiet:
        return
    typer.echo(f"capture in %, {len(history['step'])} steps, {seconds:.0f} s\n")
    typer.echo(f"{'policy':<28}{'train':>8}{'test':>8}")
    for name in capture["train"]:
        cells = (capture[part][name] for part in ("train", "test"))
        typer.echo(f"{name:<28}" + "".join("       -" if x is None else f"{100 * x:8.1f}" for x in cells))
    typer.echo(f"\nenergy stored at the end is counted at {worth:.4g} EUR/kWh for every policy")
    typer.echo("written: " + ", ".join(written))
    typer.echo(f"run it: jaxp2p run {source.name} --market pool --controller {options.out}")
