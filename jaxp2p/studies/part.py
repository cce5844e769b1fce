"""A study on disk as a report shows it."""

from pathlib import PurePath

from jaxp2p.report.html.studies import StudyPart
from jaxp2p.report.study import StudyPictureData
from jaxp2p.studies.errors import StudyError
from jaxp2p.studies.folder import StudyFolder
from jaxp2p.studies.statistics import COST, TOTAL, study_statistics


def study_part(folder: StudyFolder) -> StudyPart:
    """What its finished chunks tell, also while it is still running.

    Raises StudyError where no chunk is finished yet, or a file is damaged.
    """
    figures, settings = folder.figures(), folder.settings
    if not figures:
        raise StudyError(f"the study in {folder.path} has no finished scenarios yet")
    statistics = study_statistics(folder.read_figure, figures)
    traces = folder.read_traces()
    slots = 0 if traces is None else int(traces["slot"].max()) + 1
    done = sum(settings.span(number)[1] for number in folder.done())
    span = "1 day" if settings.days == 1 else f"{settings.days:g} days"
    given = str(settings.source.get("name", "study"))
    case = PurePath(given).name  # a report goes to people whom folders of this machine do not concern
    return StudyPart(
        headline=statistics.headline(),
        data=StudyPictureData(
            summary=statistics.summary,
            savings=statistics.savings,
            convergence=statistics.convergence,
            title=f"{case}, {done:,} scenarios of {span}, {settings.market} market",
            traces=traces,
            slot_hours=24 * settings.days / slots if slots else 0.25,
        ),
        costs=folder.read_figure(TOTAL if TOTAL in figures else COST),
        facts=[
            ("case", case),
            ("scenarios", f"{done:,} of {settings.scenarios:,}, {span} each"),
            ("drawn by", settings.scenario_model),
            ("market", settings.market),
            ("version", f"jaxp2p {settings.version}, {settings.dtype}"),
        ],
        settings=[(name, case if value == given else value) for name, value in settings.in_words()],
    )
