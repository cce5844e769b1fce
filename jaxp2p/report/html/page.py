"""One HTML file of runs and studies that needs nothing else: no network, no server.

Tables and texts are in it as they are read, filled in by Jinja; series are blocks (`packing`) that the
scripts of `assets` unpack and draw with uPlot (`vendored`). Those of members, buses and branches are by far
the most: they are merged over so many slots that the file stays below its limit, and left out where even that
does not do.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jaxp2p import __version__
from jaxp2p.control.catalogue import COLOURS, ENTRIES, label
from jaxp2p.report.html import LIMIT_MB
from jaxp2p.report.html.comparison import comparison
from jaxp2p.report.html.packing import Store
from jaxp2p.report.html.quantities import COMMUNITY, LOADING, MEMBER, VOLTAGE
from jaxp2p.report.html.runs import Detail, run_data
from jaxp2p.report.html.studies import StudyPart, study_data, study_view
from jaxp2p.report.html.views import run_view
from jaxp2p.report.results import Results

if TYPE_CHECKING:
    import jinja2

MEGABYTE = 10**6
SCRIPTS = ("store", "theme", "charts", "map", "members", "run", "study", "main")
OTHER = ("#4C72B0", "#8C564B", "#17BECF", "#E377C2")  # of anybody's own policies, in turn
MERGED = (1, 2, 4, 8, 12, 24, 48, 96)  # slots


@dataclass(frozen=True, kw_only=True)
class Part:
    """A run or a study, and what it is called in the page."""

    name: str
    content: Results | StudyPart


def html_page(parts: Sequence[Part], *, limit_mb: float = LIMIT_MB) -> str:
    """The file as text, below `limit_mb` (10^6 bytes) where merging over slots can do it."""
    if not parts:
        raise ValueError("a report is of at least one run or study")
    views = [_view(part) for part in parts]
    text = ""
    for detail in _details():
        text = _filled(parts, views, detail)
        if len(text.encode()) <= limit_mb * MEGABYTE:
            break
    return text


def _details() -> Iterator[Detail]:
    """From everything to ever less."""
    yield from (Detail(parts=count) for count in MERGED)
    yield from (Detail(slots=count, parts=None) for count in MERGED)


def _view(part: Part) -> dict[str, Any]:
    if isinstance(part.content, Results):
        return run_view(part.name, part.content)
    return study_view(part.name, part.content)


def _filled(parts: Sequence[Part], views: Sequence[dict[str, Any]], detail: Detail) -> str:
    store = Store()
    data = [
        run_data(part.content, store, detail)
        if isinstance(part.content, Results)
        else study_data(part.content)
        for part in parts
    ]
    policies = list(dict.fromkeys(policy for content in data for policy in content["policies"]))
    page = {
        "parts": [{"name": part.name} | content for part, content in zip(parts, data, strict=True)],
        "policies": {policy: _look(policy, number) for number, policy in enumerate(policies)},
        "quantities": {
            room: {quantity.name: [quantity.words, quantity.unit] for quantity in rooms}
            for room, rooms in (("run", COMMUNITY), ("member", MEMBER), ("feeder", (VOLTAGE, LOADING)))
        },
    }
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=views[0]["name"] if len(views) == 1 else f"{len(views)} results",
            version=__version__,
            views=views,
            detailed=detail.parts is not None,
            looks=page["policies"],
            comparison=comparison([(part.name, part.content) for part in parts]),
            data=script_json(page),
            blocks=store.texts(),
            styles=[_text("vendored/uplot/uPlot.min.css"), _text("assets/report.css")],
            scripts=[
                _text("vendored/uplot/uPlot.iife.min.js"),
                *(_text(f"assets/{name}.js") for name in SCRIPTS),
            ],
        )
    )


def script_json(content: Any) -> str:
    """JSON that may stand in a script element: no name in it can end the element or begin a comment."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _look(policy: str, number: int) -> dict[str, Any]:
    """Name, colour and dashes of a policy, those of all other pictures."""
    dashes = {"-": [], "--": [6, 3], ":": [2, 3]}
    return {
        "label": label(policy),
        "colour": COLOURS.get(policy, OTHER[number % len(OTHER)]),
        "dashes": dashes.get(ENTRIES[policy].dashes, []) if policy in ENTRIES else [],
    }


@cache
def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> "jinja2.Environment":
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _text(f"templates/{name}")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
