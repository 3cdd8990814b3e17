"""Who calls, and on what terms: from whichever header the client's own API has."""

import pytest

from penstock.errors import InvalidRequest
from penstock.server.caller import passed_on, read_caller, read_name, wants_strictness
from penstock.server.request import Request


def request(query=b"", **fields):
    named = {name.replace("_", "-").encode(): value for name, value in fields.items()}
    return Request("POST", b"/", "/", query, list(named.items()), b"", "1.1", "127.0.0.1", fields=named)


@pytest.mark.parametrize(
    ("fields", "query", "key"),
    [
        ({}, b"", None),
        ({"authorization": b"Bearer ps-1"}, b"", "ps-1"),
        ({"authorization": b"bearer  ps-1 "}, b"", "ps-1"),
        ({"authorization": b"Bearer "}, b"key=ps-2", None),
        ({"x_api_key": b"ps-1"}, b"", "ps-1"),
        ({"x_goog_api_key": b"ps-1"}, b"", "ps-1"),
        ({"api_key": b"ps-1"}, b"", "ps-1"),
        ({"authorization": b"AWS4-HMAC-SHA256 Credential=x", "x_amz_security_token": b"ps-1"}, b"", "ps-1"),
        ({"authorization": b"Basic eHg="}, b"", None),
        ({}, b"alt=sse&key=ps-1", "ps-1"),
        ({}, b"monkey=1", None),
        ({"x_api_key": b""}, b"key=ps-2", None),
    ],
)
def test_a_key_is_taken_from_where_the_clients_own_api_has_it(fields, query, key):
    assert read_caller(request(query, **fields)).key == key


def test_what_a_request_says_about_itself_is_read():
    caller = read_caller(
        request(
            x_penstock_feature=b"docs",
            x_penstock_session="ß".encode(),
            x_penstock_user=b"\xff",
            x_penstock_deadline_ms=b"1500",
        )
    )
    assert (caller.feature, caller.session, caller.user, caller.deadline_s) == ("docs", "ß", "ÿ", 1.5)


@pytest.mark.parametrize("value", [b"", b"0", b"-1", b"1.5", b"86400001", b"999999999", b"soon"])
def test_a_deadline_has_bounds(value):
    with pytest.raises(InvalidRequest, match="from 1 to 86400000"):
        read_caller(request(x_penstock_deadline_ms=value))


def test_only_features_in_trial_are_passed_on():
    fields = request(anthropic_beta=b"a,b", openai_beta=b"c", authorization=b"Bearer x", cookie=b"y").fields
    assert passed_on(fields) == ((b"anthropic-beta", b"a,b"), (b"openai-beta", b"c"))
    assert passed_on({}) == ()


@pytest.mark.parametrize(("value", "wanted"), [(None, False), (b"true", True), (b"false", False)])
def test_strictness_is_asked_for_by_a_header(value, wanted):
    assert wants_strictness(request(**({} if value is None else {"x_penstock_strict": value}))) is wanted


def test_strictness_is_true_or_false():
    with pytest.raises(InvalidRequest, match="true or false"):
        wants_strictness(request(x_penstock_strict=b"yes"))


@pytest.mark.parametrize("body", [b'{"model":"m"}', b'{"name":"m"}', b'{"model":"m","name":"x","verbose":true}'])
def test_a_question_about_a_model_names_it(body):
    assert read_name(body) == "m"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"model":1}', b"{}", b'{"model":"\xff"}', b"[" * 10_000])
def test_a_question_that_names_none_is_refused(body):
    with pytest.raises(InvalidRequest, match=r"names no model|has to be"):
        read_name(body)
