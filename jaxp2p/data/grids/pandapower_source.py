"""Where pandapower nets come from: a file, a net that pandapower ships, or an object."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from jaxp2p.data.grids.community import Wishes, community
from jaxp2p.data.grids.pandapower_net import read_net
from jaxp2p.data.populate import densify
from jaxp2p.data.simbench import has_profiles, tables_from_net
from jaxp2p.data.tables import Tables

LOADERS = {".json": "from_json", ".xlsx": "from_excel", ".p": "from_pickle", ".pkl": "from_pickle"}

NETS = (
    "case33bw",
    "create_cigre_network_lv",
    "create_cigre_network_mv",
    "create_dickert_lv_network",
    "create_kerber_dorfnetz",
    "create_kerber_landnetz_freileitung_1",
    "create_kerber_landnetz_freileitung_2",
    "create_kerber_landnetz_kabel_1",
    "create_kerber_landnetz_kabel_2",
    "create_kerber_vorstadtnetz_kabel_1",
    "create_kerber_vorstadtnetz_kabel_2",
    "create_synthetic_voltage_control_lv_network",
    "example_simple",
    "four_loads_with_branches_out",
    "ieee_european_lv_asymmetric",
    "kb_extrem_dorfnetz",
    "kb_extrem_dorfnetz_trafo",
    "kb_extrem_landnetz_freileitung",
    "kb_extrem_landnetz_freileitung_trafo",
    "kb_extrem_landnetz_kabel",
    "kb_extrem_landnetz_kabel_trafo",
    "kb_extrem_vorstadtnetz_1",
    "kb_extrem_vorstadtnetz_2",
    "kb_extrem_vorstadtnetz_trafo_1",
    "kb_extrem_vorstadtnetz_trafo_2",
    "mv_oberrhein",
    "panda_four_load_branch",
    "simple_four_bus_system",
    "simple_mv_open_ring_net",
)
"""The radial nets that pandapower ships; `benchmarks/bench_import.py` tries all there are."""


def pandapower_nets() -> list[str]:
    """The sources that need no file."""
    return [f"pandapower:networks.{name}" for name in NETS]


def import_pandapower(what: str, wishes: Wishes) -> Tables:
    """The community on a net: a file, or `networks.NAME` for one that pandapower ships.

    Raises:
        ImportError: pandapower is not installed.
        ValueError: there is no such net, or it has no place in tables; InputError: all that is wrong with it.
    """
    name = what.removeprefix("networks.")
    if Path(what).suffix.lower() in LOADERS:
        return import_net(_from_file(Path(what)), Path(what).stem, wishes)
    return import_net(shipped_net(name), name, wishes)


def import_net(net: Any, name: str, wishes: Wishes) -> Tables:
    """The community on a pandapower net that is at hand; raises as `import_pandapower` does.

    With profiles as SimBench nets have them (`net.profiles`, a column `profile` of the loads) the members are
    its loads, otherwise homes that are made.
    """
    about = {"description": f"pandapower net {name}"}
    if has_profiles(net):
        if wishes.members is not None or wishes.head is not None:
            raise ValueError(
                f"{name} has profiles, so its loads are the members; --members and --head do not go"
            )
        tables = tables_from_net(net, name, price=wishes.price, seed=wishes.seed, meta=about)
        return densify(tables, pv_share=wishes.pv_share, battery_share=wishes.battery_share, seed=wishes.seed)
    return community(read_net(net, name), wishes, about)


def _package() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pandapower
            import pandapower.networks
    except ImportError as error:
        raise ImportError(
            f'pandapower nets need the extra "grid": pip install ".[grid]" ({error})'
        ) from error
    return pandapower


def shipped_net(name: str) -> Any:
    """A net of `pandapower.networks`, with its default arguments; raises ValueError and ImportError."""
    networks = _package().networks
    make = getattr(networks, name, None)
    if not callable(make) or not str(getattr(make, "__module__", "")).startswith("pandapower.networks"):
        raise ValueError(f"pandapower ships no net {name!r}; `jaxp2p import --list` names the radial ones")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = make()
    except TypeError as error:
        raise ValueError(
            f"pandapower's {name} needs arguments; save the net as a file instead ({error})"
        ) from error
    if "bus" not in net:
        raise ValueError(f"pandapower's {name} is no net")
    return net


def _from_file(path: Path) -> Any:
    if not path.exists():
        raise ValueError(f"the file {path} does not exist")
    package = _package()
    load = getattr(package, LOADERS[path.suffix.lower()])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = load(str(path))
    except Exception as error:  # whatever a damaged file makes of pandapower
        raise ValueError(f"pandapower cannot read {path}: {type(error).__name__}: {error}") from error
    if not hasattr(net, "keys") or "bus" not in net:
        raise ValueError(f"{path} holds no pandapower net")
    return net
