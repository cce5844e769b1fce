"""The same feeders in power-grid-model and pandapower: `pip install ".[grid]"`."""

from typing import Any

import numpy as np

from jaxp2p.model.network import Pi, VoltageDependent

VOLTS = 400.0  # of every bus; branches are in p.u. of this and 1 kVA
OHM = VOLTS**2 / 1000


def grid_model(
    pi: Pi, shunt: np.ndarray, slack: float, dependent: VoltageDependent | None = None
) -> tuple[Any, list[np.ndarray]]:
    """A model of power-grid-model, and the ids of its loads by bus: constant power, current, impedance."""
    from power_grid_model import LoadGenType, PowerGridModel, initialize_array

    buses, branches = len(shunt), len(pi.from_bus)
    node = initialize_array("input", "node", buses)
    node["id"], node["u_rated"] = np.arange(buses), VOLTS
    line = initialize_array("input", "generic_branch", branches)
    line["id"], line["from_node"], line["to_node"] = buses + np.arange(branches), pi.from_bus, pi.to_bus
    line["from_status"] = line["to_status"] = 1
    line["r1"], line["x1"] = pi.impedance.real * OHM, pi.impedance.imag * OHM
    line["g1"], line["b1"] = pi.admittance.real / OHM, pi.admittance.imag / OHM
    line["k"], line["theta"], line["sn"] = pi.ratio, 0.0, 1e6
    source = initialize_array("input", "source", 1)
    source["id"], source["node"], source["status"] = buses + branches, 0, 1
    source["u_ref"], source["sk"] = slack, 1e18
    first = buses + branches + 1
    kinds = [LoadGenType.const_power]
    if dependent is not None:
        kinds += [LoadGenType.const_current, LoadGenType.const_impedance]
    load = initialize_array("input", "sym_load", buses * len(kinds))
    load["id"] = first + np.arange(len(load))
    load["node"], load["type"] = np.tile(np.arange(buses), len(kinds)), np.repeat(kinds, buses)
    load["status"], load["p_specified"], load["q_specified"] = 1, 0.0, 0.0
    first += len(load)
    some = np.flatnonzero(shunt)
    table = initialize_array("input", "shunt", len(some))
    table["id"], table["node"], table["status"] = first + np.arange(len(some)), some, 1
    table["g1"], table["b1"] = shunt[some].real / OHM, shunt[some].imag / OHM
    tables = {"node": node, "generic_branch": line, "source": source, "sym_load": load, "shunt": table}
    model = PowerGridModel({name: rows for name, rows in tables.items() if len(rows)})
    return model, list(load["id"].reshape(len(kinds), buses))


def load_update(ids: list[np.ndarray], powers: list[np.ndarray]) -> np.ndarray:
    """A batch of loads of injections, complex (S, B) kVA for every kind of load."""
    from power_grid_model import initialize_array

    update = initialize_array("update", "sym_load", (len(powers[0]), sum(map(len, ids))))
    update["id"] = np.concatenate(ids)
    power = -1000 * np.concatenate(powers, 1)
    update["p_specified"], update["q_specified"] = power.real, power.imag
    return update


def grid_model_flow(
    pi: Pi,
    shunt: np.ndarray,
    slack: float,
    active: np.ndarray,
    reactive: np.ndarray,
    dependent: VoltageDependent | None = None,
    *,
    tolerance: float = 1e-12,
) -> dict[str, np.ndarray]:
    """Complex voltages (S, B), kVA into every branch at both of its ends (S, L), and at the source (S,)."""
    from power_grid_model import CalculationMethod

    model, ids = grid_model(pi, shunt, slack, dependent)
    constant = active + 1j * reactive
    powers = [constant]
    if dependent is not None:
        current = dependent.current_active + 1j * dependent.current_reactive
        impedance = dependent.impedance_active + 1j * dependent.impedance_reactive
        powers = [constant - current - impedance, current, impedance]
    out = model.calculate_power_flow(
        update_data={"sym_load": load_update(ids, powers)},
        calculation_method=CalculationMethod.newton_raphson,
        error_tolerance=tolerance,
        max_iterations=100,
    )
    node, branch, source = out["node"], out["generic_branch"], out["source"]
    return {
        "voltage": node["u_pu"] * np.exp(1j * node["u_angle"]),
        "from": (branch["p_from"] + 1j * branch["q_from"]) / 1000,
        "to": (branch["p_to"] + 1j * branch["q_to"]) / 1000,
        "source": (source["p"] + 1j * source["q"])[:, 0] / 1000,
    }


def random_tree(
    rng: np.random.Generator, buses: int, *, spread: int, plain: bool = False
) -> tuple[Pi, np.ndarray]:
    """Branches in both directions, r/x high or low; every bus hangs on one of the `spread` before it."""
    near = np.array([rng.integers(max(0, h - spread), h) for h in range(1, buses)])
    far = np.arange(1, buses)
    flip = rng.random(buses - 1) < 0.5
    size, angle = rng.uniform(0.2, 1, buses - 1), rng.uniform(0.05, 1.4, buses - 1)
    none = 0 if plain else 1
    admittance = none * (2e-3 * rng.random(buses - 1) + 2e-2j * rng.random(buses - 1))
    ratio = np.where(none * rng.random(buses - 1) < 0.95, 1.0, rng.uniform(0.98, 1.02, buses - 1))
    shunt = none * np.where(rng.random(buses) < 0.1, rng.normal(size=buses) * 0.02j + 0.01, 0)
    ends = np.where(flip, far, near), np.where(flip, near, far)
    return Pi(*ends, size * np.exp(1j * angle), admittance, ratio), shunt


def scaled_to_drop(pi: Pi, shunt: np.ndarray, power: np.ndarray, drop: float) -> tuple[Pi, np.ndarray]:
    """Impedances such that these injections (B,) make about this drop at the worst bus."""
    from jaxp2p.model.network import radial_matrices

    buses = len(shunt)
    if buses > 600:  # the path sums without matrices
        from jaxp2p.model.network.tree import rooted

        near, far, order = rooted(pi.from_bus, pi.to_bus, buses)
        through, rise = power.astype(complex), np.zeros(buses, complex)
        for branch in order[::-1]:
            through[near[branch]] += through[far[branch]]
        for branch in order:
            rise[far[branch]] = rise[near[branch]] + pi.impedance[branch] * np.conj(through[far[branch]])
    else:
        r, x, _ = radial_matrices(pi.from_bus, pi.to_bus, pi.impedance.real, pi.impedance.imag, buses)
        rise = (r + 1j * x) @ np.conj(power)
    scale = drop / np.abs(rise).max()
    largest = np.abs(power).mean()
    return pi._replace(impedance=pi.impedance * scale, admittance=pi.admittance * largest), shunt * largest


def grid_model_batch(model: Any, update: dict[str, np.ndarray], method: str) -> np.ndarray:
    """Voltages (S, B) in p.u. of a batch on all cores."""
    from power_grid_model import CalculationMethod

    found = model.calculate_power_flow(
        update_data=update,
        calculation_method=CalculationMethod[method],
        error_tolerance=1e-8,
        threading=0,
        output_component_types={"node"},
    )
    return found["node"]["u_pu"]


def pandapower_voltage(
    pi: Pi, shunt: np.ndarray, slack: float, active: np.ndarray, reactive: np.ndarray
) -> np.ndarray:
    """Complex voltages (B,) of one flow; for branches without ratios."""
    import pandapower as pp

    if (pi.ratio != 1).any():
        raise ValueError("only for branches without off-nominal ratios")
    net = pp.create_empty_network(f_hz=50.0, sn_mva=0.1)
    buses = [pp.create_bus(net, VOLTS / 1000) for _ in shunt]
    pp.create_ext_grid(net, buses[0], vm_pu=slack)
    for at, (a, b) in enumerate(zip(pi.from_bus.tolist(), pi.to_bus.tolist(), strict=True)):
        z, y = pi.impedance[at] * OHM, pi.admittance[at] / OHM
        pp.create_line_from_parameters(
            net,
            buses[a],
            buses[b],
            length_km=1.0,
            r_ohm_per_km=z.real,
            x_ohm_per_km=z.imag,
            c_nf_per_km=y.imag / (2 * np.pi * 50) * 1e9,
            g_us_per_km=y.real * 1e6,
            max_i_ka=1.0,
        )
    for bus, (p, q, s) in enumerate(zip(active, reactive, shunt, strict=True)):
        pp.create_sgen(net, buses[bus], p_mw=p / 1000, q_mvar=q / 1000)
        if s:
            pp.create_shunt(net, buses[bus], p_mw=s.real / 1000, q_mvar=-s.imag / 1000)
    pp.runpp(net, algorithm="nr", tolerance_mva=1e-9, init="flat", max_iteration=30, numba=False)
    return net.res_bus.vm_pu.to_numpy() * np.exp(1j * np.deg2rad(net.res_bus.va_degree.to_numpy()))


def pandapower_case() -> dict[str, Any]:
    """A transformer with tap and iron losses, cables, a capacitor, ZIP loads: our tables, its answer."""
    import pandapower as pp

    net = pp.create_empty_network(f_hz=50.0)
    names = ["grid", "b0", "b1", "b2", "b3"]
    number = {name: pp.create_bus(net, 20.0 if name == "grid" else 0.4, name=name) for name in names}
    pp.create_ext_grid(net, number["grid"], vm_pu=1.01)
    trafo = {"sn_mva": 0.16, "vn_hv_kv": 20.0, "vn_lv_kv": 0.4, "vk_percent": 4.0, "vkr_percent": 1.4}
    trafo |= {"pfe_kw": 0.46, "i0_percent": 0.6}
    tap = {
        "tap_side": "hv",
        "tap_neutral": 0,
        "tap_min": -2,
        "tap_max": 2,
        "tap_step_percent": 2.5,
        "tap_pos": -1,
    }
    pp.create_transformer_from_parameters(
        net, number["grid"], number["b0"], **trafo, **tap, tap_changer_type="Ratio", shift_degree=0.0
    )
    cables = [
        ("L1", "b0", "b1", 0.3),
        ("L2", "b2", "b1", 0.2),
        ("L3", "b1", "b3", 0.25),
    ]  # L2 from its far end
    r, x, c, amps = 0.2067, 0.0804, 830.0, 0.27
    for _, a, b, km in cables:
        pp.create_line_from_parameters(net, number[a], number[b], km, r, x, c, amps)
    loads = {"b1": (20.0, 6.0, 0.0, 0.0), "b2": (25.0, 8.0, 0.4, 0.25), "b3": (18.0, -3.0, 0.1, 0.6)}
    for bus, (p, q, z, i) in loads.items():
        shares = {
            f"const_{kind}_{part}_percent": 100 * s for kind, s in (("z", z), ("i", i)) for part in "pq"
        }
        pp.create_load(net, number[bus], p_mw=p / 1000, q_mvar=q / 1000, **shares)
    pp.create_shunt(net, number["b2"], p_mw=0.0005, q_mvar=-0.012)
    pp.runpp(net, tolerance_mva=1e-12, trafo_model="pi", trafo_loading="power", numba=False)
    sn, ohm = trafo["sn_mva"], trafo["vn_lv_kv"] ** 2 / trafo["sn_mva"]
    rt = trafo["vkr_percent"] / 100 * ohm
    xt = np.sqrt((trafo["vk_percent"] / 100 * ohm) ** 2 - rt**2)
    iron = trafo["pfe_kw"] / 1000
    magnetising = np.sqrt((trafo["i0_percent"] / 100 * sn) ** 2 - iron**2)
    low = trafo["vn_lv_kv"] ** 2
    table = [
        {"line_id": "T", "from_bus": "grid", "to_bus": "b0", "kind": "transformer", "r_ohm": rt, "x_ohm": xt}
        | {"s_max_kva": 1000 * sn, "g_us": 1e6 * iron / low, "b_us": -1e6 * magnetising / low, "ratio": 0.975}
    ]
    for name, a, b, km in cables:
        table.append(
            {"line_id": name, "from_bus": a, "to_bus": b, "kind": "line", "r_ohm": r * km, "x_ohm": x * km}
            | {"s_max_kva": 1000 * np.sqrt(3) * 0.4 * amps, "g_us": 0.0, "ratio": 1.0}
            | {"b_us": 2 * np.pi * 50 * c * km / 1000}
        )
    bus_rows = [
        {"bus_id": name, "vn_kv": 20.0 if name == "grid" else 0.4, "slack": float(name == "grid")}
        | {"v_set_pu": 1.01 if name == "grid" else 1.0}
        | dict(
            zip(
                ("background_kw", "background_kvar", "background_z_share", "background_i_share"),
                loads.get(name, (0.0, 0.0, 0.0, 0.0)),
                strict=True,
            )
        )
        | {"shunt_kw": 0.5 if name == "b2" else 0.0, "shunt_kvar": -12.0 if name == "b2" else 0.0}
        for name in names
    ]
    loading = [net.res_trafo.loading_percent[0], *net.res_line.loading_percent]
    losses = 1000 * (net.res_line.pl_mw.sum() + net.res_trafo.pl_mw.sum())
    return {
        "buses": bus_rows,
        "lines": table,
        "expected": {
            "vm_pu": dict(zip(names, net.res_bus.vm_pu.tolist(), strict=True)),
            "loading": {row["line_id"]: float(x) / 100 for row, x in zip(table, loading, strict=True)},
            "losses_kw": float(losses),
            "import_kw": 1000 * float(net.res_ext_grid.p_mw[0]),
            "import_kvar": 1000 * float(net.res_ext_grid.q_mvar[0]),
        },
    }


def versions() -> str:
    """Of both programs."""
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ("power-grid-model", "pandapower"))
