"""What a provider may be asked for, from one configuration to the next."""

import pytest

from penstock.routing.allowance import Allowance, HealthSettings


@pytest.mark.parametrize(
    ("settings", "rated", "plain"),
    [
        ({}, False, True),
        ({"concurrency": 1}, False, True),
        ({"rpm": 60}, True, True),
        ({"tpm": 600}, True, False),
        ({"slow_s": 2.0}, False, False),
        ({"rpm": 60, "tpm": 600, "slow_s": 2.0}, True, False),
    ],
)
def test_what_has_to_be_looked_at_follows_from_the_settings_at_first_and_at_a_reload(settings, rated, plain):
    fresh, changed = (
        Allowance(HealthSettings(**settings), 0.0),
        Allowance(HealthSettings(rpm=1, tpm=1, slow_s=1.0), 0.0),
    )
    changed.change(HealthSettings(**settings), 0.0)
    for one in (fresh, changed):
        assert (one.is_rated, one.is_plain) == (rated, plain)


def test_what_is_in_flight_and_used_stays_so_when_the_limits_change():
    one = Allowance(HealthSettings(rpm=600, tpm=600), 0.0)
    one.in_flight = 7
    one.held.add(3.0)
    one.take(600)
    assert one.rate_wait_s(0.0) > 0.0
    one.change(HealthSettings(concurrency=2, rpm=600, tpm=600), 0.0)
    assert (one.concurrency, one.in_flight, one.held.mean_s()) == (2, 7, 1.2)
    assert one.rate_wait_s(0.0) > 0.0
    one.change(HealthSettings(), 0.0)
    assert one.rate_wait_s(0.0) == 0.0


def test_the_longer_of_two_waits_counts_and_tokens_only_have_to_be_out_of_debt():
    one = Allowance(HealthSettings(rpm=60, tpm=600), 0.0)
    one.take(700)
    assert one.rate_wait_s(0.0) == pytest.approx(10.1)
    for _ in range(59):
        one.take(0)
    assert one.rate_wait_s(10.1) == 0.0
