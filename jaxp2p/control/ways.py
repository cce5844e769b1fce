"""Ways of operating a community: those whose hosting capacities are set side by side, and modes. No arrays.

A new one is an entry here, and in `runs.operated` what becomes of the community under it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxp2p.control.catalogue import REFERENCE, TRADE_ONLY
from jaxp2p.settings.modes import RULES

IGNORED, LINEAR, SECURE = "ignored", "linear", "secure"  # the limits of the network in the market


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a community is operated: a policy, and what becomes of the limits of the network."""

    name: str
    words: str
    policy: str
    limits: str
    colour: str
    all_fed_in: bool = False  # what prices let homes curtail is fed in as well
    reactive: str | None = None  # rule of the PV inverters; None: that of the community


WAYS = (
    Way(
        name="uncontrolled",
        words="no storage, no trade, nothing curtailed",
        policy=REFERENCE,
        limits=IGNORED,
        colour="#999999",
        all_fed_in=True,
    ),
    Way(
        name="no_limits",
        words="trade and storage, limits of the grid ignored",
        policy="lyapunov",
        limits=IGNORED,
        colour="#E69F00",
    ),
    Way(
        name="linear",
        words="trade and storage, limits kept in the linear network",
        policy="lyapunov",
        limits=LINEAR,
        colour="#0072B2",
    ),
    Way(
        name="secure_no_storage",
        words="trade without storage, limits kept in AC",
        policy=TRADE_ONLY,
        limits=SECURE,
        colour="#56B4E9",
    ),
    Way(
        name="secure_no_trade",
        words="storage without trade, limits kept in AC",
        policy="no_trade",
        limits=SECURE,
        colour="#CC79A7",
    ),
    Way(
        name="secure",
        words="trade and storage, limits kept in AC",
        policy="lyapunov",
        limits=SECURE,
        colour="#009E73",
    ),
    Way(
        name="secure_volt_var",
        words="the same with inverters on a Volt-VAR curve",
        policy="lyapunov",
        limits=SECURE,
        colour="#D55E00",
        reactive="volt_var",
    ),
    Way(
        name="secure_reactive",
        words="the same with reactive power chosen by the market",
        policy="lyapunov",
        limits=SECURE,
        colour="#000000",
        reactive="market",
    ),
)

BY_NAME = {way.name: way for way in WAYS}

RULE_COLOURS = dict(zip(RULES, ("#CC79A7", "#56B4E9", "#D55E00", "#000000"), strict=True))


def modes(policy: str, rules: Sequence[str] = ()) -> tuple[Way, ...]:
    """One policy with limits ignored, linear and secure, and secure by rules of reactive power.

    Without such a rule inverters give none.
    """
    limits = (
        ("no_limits", "limits of the grid left out of the market", IGNORED),
        ("linear", "limits kept in the linear network", LINEAR),
        ("secure", "limits kept in AC", SECURE),
    )
    three = tuple(
        Way(name=name, words=words, policy=policy, limits=kept, colour=BY_NAME[name].colour, reactive="unity")
        for name, words, kept in limits
    )
    return three + tuple(
        Way(
            name=f"secure_{rule}",
            words=f"limits kept in AC, reactive power by {rule}",
            policy=policy,
            limits=SECURE,
            colour=RULE_COLOURS[rule],
            reactive=rule,
        )
        for rule in rules
    )


def way_lines(ways: Sequence[Way]) -> str:
    """Name and words of every way, a line each."""
    width = max(len(way.name) for way in ways) + 1
    return "\n".join(f"  {way.name:{width}} {way.words}" for way in ways)
