"""Golden cases: slots and weeks as plain data in `tests/reference`, with answers that do not come from us.

    for record in slots():                      a dictionary as in the file
        problem = problem_of(record, "float64") the `SlotProblem` of it, numpy leaves
        best = optimum_of(record)               what the independent solver found

`tests/reference/make.py` makes them anew, and says how. Nothing here needs the generator or a solver: a file
holds the inputs by field name, in the units of `SlotProblem`. Beside numbers, null stands for "no limit",
and in place of a whole field for "the problem has no such part".
"""

import json
import math
from functools import lru_cache
from pathlib import Path

import jax
import numpy as np
from slot_judge import Optimum

from jaxp2p.model.markets import KINDS
from jaxp2p.model.network import Feeder, NoRows
from jaxp2p.slot.problem import Coupling, SlotProblem

FOLDER = Path(__file__).parent / "reference"
LOWER = ("row_lower",)  # here no limit is minus infinity
STATIC = ("kind", "limited")
INTEGER = ("partner", "reverse", "group", "voltage_bus", "flow_branch")


@lru_cache
def slots() -> tuple[dict, ...]:
    """All golden slots, by name."""
    return tuple(json.loads(path.read_text()) for path in sorted((FOLDER / "slots").glob("*.json")))


def week(name: str) -> dict:
    """One golden window of an embedded case."""
    return json.loads((FOLDER / "weeks" / f"{name}.json").read_text())


def weeks() -> list[str]:
    """Names of all golden windows."""
    return sorted(path.stem for path in (FOLDER / "weeks").glob("*.json"))


def optimum_of(record: dict) -> Optimum:
    """The independent answer."""
    return Optimum(**record["answer"])


def problem_of(record: dict, dtype: str) -> SlotProblem:
    """The slot as the solvers take it."""
    fields = dict(record["problem"])
    market, feeder, homes = dict(fields.pop("market")), fields.pop("feeder"), len(fields["load"])
    kind = market.pop("kind")
    return SlotProblem(
        **_arrays(fields, dtype),
        coupling=Coupling(
            market=KINDS[kind](**{name: _per_trade(x, homes) for name, x in _arrays(market, dtype).items()}),
            feeder=NoRows() if feeder is None else Feeder(**_arrays(feeder, dtype)),
        ),
    )


def stacked(records: list[dict], dtype: str) -> SlotProblem:
    """Slots of one layout on a leading axis."""
    return jax.tree.map(lambda *x: np.stack(x), *(problem_of(record, dtype) for record in records))


def plain(problem: SlotProblem) -> dict:
    """The inverse of `problem_of`: six digits, so that the file can be read."""
    fields = dict(problem.__dict__)
    coupling = fields.pop("coupling")
    market, feeder = coupling.market, coupling.feeder
    fields["market"] = {name: _plain(x) for name, x in market.__dict__.items()} | {"kind": market.kind}
    fields["feeder"] = {name: _plain(x) for name, x in feeder.__dict__.items()} or None
    return {name: x if isinstance(x, dict) else _plain(x) for name, x in fields.items()}


def _per_trade(values, homes):
    """(K, N): a list of no rows has forgotten its N."""
    return values.reshape(0, homes) if isinstance(values, np.ndarray) and values.size == 0 else values


def _arrays(fields: dict, dtype: str) -> dict:
    return {name: _array(name, x, dtype) for name, x in fields.items()}


def _array(name, value, dtype):
    if value is None or name in STATIC:
        return value
    if name in INTEGER:
        return np.asarray(value, np.int32)
    return np.asarray(_filled(value, -math.inf if name in LOWER else math.inf), dtype)


def _filled(value, absent):
    if isinstance(value, list):
        return [_filled(x, absent) for x in value]
    return absent if value is None else value


def _plain(value):
    if value is None or isinstance(value, str | bool):
        return value
    value = np.asarray(value)
    if value.ndim:
        return [_plain(x) for x in value]
    if value.dtype.kind in "iub":
        return int(value)
    return float(f"{float(value):.6g}") if np.isfinite(value) else None
