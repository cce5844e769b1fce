"""What all pictures share: the data they show, colours, axes and saving.

Matplotlib is used through its object-oriented interface only (no pyplot, no global state), so pictures can
be made in any thread and beside a notebook.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import FixedFormatter, FixedLocator

from jaxp2p.control.catalogue import COLOURS, ENTRIES, OPTIMUM
from jaxp2p.control.catalogue import favourite as favourite
from jaxp2p.control.catalogue import label as label
from jaxp2p.data.tables import Tables
from jaxp2p.model.trajectory import Trajectory
from jaxp2p.model.types import Community, Horizon
from jaxp2p.report.kpis import Evaluation
from jaxp2p.report.layout import bus_coordinates

DPI = 120
LIMIT = "#C0392B"  # limits and tariffs that must not be passed
SOFT = "#4C72B0"

Data = TypeVar("Data")


@dataclass(frozen=True, kw_only=True)
class PictureData:
    """A finished run as the pictures need it."""

    community: Community
    horizon: Horizon
    trajectories: Mapping[str, Trajectory]
    evaluations: Mapping[str, Evaluation]
    time: pd.Series  # (T,) start of every slot
    terminal_price: float  # EUR/kWh
    title: str  # case and days, for the head of every picture
    coordinates: np.ndarray | None = None  # (B, 2), None or NaN: a tree is drawn instead

    @property
    def hours(self) -> float:
        """Length of a slot."""
        return float(self.horizon.slot_hours)

    @property
    def ends(self) -> np.ndarray:
        """(T,) datetime64, end of every slot."""
        return self.time.to_numpy() + np.timedelta64(round(3600 * self.hours), "s")

    def favourite(self) -> str:
        """The policy that pictures of a single policy show."""
        return favourite(self.trajectories)

    def unlimited(self) -> str | None:
        """A policy to set beside the favourite: the community with neither storage nor trade."""
        other = [name for name in ("no_storage_no_trade", "no_storage") if name in self.trajectories]
        return next((name for name in other if name != self.favourite()), None)


def picture_data(
    tables: Tables, community: Community, horizon: Horizon, result: Any, evaluations: Any, case: str
) -> PictureData:
    """What the pictures need, with the coordinates of the buses in the order of the network."""
    time = tables.profiles["time"]
    days = len(time) * float(horizon.slot_hours) / 24
    span = "1 day" if days == 1 else f"{days:g} days"
    return PictureData(
        community=community,
        horizon=horizon,
        trajectories=result.trajectories,
        evaluations=evaluations,
        time=time,
        terminal_price=result.terminal_price,
        title=f"{plain(case)}, {span} from {time.iloc[0]:%Y-%m-%d}, {community.market.kind} market",
        coordinates=bus_coordinates(tables, community),
    )


def line_style(policy: str) -> dict[str, Any]:
    """Colour, dashes and weight of a policy, the same in every picture."""
    return {
        "color": COLOURS.get(policy, SOFT),
        "linestyle": ENTRIES[policy].dashes if policy in ENTRIES else "-",
        "linewidth": 2.2 if policy in ("lyapunov", "tuned", OPTIMUM) else 1.5,
        "zorder": 4 if policy in ("lyapunov", OPTIMUM) else 3,
    }


def canvas(
    rows: int = 1,
    columns: int = 1,
    *,
    size: tuple[float, float] = (10, 5),
    share_x: bool = False,
    **options: Any,
) -> tuple[Figure, np.ndarray]:
    """A figure with its own Agg canvas, and its axes (rows, columns)."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=share_x, **options)
    for axis in axes.flat:
        styled(axis)
    return figure, axes


def styled(axis: Axes) -> None:
    """No frame on two sides, and a pale grid below what is drawn."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(True, color="#DDDDDD", linewidth=0.6)
    axis.set_axisbelow(True)


def plain(name: str) -> str:
    """A name as it is: a $ in it begins no formula."""
    return name.replace("$", r"\$")


def time_axis(axis: Axes, time: np.ndarray) -> None:
    """Few, short, readable dates, exactly from the first to the last; call it when no limit will change."""
    axis.set_xlim(time[0], time[-1])
    locator = AutoDateLocator(minticks=4, maxticks=9)
    dates = ConciseDateFormatter(locator)
    for part in (locator, dates):
        part.set_axis(axis.xaxis)
    ticks = locator()
    labels = dates.format_ticks(ticks)
    # said once: a layout asks for them a dozen times, and each time they would be worked out anew
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_major_formatter(said := FixedFormatter(labels))
    said.set_offset_string(dates.get_offset())


def outside_legend(axis: Axes, **options: Any) -> None:
    """A legend to the right of the axes, where it hides nothing."""
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, **options)


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Write `name`.png into the folder."""
    return _write(_drawn(figure), folder / f"{name}.png")


def _drawn(figure: Figure) -> memoryview:
    """What is seen, a byte per pixel and colour."""
    sheet = FigureCanvasAgg(figure)
    figure.set_dpi(DPI)
    # laid out here: savefig would draw everything once more to do so
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine(None)
    sheet.draw()
    return sheet.buffer_rgba()


def _write(pixels: memoryview, file: Path) -> Path:
    imsave(file, pixels, format="png", origin="upper", dpi=DPI)
    return file


def save_all(
    folder: str | Path,
    pictures: Mapping[str, Callable[[Data], Figure | None]],
    data: Data,
    *,
    done: Callable[[str], None] | None = None,
) -> list[Path]:
    """Draw every picture that there is data for; returns the files. `done` is called with each name."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # a file is packed outside of Python's lock, while the next picture is drawn
    with ThreadPoolExecutor(1, thread_name_prefix="pictures") as beside:
        files = []
        for name, draw in pictures.items():
            figure = draw(data)
            if figure is not None:
                files.append(beside.submit(_write, _drawn(figure), folder / f"{name}.png"))
            if done is not None:
                done(name)
        return [file.result() for file in files]
