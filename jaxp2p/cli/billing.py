"""The work behind `jaxp2p bill`: a preview of the bills of a run, corrections, final bills, credit notes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from jaxp2p.cli import places
from jaxp2p.cli.console import OK, UsageError, echo_json, user_input
from jaxp2p.settings.billing import Billing
from jaxp2p.settings.commands import RunOptions
from jaxp2p.settings.fields import REQUIRED, again, argument, setting
from jaxp2p.settings.source import Reading


@dataclass(frozen=True, kw_only=True)
class Options(Billing):
    """Everything `jaxp2p bill` can be told."""

    source: str = argument(
        REQUIRED, "Results of a run (`jaxp2p run --per-home`), or the folder of a billing run.", "SOURCE"
    )
    corrections: Path | None = setting(
        None,
        "Amounts to be added, with the columns member, day, line, kwh, eur, reason: to a preview, or as a "
        "credit note to final bills.",
        unit="FILE.csv",
    )
    final: bool = setting(False, "Make the bills final: from then on they are only credited.")
    excel: bool = setting(False, "An Excel file of all tables too, to be looked through.")
    time_zone: str | None = again(Reading, "time_zone", help="Zone whose days are billed.")
    out: Path | None = again(
        RunOptions, "out", otherwise="jaxp2p-results/SOURCE-bills; the folder itself where SOURCE is one"
    )
    replace: bool = again(RunOptions, "replace")
    json: str | None = again(RunOptions, "json")
    quiet: bool = again(RunOptions, "quiet")


def bill(options: Options) -> int:
    """Do it all; returns the exit code."""
    places.check_json(options.json)
    if options.out is not None:
        places.check_folder(options.out, option="--out")
    from jaxp2p.library.bills import bill as bills_of
    from jaxp2p.report.bills import is_billing
    from jaxp2p.report.files import json_text, write_json

    kept = is_billing(options.source)
    if kept and (changed := _changed(options)):
        raise UsageError(
            f"{', '.join(changed)}: a billing run keeps what it was made with; make a new one of the results"
        )
    with user_input():
        run = bills_of(
            options.source,
            rule=options.rule,
            congestion=options.congestion,
            by=options.by,
            policy=options.policy,
            time_zone=options.time_zone,
        )
        if options.corrections is not None:
            run = run.corrected(options.corrections)
        if options.final:
            run = run.final()
        out = options.out or (Path(options.source) if kept else places.beside(options.source, "bills"))
        run.save(out, excel=options.excel, replace=options.replace)
    report = lambda: _report(run)
    if options.json == "-":
        echo_json(json_text(report()))
    elif options.json is not None:
        write_json(options.json, report())
    if not options.quiet and options.json != "-":
        facts = run.billing.facts
        typer.echo(
            f"{facts['case']}, {facts['policy']}, prices among peers: {facts['rule']}\n\n{run.text()}\n"
        )
        typer.echo(f"written to {out}: bills.csv, bill_lines.csv, statement.csv, lines.csv")
    return OK


def _changed(options: Options) -> list[str]:
    usual = Billing()
    asked = {
        name: getattr(options, name) != getattr(usual, name) for name in ("rule", "congestion", "policy")
    }
    asked["time_zone"] = options.time_zone is not None
    return [f"--{name.replace('_', '-')}" for name, given in asked.items() if given]


def _report(run: Any) -> dict[str, Any]:
    billing = run.billing
    cents = billing.settled.total
    return {
        **{name: value for name, value in billing.facts.items() if value is not None},
        "step": str(billing.step),
        "credits": len(billing.credits),
        "received_eur": {name: c / 100 for name, c in billing.settled.received().items()},
        "members": {name: int(c) / 100 for name, c in zip(billing.bills.members, cents, strict=True)},
    } | ({} if run.account is None else {"rules": run.rules().set_index("rule").to_dict("index")})
