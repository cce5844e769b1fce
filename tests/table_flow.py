"""An AC power flow on tables that shares nothing with the package: dense, p.u. of 1 MVA, all profiles 1."""

from __future__ import annotations

import numpy as np
import pandas as pd


def two_port(z: complex, y: complex, ratio: float, extra: complex = 0j) -> np.ndarray:
    """(2, 2) admittances of an ideal transformer ratio : 1 with a symmetric pi behind it, in p.u."""
    series = 1 / z
    return np.array(
        [
            [(series + y / 2) / ratio**2, -series / ratio],
            [-series / ratio, series + y / 2 + extra],
        ]
    )


def voltages(buses: pd.DataFrame, lines: pd.DataFrame) -> dict[str, float]:
    """Voltage in p.u. of every bus, by its name."""
    n = len(buses)
    place = {bus: i for i, bus in enumerate(buses["bus_id"])}
    kv = buses["vn_kv"].to_numpy(float)
    y = np.diag((buses["shunt_kw"] - 1j * buses["shunt_kvar"]).to_numpy(complex) / 1000)
    for line in lines.itertuples():
        i, k = place[line.from_bus], place[line.to_bus]
        base = min(kv[i], kv[k]) ** 2
        z, shunt = complex(line.r_ohm, line.x_ohm) / base, 1e-6 * complex(line.g_us, line.b_us) * base
        y[np.ix_([i, k], [i, k])] += two_port(z, shunt, line.ratio)
    slack = int(np.flatnonzero(buses["slack"] == 1)[0])
    rest = np.delete(np.arange(n), slack)
    v = np.full(n, float(buses["v_set_pu"].iloc[slack]), complex)
    load = (buses["background_kw"] + 1j * buses["background_kvar"]).to_numpy(complex) / 1000
    shares = buses["background_z_share"].to_numpy(float), buses["background_i_share"].to_numpy(float)
    z_rest = np.linalg.inv(y[np.ix_(rest, rest)])
    for _ in range(500):
        size = np.abs(v)
        taken = load * (1 - shares[0] - shares[1] + shares[1] * size + shares[0] * size**2)
        v[rest] = z_rest @ (-np.conj(taken / v)[rest] - y[rest, slack] * v[slack])
    return dict(zip(buses["bus_id"], np.abs(v).tolist(), strict=True))
