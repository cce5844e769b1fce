"""What members pay: `bill`, and the steps from a preview to final bills and credit notes."""

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from jaxp2p.library.run import Result
from jaxp2p.report.accounts import account_in, account_of_tables
from jaxp2p.report.bills import (
    billing_text,
    compare_rules,
    is_billing,
    read_amounts,
    read_billing,
    write_billing,
)
from jaxp2p.report.exchanged import policy_of
from jaxp2p.report.folders import results_folder
from jaxp2p.report.results import Results, load_results
from jaxp2p.settings.billing import Billing as Settings
from jaxp2p.settings.fields import out_of_range
from jaxp2p.settlement.account import Account
from jaxp2p.settlement.billing import Billing, Step
from jaxp2p.settlement.bills import Bills
from jaxp2p.settlement.rules import CONGESTION, RULES

Source = Result | Results | str | Path


def bill(
    source: Source,
    *,
    rule: str = Settings.rule,
    congestion: str = Settings.congestion,
    by: str = Settings.by,
    policy: str | None = None,
    time_zone: str | None = None,
) -> "BillingRun":
    """A preview of what members pay for a run, or a billing run that was saved.

    source: a run (a `Result`; a folder of results with its homes, or what `load` read of it), or the folder
    of a billing run, for which the other arguments stay as they were. rule: what peers pay each other
    (`settlement.rules`); congestion: "none" or "returned"; by: "day", "month" or "all"; time_zone: whose days
    are billed. Raises ValueError for what is not known.
    """
    if isinstance(source, str | Path) and is_billing(source):
        return BillingRun(billing=read_billing(source), account=None, by=by)
    asked = Settings(rule=rule, congestion=congestion, by=by, policy=policy)
    if faults := out_of_range(asked):
        raise ValueError("; ".join(faults))
    account, chosen, case = _account(source, policy, time_zone)
    billed = CONGESTION[congestion](RULES[rule].apply(account))
    facts = {"case": case, "policy": chosen, "rule": rule, "congestion": congestion}
    return BillingRun(billing=Billing(bills=Bills.of(billed), facts=facts), account=account, by=by)


def _account(source: Source, policy: str | None, time_zone: str | None) -> tuple[Account, str, str]:
    if isinstance(source, Result):
        chosen = policy_of(list(source.policies), policy)
        zone = time_zone or source.case.tables.meta.get("time_zone")
        account = account_of_tables(source.homes(chosen), source.slots(chosen), zone)
        return account, chosen, source.case.name
    results = source if isinstance(source, Results) else load_results(source)
    chosen = policy_of(list(results.kpis.index), policy)
    account = account_in(results, chosen, time_zone=time_zone)
    return account, chosen, str(results.summary.get("case", "run"))


@dataclass(frozen=True, kw_only=True, eq=False)
class BillingRun:
    """Bills at one step of a billing run; every step gives a new one."""

    billing: Billing
    account: Account | None  # of the market, before any rule; None: read from a billing run
    by: str

    @property
    def final_bills(self) -> bool:
        """Whether these bills are final."""
        return self.billing.step is Step.FINAL

    def bills(self) -> pd.DataFrame:
        """A row per member and period: EUR by line and in all, exact decimals; credits included."""
        return self.billing.settled.summary(self.by)

    def lines(self) -> pd.DataFrame:
        """A row per member, period and line: kWh, EUR, formula; credits included."""
        return self.billing.settled.table(self.by)

    def statement(self) -> pd.DataFrame:
        """A row per line: what all pay together, and to whom."""
        return self.billing.settled.statement()

    def rules(self) -> pd.DataFrame:
        """All rules side by side. Raises ValueError for bills that were read from a billing run."""
        if self.account is None:
            raise ValueError("a billing run keeps its bills only: rules are compared when it is made")
        return compare_rules(self.account)

    def corrected(self, table: pd.DataFrame | str | Path) -> "BillingRun":
        """With corrections of a preview, or, of final bills, with one credit note more; see `Billing`."""
        rows = table if isinstance(table, pd.DataFrame) else read_amounts(table)
        now = self.billing
        return replace(self, billing=now.credited(rows) if self.final_bills else now.corrected(rows))

    def final(self) -> "BillingRun":
        """The bills as they are sent, which nothing changes any more."""
        return replace(self, billing=self.billing.final())

    def save(self, path: str | Path, *, excel: bool = False, replace: bool = False) -> Path:
        """Write all tables into a folder, which is complete or as it was.

        Other results at that place are only replaced where they were made from the same, or with `replace`;
        final bills only by themselves with more credits. Raises FileExistsError for others.
        """
        folder = Path(path)
        if is_billing(folder):
            old = read_billing(folder)
            if old.step is Step.FINAL and not _continues(old, self.billing):
                raise FileExistsError(f"{folder} holds final bills, which nothing replaces")
        with results_folder(folder, None if replace else self.billing.facts) as fresh:
            write_billing(fresh, self.billing, by=self.by, excel=excel)
        return folder

    def text(self) -> str:
        """What `jaxp2p bill` prints."""
        return billing_text(self.billing, None if self.account is None else self.rules())


def _continues(old: Billing, new: Billing) -> bool:
    """Whether the new run is the old final one, with no less credits."""
    same = (old.bills.cents.shape == new.bills.cents.shape) and bool(
        (old.bills.cents == new.bills.cents).all() and (old.bills.energy == new.bills.energy).all()
    )
    kept = all(a.equals(b) for a, b in zip(old.credits, new.credits, strict=False))
    return new.step is Step.FINAL and same and kept and len(new.credits) >= len(old.credits)
