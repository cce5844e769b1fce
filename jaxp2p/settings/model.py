"""Market, grid, solver and prices of what is left: settings that every policy shares."""

from dataclasses import dataclass
from typing import ClassVar

from jaxp2p.settings.fields import setting

MARKETS = ("bilateral", "pool", "none")
GRAPHS = ("regular", "nearest", "complete", "table")
SOLVERS = ("auto", "newton", "admm")
DTYPES = ("float32", "float64")
FORESIGHT = ("auto", "on", "off")
LOSSES = ("shared", "marginal")
REACTIVE = ("unity", "cos_phi", "cos_phi_p", "volt_var", "market")  # of PV inverters
DEFAULT_FEE = 0.01  # EUR/kWh of a trade, half to each side


@dataclass(frozen=True, kw_only=True)
class Trading:
    """Who trades with whom."""

    TABLE: ClassVar = "market"

    market: str = setting(
        "bilateral",
        "bilateral (along a trading graph), pool (one price) or none (utility only).",
        unit="KIND",
        choices=MARKETS,
    )
    partners: int = setting(
        6, "Partners per member in the bilateral market.", least=0, words="partners per member"
    )
    fee: float | None = setting(
        None,
        "Fee of a trade, half to each side.",
        unit="EUR/KWH",
        least=0,
        otherwise=f"{DEFAULT_FEE:g}",
        words="fee of a trade",
    )
    graph: str | None = setting(
        None,
        "Trading graph: regular (random), nearest (electrically), complete, or table (the trades table).",
        unit="KIND",
        choices=GRAPHS,
        otherwise="table where there is one, else regular",
        words="trading graph",
    )


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Whether its limits hold."""

    TABLE: ClassVar = "grid"

    network: bool = setting(
        True,
        "Keep to the limits of the grid, or only report what it carries.",
        words="limits of the grid in the market",
    )
    secure: bool = setting(
        True,
        "Clear every slot until its AC power flow is inside the limits, or trust the linear network.",
        words="limits of the grid kept in AC",
        spelling=("--secure/--linear",),
    )
    losses: str = setting(
        "shared",
        "Losses of the grid: shared (pro rata to what members exchange), or marginal (with a price at every "
        "bus, so that devices and trades reckon with them).",
        unit="RULE",
        choices=LOSSES,
        words="losses of the grid",
    )
    reactive: str = setting(
        "unity",
        "Reactive power of PV inverters: unity (none), cos_phi (fixed), cos_phi_p (with the power), volt_var "
        "(with the voltage), or market (the least that keeps voltages, before PV is curtailed).",
        unit="RULE",
        choices=REACTIVE,
        words="reactive power of PV inverters",
    )


@dataclass(frozen=True, kw_only=True)
class SlotSolver:
    """Which solver clears a slot."""

    TABLE: ClassVar = "solver"

    solver: str = setting(
        "auto",
        "newton (where one price decides: pool, none), admm (every market), or auto: the faster one.",
        unit="NAME",
        choices=SOLVERS,
    )


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """How exact the numbers are."""

    TABLE: ClassVar = "solver"

    tolerance: float = setting(
        1.0,
        "Factor on the solver's tolerances; 0.1 is ten times as exact.",
        unit="FACTOR",
        words="factor on the tolerances",
    )
    dtype: str = setting("float32", "float32 or float64.", unit="TYPE", choices=DTYPES, words="number type")
    cache: bool = setting(
        True, "Keep compiled programs in the user's cache folder: the next run starts in a third of the time."
    )


@dataclass(frozen=True, kw_only=True)
class EndValue:
    """What stored energy is worth in the end."""

    TABLE: ClassVar = "prices"

    end_value: float | None = setting(
        None,
        "Worth of energy stored at the end, for every policy.",
        unit="EUR/KWH",
        otherwise="the middle of what storing a kWh usually costs and what it earns",
        words="worth of energy stored at the end",
    )


@dataclass(frozen=True, kw_only=True)
class Worth(EndValue):
    """Prices besides the tariffs."""

    TABLE: ClassVar = "prices"

    unserved_price: float | None = setting(
        None,
        "Price, on top of the tariffs, of load not served and energy spilled at the connection limits.",
        unit="EUR/KWH",
        otherwise="40 times the largest price",
        words="price of unserved energy",
    )
