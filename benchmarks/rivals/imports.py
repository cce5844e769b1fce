"""Power flows that share nothing with the readers of grids: of tables and of matrices; random trees."""

import numpy as np
import pandas as pd

from jaxp2p.data.grids.parts import Grid, Load


def fixed(grid: Grid) -> None:
    """Plants and storage units as the loads that they are in the source, in place."""
    grid.loads += [Load(x.name, x.bus, -x.kw, -x.kvar) for x in grid.plants]
    grid.loads += [Load(x.name, x.bus, x.kw, x.kvar) for x in grid.stores]
    grid.plants, grid.stores = [], []


def rebuilt_voltages(buses: pd.DataFrame, lines: pd.DataFrame) -> np.ndarray:
    """(B,) p.u. by power-grid-model, from the columns of the tables alone; all profiles are 1."""
    from power_grid_model import PowerGridModel, initialize_array

    b, n = len(buses), len(lines)
    kv = buses["vn_kv"].to_numpy()
    place = {bus: i for i, bus in enumerate(buses["bus_id"])}
    node = initialize_array("input", "node", b)
    node["id"], node["u_rated"] = range(b), 1000 * kv
    branch = initialize_array("input", "generic_branch", n)
    branch["id"] = b + np.arange(n)
    for end in ("from", "to"):
        branch[f"{end}_node"], branch[f"{end}_status"] = [place[bus] for bus in lines[f"{end}_bus"]], 1
    # its impedances are those of the second end, which has the lower voltage in imported tables
    branch["r1"], branch["x1"], branch["k"], branch["theta"] = (
        lines["r_ohm"],
        lines["x_ohm"],
        lines["ratio"],
        0,
    )
    branch["g1"], branch["b1"], branch["sn"] = 1e-6 * lines["g_us"], 1e-6 * lines["b_us"], 1e6
    source = initialize_array("input", "source", 1)
    slack = int(np.flatnonzero(buses["slack"] == 1)[0])
    source["id"], source["node"], source["status"], source["sk"] = b + n, slack, 1, 1e18
    source["u_ref"] = buses["v_set_pu"].iloc[slack]
    shunt = initialize_array("input", "shunt", b)
    shunt["id"], shunt["node"], shunt["status"] = b + n + 1 + np.arange(b), range(b), 1
    shunt["g1"], shunt["b1"] = buses["shunt_kw"] / 1000 / kv**2, -buses["shunt_kvar"] / 1000 / kv**2
    load = initialize_array("input", "sym_load", 3 * b)
    load["id"], load["node"] = b + n + 1 + b + np.arange(3 * b), np.tile(np.arange(b), 3)
    load["status"], load["type"] = 1, np.repeat([0, 1, 2], b)
    z, i = buses["background_z_share"], buses["background_i_share"]
    share = np.concatenate([1 - z - i, z, i])
    load["p_specified"] = 1000 * share * np.tile(buses["background_kw"], 3)
    load["q_specified"] = 1000 * share * np.tile(buses["background_kvar"], 3)
    data = {"node": node, "generic_branch": branch, "source": source, "shunt": shunt, "sym_load": load}
    flow = PowerGridModel(data).calculate_power_flow(error_tolerance=1e-12, max_iterations=200)
    return flow["node"]["u_pu"]


def voltages_of_matrices(case: dict) -> dict[int, float]:
    """Voltage of every bus by number, of MATPOWER's matrices, by v = Z (conj(s / v) - y v0) in p.u."""
    bus, branch, gen, base = case["bus"], case["branch"], case["gen"], case["baseMVA"]
    place = {int(number): i for i, number in enumerate(bus[:, 0])}
    y = np.diag((bus[:, 4] + 1j * bus[:, 5]) / base)
    for row in branch[branch[:, 10] != 0]:
        i, k = place[int(row[0])], place[int(row[1])]
        series, half = 1 / (row[2] + 1j * row[3] or 1e-12j), 0.5j * row[4]
        tap = (row[8] or 1.0) * np.exp(1j * np.deg2rad(row[9]))
        y[i, i] += (series + half) / abs(tap) ** 2
        y[k, k] += series + half
        y[i, k] -= series / np.conj(tap)
        y[k, i] -= series / tap
    power = -(bus[:, 2] + 1j * bus[:, 3]) / base
    slack = int(np.flatnonzero(bus[:, 1] == 3)[0])
    held = [row[5] for row in gen if row[7] > 0 and place[int(row[0])] == slack]
    for row in gen[gen[:, 7] > 0]:
        if place[int(row[0])] != slack:
            power[place[int(row[0])]] += row[1] / base
    rest = np.flatnonzero((np.abs(y).sum(axis=1) > 0) & (np.arange(len(bus)) != slack))
    v = np.full(len(bus), held[0] if held else 1.0, complex)
    z = np.linalg.inv(y[np.ix_(rest, rest)])
    for _ in range(300):
        v[rest] = z @ (np.conj(power[rest] / v[rest]) - y[rest, slack] * v[slack])
    return {number: float(abs(v[i])) for number, i in place.items() if i in rest or i == slack}


def random_tree(seed: int) -> dict:
    """Input of power-grid-model: a transformer with a tap, lines, one open, loads of all kinds, a shunt."""
    from power_grid_model import initialize_array

    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 40))
    node = initialize_array("input", "node", n)
    node["id"], node["u_rated"] = range(n), [10_000.0, *[400.0] * (n - 1)]
    line = initialize_array("input", "line", n - 1)  # the last one closes a ring and is open at one end
    line["id"] = 100 + np.arange(n - 1)
    line["from_node"] = [*(rng.integers(1, i) for i in range(2, n)), n - 1]
    line["to_node"] = [*range(2, n), 1]
    line["from_status"], line["to_status"] = 1, [*[1] * (n - 2), 0]
    line["r1"], line["x1"] = rng.uniform(1e-3, 2e-2, n - 1), rng.uniform(1e-3, 1e-2, n - 1)
    line["c1"], line["tan1"], line["i_n"] = rng.uniform(0, 1e-6, n - 1), rng.uniform(0, 0.1, n - 1), 200.0
    trafo = initialize_array("input", "transformer", 1)
    up = seed % 2 == 0
    trafo["id"], trafo["from_node"], trafo["to_node"] = 300, 0 if up else 1, 1 if up else 0
    trafo["from_status"] = trafo["to_status"] = 1
    trafo["u1"], trafo["u2"] = (10_200.0, 410.0) if up else (410.0, 10_200.0)
    trafo["sn"], trafo["uk"], trafo["pk"], trafo["i0"], trafo["p0"] = 630e3, 0.06, 6500.0, 0.01, 900.0
    trafo["winding_from"], trafo["winding_to"], trafo["clock"] = (2, 1, 5) if up else (1, 2, 7)
    trafo["tap_side"], trafo["tap_min"], trafo["tap_max"], trafo["tap_nom"] = rng.integers(2), -4, 4, 0
    high = (trafo["tap_side"][0] == 0) == up
    trafo["tap_pos"], trafo["tap_size"] = rng.integers(-4, 5), 150.0 if high else 5.0
    source = initialize_array("input", "source", 1)
    source["id"], source["node"], source["status"], source["u_ref"] = 400, 0, 1, rng.uniform(0.98, 1.05)
    source["sk"], source["rx_ratio"] = rng.uniform(5e7, 1e9), 0.2
    load = initialize_array("input", "sym_load", n - 1)
    load["id"], load["node"], load["status"] = 500 + np.arange(n - 1), range(1, n), rng.random(n - 1) < 0.9
    load["type"] = rng.integers(3, size=n - 1)
    load["type"][-1] = 0  # beside a plant: a sum of kinds has no pair of shares
    load["p_specified"], load["q_specified"] = rng.uniform(0, 8e3, n - 1), rng.uniform(0, 3e3, n - 1)
    plant = initialize_array("input", "sym_gen", 1)
    plant["id"], plant["node"], plant["status"], plant["type"] = 800, n - 1, 1, 0
    plant["p_specified"], plant["q_specified"] = 2e4, 1e3
    shunt = initialize_array("input", "shunt", 1)
    shunt["id"], shunt["node"], shunt["status"], shunt["g1"], shunt["b1"] = 900, 1, 1, 0.01, 0.05
    return {
        "node": node,
        "line": line,
        "transformer": trafo,
        "source": source,
        "sym_load": load,
        "sym_gen": plant,
        "shunt": shunt,
    }
