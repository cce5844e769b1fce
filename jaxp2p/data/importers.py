"""Where communities come from besides tables: one importer per kind of source, found by name.

A new kind is one more entry in `IMPORTERS`: what it is called, what it can read, and how it becomes `Tables`.
A source is named `KIND:WHAT`; a file alone is recognised by what it holds, and anything else is of the first
kind. What an importer leaves out or changes stands in `meta["changes"]`, a sentence for each kind of thing
and reason.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jaxp2p.data.grids.community import Wishes, community
from jaxp2p.data.grids.matpower import read_matpower
from jaxp2p.data.grids.pandapower_source import LOADERS, import_pandapower, pandapower_nets
from jaxp2p.data.grids.pandapower_source import import_net as _import_net
from jaxp2p.data.grids.power_grid_model import read_power_grid_model
from jaxp2p.data.populate import densify
from jaxp2p.data.simbench import import_simbench, simbench_codes
from jaxp2p.data.tables import Tables


class Importer(NamedTuple):
    """One kind of source."""

    description: str
    known: Callable[[], list[str]]  # the sources that there are; may raise ImportError
    read: Callable[[str, Wishes], Tables]  # checked tables with a synthetic tariff


def _simbench(code: str, wishes: Wishes) -> Tables:
    if wishes.members is not None or wishes.head is not None:
        raise ValueError(
            "the loads of a SimBench grid are its members; --members and --head do not go with it"
        )
    tables = import_simbench(code, price=wishes.price, seed=wishes.seed)
    return densify(tables, pv_share=wishes.pv_share, battery_share=wishes.battery_share, seed=wishes.seed)


def _matpower(file: str, wishes: Wishes) -> Tables:
    return community(read_matpower(_there(file)), wishes, {"description": f"MATPOWER case {Path(file).name}"})


def _power_grid_model(file: str, wishes: Wishes) -> Tables:
    grid = read_power_grid_model(_there(file))
    return community(grid, wishes, {"description": f"power-grid-model data {Path(file).name}"})


def _there(file: str) -> Path:
    if not Path(file).is_file():
        raise ValueError(f"the file {file} does not exist")
    return Path(file)


IMPORTERS: dict[str, Importer] = {
    "simbench": Importer("SimBench grids of low and medium voltage", simbench_codes, _simbench),
    "pandapower": Importer(
        "radial pandapower nets: pandapower:FILE (.json, .xlsx, .p), or one that pandapower ships",
        pandapower_nets,
        import_pandapower,
    ),
    "matpower": Importer("MATPOWER cases: matpower:FILE (.m, .mat)", list, _matpower),
    "power-grid-model": Importer(
        "power-grid-model input: power-grid-model:FILE (.json)", list, _power_grid_model
    ),
}


def import_source(
    source: str,
    *,
    price: str = "tou",
    seed: int = 0,
    members: float | None = None,
    head: str | None = None,
    pv_share: float | None = None,
    battery_share: float | None = None,
) -> Tables:
    """The checked tables of a source such as `1-LV-rural1--0-sw`, `pandapower:networks.case33bw` or
    `case69.m`.

    The arguments are those of `jaxp2p import`, see `Wishes`.

    Raises:
        ImportError: a package is missing; the text says how to install it.
        ValueError: unknown kind, source or price, or a source that cannot be told in tables.
        InputError: the source or the tables have faults, all of which are listed.
    """
    wishes = Wishes(price, seed, members, head, pv_share, battery_share)
    kind, what = _kind_of(source)
    if kind not in IMPORTERS:
        near = difflib.get_close_matches(kind, IMPORTERS, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        raise ValueError(f"unknown kind of source {kind!r}; there are {', '.join(IMPORTERS)}{hint}")
    return IMPORTERS[kind].read(what, wishes)


def import_net(net: Any, *, name: str = "net", **wishes: Any) -> Tables:
    """The checked tables of a pandapower net that is at hand; arguments and errors as of `import_source`."""
    return _import_net(net, name, Wishes(**wishes))


def _kind_of(source: str) -> tuple[str, str]:
    """The kind, and what is left of the name."""
    kind, found, what = source.partition(":")
    suffix = Path(source).suffix.lower()
    if found and not Path(source).exists():
        return kind, what
    if suffix in (".m", ".mat"):
        return "matpower", source
    if suffix == ".json" and _is_power_grid_model(Path(source)):
        return "power-grid-model", source
    if suffix in LOADERS:
        return "pandapower", source
    return next(iter(IMPORTERS)), source


def _is_power_grid_model(file: Path) -> bool:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and {"attributes", "data", "type"} <= set(data)
