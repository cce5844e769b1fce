"""One HTML file of runs and studies that needs nothing else: no network, no server.

Tables and texts are in it as they are read, filled in by Jinja; series are blocks (`packing`) that the
scripts of `assets` unpack and draw with uPlot (`vendored`). Those of members, buses and branches are by far
the most: they are merged over so many slots that the file stays below its limit, and left out where even that
does not do.
"""

import json
import re
from collections.abc import Callable, Sequence
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
COMMUNITY_SHARE = 0.6  # of the limit that all but the series of members, buses and branches may take
BLOCK = re.compile(rb'<script type="text/plain" id="block-\d+">[^<]*')


@dataclass(frozen=True, kw_only=True)
class Part:
    """A run or a study, and what it is called in the page."""

    name: str
    content: Results | StudyPart


def html_page(parts: Sequence[Part], *, limit_mb: float = LIMIT_MB) -> bytes:
    """The file in UTF-8, below `limit_mb` (10^6 bytes) where merging over slots can do it."""
    if not parts:
        raise ValueError("a report is of at least one run or study")
    views = [_view(part) for part in parts]
    limit = limit_mb * MEGABYTE
    share = COMMUNITY_SHARE if any(view.get("per_home") for view in views) else 1.0
    community = lambda count: _filled(parts, views, Detail(slots=count, parts=None))
    slots, page = _first_below(community, share * limit, MERGED)
    if share == 1:
        return page
    whole = lambda count: _filled(parts, views, Detail(slots=slots, parts=count))
    _, detailed = _first_below(whole, limit, [count for count in MERGED if count >= slots])
    return page if len(detailed) > limit else detailed


def _first_below(fill: Callable[[int], bytes], limit: float, counts: Sequence[int]) -> tuple[int, bytes]:
    """The first of these numbers of slots, merged over which the page is below its limit; else the last one.

    Blocks shrink a little less than in proportion, so what would be far too large is not tried.
    """
    promising = 0.0
    for count in counts:
        if count < promising and count != counts[-1]:
            continue
        text = fill(count)
        if len(text) <= limit:
            break
        blocks = sum(map(len, BLOCK.findall(text)))
        room = limit - (len(text) - blocks)
        promising = 0.7 * count * blocks / room if room > 0 else float("inf")
    return count, text


def _view(part: Part) -> dict[str, Any]:
    if isinstance(part.content, Results):
        return run_view(part.name, part.content)
    return study_view(part.name, part.content)


def _filled(parts: Sequence[Part], views: Sequence[dict[str, Any]], detail: Detail) -> bytes:
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
    template = _environment().get_template("page.html.j2")
    text = template.render(
        title=views[0]["name"] if len(views) == 1 else f"{len(views)} results",
        version=__version__,
        views=views,
        detailed=detail.parts is not None,
        looks=page["policies"],
        comparison=comparison([(part.name, part.content) for part in parts]),
        data=script_json(page),
        blocks=store.texts(),
        styles=[_text("vendored/uplot/uPlot.min.css"), _text("assets/report.css")],
        scripts=[_text("vendored/uplot/uPlot.iife.min.js"), *(_text(f"assets/{x}.js") for x in SCRIPTS)],
    )
    return text.encode("utf-8", "backslashreplace")  # bytes of a file name that are no text are spelt out


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
