"""Days, months and hours in a time zone, and the moments that people write.

Pure: the zone database is the only thing read, `now` is given. Moments are integer nanoseconds since the epoch, UTC; an
interval includes its start and excludes its end. A day begins when its date first appears on the zone's clocks, so a
day may last 23 or 25 hours (Lord Howe: 23 1/2 or 24 1/2) and still meets its neighbours without gap or overlap.
"""

import re
import struct
from datetime import UTC, date, datetime, time, timedelta
from io import BytesIO
from typing import Final, Literal
from zoneinfo import ZoneInfo

from penstock.errors import InvalidRequest

Window = Literal["day", "month"]

NS_PER_S = 1_000_000_000
MAX_NS = (1 << 63) - 1
QUARTER_NS = 900 * NS_PER_S
"""Every zone's offset is a multiple of a quarter of an hour (IANA tz, all zones since 1972): sums per quarter of an
hour can therefore be put together to the days and hours of any zone."""

_UTC = b"TZif" + bytes(16) + struct.pack(">6L", 0, 0, 0, 0, 1, 4) + bytes(6) + b"UTC\0"
"""A zone file (RFC 9636, version 1) without a transition."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_AGO = re.compile(r"(\d{1,7})([smhdw])", re.ASCII)
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_FORMS = "Use today, yesterday, now, 30m, 24h, 7d, 2w, 2026-01-31 or 2026-01-31T09:00."


def zone_of(name: str) -> ZoneInfo:
    """Find a zone by its IANA name, or raise `InvalidRequest`."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; malformed, such as "../x"; a folder of zones, such as "Europe"
        if name == "UTC":  # it needs no zone database, which a small container may lack
            return ZoneInfo.from_file(BytesIO(_UTC), name)
        raise InvalidRequest(
            f"there is no time zone {name[:64]!r}.", hint="Use an IANA name such as Europe/Berlin or UTC.", param="zone"
        ) from None


def to_ns(moment: datetime) -> int:
    """Turn an aware datetime into nanoseconds since the epoch."""
    return (moment - _EPOCH) // _MICROSECOND * 1000


def from_ns(ns: int, zone: ZoneInfo) -> datetime:
    """Turn nanoseconds since the epoch into the zone's wall clock."""
    return (_EPOCH + timedelta(microseconds=ns // 1000)).astimezone(zone)


def iso(ns: int, zone: ZoneInfo | None = None) -> str:
    """Write a moment as ISO 8601 with milliseconds: in UTC with a Z, or with the zone's offset."""
    if zone is None:
        moment = _EPOCH + timedelta(microseconds=ns // 1000)
        return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
    return from_ns(ns, zone).isoformat(timespec="milliseconds" if ns % NS_PER_S else "seconds")


def _midnight(day: date, zone: ZoneInfo) -> int:
    """When the date first appears: of two midnights the first; where midnight is skipped, the moment of the jump."""
    return to_ns(datetime.combine(day, time(), zone))


def bounds(window: Window, now_ns: int, zone: ZoneInfo) -> tuple[int, int]:
    """Give the first moment of the day or month that holds `now_ns`, and of the one after it."""
    day = from_ns(now_ns, zone).date()
    start, end = _bounds(window, day, zone)
    if now_ns >= end:  # clocks that fell back over midnight show the old date again: the new day has begun already
        start, end = _bounds(window, day + timedelta(days=1), zone)
    return start, end


def _bounds(window: Window, day: date, zone: ZoneInfo) -> tuple[int, int]:
    if window == "day":
        return _midnight(day, zone), _midnight(day + timedelta(days=1), zone)
    first = day.replace(day=1)
    return _midnight(first, zone), _midnight((first + timedelta(days=31)).replace(day=1), zone)


def day_of(quarter: int, zone: ZoneInfo) -> str:
    """Name the zone's day of a quarter of an hour since the epoch: `2026-10-25`."""
    return from_ns(quarter * QUARTER_NS, zone).date().isoformat()


def hour_of(quarter: int, zone: ZoneInfo) -> str:
    """Name the zone's hour of a quarter since the epoch: `2026-10-25T02:00+01:00`, so the repeated hour differs."""
    return from_ns(quarter * QUARTER_NS, zone).replace(minute=0).isoformat(timespec="minutes")


def read_moment(text: str, now_ns: int, zone: ZoneInfo, param: str = "since") -> int:
    """Read a moment as people write it, or raise `InvalidRequest`.

    `now`; `today`, `yesterday` and ISO dates are the start of that day in the zone; `30m`, `24h`, `7d`, `2w` are that
    long before now; an ISO time without an offset is the zone's wall clock (of two such times the first).
    """
    word = text.strip()
    try:
        return _read(word, now_ns, zone)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{param} {word[:64]!r} is not a moment.", hint=_FORMS, param=param) from None


def read_expiry(text: str, now_ns: int, zone: ZoneInfo) -> int:
    """Read when something ends, or raise `InvalidRequest`: `30d` from now on, or a moment to come as `read_moment`."""
    ahead = _AGO.fullmatch(text.strip())
    until = (
        now_ns + int(ahead[1]) * _UNIT_S[ahead[2]] * NS_PER_S if ahead else read_moment(text, now_ns, zone, "expires")
    )
    if not now_ns < until <= MAX_NS:
        raise InvalidRequest(
            f"expires {text[:64]!r} is not in the future.", hint="Use 30d or 2031-01-31.", param="expires"
        )
    return until


def _read(word: str, now_ns: int, zone: ZoneInfo) -> int:
    today = from_ns(now_ns, zone).date()
    match word.lower():
        case "now":
            return now_ns
        case "today":
            return _midnight(today, zone)
        case "yesterday":
            return _midnight(today - timedelta(days=1), zone)
    ago = _AGO.fullmatch(word)
    if ago:
        return max(now_ns - int(ago[1]) * _UNIT_S[ago[2]] * NS_PER_S, 0)
    try:
        return max(_midnight(date.fromisoformat(word), zone), 0)
    except ValueError:
        moment = datetime.fromisoformat(word)
    return max(to_ns(moment if moment.tzinfo else moment.replace(tzinfo=zone)), 0)
