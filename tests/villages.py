"""Three homes on three buses for a day: small tables that tests bend."""

from pathlib import Path

import numpy as np
import pandas as pd

from jaxp2p.data import Tables

SLOTS = 96
_DAY = np.arange(SLOTS) / 4


def village(*, start: str = "2016-07-04", slots: int = SLOTS) -> Tables:
    """PV and batteries at the first and the third home, a tariff of 0.22 to 0.40 EUR/kWh."""
    time = pd.date_range(start, periods=slots, freq="15min")
    hour = np.resize(_DAY, slots)
    evening = (hour >= 17) & (hour < 21)
    return Tables(
        prosumers=pd.DataFrame(
            {
                "prosumer_id": ["H1", "H2", "H3"],
                "bus_id": ["B1", "B2", "B1"],
                "load_profile": ["house"] * 3,
                "load_kw": [1.0, 1.3, 1.6],
                "pv_profile": ["sun", "", "sun"],
                "pv_kw": [5.0, 0.0, 5.0],
                "battery_kwh": [8.0, 0.0, 8.0],
                "battery_min_kwh": [0.8, 0.0, 0.8],
                "battery_charge_kw": [3.0, 0.0, 3.0],
                "battery_discharge_kw": [3.0, 0.0, 3.0],
            }
        ),
        buses=pd.DataFrame({"bus_id": ["B0", "B1", "B2"], "vn_kv": 0.4, "slack": [1, 0, 0]}),
        lines=pd.DataFrame(
            {
                "line_id": ["T", "L1"],
                "from_bus": ["B0", "B1"],
                "to_bus": ["B1", "B2"],
                "kind": ["transformer", "line"],
                "r_ohm": [0.01, 0.03],
                "x_ohm": [0.03, 0.01],
                "s_max_kva": [160.0, 100.0],
            }
        ),
        profiles=pd.DataFrame(
            {
                "time": time,
                "house": 0.3 + 0.5 * evening,
                "sun": np.maximum(np.sin((hour - 6) * np.pi / 12), 0),
            }
        ),
        prices=pd.DataFrame(
            {
                "time": time,
                "buy_eur_per_kwh": np.where(evening, 0.40, 0.22),
                "sell_eur_per_kwh": np.full(slots, 0.08),
            }
        ),
        meta={"name": "village"},
    )


def write_raw(tables: Tables, folder: Path, *, time: str = "%Y-%m-%dT%H:%M:%S") -> Path:
    """CSV files as pandas writes them, without any check."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in tables.frames().items():
        if "time" in frame and frame["time"].dtype.kind == "M":
            frame = frame.assign(time=frame["time"].dt.strftime(time))
        frame.to_csv(folder / f"{name}.csv", index=False)
    return folder
