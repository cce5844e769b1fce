"""Runs and studies as one HTML file: `html_report`."""

import os
from pathlib import Path

from jaxp2p.library.run import Result
from jaxp2p.report.html import LIMIT_MB
from jaxp2p.report.results import Results
from jaxp2p.studies.page import write_page

Source = Result | Results | str | os.PathLike[str]


def html_report(file: str | os.PathLike[str], *sources: Source, limit_mb: float = LIMIT_MB) -> Path:
    """Write runs and studies into one HTML file that opens without a network; gives back its path.

    sources: folders of `jaxp2p run` and `jaxp2p study`, or runs in memory. limit_mb in 10^6 bytes: series of
    members, buses and branches are means (voltages and loadings: those nearest to a limit) of as many slots
    as it takes to stay below, and left out where that does not do; the page says so. Raises
    FileNotFoundError and ValueError for a folder that holds neither a run nor a study, StudyError for a study
    without finished scenarios.
    """
    found = [source.results() if isinstance(source, Result) else source for source in sources]
    return write_page(file, found, limit_mb=limit_mb)
