"""Seeded electric vehicles: who has one, when it is at home, how much it has and wants.

Everyday mobility in the manner of Germany, drawn and not measured:

- Four vehicles in five are a commuter's. On four weekdays of five (on one he works at home) it leaves at
  07:30 +- 1 h and is back at 17:30 +- 1.5 h; on a day at the weekend it makes a trip with probability 0.6,
  from 11:30 +- 1.5 h on, for 3 +- 1 h. Every fifth vehicle has such weekends all week.
- Distances are log-normal with sigma 0.7: median 30 km on a day of work (some 17 km there and as many back,
  or less and an errand), 20 km on another trip. That makes 9,000 km a year, without holidays and long
  journeys, at 0.18 kWh/km (a compact car, summer and winter).
- Of these deviations 0.8 is the owner's habit and 0.6 differs from day to day (0.8^2 + 0.6^2 = 1).
- Batteries have 40, 58 or 77 kWh, alike often: small, middle and large as they are sold. Wallboxes have
  11 kW (70 %; three phases, and no consent of the grid operator is needed), 3.7 kW (15 %; one phase) or 22 kW
  (15 %). Efficiency is 0.95 each way, wear costs nothing.
- At departure 80 % of the capacity is wanted, as makers advise. At arrival there is that less what was
  driven, but no less than 10 %: on longer journeys it was charged on the way.
- One vehicle in four can discharge, with 11 kW at most, down to 30 % of its capacity.

A vehicle is plugged in whenever it is at home: from its return to its next departure, however many days that
is. Times are of the clock on the wall, in whole minutes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

COMMUTERS, AT_WORK, ON_TRIP = 0.8, 0.8, 0.6  # of the vehicles; of weekdays; of all other days
WORK_LEAVES, WORK_BACK = (7.5, 1.0), (17.5, 1.5)  # o'clock, standard deviation in h
TRIP_LEAVES, TRIP_HOURS = (11.5, 1.5), (3.0, 1.0)
EARLIEST, LATEST, SHORTEST = 5.0, 23.5, 0.5  # o'clock, o'clock, h: what is beyond is moved there
WORK_KM, TRIP_KM, SIGMA_KM = 30.0, 20.0, 0.7
HABIT, CHANCE = 0.8, 0.6
KWH_PER_KM = 0.18
CAPACITIES = (40.0, 58.0, 77.0)  # kWh
CHARGERS, CHARGER_SHARES = (11.0, 3.7, 22.0), (0.70, 0.15, 0.15)  # kW
EFFICIENCY = 0.95
WANTED, LEAST, RESERVE = 0.8, 0.1, 0.3  # of the capacity
DISCHARGE_MAX = 11.0  # kW


class Trips(NamedTuple):
    """What V vehicles do on D days; where one does not drive, the other numbers mean nothing."""

    drives: np.ndarray  # (V, D) bool
    leaves: np.ndarray  # (V, D) o'clock
    back: np.ndarray  # (V, D) o'clock, on the same day
    km: np.ndarray  # (V, D)


class AtHome(NamedTuple):
    """The time between two trips, (M,)."""

    vehicle: np.ndarray
    arrival: np.ndarray
    departure: np.ndarray
    km: np.ndarray  # driven before arrival


def vehicles_of(
    members: list[str],
    time: pd.Series,
    *,
    share: float,
    seed: int = 0,
    present: pd.DataFrame | None = None,
    v2h_share: float = 0.25,
    zone: str | None = None,
) -> pd.DataFrame | None:
    """`ev_sessions` of as many members as are wanting to have that `share` of them have a vehicle.

    Members without one get one, in random order. All members draw, so that a larger share keeps the choices
    of a smaller one. None where enough have one.

    Args:
        members: their names.
        time: starts of the slots, in UTC where there is a time zone.
        share: of the members, those in `present` included.
        seed: of all that is drawn.
        present: the stays that there are.
        v2h_share: of the new vehicles, those that can discharge.
        zone: time zone of the clock on the wall; by default it shows `time`.
    """
    owners = set() if present is None else set(present["prosumer_id"])
    wanting = round(share * len(members)) - len(owners)
    if wanting <= 0:
        return None
    rng = np.random.default_rng([seed, 4])
    order = rng.permutation(len(members))
    capacity = rng.choice(CAPACITIES, len(members))
    charge = rng.choice(CHARGERS, len(members), p=CHARGER_SHARES)
    returns = rng.random(len(members)) < v2h_share
    wall = pd.DatetimeIndex(time)
    wall = wall if zone is None else wall.tz_localize("UTC").tz_convert(zone).tz_localize(None)
    around = pd.Timedelta(days=1)  # so that they are at home when the data begin and when they end
    days = pd.date_range(wall[0].normalize() - around, wall[-1].normalize() + around)
    trips = draw_trips(len(members), np.asarray(days.day_of_week >= 5), rng)
    chosen = np.sort([i for i in order if members[i] not in owners][:wanting])
    stays = at_home(Trips(*(values[chosen] for values in trips)), days)
    arrival, departure = (_stored(moment, zone) for moment in (stays.arrival, stays.departure))
    seen = (arrival <= time.iloc[-1]) & (departure >= time.iloc[1])
    owner = chosen[stays.vehicle[seen]]
    names, ids = np.array(members, object), _ids(members, present)
    wanted = WANTED * capacity[owner]
    left = np.maximum(wanted - KWH_PER_KM * stays.km[seen], LEAST * capacity[owner])
    return pd.DataFrame(
        {
            "vehicle_id": pd.Series(ids[owner], dtype="str"),
            "prosumer_id": pd.Series(names[owner], dtype="str"),
            "arrival": arrival[seen],
            "departure": departure[seen],
            "energy_arrival_kwh": left.round(2),
            "energy_wanted_kwh": wanted.round(2),
            "battery_kwh": capacity[owner],
            "reserve_kwh": (RESERVE * capacity[owner] * returns[owner]).round(2),
            "charge_kw": charge[owner],
            "discharge_kw": np.minimum(charge, DISCHARGE_MAX)[owner] * returns[owner],
            "charge_efficiency": EFFICIENCY,
            "discharge_efficiency": EFFICIENCY,
            "wear_cost_eur_per_kwh": 0.0,
        }
    )


def draw_trips(vehicles: int, weekend: np.ndarray, rng: np.random.Generator) -> Trips:
    """What vehicles do on the days (D,) of which some are a weekend; on the first and the last all drive."""
    size = vehicles, len(weekend)
    work = (rng.random((vehicles, 1)) < COMMUTERS) & ~weekend
    drives = rng.random(size) < np.where(work, AT_WORK, ON_TRIP)
    drives[:, [0, -1]] = True
    one, two, far = HABIT * rng.standard_normal((3, vehicles, 1)) + CHANCE * rng.standard_normal((3, *size))
    moved = lambda usual, by: usual[0] + usual[1] * by
    leaves = np.where(work, moved(WORK_LEAVES, one), moved(TRIP_LEAVES, one))
    leaves = np.clip(leaves, EARLIEST, LATEST - SHORTEST)
    back = np.where(work, moved(WORK_BACK, two), leaves + moved(TRIP_HOURS, two))
    back = np.clip(back, leaves + SHORTEST, LATEST)
    return Trips(drives, leaves, back, np.where(work, WORK_KM, TRIP_KM) * np.exp(SIGMA_KM * far))


def at_home(trips: Trips, days: pd.DatetimeIndex) -> AtHome:
    """From every return to the next departure, vehicle after vehicle; trips on `days`."""
    vehicle, day = np.nonzero(trips.drives)
    midnight = days.to_numpy("datetime64[ns]")[day]
    clock = lambda hours: midnight + np.round(60 * hours[vehicle, day]).astype("timedelta64[m]")
    leaves, back = clock(trips.leaves), clock(trips.back)
    follows = vehicle[1:] == vehicle[:-1]
    return AtHome(
        vehicle[1:][follows],
        back[:-1][follows],
        leaves[1:][follows],
        trips.km[vehicle, day][:-1][follows],
    )


def _stored(moment: np.ndarray, zone: str | None) -> np.ndarray:
    """Times of the clock on the wall as tables have them: in UTC where there is a time zone."""
    if zone is None:
        return moment
    first = np.ones(len(moment), bool)  # of an hour that comes twice
    wall = pd.DatetimeIndex(moment).tz_localize(zone, ambiguous=first, nonexistent="shift_forward")
    return wall.tz_convert("UTC").tz_localize(None).to_numpy("datetime64[ns]")


def _ids(members: list[str], present: pd.DataFrame | None) -> np.ndarray:
    """Names of vehicles, (members,): none that is taken."""
    taken, mark = set() if present is None else set(present["vehicle_id"]), "ev_"
    while not taken.isdisjoint(ids := [mark + name for name in members]):
        mark += "new_"
    return np.array(ids, object)
