"""Room per team, and what a request may say about who pays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.call import Call, Caller, Content, Sampling, Ticket, Who
from penstock.errors import InvalidRequest, PermissionDenied, RateLimited
from penstock.policy.admission import Admission, attribute
from penstock.settings import TeamSettings

WEB = Who(key_id="k", team="web")


def call(raw=b"", max_tokens=None, **more):
    return Call(
        dialect="chat", model="m", sampling=Sampling(max_tokens=max_tokens), read=lambda: Content(()), raw=raw, **more
    )


def admission(**limits):
    return Admission((TeamSettings(name="web", **limits),), now=0.0)


def test_without_limits_everybody_gets_in():
    ticket = admission().enter(WEB, call(), 0.0)
    assert ticket == Ticket(None, 0)
    admission().leave(ticket, 5)


def test_a_key_without_a_team_has_no_limits():
    assert admission(rpm=1).enter(Who(), call(), 0.0) == Ticket(None, 0)


def test_requests_are_limited_per_minute_and_the_wait_is_told():
    room = admission(rpm=2)
    for _ in range(2):
        room.enter(WEB, call(), 0.0)
    with pytest.raises(
        RateLimited, match=r"'web' has used up its requests per minute\. Come again in 30 s\."
    ) as raised:
        room.enter(WEB, call(), 0.0)
    assert raised.value.retry_after_s == 30.0
    room.enter(WEB, call(), 30.0)


def test_tokens_are_taken_by_estimate_and_corrected_by_use():
    room = admission(tpm=100)
    ticket = room.enter(WEB, call(b"x" * 200, max_tokens=50), 0.0)
    assert ticket.tokens == 100
    with pytest.raises(RateLimited, match="tokens"):
        room.enter(WEB, call(b"x" * 4), 0.0)
    room.leave(ticket, 20)
    assert room.enter(WEB, call(b"x" * 320), 0.0).tokens == 80


def test_a_call_larger_than_the_bucket_gets_in_when_the_bucket_is_full():
    room = admission(tpm=10)
    room.leave(room.enter(WEB, call(b"x" * 400), 0.0), 100)
    with pytest.raises(RateLimited) as raised:
        room.enter(WEB, call(b"x" * 4), 0.0)
    assert raised.value.retry_after_s == pytest.approx(91 * 6)


def test_calls_at_once_are_limited():
    room = admission(concurrency=1)
    ticket = room.enter(WEB, call(), 0.0)
    with pytest.raises(RateLimited, match="1 calls in flight"):
        room.enter(WEB, call(), 0.0)
    room.leave(ticket, 0)
    room.enter(WEB, call(), 0.0)


def test_a_refusal_for_tokens_takes_no_request():
    room = admission(rpm=1, tpm=4)
    room.enter(WEB, call(), 0.0)
    room2 = admission(rpm=1, tpm=4)
    room2.leave(room2.enter(WEB, call(), 0.0), 100)
    with pytest.raises(RateLimited):
        room2.enter(WEB, call(b"x" * 8), 60.0)
    assert room2.enter(WEB, call(), 10_000.0) == Ticket("web", 0)


@given(st.lists(st.floats(0, 3), min_size=1, max_size=300), st.integers(1, 100))
def test_never_more_than_the_bucket_and_what_flowed_in(gaps, rpm):
    room, now, admitted = admission(rpm=rpm), 0.0, 0
    for gap in gaps:
        now += gap
        try:
            room.enter(WEB, call(), now)
        except RateLimited:
            continue
        admitted += 1
        assert admitted <= rpm + now * rpm / 60 + 1e-6


def test_a_plain_request_adds_nothing():
    assert attribute(WEB, Caller(), call()) is WEB


def test_headers_come_before_the_body():
    who = attribute(WEB, Caller(feature="a", user="u"), call(feature="b", session="s", user="v"))
    assert (who.feature, who.session, who.user, who.team) == ("a", "s", "u", "web")


def test_a_key_bound_to_a_feature_decides_it():
    bound = Who(key_id="k", feature="invoices")
    assert attribute(bound, Caller(), call()).feature == "invoices"
    assert attribute(bound, Caller(feature="invoices"), call()).feature == "invoices"
    with pytest.raises(PermissionDenied, match="bound to the feature 'invoices' and cannot call for 'other'"):
        attribute(bound, Caller(feature="other"), call())


@pytest.mark.parametrize("bad", ["x" * 129, "a\nb", "\x00"])
def test_names_that_cannot_be_shown_are_refused(bad):
    with pytest.raises(InvalidRequest, match="feature"):
        attribute(WEB, Caller(feature=bad), call())
    with pytest.raises(InvalidRequest, match="session"):
        attribute(WEB, Caller(session=bad), call())
