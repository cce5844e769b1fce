"""All pictures of a run, written as PNG files into a folder."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from jaxp2p.report import devices, grid, money, vehicles
from jaxp2p.report.canvas import PictureData, save_all

PICTURES: dict[str, Callable[[PictureData], Figure | None]] = {
    "cumulative_cost": money.cumulative_cost,
    "state_of_charge": devices.state_of_charge,
    "local_price": money.local_price,
    "voltages": grid.voltages,
    "loading": grid.loading,
    "feeder": grid.feeder,
    "bills": money.member_bills,
    "household": devices.household,
    "vehicles": vehicles.charging,
    "iterations": devices.iterations,
}


def write_pictures(
    folder: str | Path, data: PictureData, *, done: Callable[[str], None] | None = None
) -> list[Path]:
    """Draw every picture that the run has data for; returns the files. `done` is called with each name."""
    return save_all(folder, PICTURES, data, done=done)
