"""A small pandapower net as tables by name, so that its reader is tested without the package.

A 20/0.4 kV transformer with iron losses and a tap, a busbar in two halves, three lines in use, a ring main
open at one end, a tie that is out of service, loads of all kinds, a plant, a battery, a shunt.
"""

# ruff: noqa: C408
from __future__ import annotations

import pandas as pd
from fake_simbench import Net


def small_net() -> Net:
    """The net of the module's docstring."""
    bus = pd.DataFrame({"name": ["head", "bar", "bar", "mill", "farm", "far"], "vn_kv": [20.0, *[0.4] * 5]})
    bus["in_service"] = True
    trafo = dict(
        name="T", hv_bus=0, lv_bus=1, sn_mva=0.4, vn_hv_kv=20.0, vn_lv_kv=0.41, vk_percent=6.0,
        vkr_percent=1.4,
        pfe_kw=1.35, i0_percent=0.4, shift_degree=150.0, tap_side="hv", tap_neutral=0.0, tap_pos=-1.0,
        tap_step_percent=2.5, tap_changer_type="Ratio", parallel=1, df=1.0, in_service=True,
    )  # fmt: skip

    def line(name, one, two, *, km=0.2, parallel=1, **more):
        cells = dict(
            name=name, from_bus=one, to_bus=two, length_km=km, r_ohm_per_km=0.2, x_ohm_per_km=0.08,
            c_nf_per_km=260.0, g_us_per_km=1.0, max_i_ka=0.27, df=1.0, parallel=parallel, in_service=True,
            std_type="NAYY 4x150",
        )  # fmt: skip
        return cells | more

    lines = [
        line("a", 2, 3),
        line("b", 3, 4, parallel=2),
        line("c", 2, 5, km=0.4),
        line("ring", 4, 5, km=1.0),
    ]
    lines.append(line("tie", 3, 5, in_service=False))
    load = dict(
        p_mw=0.02, q_mvar=0.005, scaling=1.0, in_service=True, const_z_p_percent=0.0, const_z_q_percent=0.0
    )
    loads = [
        dict(load, name="one", bus=3),
        dict(load, name="two", bus=3, scaling=0.5),
        dict(load, name="", bus=4),
    ]
    loads.append(dict(load, name="lamps", bus=5, const_z_p_percent=40.0, const_z_q_percent=40.0))
    unit = dict(bus=5, q_mvar=0.0, scaling=1.0, in_service=True)
    return Net(
        name="small",
        f_hz=50.0,
        std_types={"line": {"NAYY 4x150": {"r_ohm_per_km": 0.208, "x_ohm_per_km": 0.08}}},
        bus=bus,
        ext_grid=pd.DataFrame([dict(name="grid", bus=0, vm_pu=1.02, in_service=True)]),
        trafo=pd.DataFrame([trafo]),
        line=pd.DataFrame(lines),
        switch=pd.DataFrame(
            [("busbar", 1, 2, "b", True, 0.0), ("open", 5, 3, "l", False, 0.0)],
            columns=["name", "bus", "element", "et", "closed", "z_ohm"],
        ),
        load=pd.DataFrame(loads),
        sgen=pd.DataFrame([dict(unit, name="roof", p_mw=0.03, type="PV")]),
        storage=pd.DataFrame([dict(unit, name="store", p_mw=0.005, max_e_mwh=0.02, min_e_mwh=0.0)]),
        shunt=pd.DataFrame(
            [dict(name="coil", bus=3, p_mw=0.0, q_mvar=-0.004, vn_kv=0.4, step=1, in_service=True)]
        ),
    )
