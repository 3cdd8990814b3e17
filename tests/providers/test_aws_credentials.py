"""Keys come from the first place that has them, are fetched once for all who wait, in time, and never show."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from msgspec.json import encode

from penstock.errors import UpstreamAuth
from penstock.providers.aws_credentials import (
    AwsAccess,
    BotocoreChain,
    CredentialSource,
    bearer_token,
    file_credentials,
    plain_credentials,
)
from penstock.providers.sigv4 import Credentials

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI"


def access(home: Path | None = None, **said: str) -> AwsAccess:
    """Names in capitals stand for the environment."""
    environ = {name: value for name, value in said.items() if name.isupper()}
    if home is not None:
        environ["HOME"] = str(home)
    return AwsAccess(
        **{name: value for name, value in said.items() if not name.isupper()}, environ=tuple(environ.items())
    )


def files(home: Path, credentials: str = "", config: str = "") -> Path:
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(credentials)
    (home / ".aws" / "config").write_text(config)
    return home


PAIR = f"aws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"


# -- settings and environment --


def test_settings_win_over_the_environment() -> None:
    environment = {"AWS_ACCESS_KEY_ID": "env", "AWS_SECRET_ACCESS_KEY": "env"}
    both = access(None, access_key_id=KEY, secret_access_key=SECRET, session_token="t", **environment)
    assert plain_credentials(both) == Credentials(KEY, SECRET, "t")
    assert plain_credentials(access(None, **environment, AWS_SESSION_TOKEN="t")) == Credentials("env", "env", "t")
    assert plain_credentials(access()) is None


def test_a_profile_in_the_settings_is_not_overruled_by_the_environment() -> None:
    assert plain_credentials(access(None, profile="x", AWS_ACCESS_KEY_ID="e", AWS_SECRET_ACCESS_KEY="e")) is None


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"access_key_id": KEY}, "no secret access key for AWS in the configuration"),
        ({"secret_access_key": SECRET}, "no access key id for AWS in the configuration"),
        ({"AWS_ACCESS_KEY_ID": KEY}, "in the environment"),
    ],
)
def test_half_a_pair_is_a_mistake(said: dict[str, str], says: str) -> None:
    with pytest.raises(UpstreamAuth, match=says) as caught:
        plain_credentials(access(None, **said))
    assert KEY not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_the_bearer_token_stands_in_the_environment() -> None:
    assert bearer_token({"AWS_BEARER_TOKEN_BEDROCK": " abc "}) == "abc"
    assert bearer_token({"AWS_BEARER_TOKEN_BEDROCK": " "}) is None
    assert bearer_token({}) is None


def test_no_form_of_the_access_shows_a_key() -> None:
    secret = access(None, access_key_id=KEY, secret_access_key=SECRET, AWS_SECRET_ACCESS_KEY=SECRET)
    for text in (repr(secret), str(secret)):
        assert SECRET not in text
        assert KEY not in text


# -- the shared files --


def test_the_shared_files_are_read_by_profile(tmp_path: Path) -> None:
    home = files(
        tmp_path,
        f"[default]\n{PAIR}\n[work]\n{PAIR}aws_session_token = t\n",
        f"[default]\nregion = eu-west-1\n[profile work]\nregion=us-west-2\n[profile config]\n{PAIR}",
    )
    assert file_credentials(access(home)) == Credentials(KEY, SECRET)
    assert file_credentials(access(home, profile="work")) == Credentials(KEY, SECRET, "t")
    assert file_credentials(access(home, AWS_PROFILE="config")) == Credentials(KEY, SECRET)
    assert file_credentials(access(home, AWS_DEFAULT_PROFILE="nobody")) is None


def test_files_are_found_where_the_environment_says(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"[default]\n{PAIR}")
    assert file_credentials(access(None, AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "keys"))) is not None
    assert file_credentials(access(tmp_path, AWS_SHARED_CREDENTIALS_FILE="~/keys")) is not None
    assert file_credentials(access(tmp_path)) is None


@pytest.mark.parametrize("member", ["role_arn = x", "sso_session = x", "web_identity_token_file = x"])
def test_a_profile_whose_keys_have_to_be_fetched_is_not_read_from_the_files(tmp_path: Path, member: str) -> None:
    home = files(tmp_path, f"[default]\n{PAIR}", f"[default]\n{member}\n")
    assert file_credentials(access(home)) is None
    assert file_credentials(access(home, profile="other")) is None


def test_a_web_identity_wins_over_the_files(tmp_path: Path) -> None:
    home = files(tmp_path, f"[default]\n{PAIR}")
    assert file_credentials(access(home, AWS_WEB_IDENTITY_TOKEN_FILE="/var/token")) is None


@pytest.mark.parametrize("text", [b"key = before any section", b"[default\n", b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_named_and_not_quoted(tmp_path: Path, text: bytes | None) -> None:
    path = tmp_path / "credentials"
    if text is None:
        path.mkdir()
    else:
        path.write_bytes(text)
    with pytest.raises(UpstreamAuth, match=r"cannot be read: \w+\.") as caught:
        file_credentials(access(None, AWS_SHARED_CREDENTIALS_FILE=str(path)))
    assert str(path) in str(caught.value)
    assert "before any section" not in str(caught.value)


# -- keeping and refreshing --


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Chain:
    """Stands for a chain: keys of an hour, numbered; may fail, and may be held up."""

    def __init__(self, clock: Clock, lasts_s: float | None = 3600.0) -> None:
        self.clock, self.lasts_s = clock, lasts_s
        self.calls = 0
        self.fails = False
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, access: AwsAccess) -> Credentials:
        self.calls += 1
        assert self.gate.wait(5)
        assert threading.current_thread() is not threading.main_thread()
        if self.fails:
            raise UpstreamAuth("AWS keys could not be fetched.")
        return Credentials(
            f"key-{self.calls}", "s", "t", None if self.lasts_s is None else self.clock.now + self.lasts_s
        )


async def settle(source: CredentialSource) -> None:
    while (task := source._fetching) is not None:
        await asyncio.wait([task])


async def test_plain_keys_are_given_without_a_thread_and_for_ever() -> None:
    clock = Clock()
    source = CredentialSource(access(None, access_key_id=KEY, secret_access_key=SECRET), Chain(clock), clock)
    first = await source.credentials()
    clock.now += 10**9
    assert await source.credentials() is first == Credentials(KEY, SECRET)


async def test_however_many_wait_one_fetch_runs() -> None:
    clock = Clock()
    chain = Chain(clock)
    chain.gate.clear()
    source = CredentialSource(access(), chain, clock)
    waiting = [asyncio.create_task(source.credentials()) for _ in range(50)]
    await asyncio.sleep(0.01)
    waiting[0].cancel()
    chain.gate.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert {one.access_key_id for one in found[1:] if isinstance(one, Credentials)} == {"key-1"}
    assert chain.calls == 1


async def test_keys_are_fetched_anew_in_good_time_while_calls_go_on_with_the_old_ones() -> None:
    clock = Clock()
    chain = Chain(clock)
    source = CredentialSource(access(), chain, clock)
    assert (await source.credentials()).access_key_id == "key-1"
    clock.now += 3600 - 301
    assert (await source.credentials()).access_key_id == "key-1"
    assert chain.calls == 1
    clock.now += 2
    chain.gate.clear()
    assert (await source.credentials()).access_key_id == "key-1"
    chain.gate.set()
    await settle(source)
    assert (await source.credentials()).access_key_id == "key-2"
    assert chain.calls == 2


async def test_keys_that_are_about_to_end_are_not_used_any_more() -> None:
    clock = Clock()
    chain = Chain(clock)
    source = CredentialSource(access(), chain, clock)
    await source.credentials()
    clock.now += 3600 - 29
    assert (await source.credentials()).access_key_id == "key-2"


async def test_a_failure_in_good_time_is_tried_again_after_a_pause_and_told_only_when_the_keys_end() -> None:
    clock = Clock()
    chain = Chain(clock)
    source = CredentialSource(access(), chain, clock)
    await source.credentials()
    chain.fails = True
    clock.now += 3600 - 200
    for _ in range(3):
        assert (await source.credentials()).access_key_id == "key-1"
        await settle(source)
    assert chain.calls == 2
    clock.now += 11
    await source.credentials()
    await settle(source)
    assert chain.calls == 3
    clock.now += 200
    with pytest.raises(UpstreamAuth, match="could not be fetched"):
        await source.credentials()
    chain.fails = False
    assert (await source.credentials()).access_key_id == "key-5"


async def test_keys_of_a_short_life_are_used_for_half_of_it() -> None:
    clock = Clock()
    chain = Chain(clock, lasts_s=120.0)
    source = CredentialSource(access(), chain, clock)
    await source.credentials()
    clock.now += 59
    await source.credentials()
    assert chain.calls == 1
    clock.now += 2
    await source.credentials()
    await settle(source)
    assert chain.calls == 2


async def test_a_file_is_read_again_after_a_while(tmp_path: Path) -> None:
    clock = Clock()
    home = files(tmp_path, f"[default]\n{PAIR}")
    source = CredentialSource(access(home), Chain(clock), clock)
    assert (await source.credentials()).access_key_id == KEY
    (home / ".aws" / "credentials").write_text(f"[default]\n{PAIR}".replace(KEY, "AKIDNEW"))
    assert (await source.credentials()).access_key_id == KEY
    clock.now += 61
    await source.credentials()
    await settle(source)
    assert (await source.credentials()).access_key_id == "AKIDNEW"


async def test_refused_keys_can_be_forgotten() -> None:
    clock = Clock()
    chain = Chain(clock, lasts_s=None)
    source = CredentialSource(access(), chain, clock)
    assert (await source.credentials()).access_key_id == "key-1"
    source.forget()
    assert (await source.credentials()).access_key_id == "key-2"


async def test_closing_lets_go_of_a_fetch() -> None:
    clock = Clock()
    chain = Chain(clock)
    source = CredentialSource(access(), chain, clock)
    source.close()
    chain.gate.clear()
    waiting = asyncio.create_task(source.credentials())
    await asyncio.sleep(0.01)
    source.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    chain.gate.set()


# -- botocore --


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment in which botocore finds nothing."""
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


def test_botocore_is_asked_once_and_keeps_what_it_found(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("AWS_ACCESS_KEY_ID", KEY)
    bare.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    chain = BotocoreChain()
    assert chain(access()) == chain(access()) == Credentials(KEY, SECRET)


def test_nothing_found_says_what_to_try(bare: pytest.MonkeyPatch) -> None:
    with pytest.raises(UpstreamAuth, match="found nowhere") as caught:
        BotocoreChain()(access())
    assert "get-caller-identity" in caught.value.hint


def test_a_profile_that_is_not_there_is_an_error_of_ours(bare: pytest.MonkeyPatch) -> None:
    with pytest.raises(UpstreamAuth, match="ProfileNotFound"):
        BotocoreChain()(access(None, profile="nobody"))


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(UpstreamAuth) as caught:
        BotocoreChain()(access())
    assert "penstock[aws]" in str(caught.value)


class _Metadata(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        expires = datetime.fromtimestamp(2_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = encode({"AccessKeyId": KEY, "SecretAccessKey": SECRET, "Token": "t", "Expiration": expires})
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Metadata) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/keys"
        server.shutdown()
        thread.join()


async def test_keys_of_a_container_come_with_their_end(bare: pytest.MonkeyPatch, metadata: str) -> None:
    bare.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", metadata)
    bare.setenv("NO_PROXY", "127.0.0.1")
    source = CredentialSource(access())
    assert await source.credentials() == Credentials(KEY, SECRET, "t", 2_000_000_000.0)
