"""The fairness of a run as tables, text and files; `jaxp2p.fairness` says what is what."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxp2p import __version__
from jaxp2p.fairness.judgement import Judgement, Progress, judged
from jaxp2p.fairness.measures import measures
from jaxp2p.fairness.statement import Statement, statement
from jaxp2p.fairness.transfers import CENT
from jaxp2p.model.utility import beyond_cost
from jaxp2p.report.by_member import ByMember
from jaxp2p.report.canvas import favourite, save
from jaxp2p.report.fairness_picture import fairness_picture
from jaxp2p.report.files import write_json, write_table
from jaxp2p.report.folders import MARK, PICTURES, SUMMARY_FILE
from jaxp2p.report.results import Results
from jaxp2p.report.tables import ReportColumn, aligned, number
from jaxp2p.settings.fairness import ALONE, Fairness

POLICY_TABLE, SPLIT_TABLE, MEMBER_TABLE, PICTURE = "policies", "splits", "fair_members", "fairness"
WIDTH = 100
SHOWN = 20  # members in the printed table


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A judgement with what it is of."""

    judgement: Judgement
    members: tuple[str, ...]
    case: str
    span: str  # days and market, in words

    @property
    def title(self) -> str:
        """Case, days, market and policy."""
        return f"{self.case}, {self.span}, {self.judgement.policy}"


def judge_results(results: Results, settings: Fairness, *, progress: Progress | None = None) -> Judged:
    """A run from its tables; ValueError where they lack every home, and for settings that do not fit."""
    summary = results.summary
    chosen = replace(settings, policy=settings.policy or favourite(summary["policies"]))
    found = judged(statements_of(results), chosen, progress=progress)
    days = summary["slots"] * summary["slot_minutes"] / 1440
    span = "1 day" if days == 1 else f"{days:g} days"
    return Judged(
        judgement=found,
        members=tuple(results.tables["members"]["member"]),
        case=summary["case"],
        span=f"{span} from {summary['start'][:10]}, {summary['market']} market",
    )


def statements_of(results: Results) -> dict[str, Statement]:
    """What every policy of a run did for every member, from its tables of homes and slots.

    Bills are in all: what was not served is in them at the price that the run has for it. Raises ValueError
    for results without tables of homes, or of trades that have fees of their own.
    """
    summary, tables = results.summary, results.tables
    names = list(summary["policies"])
    if not all(f"homes_{name}" in tables for name in names):
        raise ValueError(
            "these results do not say what every member did: run it again with tables of the homes "
            "(jaxp2p run --per-home, Result.save(homes=True))"
        )
    fee = summary.get("trade_fee_eur_per_kwh")
    if fee is None or "trade_volume_kw" not in tables[f"homes_{names[0]}"]:
        raise ValueError(
            "these results do not say what trades cost: their fees differ, or an older version wrote them"
        )
    members, hours = tables["members"], summary["slot_minutes"] / 60
    made = {}
    for name in names:
        slots, homes = tables[f"slots_{name}"], tables[f"homes_{name}"]
        table = ByMember(homes, slots)
        by_home, (buy, sell) = table.values, table.tariffs
        extra, beyond = summary["unserved_price_eur_per_kwh"], (by_home("unserved_kw"), by_home("spilled_kw"))
        undone = hours * beyond_cost(buy[:, None], sell[:, None], extra, *beyond).sum(0)
        made[name] = statement(
            bill=members[f"bill_{name}_eur"].to_numpy(float) + undone,
            buy=by_home("buy_kw"),
            sell=by_home("sell_kw"),
            trade=by_home("trade_kw"),
            volume=by_home("trade_volume_kw"),
            payment=by_home("payment_eur"),
            price_buy=buy,
            price_sell=sell,
            hours=hours,
            fee=fee,
        )
    return made


def policy_table(found: Judged) -> pd.DataFrame:
    """One row per policy: measures of the benefit against what was asked for."""
    rows = [
        {"policy": name, **spread._asdict(), "pooled_eur": found.judgement.statements[name].game.total}
        for name, spread in found.judgement.measures.items()
    ]
    return _with_numbers(rows, "policy")


def split_table(found: Judged) -> pd.DataFrame:
    """One row per split of the policy's benefit: measures against being alone, transfers, claims."""
    judgement = found.judgement
    rows = []
    for name, split in judgement.splits.items():
        spread = measures(split.benefit, judgement.statement.alone)
        moved = CENT * float(np.abs(split.transfer).sum()) / 2
        rows.append({"split": name, **spread._asdict(), "transferred_eur": moved, "claim_eur": split.claim})
    return _with_numbers(rows, "split")


def member_table(found: Judged) -> pd.DataFrame:
    """One row per member: what it would pay alone and under every split, Shapley value, transfers."""
    judgement = found.judgement
    columns: dict[str, Any] = {"member": list(found.members), "bill_alone_eur": judgement.statement.alone}
    columns |= {f"bill_{name}_eur": judgement.bill(name) for name in judgement.splits}
    columns |= {f"benefit_{name}_eur": split.benefit for name, split in judgement.splits.items()}
    if judgement.shapley is not None:
        columns |= {
            "shapley_eur": judgement.shapley.value,
            "shapley_half_width_eur": judgement.shapley.half_width,
        }
    others = [name for name in judgement.splits if name != "market"]
    columns |= {f"transfer_{name}_eur": CENT * judgement.splits[name].transfer for name in others}
    return pd.DataFrame(columns)


def fairness_report(found: Judged) -> dict[str, Any]:
    """What `--json` writes: short and stable."""
    judgement, plain = found.judgement, lambda table: table.astype(object).where(table.notna(), None)
    report = {
        "version": __version__,
        "case": found.case,
        "policy": judgement.policy,
        "against": judgement.against,
        "prosumers": len(found.members),
        "benefit_eur": float(judgement.statement.benefit.sum()),
        "pooled_eur": judgement.statement.game.total,
    }
    if (value := judgement.shapley) is not None:
        report["shapley"] = {
            "permutations": value.permutations,
            "error": value.error,
            "largest_error": value.largest_error,
        }
    if (core := judgement.core) is not None:
        report["least_core"] = {
            "epsilon_eur": core.epsilon,
            "claim_eur": core.claim,
            "coalitions": core.coalitions,
            "exact": core.exact,
        }
    for key, table in (("policies", policy_table(found)), ("splits", split_table(found))):
        first = table.columns[0]
        report[key] = {row.pop(first): row for row in plain(table).to_dict("records")}
    return report


def write_fairness(
    folder: Path, found: Judged, *, made_from: Mapping[str, Any] | None, pictures: bool = True
) -> list[Path]:
    """Tables as CSV, summary and picture into an existing folder; returns the files."""
    tables = {
        POLICY_TABLE: policy_table(found),
        SPLIT_TABLE: split_table(found),
        MEMBER_TABLE: member_table(found),
    }
    files = [write_table(frame, folder / f"{name}.csv") for name, frame in tables.items()]
    if pictures:
        (folder / PICTURES).mkdir()
        files.append(save(fairness_picture(found.judgement, found.title), folder / PICTURES, PICTURE))
    summary = {
        "kind": MARK,
        **fairness_report(found),
        "made_from": None if made_from is None else dict(made_from),
        "tables": sorted(tables),
        "format": "csv",
    }
    return [*files, write_json(folder / SUMMARY_FILE, summary)]


def fairness_text(found: Judged) -> str:
    """Tables of policies, splits and members, how sure they are, and what the words mean."""
    report, judgement = fairness_report(found), found.judgement
    fill = lambda text: textwrap.fill(text, width=WIDTH, initial_indent="- ", subsequent_indent="  ")
    against = "being alone" if judgement.against == ALONE else judgement.against
    return "\n".join(
        [
            f"Benefit of every policy against {against}",
            "",
            *aligned(report["policies"], SPREAD),
            "",
            f"Benefit of {judgement.policy} against being alone, by how it is split",
            "",
            *aligned(report["splits"], (*SPREAD, MOVED, CLAIM), first="split"),
            "",
            *_member_lines(found),
            "",
            *(fill(text) for text in _notes(judgement)),
            "",
            textwrap.fill(LEGEND, width=WIDTH),
        ]
    )


SPREAD = (
    ReportColumn(title=("benefit", "EUR"), text=number("benefit_eur", 2)),
    ReportColumn(title=("mean", "EUR"), text=number("benefit_mean_eur", 2)),
    ReportColumn(title=("median", "EUR"), text=number("benefit_median_eur", 2)),
    ReportColumn(title=("worst off", "EUR"), text=number("benefit_min_eur", 2)),
    ReportColumn(title=("worse off", "%"), text=number("worse_off_share", 1, factor=100)),
    ReportColumn(title=("they lose", "EUR"), text=number("worse_off_eur", 2)),
    ReportColumn(title=("Gini", ""), text=number("benefit_gini", 3)),
)
MOVED = ReportColumn(title=("moved", "EUR"), text=number("transferred_eur", 2))
CLAIM = ReportColumn(title=("claim", "EUR"), text=number("claim_eur", 2))

LEGEND = (
    "alone: every member does the same and deals with the utility only, so that a policy that moves more "
    "has more of this benefit; what policies save is told by jaxp2p run. worse off: share of members whose "
    "benefit is below zero. equal: the same benefit for everybody; shapley: what a member adds to a "
    "coalition, in the mean over all orders of joining; least_core: no coalition gains by leaving. moved: "
    "what members pay each other on top of the market's bills. claim: what the most discontented coalition "
    "would gain by leaving. The game is that of what passed the meters in this run, with storage operated "
    "for the whole community, not of what a coalition would have done with its own."
)


def _notes(judgement: Judgement) -> list[str]:
    made, pooled = float(judgement.statement.benefit.sum()), judgement.statement.game.total
    notes = [f"the market made {made:,.2f} EUR of the {pooled:,.2f} EUR that all powers set off would make"]
    if (value := judgement.shapley) is not None:
        how = "all coalitions" if value.exact else f"{value.permutations:,} orders"
        sure = "" if value.exact else (
            f", +- {100 * value.error:.2g} % of the total benefit for all members together, at most "
            f"{100 * value.largest_error:.2g} % for one (95 %)"
        )  # fmt: skip
        notes.append(f"Shapley values from {how}{sure}")
    if (core := judgement.core) is not None:
        known = (
            f"the largest claim is {core.epsilon:z,.4f} EUR, and no payoffs have a smaller one"
            if core.exact
            else f"no coalition has a claim, and no payoffs bring all claims below {core.epsilon:z,.4f} EUR"
        )
        notes.append(f"least core: {known} ({core.coalitions:,} coalitions in the program)")
    if not judgement.claims_exact:
        notes.append("claims are the largest that a search found: lower bounds")
    return notes


def _member_lines(found: Judged) -> list[str]:
    """All members, or of many those that transfers would move most."""
    table, judgement = member_table(found), found.judgement
    names = [name for name in judgement.splits if name != "market"]
    head = f"Bills in EUR under {judgement.policy}"
    if len(table) > SHOWN:
        gain = table[f"transfer_{names[-1]}_eur"].abs().to_numpy()
        table = table.iloc[np.sort(np.argsort(-gain, kind="stable")[:SHOWN])]
        head += f", of the {SHOWN} members whose bill {names[-1]} moves most (of {len(found.members)})"
    columns = [ReportColumn(title=("alone", ""), text=number("bill_alone_eur", 2))]
    columns += [
        ReportColumn(title=(name, ""), text=number(f"bill_{name}_eur", 2)) for name in judgement.splits
    ]
    if judgement.shapley is not None:
        columns += [
            ReportColumn(title=("Shapley", "value"), text=number("shapley_eur", 2)),
            ReportColumn(title=("+-", ""), text=number("shapley_half_width_eur", 3)),
        ]
    rows = {str(row.pop("member")): row for row in table.to_dict("records")}
    return [head, "", *aligned(rows, columns, first="member")]


def _with_numbers(rows: list[dict[str, Any]], first: str) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    return frame.astype({name: float for name in frame.columns if name != first})
