"""A package `simbench` with one small net, so that the importer is tested without the real one.

The net, at 110, 20 and 0.4 kV: two parallel transformers at the head, whose busbars a closed switch joins; a
double line; a line that an open switch leaves out; a wind park alone at its bus; a low-voltage home behind a
transformer; and a profile name that means a load and a generation, as the equivalents of SimBench have it.
"""

# ruff: noqa: C408
from __future__ import annotations

from types import ModuleType

import numpy as np
import pandas as pd

CODES = ["1-LV-rural1--0-sw", "1-MV-rural--0-sw", "1-MV-rural--1-sw", "1-HV-urban--0-sw"]


class Net(dict):
    """Tables by name or as attributes, as in pandapower."""

    __getattr__ = dict.__getitem__


def _trafo(name, high, low, sn_mva, vk, *, kv, tap=0.0):
    return dict(
        name=name, hv_bus=high, lv_bus=low, sn_mva=sn_mva, vk_percent=vk, vkr_percent=0.5, vn_hv_kv=kv[0],
        vn_lv_kv=kv[1], tap_pos=tap, tap_neutral=0.0, tap_step_percent=1.5, tap_side="hv", parallel=1, df=1.0,
        in_service=True,
    )  # fmt: skip


def _line(name, one, two, *, r=0.2, amps=0.3, parallel=1):
    return dict(
        name=name, from_bus=one, to_bus=two, length_km=2.0, r_ohm_per_km=r, x_ohm_per_km=0.1, max_i_ka=amps,
        parallel=parallel, df=1.0, in_service=True,
    )  # fmt: skip


def _unit(name, bus, p_mw, profile, **more):
    return dict(name=name, bus=bus, p_mw=p_mw, scaling=1.0, in_service=True, profile=profile, **more)


def make_net() -> Net:
    """The net of the module's docstring, with two days of profiles."""
    names = ["grid", "busbar 1", "busbar 2", "a", "b", "park", "home"]
    level = [110.0, 20.0, 20.0, 20.0, 20.0, 20.0, 0.4]
    bus = pd.DataFrame({"name": names, "vn_kv": level, "in_service": True})
    bus["min_vm_pu"], bus["max_vm_pu"] = 0.965, 1.055
    switch = pd.DataFrame(
        [(1, 2, "b", True), (3, 5, "l", False), (3, 0, "l", True)], columns=["bus", "element", "et", "closed"]
    )
    storage = {
        "max_e_mwh": 0.4, "min_e_mwh": 0.0, "efficiency_percent": 0.95,
        "self-discharge_percent_per_day": 0.13,
    }  # fmt: skip
    hours = np.arange(192) / 4 % 24
    load, gen = 0.5 + 0.4 * np.cos(hours), np.clip(np.sin((hours - 6) / 12 * np.pi), -1e-6, None)
    time = pd.date_range("2016-01-01", periods=192, freq="15min").strftime("%d.%m.%Y %H:%M")
    plants = {"lv_rural1": gen, "WP4": 0.3 + 0.2 * np.sin(hours), "PV1": gen**2}
    return Net(
        bus=bus,
        ext_grid=pd.DataFrame([dict(bus=0, vm_pu=1.025, in_service=True)]),
        trafo=pd.DataFrame(
            [
                _trafo("T1", 0, 1, 25.0, 12.0, kv=(110.0, 20.0)),
                _trafo("T2", 0, 2, 40.0, 16.0, kv=(110.0, 20.0)),
                _trafo("T3", 4, 6, 0.4, 4.0, kv=(20.0, 0.4)),
            ]
        ),
        trafo3w=pd.DataFrame(),
        line=pd.DataFrame(
            [
                _line("L1", 1, 3),
                _line("L2", 3, 4),
                _line("L2 again", 4, 3),
                _line("L3", 2, 5),
                _line("across", 1, 2),  # between joined buses: carries nothing
                _line("tie", 3, 5),  # open
            ]
        ),
        switch=switch,
        load=pd.DataFrame(
            [
                _unit("village", 3, 0.2, "lv_rural1", q_mvar=0.08),
                _unit("works", 4, 0.5, "G0-M", q_mvar=0.1),
                _unit("home", 6, 0.003, "H0-A", q_mvar=0.0),
            ]
        ),
        sgen=pd.DataFrame(
            [
                _unit("village plants", 3, 0.1, "lv_rural1"),
                _unit("wind", 5, 2.0, "WP4"),
                _unit("sun", 5, 1.0, "PV1"),
                _unit("nothing", 4, 0.0, "PV1"),
            ]
        ),
        storage=pd.DataFrame([_unit("store", 3, -0.2, "lv_rural1", **storage)]),
        profiles={
            "load": pd.DataFrame(
                {"time": time}
                | {f"{name}_pload": load for name in ("lv_rural1", "G0-M", "H0-A")}
                | {f"{name}_qload": 0.5 * load for name in ("lv_rural1", "G0-M", "H0-A")}
            ),
            "renewables": pd.DataFrame({"time": time, **plants}),
        },
    )


def fake_simbench(net: Net | None = None) -> ModuleType:
    """A module to put at `sys.modules["simbench"]`."""
    module = ModuleType("simbench")
    module.collect_all_simbench_codes = lambda: list(CODES)
    module.get_simbench_net = lambda code: make_net() if net is None else net
    return module
