"""Signatures equal botocore's, header for header, and no key shows."""

from datetime import UTC, datetime, timedelta, timezone
from random import Random
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.providers.sigv4 import Credentials, Unsigned, sign

MODELS = (
    "anthropic.claude-sonnet-4-5-20250929-v1:0",
    "us.anthropic.claude-opus-4-6-v1",
    "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-2-lite-v1:0",
    "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/a1b2c3d4e5f6",
    "arn:aws:bedrock:us-west-2:123456789012:prompt/ABCDEFGHIJ:2",
    "a model/with ~ odd * names+%41é",
)
REGIONS = ("us-east-1", "eu-central-1", "ap-northeast-1", "us-gov-west-1")
ACTIONS = ("converse", "converse-stream", "count-tokens")
NOW = datetime(2026, 11, 21, 23, 59, 59, tzinfo=UTC)
KEY, SECRET, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "IQoJb3JpZ2luX2VjE//////////wEaCXVz=="


def model_path(model: str, action: str) -> str:
    return f"/model/{quote(model, safe='')}/{action}"


def theirs(request: Unsigned, credentials: Credentials, region: str, now: datetime, service: str) -> dict[str, str]:
    """What botocore adds to the same request at the same time."""
    query = f"?{request.query}" if request.query else ""
    headers = {name.decode(): value.decode() for name, value in request.headers}
    url = f"https://{headers['host']}{request.path}{query}"
    aws = AWSRequest(method=request.method, url=url, data=request.body, headers=headers)
    keys = BotocoreCredentials(credentials.access_key_id, credentials.secret_access_key, credentials.session_token)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.auth.get_current_datetime", lambda: now.replace(tzinfo=None))
        SigV4Auth(keys, service, region).add_auth(aws)
    return {name.lower(): value for name, value in aws.headers.items()}


def check(request: Unsigned, credentials: Credentials, region: str, service: str = "bedrock") -> None:
    added = {name.decode(): value.decode() for name, value in sign(request, credentials, region, NOW, service)}
    expected = theirs(request, credentials, region, NOW, service)
    assert added["x-amz-date"] == expected["x-amz-date"]
    assert added.get("x-amz-security-token") == expected.get("x-amz-security-token")
    assert added["authorization"] == expected["authorization"]


def request_for(model: str, action: str, region: str, body: bytes = b"{}", query: str = "") -> Unsigned:
    host = f"bedrock-runtime.{region}.amazonaws.com".encode()
    headers = ((b"host", host), (b"content-type", b"application/json"), (b"accept", b"*/*"))
    return Unsigned("POST", model_path(model, action), headers, body, query)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("token", [None, TOKEN])
def test_every_model_and_endpoint_is_signed_as_botocore_signs_it(model: str, action: str, token: str | None) -> None:
    for region in REGIONS:
        check(request_for(model, action, region, b'{"messages":[]}'), Credentials(KEY, SECRET, token), region)


@given(st.integers(0, 2**64))
@settings(max_examples=200, deadline=None)
def test_any_request_is_signed_as_botocore_signs_it(seed: int) -> None:
    rng = Random(seed)
    model = "".join(rng.choice("abc.:/-_~ %+é*'()") for _ in range(rng.randrange(1, 30)))
    names = ("x-amzn-bedrock-trace", "user-agent", "x-custom", "traceparent", "X-Upper")
    more = tuple((name.encode(), rng.choice((b"a", b"  a   b ", b""))) for name in names if rng.random() < 0.5)
    request = request_for(model, rng.choice(ACTIONS), rng.choice(REGIONS), rng.randbytes(rng.randrange(99)))
    query = "&".join(
        f"{quote(rng.choice('abé '))}={quote(rng.choice(('', 'x', 'a b', 'é/')), safe='')}" for _ in range(3)
    )
    request = Unsigned("POST", request.path, request.headers + more, request.body, rng.choice(("", query)))
    credentials = Credentials(KEY, SECRET, rng.choice((None, TOKEN)))
    check(request, credentials, rng.choice(REGIONS), rng.choice(("bedrock", "sts")))


@pytest.mark.parametrize("path", ["/", "", "/a/../b/./c//d", "/../x/", "/model/a%2Fb/converse", "/.."])
def test_paths_are_brought_into_normal_form_first(path: str) -> None:
    request = Unsigned("GET", path, ((b"host", b"example.com"),))
    check(request, Credentials(KEY, SECRET), "us-east-1")


def test_any_time_zone_is_signed_in_utc() -> None:
    request, keys = request_for(MODELS[0], "converse", "us-east-1"), Credentials(KEY, SECRET)
    there = NOW.astimezone(timezone(timedelta(hours=-9)))
    assert sign(request, keys, "us-east-1", there) == sign(request, keys, "us-east-1", NOW)


def test_no_form_of_the_credentials_shows_a_key() -> None:
    keys = Credentials(KEY, SECRET, TOKEN, 17.0)
    for text in (repr(keys), str(keys), f"{keys}", repr([keys])):
        assert KEY not in text
        assert SECRET not in text
        assert TOKEN not in text
