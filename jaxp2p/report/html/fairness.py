"""Who gains what: the benefit of every member, its Lorenz curve, and the figures in the page's table.

More figures of fairness are more columns in COLUMNS.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from jaxp2p.control.catalogue import REFERENCE
from jaxp2p.fairness.measures import lorenz
from jaxp2p.report.tables import ReportColumn, number

POINTS = 101  # of a Lorenz curve

COLUMNS = (
    ReportColumn(title=("no worse off", "% of members"), text=number("no_worse_off_share", 1, factor=100)),
    ReportColumn(title=("Gini", "of the benefit"), text=number("benefit_gini", 3)),
    ReportColumn(title=("smallest benefit", "EUR"), text=number("benefit_min_eur", 2)),
    ReportColumn(title=("largest benefit", "EUR"), text=number("benefit_max_eur", 2)),
)


def benefits(members: pd.DataFrame, policies: Sequence[str]) -> dict[str, np.ndarray]:
    """(N,) EUR that every member saves against neither storage nor trade; nothing where that was not run."""
    if REFERENCE not in policies:
        return {}
    bill = lambda policy: members[f"bill_{policy}_eur"].to_numpy(float)
    return {policy: bill(REFERENCE) - bill(policy) for policy in policies if policy != REFERENCE}


def curve(values: np.ndarray) -> list[float] | None:
    """Share of the sum that the poorest 0, 1, ..., 100 % of the members have, straight between members."""
    known = lorenz(values)
    if known is None:
        return None
    return np.interp(np.linspace(0, 1, POINTS), np.linspace(0, 1, len(known)), known).round(5).tolist()
