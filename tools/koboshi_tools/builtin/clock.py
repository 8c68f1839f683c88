"""The clock."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated

from pydantic import Field

from ..definition import tool
from ..errors import ToolError

_HOURS = 14


@tool
def clock(utc_offset_hours: Annotated[float, Field(ge=-_HOURS, le=_HOURS)] = 0) -> str:
    """Tell the date, the weekday and the time.

    Args:
        utc_offset_hours: 0 is UTC
    """
    try:
        zone = timezone(timedelta(hours=utc_offset_hours)) if utc_offset_hours else UTC
    except ValueError as error:
        raise ToolError(str(error)) from error
    now = datetime.now(zone)
    # The names of days are written out here: the process's language must not change an answer.
    days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    return f"{days[now.weekday()]} {now.isoformat(timespec='seconds', sep=' ')}"
