"""Input of the library: tables with checked columns, embedded cases, tariffs, importers."""

from jaxp2p.data.cases import CASES, days_before, load_case, window
from jaxp2p.data.faults import Fault, InputError
from jaxp2p.data.plausibility import JUDGEMENTS
from jaxp2p.data.populate import densify
from jaxp2p.data.prices import PRICES, make_prices
from jaxp2p.data.series import Series, absolute_series
from jaxp2p.data.tables import Tables, complete, describe_columns, read_tables, write_tables
from jaxp2p.data.times import local_time
from jaxp2p.data.validation import check, validate

__all__ = [
    "CASES",
    "JUDGEMENTS",
    "PRICES",
    "Fault",
    "InputError",
    "Series",
    "Tables",
    "absolute_series",
    "check",
    "complete",
    "days_before",
    "densify",
    "describe_columns",
    "load_case",
    "local_time",
    "make_prices",
    "read_tables",
    "validate",
    "window",
    "write_tables",
]
