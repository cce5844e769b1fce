"""Cases with random vehicles: stays of any length, targets within reach and beyond; some return energy."""

from functools import cache

import numpy as np
import pandas as pd

import jaxp2p as jp
from jaxp2p.model.devices.vehicle import STAYS

START = "2016-07-04"


def driving(name, *, vehicles, seed, days=1.0, seats=1, returns=True, homes=None, **options):
    """A case whose first members have `seats` vehicles each, until there are `vehicles`; none: the others."""
    tables = _tables(name, homes)
    members = list(tables.prosumers["prosumer_id"])
    owners = [member for member in members for _ in range(seats)][:vehicles]
    rng, begin = np.random.default_rng(seed), pd.Timestamp(START)
    rows = []
    for number, owner in enumerate(owners):
        capacity, charge = rng.choice([24.0, 40.0, 77.0]), rng.choice([3.7, 11.0, 22.0])
        efficiency, wear = rng.uniform(0.85, 1.0, 2), rng.choice([0.0, 0.02])
        discharge = charge * rng.choice([0, 1]) if returns else 0.0
        at = begin - pd.Timedelta(minutes=15 * int(rng.integers(0, 60)))
        while at < begin + pd.Timedelta(days=days):
            stay = pd.Timedelta(minutes=15 * int(rng.integers(1, 70)))
            energy, wanted = rng.uniform(0, 1, 2) * capacity
            rows.append(
                {
                    "vehicle_id": f"car {number}",
                    "prosumer_id": owner,
                    "arrival": at,
                    "departure": at + stay,
                    "energy_arrival_kwh": energy,
                    "energy_wanted_kwh": wanted,
                    "battery_kwh": capacity,
                    "reserve_kwh": 0.2 * capacity,
                    "charge_kw": charge,
                    "discharge_kw": discharge,
                    "charge_efficiency": efficiency[0],
                    "discharge_efficiency": efficiency[1],
                    "wear_cost_eur_per_kwh": wear,
                }
            )
            at += stay + pd.Timedelta(minutes=15 * int(rng.integers(0, 40)))
    tables = tables.replace(ev_sessions=pd.DataFrame(rows))
    return jp.build(tables, start=START, days=days, **options)


@cache
def _tables(name, homes):
    more = {} if homes is None else {"homes": homes}
    return jp.load_case(name, **more)


def reachable(case):
    """(T, K, N) kWh in every vehicle at the end of every slot, if it charged at full power since it came."""
    community, horizon = case.community, case.horizon
    plugs, hours = horizon.plugs.float64(), float(horizon.slot_hours)
    efficiency = np.asarray(community.prosumers.vehicles.charge_efficiency, float)
    out, stored = np.zeros(plugs.floor.shape), plugs.floor[0]
    for t in range(len(out)):
        stored = np.where(plugs.arrived[t] == STAYS, stored, plugs.arrived[t])
        stored = np.minimum(stored + hours * efficiency * plugs.charge_max[t], plugs.most[t])
        out[t] = stored
    return out
