import zoneinfo
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import InvalidRequest
from penstock.ledger import periods
from penstock.ledger.periods import (
    QUARTER_NS,
    bounds,
    day_of,
    from_ns,
    hour_of,
    iso,
    read_expiry,
    read_moment,
    to_ns,
    zone_of,
)

ZONES = ["UTC", "Asia/Kolkata", "Australia/Lord_Howe", "Europe/Berlin", "America/Havana", "Africa/Cairo", "Asia/Beirut"]
HOUR_NS = 3_600_000_000_000
moments = st.integers(to_ns(datetime(2024, 1, 1, tzinfo=UTC)), to_ns(datetime(2030, 1, 1, tzinfo=UTC)))


def at(text, zone="UTC"):
    moment = datetime.fromisoformat(text)
    return to_ns(moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone)))


@settings(deadline=None)
@given(moments, st.sampled_from(ZONES), st.sampled_from(["day", "month"]))
def test_every_moment_lies_in_its_window_and_windows_meet_without_gap_or_overlap(now, name, window):
    zone = zone_of(name)
    start, end = bounds(window, now, zone)
    assert start <= now < end
    assert bounds(window, start, zone) == (start, end)
    assert bounds(window, end - 1, zone) == (start, end)
    assert bounds(window, end, zone)[0] == end


@pytest.mark.parametrize(
    ("name", "day", "hours"),
    [
        ("UTC", "2026-03-29", 24),
        ("Asia/Kolkata", "2026-03-29", 24),
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Africa/Cairo", "2026-04-24", 23),  # midnight is skipped
        ("Africa/Cairo", "2026-10-29", 25),  # the clock falls back from the midnight at its end
        ("America/Havana", "2026-11-01", 25),  # midnight comes twice
    ],
)
def test_a_day_lasts_as_long_as_the_clocks_of_its_zone_say(name, day, hours):
    start, end = bounds("day", at(f"{day}T12:00", name), zone_of(name))
    assert (end - start) * 2 == int(hours * 2) * HOUR_NS
    assert from_ns(start, zone_of(name)).date() == date.fromisoformat(day)
    assert from_ns(start - 1000, zone_of(name)).date() == date.fromisoformat(day) - timedelta(days=1)


@pytest.mark.parametrize(
    ("month", "days", "extra_hours"), [("2026-02", 28, 0), ("2028-02", 29, 0), ("2026-03", 31, -1), ("2026-10", 31, 1)]
)
def test_a_month_ends_where_the_next_begins_in_the_zone(month, days, extra_hours):
    zone = zone_of("Europe/Berlin")
    start, end = bounds("month", at(f"{month}-15T12:00", "Europe/Berlin"), zone)
    assert end - start == (days * 24 + extra_hours) * HOUR_NS
    assert start == at(f"{month}-01T00:00", "Europe/Berlin")
    assert from_ns(end, zone).day == 1


def test_a_date_that_came_already_is_not_left_when_clocks_fall_back_over_midnight():
    """Newfoundland went from 00:01 back to 23:01 of the day before until 2010."""
    zone = zone_of("America/St_Johns")
    second_pass = to_ns(datetime(2010, 11, 6, 23, 30, tzinfo=zone, fold=1))
    start, end = bounds("day", second_pass, zone)
    assert start <= second_pass < end
    assert start == at("2010-11-07T00:00", "America/St_Johns")
    october = to_ns(datetime(2010, 11, 7, 12, tzinfo=zone))
    assert bounds("month", october, zone)[0] == at("2010-11-01T00:00", "America/St_Johns")


@settings(deadline=None)
@given(moments, st.sampled_from(ZONES))
def test_quarters_of_an_hour_name_the_day_and_hour_of_every_moment_in_them(now, name):
    zone = zone_of(name)
    local = from_ns(now, zone)
    assert day_of(now // QUARTER_NS, zone) == local.date().isoformat()
    assert hour_of(now // QUARTER_NS, zone) == local.replace(minute=0, second=0, microsecond=0).isoformat(
        timespec="minutes"
    )


def test_the_repeated_hour_has_two_names():
    zone = zone_of("Europe/Berlin")
    first = at("2026-10-25T02:30+02:00") // QUARTER_NS
    assert hour_of(first, zone) == "2026-10-25T02:00+02:00"
    assert hour_of(first + 4, zone) == "2026-10-25T02:00+01:00"


NOW = at("2026-10-25T12:34:56.789", "Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("today", at("2026-10-25T00:00+02:00")),
        ("Today ", at("2026-10-25T00:00+02:00")),
        ("yesterday", at("2026-10-24T00:00+02:00")),
        ("24h", NOW - 24 * HOUR_NS),
        ("7d", NOW - 7 * 24 * HOUR_NS),
        ("90s", NOW - 90 * 10**9),
        ("30m", NOW - HOUR_NS // 2),
        ("2w", NOW - 14 * 24 * HOUR_NS),
        ("2026-03-29", at("2026-03-29T00:00+01:00")),
        ("2026-03-29T09:00", at("2026-03-29T07:00Z")),
        ("2026-03-29T02:30", at("2026-03-29T01:30Z")),  # skipped by the clocks: as far after the jump
        ("2026-10-25T02:30", at("2026-10-25T00:30Z")),  # comes twice: the first
        ("2026-10-25T02:30:00.250+01:00", at("2026-10-25T01:30:00.250Z")),
        ("2026-10-25T02:30Z", at("2026-10-25T02:30Z")),
        ("1901-01-01", 0),
        ("9999999w", 0),
    ],
)
def test_moments_are_read_as_people_write_them(text, expected):
    assert read_moment(text, NOW, zone_of("Europe/Berlin")) == expected


@pytest.mark.parametrize(
    "text", ["", "tomorrow?", "7", "7x", "-7d", "1.5d", "2026-13-01", "2026-02-30", "\u0667d", "7d7d"]
)
def test_what_is_no_moment_is_refused_with_the_forms_that_are(text):
    with pytest.raises(InvalidRequest, match="until") as caught:
        read_moment(text, NOW, zone_of("UTC"), "until")
    assert "yesterday" in caught.value.hint
    assert caught.value.param == "until"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30d", NOW + 30 * 24 * HOUR_NS),
        (" 1s", NOW + 10**9),
        ("2031-01-31", at("2031-01-31T00:00+01:00")),
        ("2026-10-25T12:35", at("2026-10-25T12:35+01:00")),
    ],
)
def test_an_end_is_that_long_from_now_or_a_moment_to_come(text, expected):
    assert read_expiry(text, NOW, zone_of("Europe/Berlin")) == expected


@pytest.mark.parametrize("text", ["0s", "yesterday", "today", "now", "2026-10-25", "9999999w", "3000-01-01", "soon"])
def test_an_end_that_is_past_or_beyond_all_clocks_is_refused(text):
    with pytest.raises(InvalidRequest, match="expires"):
        read_expiry(text, NOW, zone_of("Europe/Berlin"))


@settings(deadline=None)
@given(st.text(max_size=12))
def test_no_text_breaks_the_reading_of_moments(text):
    with suppress(InvalidRequest):
        assert read_moment(text, NOW, zone_of("Asia/Kolkata")) >= 0


def test_utc_needs_no_zone_database(monkeypatch):
    def without_database(name):
        raise zoneinfo.ZoneInfoNotFoundError(name)

    real = zoneinfo.ZoneInfo
    without_database.from_file = real.from_file
    monkeypatch.setattr(periods, "ZoneInfo", without_database)
    utc = zone_of("UTC")
    assert (utc.key, iso(NOW, utc)) == ("UTC", "2026-10-25T11:34:56.789+00:00")
    assert bounds("day", NOW, utc) == (at("2026-10-25T00:00Z"), at("2026-10-26T00:00Z"))
    with pytest.raises(InvalidRequest):
        zone_of("Europe/Berlin")


@pytest.mark.parametrize("name", ["", "Nowhere/Town", "../UTC", "/etc/passwd", "Europe", "UTC\0", "x" * 300])
def test_an_unknown_zone_is_refused(name):
    with pytest.raises(InvalidRequest, match="there is no time zone") as caught:
        zone_of(name)
    assert "IANA" in caught.value.hint


@pytest.mark.parametrize(
    ("ns", "zone", "text"),
    [
        (at("2026-10-25T02:30:00.123Z") + 456_789, None, "2026-10-25T02:30:00.123Z"),
        (at("2026-10-25T02:30Z"), None, "2026-10-25T02:30:00.000Z"),
        (at("2026-10-25T02:30Z"), "Asia/Kolkata", "2026-10-25T08:00:00+05:30"),
        (at("2026-10-25T02:30:00.5Z"), "Europe/Berlin", "2026-10-25T03:30:00.500+01:00"),
    ],
)
def test_moments_are_written_as_iso_8601(ns, zone, text):
    assert iso(ns, zone and zone_of(zone)) == text
