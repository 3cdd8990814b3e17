"""What providers say when they fail: classified by status, cleaned of keys, whatever the shape of the body."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import encode

from penstock.errors import (
    PenstockError,
    UpstreamAuth,
    UpstreamError,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamMissing,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
)
from penstock.wire.provider_error import (
    MAX_TEXT,
    Said,
    classify,
    classify_in_stream,
    clean,
    holds_key,
    read_said,
    said_by,
)

KEYS = [
    "sk-abcdefghijklmnop",
    "sk-proj-Ab12Cd34Ef56Gh78",
    "sk-ant-api03-xxxxxxxxxxxx",
    "ps-7Jm2kQ9wLr",
    "sk-ab***********************wxyz",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "AKIAIOSFODNN7EXAMPLE",
    "gsk_abcdefgh12345678",
    "hf_abcdefgh12345678",
    "xai-abcdefgh12345678",
    "0123456789abcdef0123456789abcdef",
    "eyJhbGciOiJIUzI1NiJ9eyJzdWIiOiIxMjM0NTY3ODkwIn0",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("form", ["{}", "key: {}.", "Authorization: Bearer {}", 'bad api_key="{}"', "x={}&y=1"])
def test_nothing_that_looks_like_a_key_is_left(key: str, form: str) -> None:
    text = form.format(key)
    assert holds_key(text)
    cleaned = clean(text)
    assert not any(key[start : start + 12] in cleaned for start in range(max(1, len(key) - 11)))


@pytest.mark.parametrize("token", ["short", "dG9rZW4="])
def test_a_bearer_token_of_any_length_is_masked(token: str) -> None:
    assert clean(f"sent 'Bearer {token}'") == "sent '***'"
    assert clean(f"api-key: {token}, path /v1") == "***, path /v1"


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided.",
        "The model `Meta-Llama-3-1-70B-Instruct-Turbo` does not exist",
        "Request 3f2504e0-4f89-11d3-9a0c-0305e82c3301 took too long",
        "This model's maximum context length is 4096 tokens.",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert clean(text) == text
    assert not holds_key(text)


def test_a_text_becomes_one_short_line() -> None:
    assert clean("a\r\n\tb\x00c\x1b[31md\u2028e\u202ef\x85g") == "a b c [31md e f g"
    long = clean("word " * 1000)
    assert len(long) <= MAX_TEXT
    assert long.endswith("…")
    assert clean("") == ""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", Said()),
        (b"Bad gateway", Said("Bad gateway")),
        (b"<html><head><title>502 Bad Gateway</title></head></html>", Said("a page of HTML: 502 Bad Gateway")),
        (b"<!DOCTYPE html><body><h1>Sorry</h1>", Said("a page of HTML: Sorry")),
        (b"<body>x", Said("a page of HTML")),
        (b'{"error":{"message":"m","type":"t","param":null,"code":"c"}}', Said("m", "c", "t")),
        (b'{"error":"plain"}', Said("plain")),
        (b'"plain"', Said("plain")),
        (b"[]", Said()),
        (b"17", Said()),
        (
            b'{"object":"error","message":"m","type":"BadRequestError","code":400}',
            Said("m", "", "BadRequestError", 400),
        ),
        (
            b'[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]',
            Said("m", "", "RESOURCE_EXHAUSTED", 429),
        ),
        (b'{"error":{"code":"503","message":"m"}}', Said("m", "503", "", 503)),
        (b'{"error":{"code":"abc","status":"500 "},"status":404}', Said("", "abc", "500 ", 404)),
        (b'{"detail":"Not Found"}', Said("Not Found")),
        (
            b'{"detail":[{"loc":["body","messages",0],"msg":"field required"},{"msg":"x"},"y","z"]}',
            Said("body.messages.0: field required; x; y"),
        ),
        (b'{"message":17}', Said()),
        (b'{"error":{"message":{"a":1}}}', Said()),
        (b'{"error":{"message":true,"code":true,"type":3}}', Said()),
        (b"\xff\xfe\x00", Said()),
    ],
)
def test_every_shape_of_an_error_is_read(body: bytes, said: Said) -> None:
    assert read_said(body) == said


def test_a_huge_or_bottomless_body_is_only_glanced_at() -> None:
    assert len(read_said(b"no " * 4_000_000).message) <= MAX_TEXT
    assert len(read_said(b"[" * 60_000).message) <= MAX_TEXT
    assert read_said(b'{"error":{"message":"' + b"x y " * 40_000 + b'"}}').message.startswith(
        '{"error":{"message":"x y'
    )


@pytest.mark.parametrize(
    ("status", "kind", "then", "shown"),
    [
        (400, UpstreamRejected, "stop", 400),
        (401, UpstreamAuth, "next", 502),
        (402, UpstreamAuth, "next", 502),
        (403, UpstreamAuth, "next", 502),
        (404, UpstreamMissing, "next", 502),
        (405, UpstreamRejected, "stop", 405),
        (408, UpstreamFailed, "retry", 502),
        (409, UpstreamFailed, "retry", 502),
        (413, UpstreamRejected, "stop", 413),
        (422, UpstreamRejected, "stop", 422),
        (425, UpstreamFailed, "retry", 502),
        (429, UpstreamRateLimited, "retry", 429),
        (499, UpstreamRejected, "stop", 499),
        (500, UpstreamFailed, "retry", 502),
        (502, UpstreamFailed, "retry", 502),
        (503, UpstreamOverloaded, "retry", 503),
        (504, UpstreamFailed, "retry", 502),
        (520, UpstreamFailed, "retry", 502),
        (529, UpstreamOverloaded, "retry", 529),
        (100, UpstreamGarbled, "next", 502),
        (200, UpstreamGarbled, "next", 502),
        (302, UpstreamGarbled, "next", 502),
    ],
)
def test_each_status_says_what_the_line_does_next(
    status: int, kind: type[PenstockError], then: str, shown: int
) -> None:
    error = classify(status, Said("why"))
    assert type(error) is kind
    assert (error.then, error.status) == (then, shown)
    assert str(status) in error.message
    assert ("why" in error.message) == (kind not in {UpstreamAuth, UpstreamGarbled})
    assert (error.body, error.dialect) == (b"", "")


@pytest.mark.parametrize(
    ("code", "status"), [("insufficient_quota", 429), ("billing_not_active", 429), ("insufficient_balance", 400)]
)
def test_an_empty_account_is_not_waited_for(code: str, status: int) -> None:
    for said in (Said("m", code=code), Said("m", kind=code)):
        error = classify(status, said)
        assert isinstance(error, UpstreamAuth)
        assert error.then == "next"
        assert "no money or quota" in error.message


@pytest.mark.parametrize("code", ["model_not_found", "DeploymentNotFound"])
def test_an_unknown_model_is_missing_whatever_the_status(code: str) -> None:
    assert isinstance(classify(400, Said("m", code=code)), UpstreamMissing)
    assert isinstance(classify(500, Said("m", code=code)), UpstreamFailed)


@pytest.mark.parametrize(
    "said",
    [
        Said("too long", code="context_length_exceeded"),
        Said("the request exceeds it", kind="exceed_context_size_error"),
        Said("This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"),
        Said("The decoder prompt (length 5000) is longer than the maximum model length of 4096."),
        Said("prompt is too long: 250000 tokens > 200000 maximum"),
    ],
)
def test_a_prompt_that_does_not_fit_is_said_so(said: Said) -> None:
    error = classify(400, said)
    assert type(error) is UpstreamRejected
    assert "does not fit into the model's context window" in error.message
    assert said.message in error.message
    assert "larger window" in error.hint


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (Said("m", status=429), UpstreamRateLimited),
        (Said("m", status=503), UpstreamOverloaded),
        (Said("m", status=401), UpstreamAuth),
        (Said("m", kind="rate_limit_error"), UpstreamRateLimited),
        (Said("m", kind="overloaded_error"), UpstreamOverloaded),
        (Said("m", kind="UNAVAILABLE"), UpstreamOverloaded),
        (Said("m", kind="invalid_request_error"), UpstreamRejected),
        (Said("m", kind="BadRequestError"), UpstreamRejected),
        (Said("m", code="context_length_exceeded"), UpstreamRejected),
        (Said("m", kind="authentication_error"), UpstreamAuth),
        (Said("m", kind="permission_error"), UpstreamAuth),
        (Said("m", kind="not_found_error"), UpstreamMissing),
        (Said("m", kind="insufficient_quota"), UpstreamAuth),
        (Said("m", kind="server_error"), UpstreamFailed),
        (Said(), UpstreamFailed),
    ],
)
def test_an_error_within_a_stream_is_classified_by_what_it_says(said: Said, kind: type[UpstreamError]) -> None:
    error = classify_in_stream(said)
    assert type(error) is kind
    if said.status is None and kind is not UpstreamAuth:
        assert "ended its reply with an error" in error.message
        assert "answered" not in error.message


@settings(max_examples=2_000, deadline=None)
@given(
    status=st.integers(100, 599),
    body=st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.one_of(
                st.none(), st.booleans(), st.integers(-999, 999), st.sampled_from(["x", "500", "sk-abcdefgh12345678"])
            ),
            lambda inner: st.one_of(
                st.lists(inner, max_size=2),
                st.dictionaries(
                    st.sampled_from(["error", "message", "detail", "code", "type", "status", "msg", "loc"]),
                    inner,
                    max_size=3,
                ),
            ),
            max_leaves=5,
        ).map(encode),
    ),
)
def test_any_status_and_body_give_an_upstream_error_without_a_key(status: int, body: bytes) -> None:
    error = classify(status, read_said(body))
    assert isinstance(error, UpstreamError)
    assert "abcdefgh" not in str(error)
    assert isinstance(classify_in_stream(read_said(body)), UpstreamError)


def test_a_value_that_was_decoded_is_read_the_same() -> None:
    assert said_by({"error": {"message": "m"}}) == Said("m")
