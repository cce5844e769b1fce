"""Every policy of the package, once: what it is called, what moves its devices, what it needs, how it looks.

Runs, studies, command line, pictures, tables and tests read this. A new policy is an entry here, and its rule
in `control.rules` (batteries) or `control.charging` (vehicles) where it has one of its own. Anybody else's is
an `OwnPolicy` and stands nowhere. No arrays: `control.policy.made` makes a policy of an entry.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from jaxp2p.settings.fields import UsageError, one_of

# when a run has a policy: unasked, where somebody has a vehicle, by its name, with a controller file
ALWAYS, WITH_A_VEHICLE, BY_NAME, WITH_A_CONTROLLER = "always", "vehicles", "by name", "controller"

REFERENCE = "no_storage_no_trade"  # what savings and benefits are measured against
TRADE_ONLY = "no_storage"  # what the capture is measured against
TUNED = "tuned"  # the policy of a controller file
OPTIMUM = "perfect_foresight"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A policy that decides slot by slot names what moves batteries and vehicles; the others plan."""

    name: str
    words: str  # a line of help
    colour: str
    dashes: str = "-"
    batteries: str = ""  # a name of `policy.BATTERIES`; "": not made slot by slot from the tariffs alone
    charging: str = "by_worth"  # of vehicles, a name of `charging.RULES`
    trade: bool = True
    there: str = ALWAYS
    forecast: str = ""  # the plan of which forecast it follows; needs a history
    hindsight: bool = False  # it needs the whole horizon


# Colours: Okabe and Ito 2008, and six of Tol 2021 for the plans and the rules of charging: can be told apart
# with any colour vision; grey and black for the references.
CATALOGUE = (
    Entry(
        name=REFERENCE,
        words="everybody with the utility only, batteries absent",
        colour="#999999",
        dashes=":",
        batteries="absent",
        charging="at_once",
        trade=False,
    ),
    Entry(
        name="no_trade",
        words="everybody for himself, batteries by modified Lyapunov control",
        colour="#CC79A7",
        batteries="lyapunov",
        trade=False,
    ),
    Entry(name=TRADE_ONLY, words="trade only", colour="#56B4E9", batteries="absent", charging="at_once"),
    Entry(
        name="greedy",
        words="the cheapest slot now, whatever comes",
        colour="#F0E442",
        dashes="--",
        batteries="worthless",
        charging="worthless",
    ),
    Entry(
        name="self_consumption",
        words="every battery follows its own meter",
        colour="#E69F00",
        batteries="own_meter",
        charging="on_own_surplus",
    ),
    Entry(
        name="community_self_consumption",
        words="all batteries follow the surplus of the community",
        colour="#D55E00",
        batteries="community_meter",
        charging="on_surplus",
    ),
    Entry(
        name="lyapunov_standard",
        words="Lyapunov control with the usual linear bound",
        colour="#0072B2",
        batteries="lyapunov_standard",
    ),
    Entry(
        name="lyapunov",
        words="modified Lyapunov control with the exact drift",
        colour="#009E73",
        batteries="lyapunov",
    ),
    Entry(
        name="charge_at_once",
        words="as lyapunov, but vehicles charge at full power from arrival on",
        colour="#AA4499",
        batteries="lyapunov",
        charging="at_once",
        there=WITH_A_VEHICLE,
    ),
    Entry(
        name="charge_on_surplus",
        words="as lyapunov, but vehicles charge what their home's PV has left over",
        colour="#661100",
        batteries="lyapunov",
        charging="on_own_surplus",
        there=WITH_A_VEHICLE,
    ),
    Entry(
        name="cheapest_slots",
        words="as lyapunov, but vehicles charge in the cheapest hours of the tariff",
        colour="#44AA99",
        batteries="lyapunov",
        charging="in_cheapest_slots",
        there=WITH_A_VEHICLE,
    ),
    Entry(
        name=OPTIMUM,
        words="everything known in advance: no policy can do better",
        colour="#000000",
        dashes="--",
        hindsight=True,
    ),
    Entry(
        name="mpc_persistence",
        words="everything as yesterday; needs a day of data before the window",
        colour="#882255",
        there=BY_NAME,
        forecast="persistence",
    ),
    Entry(
        name="mpc_mean",
        words="everything as in the mean of the last four weeks, or what there is of them",
        colour="#332288",
        there=BY_NAME,
        forecast="mean",
    ),
    Entry(name="mpc_perfect", words="the truth", colour="#999933", there=BY_NAME, forecast="perfect"),
    Entry(name=TUNED, words="that of a controller file", colour="#B2182B", there=WITH_A_CONTROLLER),
)

ENTRIES = {entry.name: entry for entry in CATALOGUE}
POLICIES = tuple(entry.name for entry in CATALOGUE if entry.there == ALWAYS)
# all of them where somebody has a vehicle
WITH_VEHICLES = tuple(entry.name for entry in CATALOGUE if entry.there in (ALWAYS, WITH_A_VEHICLE))
# by name only: a plan per slot takes a hundred times as long as a rule
MPC_POLICIES = {entry.name: entry.forecast for entry in CATALOGUE if entry.forecast}
COLOURS = {entry.name: entry.colour for entry in CATALOGUE}


def usual(*, vehicles: bool) -> tuple[str, ...]:
    """The policies that a run without names has, where somebody has a vehicle or nobody."""
    return WITH_VEHICLES if vehicles else POLICIES


def named(text: str, known: tuple[str, ...], *, besides: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Names in the usual order; "all" for every one of `known`, those `besides` only by their names."""
    asked = [name.strip().replace("-", "_") for name in text.split(",") if name.strip()]
    if asked == ["all"]:
        return known
    if not asked:
        raise UsageError("--policies: name at least one policy")
    chosen = {one_of(name, (*known, *besides), option="--policies") for name in asked}
    return tuple(name for name in (*known, *besides) if name in chosen)


def lines(*there: str) -> str:
    """Name and words of the policies that are there then, a line each."""
    width = max(len(entry.name) for entry in CATALOGUE) + 1
    return "\n".join(f"  {e.name:{width}} {e.words}" for e in CATALOGUE if e.there in there)


# which of them a picture of a single policy shows
FAVOURITES = (TUNED, "lyapunov", "community_self_consumption", "self_consumption", TRADE_ONLY)


def favourite(names: Iterable[str]) -> str:
    """The policy among these that pictures of a single policy show; perfect foresight only where alone."""
    known = list(names)
    online = [name for name in known if name != OPTIMUM]
    return next((name for name in FAVOURITES if name in online), known[0])


def label(policy: str) -> str:
    """A policy's name as people write it."""
    return policy.replace("_", " ").replace("lyapunov", "Lyapunov").replace("mpc", "MPC")
