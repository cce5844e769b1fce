"""A span of days, given by any two of its start, its length and its end."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

UNITS = {"w": 7 * 1440, "d": 1440, "h": 60, "min": 1}  # minutes
LENGTH = ("days", "until", "duration")  # settings of which one will do
SLACK = timedelta(seconds=1)  # lengths may be rounded quotients of a day

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(weeks?|w|days?|d|hours?|h|minutes?|min)\b\s*")
_SHORT = {"w": "w", "d": "d", "h": "h", "m": "min"}


def days_of(duration: str) -> float:
    """Days in a duration such as 36h, 2d, 1d 12h or 90 min.

    Raises ValueError.
    """
    text, minutes, end = duration.strip().lower(), 0.0, 0
    while part := _PART.match(text, end):
        minutes += float(part[1]) * UNITS[_SHORT[part[2][0]]]
        end = part.end()
    if not text or end < len(text) or minutes <= 0:
        raise ValueError(f"{duration!r} is not a duration such as 36h, 2d, 1d 12h or 90 min")
    return minutes / 1440


def lasting(days: float | None, duration: str | None) -> float | None:
    """Days of a span by its number of days or its duration; None by neither.

    Raises ValueError where they contradict each other.
    """
    if duration is None:
        return days
    found = days_of(duration)
    if days is not None and abs(timedelta(days=days - found)) > SLACK:
        raise ValueError(
            f"days = {days:g} and duration = {duration!r} ({found:g} days) contradict each other"
        )
    return found


def between(start: datetime, until: datetime, days: float | None) -> float:
    """Days from start to until; raises ValueError where they are none, or not as many as days says."""
    length = until - start
    if length <= timedelta(0):
        raise ValueError(f"the end, {until}, is not after the start, {start}")
    if days is not None and abs(length - timedelta(days=days)) > SLACK:
        raise ValueError(
            f"from {start} to {until} there are {length / timedelta(days=1):g} days, not {days:g}"
        )
    return length / timedelta(days=1)


def merged(defaults: Mapping[str, Any], *given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by what was given, the later over the earlier.

    Of the ways to give a length those of one place take the place of those of an earlier one, and with
    another of them there is no default number of days.
    """
    found: dict[str, Any] = {}
    for values in given:
        if not set(LENGTH).isdisjoint(values):
            found = {name: value for name, value in found.items() if name not in LENGTH}
        found |= values
    other = "until" in found or "duration" in found
    return {**defaults, **({"days": None} if other else {}), **found}
