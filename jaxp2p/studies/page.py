"""Folders of runs and studies, and runs in memory, as one HTML file."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from jaxp2p.report.files import whole_file
from jaxp2p.report.folders import SUMMARY_FILE
from jaxp2p.report.html import LIMIT_MB
from jaxp2p.report.html.page import Part, html_page
from jaxp2p.report.html.studies import StudyPart
from jaxp2p.report.results import Results, load_results
from jaxp2p.studies.folder import STUDY_FILE, read_study
from jaxp2p.studies.part import study_part

Source = Results | str | os.PathLike[str]


def write_page(
    file: str | os.PathLike[str], sources: Sequence[Source], *, limit_mb: float = LIMIT_MB
) -> Path:
    """Write the file, as a whole, and give back its path; see `jaxp2p.html_report`.

    One source is called by its case, days and market, several by their folders. Raises FileNotFoundError and
    ValueError for a folder that holds neither a run nor a study, StudyError for a study without finished
    scenarios.
    """
    contents = [source if isinstance(source, Results) else _read(Path(source)) for source in sources]
    names = [
        title(made)
        if len(sources) == 1 or isinstance(source, Results)
        else Path(os.path.abspath(source)).name
        for source, made in zip(sources, contents, strict=True)
    ]
    twice, seen, parts = Counter(names), Counter[str](), []
    for name, content in zip(names, contents, strict=True):
        seen[name] += 1
        parts.append(Part(name=name if twice[name] == 1 else f"{name} ({seen[name]})", content=content))
    page = html_page(parts, limit_mb=limit_mb)
    with whole_file(file) as opened:
        opened.write(page)
    return Path(file)


def title(content: Results | StudyPart) -> str:
    """Case, days and market."""
    if isinstance(content, StudyPart):
        return content.data.title
    summary = content.summary
    days = summary["slots"] * summary["slot_minutes"] / 1440
    span = "1 day" if days == 1 else f"{days:g} days"
    day = f"{pd.Timestamp(summary['start']):%Y-%m-%d}"
    return f"{summary['case']}, {span} from {day}, {summary['market']} market"


def _read(folder: Path) -> Results | StudyPart:
    if (folder / STUDY_FILE).is_file():
        return study_part(read_study(folder))
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not (folder / SUMMARY_FILE).is_file():
        raise FileNotFoundError(
            f"{folder} holds neither a run nor a study: there is no {SUMMARY_FILE} and no {STUDY_FILE}"
        )
    return load_results(folder)
