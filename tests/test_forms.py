"""How special values are written: exact money, checked names and addresses, secrets that never show."""

import os
import subprocess
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import forms as module
from penstock.document import Wrong
from penstock.forms import MAX_SECRET_BYTES, MAX_USD, Known, check_key, forms, nano_usd
from penstock.settings import Secret

CANARY = "sk-canary-0123456789"
KEY_PATH = ("providers", "box", "api_key")


def read(form, raw, *, path=("x",), environ=None, folder=Path("/nowhere"), **known):
    return forms(environ or {}, folder, Known(**known))[form].read(raw, path)


def wrong(form, raw, **where):
    with pytest.raises(Wrong) as caught:
        read(form, raw, **where)
    return f"{caught.value.message} {caught.value.suggestion}"


# -- money --


@pytest.mark.parametrize(
    ("dollars", "nano"),
    [
        (Decimal("0.0375"), 37_500_000),
        (Decimal("0.075"), 75_000_000),
        (Decimal("2.50"), 2_500_000_000),
        (Decimal("0.000000001"), 1),
        (Decimal("1e-9"), 1),
        (Decimal("1.000000000000000000000000000000"), 1_000_000_000),
        (20, 20_000_000_000),
        (0, 0),
        (Decimal("-0.0"), 0),
        (MAX_USD, 10**18),
    ],
)
def test_dollars_become_nano_dollars(dollars, nano):
    assert nano_usd(dollars, MAX_USD) == nano
    assert isinstance(nano_usd(dollars, MAX_USD), int)


@given(st.decimals(0, MAX_USD, allow_nan=False, allow_infinity=False) | st.integers(0, MAX_USD))
def test_money_is_exact_or_refused(dollars):
    exact = Fraction(dollars) * 10**9

    if exact.denominator == 1:
        assert nano_usd(dollars, MAX_USD) == exact
    else:
        with pytest.raises(Wrong, match="finer"):
            nano_usd(dollars, MAX_USD)


@pytest.mark.parametrize(
    "dollars", ["0.0000000001", "0.10000000000000000000000000000000000000001", "1." + "0" * 70 + "1", "1e-999999999"]
)
def test_what_is_finer_than_a_nano_dollar_is_refused(dollars):
    with pytest.raises(Wrong, match="finer"):
        nano_usd(Decimal(dollars), MAX_USD)


@pytest.mark.parametrize("dollars", ["nan", "snan", "inf", "-inf", "-0.01", "1e999999999", "1000000000.000000001"])
def test_what_is_no_amount_is_refused(dollars):
    with pytest.raises(Wrong, match="out of range"):
        nano_usd(Decimal(dollars), MAX_USD)


@pytest.mark.parametrize("raw", ["20", True, None, [], 1.5, "$5"])
def test_money_is_a_number_without_quotes(raw):
    with pytest.raises(Wrong, match="number of US dollars"):
        nano_usd(raw, MAX_USD)


def test_budgets_and_rates_have_bounds_of_their_own():
    assert read("rate", Decimal("0.15")) == 150_000_000
    assert read("usd", MAX_USD) == 10**18
    assert "1000000 US dollars" in wrong("rate", MAX_USD)


# -- names --


def test_names_have_plain_characters():
    assert read("name", "a-B_2.c") == "a-B_2.c"
    assert read("model name", "llama3:8b") == "llama3:8b"
    for bad in ("", " ", "a b", "a/b", "-a", "é", "a\n", "x" * 65, 3):
        assert "name" in wrong("name", bad)
    assert "name" in wrong("name", "a:b")


def test_a_kind_is_known_or_near():
    known = {"kinds": ("openai", "scripted")}

    assert read("kind", "openai", **known) == "openai"
    assert "`" not in wrong("kind", CANARY, **known)
    assert CANARY not in wrong("kind", CANARY, **known)
    assert "Did you mean `openai`?" in wrong("kind", "opnai", **known)
    assert "kind of provider" in wrong("kind", 3, **known)


def test_a_target_names_a_provider_that_there_is():
    known = {"providers": ("openai", "box"), "models": ("fast",)}

    assert read("target", "box/meta-llama/Llama-3.1:8b", **known) == "box/meta-llama/Llama-3.1:8b"
    assert "Did you mean `openai/gpt`?" in wrong("target", "opneai/gpt", **known)
    assert "Known providers: box, openai." in wrong("target", "zzz/gpt", **known)
    assert "It is a model of this file" in wrong("target", "fast", **known)
    assert "provider/model" in wrong("target", "openai/", **known)
    assert "provider/model" in wrong("target", "/gpt", **known)
    assert "provider/model" in wrong("target", "box/a b", **known)
    assert "provider/model" in wrong("target", 3, **known)
    assert "The file has no providers." in wrong("target", "a/b")


def test_a_model_is_one_of_the_file_or_a_target():
    known = {"providers": ("box",), "models": ("fast", *(f"m{number}" for number in range(20)))}

    assert read("model", "fast", **known) == "fast"
    assert read("model", "box/any", **known) == "box/any"
    assert "no model `fst`. Did you mean `fast`?" in wrong("model", "fst", **known)
    assert "no provider `bx`. Did you mean `box/any`?" in wrong("model", "bx/any", **known)
    assert "no model of that name" in wrong("model", "a b\x1b", **known)
    assert wrong("model", "zzz", **known).endswith("m18 and 9 more.")
    assert "name of a model" in wrong("model", [], **known)


# -- addresses, zones, days, files --


@pytest.mark.parametrize(
    ("raw", "url"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("http://127.0.0.1:9000/v1/", "http://127.0.0.1:9000/v1"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_address_is_http_or_https(raw, url):
    assert read("url", raw) == url


@pytest.mark.parametrize(
    "raw",
    [
        *("", 3, "api.openai.com/v1", "ftp://host/", "http://", "http://host:99999", "http://host:0", "http://[::1"),
        *("http://ho st/", "http://host/a\r\nx: y", "http://exämple.org/", "file:///etc/passwd"),
    ],
)
def test_anything_else_is_no_address(raw):
    assert "address" in wrong("url", raw)


@pytest.mark.parametrize(
    "raw", [f"http://user:{CANARY}@host/v1", f"http://host/v1?key={CANARY}", f"http://h/#{CANARY}"]
)
def test_an_address_holds_no_credential_and_is_not_repeated(raw):
    told = wrong("url", raw)

    assert "api_key" in told
    assert CANARY not in told


def test_headers_are_plain_and_none_of_ours():
    assert read("header", "web", path=("providers", "box", "headers", "x-team")) == "web"
    for name, value in (
        ("authorization", f"Bearer {CANARY}"),
        ("X-API-Key", CANARY),
        ("Content-Length", "3"),
        ("x team", "web"),
        ("x-key", f"env:{CANARY}"),
        ("x-team", f"{CANARY}\r\nx: y"),
        ("x-team", "é"),
        ("x-team", 3),
    ):
        told = wrong("header", value, path=("providers", "box", "headers", name))
        assert CANARY not in told


def test_a_zone_is_one_of_the_database():
    assert read("zone", "UTC") == "UTC"
    assert read("zone", "Europe/Berlin") == "Europe/Berlin"
    for bad in ("Europe/Berln", "", "../etc/passwd", "/etc/passwd", "\0", "Europe", "+01:00", 3):
        assert "zone" in wrong("zone", bad)


def test_a_day_is_a_date_in_either_form():
    assert read("day", date(2026, 11, 1)) == "2026-11-01"
    assert read("day", "2026-11-01") == "2026-11-01"
    for bad in ("tomorrow", "2026-02-30", datetime(2026, 1, 1, tzinfo=UTC), 20261101, ""):
        assert "date" in wrong("day", bad)


def test_a_file_is_found_from_its_folder_and_from_home(tmp_path):
    (tmp_path / "a.pem").write_text("x")

    assert read(Path, "a.pem", folder=tmp_path) == tmp_path / "a.pem"
    assert read(Path, str(tmp_path / "a.pem")) == tmp_path / "a.pem"
    assert read(Path, "~/a.pem", environ={"HOME": str(tmp_path)}) == tmp_path / "a.pem"
    for bad in ("b.pem", ".", "a.pem/b", "\0", "x" * 5000, "~/a.pem", "", 3):
        assert wrong(Path, bad, folder=tmp_path)


@pytest.mark.parametrize(
    ("percent", "points"),
    [(12, 1200), (Decimal("12.5"), 1250), (Decimal("-7.25"), -725), (100, 10_000), (-100, -10_000), (0, 0)],
)
def test_percent_become_basis_points(percent, points):
    found = read("percent", percent)

    assert found == points
    assert isinstance(found, int)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (Decimal("12.345"), "is finer than a hundredth of a percent."),
        (Decimal("1e-99"), "is finer"),
        (101, "is out of range: must be percent from -100 to 100."),
        (Decimal("-100.01"), "is out of range"),
        (Decimal("NaN"), "is out of range"),
        (Decimal("Infinity"), "is out of range"),
        (Decimal("1e999999"), "is out of range"),
        ("12", "must be a number of percent"),
        (True, "must be a number of percent"),
        ([5], "must be a number of percent"),
    ],
)
def test_what_is_no_discount_is_refused(raw, told):
    assert wrong("percent", raw).startswith(told)


@pytest.mark.parametrize(("raw", "times"), [(3, 3), (1, 1), (1000, 1000), (0, None)])
def test_a_number_of_times_may_be_none(raw, times):
    assert read("times", raw) == times


@pytest.mark.parametrize("raw", [-1, 1001, Decimal("1.5"), True, "3", None])
def test_what_is_no_number_of_times_is_refused(raw):
    assert wrong("times", raw) == "must be a whole number from 0 to 1000. 0 turns it off."


# -- secrets --


HOOK = "https://hooks.example/services/T0/B0?sig=canary"


@pytest.mark.parametrize("url", [HOOK, "http://127.0.0.1:9000/alerts", "https://[::1]:8443/"])
def test_a_webhook_is_a_secret_that_is_an_address(url):
    secret = read("webhook", "env:HOOK", path=("alerts", "webhook"), environ={"HOOK": url})

    assert (secret.reveal(), secret.reference) == (url, "env:HOOK")


@pytest.mark.parametrize(
    "value",
    [
        CANARY,
        "ftp://canary/x",
        "https://",
        "https://u:canary@h/",
        "https://h:0/canary",
        "https://h:x/canary",
        "https://h/ canary",
    ],
)
def test_a_webhook_that_is_no_address_is_refused_without_being_repeated(value):
    told = wrong("webhook", "env:HOOK", path=("alerts", "webhook"), environ={"HOOK": value})

    assert "no http or https address" in told
    assert "canary" not in told


def test_what_is_told_of_a_missing_webhook_names_its_own_key():
    path = ("alerts", "webhook")

    assert wrong("webhook", "env:HOOK", path=path) == (
        "it needs the environment variable HOOK, which is not set. Set it (export HOOK=...) or remove the key."
    )
    assert 'webhook = "env:NAME"' in wrong("webhook", HOOK, path=path)
    assert "canary" not in wrong("webhook", HOOK, path=path)


def test_a_secret_comes_from_the_environment():
    secret = read(Secret, "env:KEY", path=KEY_PATH, environ={"KEY": f" {CANARY}\n"})

    assert secret.reveal() == CANARY
    assert secret.reference == "env:KEY"


def test_a_missing_variable_is_told_with_its_provider():
    told = wrong(Secret, "env:BOX_KEY", path=KEY_PATH)

    assert "provider `box` needs the environment variable BOX_KEY, which is not set." in told
    assert "export BOX_KEY=" in told


@pytest.mark.parametrize("raw", [CANARY, f"env:{CANARY}", "", "env:", "vault:x", "$KEY", "KEY", 3, True, [CANARY]])
def test_a_literal_key_is_refused_without_being_repeated(raw):
    told = wrong(Secret, raw, path=KEY_PATH)

    assert "env:NAME" in told
    assert CANARY not in told


@pytest.mark.parametrize("value", ["", "  ", f"{CANARY}\nx", f"{CANARY}\r\nx-admin: 1", f"{CANARY}\0", f"{CANARY}é"])
def test_a_value_that_no_header_can_carry_is_refused_without_being_repeated(value):
    told = wrong(Secret, "env:KEY", path=KEY_PATH, environ={"KEY": value})

    assert CANARY not in told
    with pytest.raises(Wrong):
        check_key(value)


def test_a_secret_comes_from_a_file(tmp_path):
    (tmp_path / "key").write_text(f"{CANARY}\n")

    assert read(Secret, "file:key", path=KEY_PATH, folder=tmp_path).reveal() == CANARY
    assert read(Secret, f"file:{tmp_path}/key", path=KEY_PATH).reveal() == CANARY
    assert read(Secret, "file:~/key", path=KEY_PATH, environ={"HOME": str(tmp_path)}).reveal() == CANARY


def test_a_file_that_cannot_be_a_secret_is_told(tmp_path):
    (tmp_path / "long").write_text("x" * (MAX_SECRET_BYTES + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")

    assert "No such file" in wrong(Secret, "file:nope", path=KEY_PATH, folder=tmp_path)
    assert "directory" in wrong(Secret, "file:.", path=KEY_PATH, folder=tmp_path)
    assert "not valid" in wrong(Secret, "file:\0", path=KEY_PATH, folder=tmp_path)
    assert "more than" in wrong(Secret, "file:long", path=KEY_PATH, folder=tmp_path)
    assert "characters" in wrong(Secret, "file:binary", path=KEY_PATH, folder=tmp_path)


ENVIRON = {"PATH": os.environ["PATH"], "KEY": CANARY}


def test_a_secret_comes_from_a_command(tmp_path):
    secret = read(Secret, "cmd:printenv KEY", path=KEY_PATH, environ=ENVIRON, folder=tmp_path)
    assert secret.reveal() == CANARY

    (tmp_path / "get.sh").write_text("#!/bin/sh\necho from-here $1\n")
    (tmp_path / "get.sh").chmod(0o700)
    assert (
        read(Secret, "cmd:./get.sh 'a  b'", path=KEY_PATH, environ=ENVIRON, folder=tmp_path).reveal() == "from-here a b"
    )


def test_a_command_has_no_shell(tmp_path):
    told = read(Secret, "cmd:echo $KEY; echo b > c", path=KEY_PATH, environ=ENVIRON, folder=tmp_path).reveal()

    assert told == "$KEY; echo b > c"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("false", "`false` ended with status 1"),
        (f"sh -c 'echo {CANARY} >&2; exit 3'", "`sh` ended with status 3"),
        ("true", "empty"),
        ("no-such-program-at-all x", "`no-such-program-at-all` cannot be run: No such file"),
        ("echo 'open", "quote that is not closed"),
        ("", "there is none"),
        ("echo \0", "cannot be run"),
        ("yes", "more than 65536 bytes"),
    ],
)
def test_a_command_that_fails_is_told_without_what_it_wrote(command, says, tmp_path, capfd):
    began = time.monotonic()
    told = wrong(Secret, f"cmd:{command}", path=KEY_PATH, environ=ENVIRON, folder=tmp_path)

    assert says in told
    assert CANARY not in told
    assert CANARY not in "".join(capfd.readouterr())
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("command", ["sleep 60", "sh -c 'exec >&-; sleep 60'"])
def test_a_command_that_takes_too_long_is_ended(command, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "COMMAND_S", 0.04)

    assert "took longer than" in wrong(Secret, f"cmd:{command}", path=KEY_PATH, environ=ENVIRON, folder=tmp_path)


def test_what_a_command_started_is_ended_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "COMMAND_S", 1.0)
    command = "cmd:sh -c 'sleep 60 & echo $! > new; mv new pid; sleep 60'"

    wrong(Secret, command, path=KEY_PATH, environ=ENVIRON, folder=tmp_path)

    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(pid)


def is_running(pid):
    """Whether a process does anything still; one that nobody has waited for does not."""
    state = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return state.strip() not in {"", "Z"}
