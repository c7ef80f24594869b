"""How fast time passes: a day is a day, unless ``SUBSCRIPTION_DAY`` says how many seconds it takes."""

from __future__ import annotations

import calendar
import os
from datetime import datetime, timedelta

VARIABLE = "SUBSCRIPTION_DAY"
_DAY = timedelta(days=1)
DAY = timedelta(seconds=float(os.environ.get(VARIABLE) or _DAY.total_seconds()))


def month_after(moment: datetime) -> datetime:
    """The same day of the next month, or its last day where that is shorter; where days are shorter, 30 of them later."""
    if DAY != _DAY:
        return moment + 30 * DAY
    year, month = divmod(moment.year * 12 + moment.month, 12)
    return moment.replace(year=year, month=month + 1, day=min(moment.day, calendar.monthrange(year, month + 1)[1]))
