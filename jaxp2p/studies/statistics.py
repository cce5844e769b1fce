"""Statistics of a study, each with its uncertainty.

The final ones are made of whole columns in scenario order, one figure at a time: 8 bytes per scenario and
policy, and they do not depend on the order in which the chunks finished, nor on their size.

Scenarios are independent draws, so standard errors fall as 1 / sqrt(S). All policies see the same scenarios
(common random numbers): differences between policies are taken scenario by scenario, whose spread is far
smaller than that of the costs. A figure that is not finite in a scenario is left out; `count` says how many
are in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from jaxp2p.control.catalogue import OPTIMUM, REFERENCE, TRADE_ONLY
from jaxp2p.model.network import AC_LOADING, AC_VOLTAGE
from jaxp2p.simulation.accounting import LEAST_SAVING_EUR, LEAST_SAVING_SHARE

QUANTILES = {"p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}
TAIL = 0.05  # share of the worst scenarios in the CVaR
CONFIDENCE = 0.95
POINTS = 50  # of a convergence curve
VOLTAGE, LINE, FLOW, GRID = "voltage", "line", "flow", "grid"  # what is violated; grid: any of the others

COST, TOTAL = "cost_eur", "total_cost_eur"  # paid; with what was left undone, by which policies are compared
UNDONE = ("unserved_kwh", "spilled_kwh", "unserved_cost_eur", "violation_cost_eur")  # means in the headline
MONEY = {name: f"{{}}_{name}_eur" for name in ("mean", "se", "p5", "p50", "p95")}  # names in the headline

ReadFigure = Callable[[str], Mapping[str, np.ndarray]]  # figure -> values by policy, in scenario order


@dataclass(frozen=True, kw_only=True)
class StudyStatistics:
    """Statistics as tables; money in EUR, other figures in the unit of their name.

    Attributes:
        summary: policy, figure, and `describe` of it.
        savings: policy, against, and `describe` (less the CVaR) of cost(against) - cost(policy), paired, in
            EUR; better is the share of scenarios in which the policy is cheaper. Here and below costs are in
            all, what was left undone included.
        violations: policy, kind (voltage, line, flow, grid), count, violated, probability, low, high (of
            `wilson`).
        captures: policy, capture, se, count.
        convergence: policy, scenarios, mean_eur, se_eur of the cost.
    """

    summary: pd.DataFrame
    savings: pd.DataFrame
    violations: pd.DataFrame
    captures: pd.DataFrame
    convergence: pd.DataFrame

    @property
    def _total(self) -> str:
        return TOTAL if (self.summary["figure"] == TOTAL).any() else COST

    def headline(self) -> dict[str, dict[str, Any]]:
        """The main figures by policy: what the printed table and the JSON summary show, None where absent."""
        parts = {  # table, and what its columns are called here
            **{
                part: (self.summary[self.summary["figure"] == figure], MONEY | {"cvar95": "{}_cvar95_eur"})
                for part, figure in (("cost", COST), ("total", self._total))
            },
            **{
                name: (self.summary[self.summary["figure"] == name], {"mean": "{}"})
                for name in (*UNDONE, "unsolved_slots", "gap_eur")
            },
            "saving": (self.savings[self.savings["against"] == REFERENCE], MONEY),
            "capture": (self.captures, {"capture": "{}", "se": "{}_se", "count": "{}_scenarios"}),
            "violation": (
                self.violations[self.violations["kind"] == GRID],
                {"probability": "{}", "low": "{}_low", "high": "{}_high"},
            ),
        }
        costs = parts["cost"][0]
        found: dict[str, dict[str, Any]] = {
            str(policy): {"scenarios": int(count)}
            for policy, count in zip(costs["policy"], costs["count"], strict=True)
        }
        for part, (frame, names) in parts.items():
            rows = frame.set_index("policy").reindex(list(found))
            for column, name in names.items():
                for policy, value in rows[column].items():
                    found[str(policy)][name.format(part)] = None if pd.isna(value) else float(value)
        if OPTIMUM in found:
            found[OPTIMUM]["gap_eur"] = None  # it has no slots of its own
        return found


def study_statistics(read: ReadFigure, figures: Sequence[str], *, points: int = POINTS) -> StudyStatistics:
    """All statistics of a study.

    read gives one figure by policy, scenario s in place s (`StudyFolder.read_figure`); a policy run on a
    sample only has the first scenarios. figures must contain cost_eur; those of violations may be absent, and
    total_cost_eur where nothing can be left undone.

    Raises:
        ValueError: there is no cost_eur.
    """
    if COST not in figures:
        raise ValueError("the statistics of a study need the figure cost_eur")
    rows = []
    for figure in figures:
        for policy, values in read(figure).items():
            rows.append({"policy": policy, "figure": figure, **describe(values)})
    cost = read(TOTAL if TOTAL in figures else COST)
    curves = [running_mean(values, points).assign(policy=policy) for policy, values in cost.items()]
    convergence = pd.concat(curves, ignore_index=True)
    return StudyStatistics(
        summary=pd.DataFrame(rows),
        savings=paired_savings(cost),
        violations=violations(read, figures),
        captures=captures(cost),
        convergence=convergence[["policy", "scenarios", "mean_eur", "se_eur"]],
    )


def describe(values: np.ndarray) -> dict[str, float]:
    """count, mean, se, min, p5, p25, p50, p75, p95, max, cvar95 of the finite values.

    se is that of the mean, from the sample variance with n - 1. Quantiles are interpolated linearly between
    the order statistics at (n - 1) q. NaN where there are too few values.
    """
    values = _finite(values)
    nan = float("nan")
    if not values.size:
        return {"count": 0} | dict.fromkeys(("mean", "se", "min", *QUANTILES, "max", "cvar95"), nan)
    levels = np.quantile(values, list(QUANTILES.values()))
    return {
        "count": values.size,
        "mean": float(values.mean()),
        "se": float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else nan,
        "min": float(values.min()),
        **{name: float(level) for name, level in zip(QUANTILES, levels, strict=True)},
        "max": float(values.max()),
        "cvar95": cvar(values),
    }


def cvar(values: np.ndarray, tail: float = TAIL) -> float:
    """Mean of the largest share `tail` of the values: min over a of a + E max(x - a, 0) / tail.

    With n values the tail holds n * tail of them: the whole ones at full weight, the next at the rest.
    Rockafellar and Uryasev (2002), "Conditional value-at-risk for general loss distributions". NaN without
    values.
    """
    values = _finite(values)
    if not values.size:
        return float("nan")
    mass = tail * values.size
    border = np.partition(values, values.size - int(np.ceil(mass)))[values.size - int(np.ceil(mass))]
    return float(border + np.maximum(values - border, 0).sum() / mass)


def wilson(violated: int, count: int) -> tuple[float, float]:
    """95 % interval of a probability from `violated` out of `count`: Wilson (1927), JASA 22. NaN for none."""
    from scipy.stats import binomtest

    if not count:
        return float("nan"), float("nan")
    interval = binomtest(violated, count).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def violations(read: ReadFigure, figures: Sequence[str]) -> pd.DataFrame:
    """Probability that a scenario leaves the limits of voltages, of branches, or any of them, at any time.

    In AC; a power flow that has no solution counts as one that leaves them.
    """
    limits = {
        VOLTAGE: ("ac_voltage_violation_pu", AC_VOLTAGE),
        LINE: ("ac_loading_violation_pct", 100 * AC_LOADING),
        FLOW: ("ac_slots_unsolved", 0.0),
    }
    excess: dict[str, dict[str, np.ndarray]] = {}  # above the tolerance; NaN where it is not known
    for kind, (figure, tolerance) in limits.items():
        if figure in figures:
            for policy, values in read(figure).items():
                excess.setdefault(policy, {})[kind] = values - tolerance
    rows = []
    for policy, kinds in excess.items():
        either = np.max(list(kinds.values()), axis=0)  # NaN where one of them is
        for kind, values in {**kinds, GRID: either}.items():
            flags = _finite(values) > 0
            violated, count = int(flags.sum()), flags.size
            low, high = wilson(violated, count)
            share = violated / count if count else float("nan")
            rows.append(
                {
                    "policy": policy,
                    "kind": kind,
                    "count": count,
                    "violated": violated,
                    "probability": share,
                    "low": low,
                    "high": high,
                }
            )
    return pd.DataFrame(rows, columns=["policy", "kind", "count", "violated", "probability", "low", "high"])


def paired_savings(cost: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """cost(against) - cost(policy) in the same scenarios, for every ordered pair of policies; EUR."""
    rows = []
    for against, reference in cost.items():
        for policy, values in cost.items():
            if policy == against:
                continue
            common = min(reference.size, values.size)
            saving = _finite(reference[:common] - values[:common])
            better = float((saving > 0).mean()) if saving.size else float("nan")
            rows.append({"policy": policy, "against": against, **describe(saving), "better": better})
    # the tail of describe is that of high costs, so it is not that of poor savings
    columns = [name for name in describe(np.empty(0)) if name != "cvar95"]
    return pd.DataFrame(rows, columns=["policy", "against", *columns, "better"])


def captures(cost: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """What the control of the storage captures of what perfect foresight would, over the latter's sample.

    capture = sum(cost no_storage - cost) / sum(cost no_storage - cost perfect foresight), with the standard
    error of a ratio of sums by the delta method (`ratio`). Empty where one of the two was not run, NaN where
    nothing can be saved that is told from rounding.
    """
    rows = []
    if TRADE_ONLY in cost and OPTIMUM in cost:
        for policy, values in cost.items():
            common = min(values.size, cost[TRADE_ONLY].size, cost[OPTIMUM].size)
            base = cost[TRADE_ONLY][:common]
            possible = base - cost[OPTIMUM][:common]
            share, error, count = ratio(base - values[:common], possible)
            known = np.isfinite(possible)
            least = LEAST_SAVING_EUR * known.sum() + LEAST_SAVING_SHARE * np.abs(base[known]).sum()
            if possible[known].sum() < least:
                share = error = float("nan")
            rows.append({"policy": policy, "capture": share, "se": error, "count": count})
    return pd.DataFrame(rows, columns=["policy", "capture", "se", "count"])


def ratio(parts: np.ndarray, wholes: np.ndarray) -> tuple[float, float, int]:
    """R = sum(parts) / sum(wholes), its standard error, and the number of finite pairs.

    Delta method: se = sqrt(n / (n - 1) * sum((parts - R wholes)^2)) / abs(sum(wholes)); Cochran (1977),
    Sampling Techniques, section 2.11. NaN where there is nothing to divide by, or a single pair.
    """
    kept = np.isfinite(parts) & np.isfinite(wholes)
    parts, wholes = parts[kept], wholes[kept]
    count, total, nan = parts.size, float(wholes.sum()), float("nan")
    if not count or abs(total) <= 1e-9 * max(float(np.abs(parts).sum()), 1.0):
        return nan, nan, count
    share = float(parts.sum()) / total
    rest = float(((parts - share * wholes) ** 2).sum())
    return share, float(np.sqrt(count / (count - 1) * rest) / abs(total)) if count > 1 else nan, count


def running_mean(values: np.ndarray, points: int = POINTS) -> pd.DataFrame:
    """Mean and its standard error over the first S scenarios, at about `points` logarithmically spaced S.

    Columns scenarios, mean_eur, se_eur. The values are centred first, so that the squares lose no digits.
    """
    values = _finite(values)
    if not values.size:
        return pd.DataFrame({"scenarios": np.empty(0, int), "mean_eur": [], "se_eur": []})
    last = values.size
    at = np.unique(np.geomspace(min(2, last), last, points).round().astype(int))
    centre = values.mean()
    sums = np.cumsum(values - centre)[at - 1]
    squares = np.cumsum((values - centre) ** 2)[at - 1]
    variance = np.maximum(squares - sums**2 / at, 0) / np.maximum(at - 1, 1)
    error = np.where(at > 1, np.sqrt(variance / at), np.nan)
    return pd.DataFrame({"scenarios": at, "mean_eur": centre + sums / at, "se_eur": error})


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    return values[np.isfinite(values)]
