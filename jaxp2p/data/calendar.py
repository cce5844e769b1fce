"""Slots counted within the week."""

import pandas as pd


def slot_of_week(moment: pd.Timestamp, slot: pd.Timedelta) -> int:
    """Number of the slot that begins at `moment`, from midnight of the Monday before."""
    monday = moment.normalize() - pd.Timedelta(days=moment.day_of_week)
    return round((moment - monday) / slot)
