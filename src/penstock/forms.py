"""How special values are written in a configuration: money, names, addresses, zones, days, files and secrets.

Each becomes a `Form` for `document.py`. Money is exact: a decimal number of dollars becomes integer nano-dollars, or is
refused where it is finer. A secret is a reference that is resolved here, at load: `env:NAME`, `file:/path`, `cmd:...`; a
message about one may name the variable, the file or the program, never a value.
"""

import os
import re
import shlex
import signal
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import date, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from time import monotonic
from typing import IO, Any, cast
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct

from penstock.document import Form, Wrong, nearest, write_value
from penstock.settings import Secret
from penstock.target import NANO_PER_USD
from penstock.toml import KeyPath

MAX_USD = 1_000_000_000
MAX_RATE_USD = 1_000_000
MAX_TIMES = 1000
MAX_SECRET_BYTES = 65_536
COMMAND_S = 10.0
SHOWN = 12

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_TARGET = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})/([!-~]{1,200})")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VISIBLE = re.compile(r"[ -~]+")

CREDENTIAL_HEADERS = frozenset(
    ("authorization", "proxy-authorization", "cookie", "api-key", "x-api-key", "x-goog-api-key", "x-auth-token")
)
OWN_HEADERS = frozenset(
    ("host", "connection", "content-length", "content-type", "transfer-encoding", "accept-encoding", "expect", "te")
)
REFERENCES = ("env:", "file:", "cmd:")
REFERENCE_HINT = (
    'Put it into the environment and refer to it: {key} = "env:NAME"; "file:/path" and "cmd:program arguments" '
    "work as well. Replace a secret that has stood in a file."
)


class Known(Struct, frozen=True):
    """What the rest of a text (and its surroundings) makes known, so that names can be checked where they stand."""

    providers: Collection[str] = ()
    models: Collection[str] = ()
    kinds: Collection[str] = ()


def forms(environ: Mapping[str, str], folder: Path, known: Known) -> Mapping[str | type, Form]:
    """Give the forms of one file: relative paths start at `folder`, variables come from `environ`."""
    return {
        "usd": Form("an amount in US dollars", lambda raw, _: nano_usd(raw, MAX_USD)),
        "rate": Form("US dollars per million tokens", lambda raw, _: nano_usd(raw, MAX_RATE_USD)),
        "percent": Form("percent from -100 to 100", lambda raw, _: basis_points(raw)),
        "times": Form(f"a whole number from 0 to {MAX_TIMES}", lambda raw, _: _times(raw)),
        "name": Form("a name", lambda raw, _: _match(_NAME, raw, "letters, digits, '.', '_' and '-', at most 64")),
        "model name": Form(
            "a name", lambda raw, _: _match(_MODEL_NAME, raw, "letters, digits, '.', '_', '-' and ':', at most 128")
        ),
        "kind": Form("a kind of provider", lambda raw, _: _kind(raw, known)),
        "target": Form("provider/model", lambda raw, _: _target(raw, known)),
        "model": Form("a model", lambda raw, _: _model(raw, known)),
        "url": Form("an http or https address", lambda raw, _: _url(raw)),
        "header": Form("text", _header),
        "zone": Form("a time zone", lambda raw, _: _zone(raw)),
        "day": Form("a date", lambda raw, _: _day(raw)),
        "file or folder": Form("a file or a folder", lambda raw, _: _path(raw, environ, folder)),
        Path: Form("a file", lambda raw, _: _file(raw, environ, folder)),
        Secret: Form("a reference to a secret", lambda raw, path: _secret(raw, path, environ, folder)),
        "webhook": Form("a reference to a secret", lambda raw, path: _webhook(_secret(raw, path, environ, folder))),
    }


# -- money --


def nano_usd(raw: Any, most: int) -> int:
    """Turn dollars into nano-dollars, exactly. Raises Wrong for what is no number, out of range or finer than that."""
    if not isinstance(raw, int | Decimal) or isinstance(raw, bool):
        raise Wrong("must be a number of US dollars, without quotes and signs.")
    if not (Decimal(raw).is_finite() and 0 <= raw <= most):
        raise Wrong(f"is out of range: must be from 0 to {most} US dollars.")
    exact = Context(traps=[Inexact, InvalidOperation])
    try:
        nano = exact.multiply(Decimal(raw), Decimal(NANO_PER_USD))
    except Inexact:
        nano = Decimal("0.5")
    if nano != nano.to_integral_value():
        raise Wrong("is finer than a billionth of a dollar, which is the unit of account.", "Round it to 9 decimals.")
    return int(nano)


def basis_points(raw: Any) -> int:
    """Turn percent into basis points, exactly. Raises Wrong for what is no number, out of range or finer than that."""
    if not isinstance(raw, int | Decimal) or isinstance(raw, bool):
        raise Wrong("must be a number of percent, without quotes and signs.")
    if not (Decimal(raw).is_finite() and -100 <= raw <= 100):
        raise Wrong("is out of range: must be percent from -100 to 100.", "Less than 0 is a surcharge.")
    points = Decimal(raw).scaleb(2)
    if points != points.to_integral_value():
        raise Wrong("is finer than a hundredth of a percent.", "Round it to 2 decimals.")
    return int(points)


def _times(raw: Any) -> int | None:
    """Read how many times; 0 means: never mind."""
    if not isinstance(raw, int) or isinstance(raw, bool) or not 0 <= raw <= MAX_TIMES:
        raise Wrong(f"must be a whole number from 0 to {MAX_TIMES}.", "0 turns it off.")
    return raw or None


# -- names --


def _text(raw: Any, what: str) -> str:
    if not isinstance(raw, str) or not raw:
        raise Wrong(f"must be {what}, as text in quotes.")
    return raw


def _match(pattern: re.Pattern[str], raw: Any, what: str) -> str:
    text = _text(raw, "a name")
    if not pattern.fullmatch(text):
        raise Wrong("is no good name.", f"A name has {what} characters and begins with a letter or a digit.")
    return text


def _kind(raw: Any, known: Known) -> str:
    text = _text(raw, "a kind of provider")
    if text in known.kinds:
        return text
    raise _unknown("there is no such kind of provider.", text, known.kinds, "kinds")


def _target(raw: Any, known: Known) -> str:
    text = _text(raw, "a target, provider/model")
    found = _TARGET.fullmatch(text)
    if found is None:
        hint = "It is a model of this file; a target says where." if text in known.models else ""
        raise Wrong("must be provider/model.", hint)
    if found[1] not in known.providers:
        raise _unknown(f"there is no provider `{found[1]}`.", found[1], known.providers, "providers", f"/{found[2]}")
    return text


def _model(raw: Any, known: Known) -> str:
    text = _text(raw, "the name of a model")
    if text in known.models:
        return text
    if _TARGET.fullmatch(text):
        return _target(text, known)
    shown = f"`{text}`" if _MODEL_NAME.fullmatch(text) else "of that name"
    raise _unknown(f"there is no model {shown}.", text, known.models, "models")


def _unknown(message: str, name: str, known: Collection[str], what: str, rest: str = "") -> Wrong:
    close = nearest(name, known)
    if close:
        return Wrong(message, f"Did you mean `{close}{rest}`?")
    return Wrong(message, f"Known {what}: {_list(known)}." if known else f"The file has no {what}.")


def _list(names: Collection[str]) -> str:
    shown = sorted(names)
    more = len(shown) - SHOWN
    return ", ".join(shown[:SHOWN]) + (f" and {more} more" if more > 0 else "")


# -- addresses, zones, days, files --


def _url(raw: Any) -> str:
    text = _text(raw, "an address")
    if not _is_address(text):
        raise Wrong("must be an http or https address.")
    url = urlsplit(text)
    if "@" in url.netloc or url.query or url.fragment:
        raise Wrong("must not hold a password, a query or a fragment.", "Keys go into `api_key`.")
    return text.rstrip("/")


def _is_address(text: str) -> bool:
    try:
        url = urlsplit(text)
        usable = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        return False
    return usable and not re.search(r"[^!-~]", text)


def _header(raw: Any, path: KeyPath) -> str:
    name = str(path[-1]).lower()
    if not _HEADER_NAME.fullmatch(name):
        raise Wrong("is no good name for a header.", "It has letters, digits and '-'.")
    if name in OWN_HEADERS:
        raise Wrong("is set by the gateway itself.", "Remove it.")
    if name in CREDENTIAL_HEADERS:
        raise Wrong("carries a credential, which has no place here.", 'Use api_key = "env:NAME".')
    text = _text(raw, "the header's text")
    if text.startswith(REFERENCES):
        raise Wrong("is not resolved here: only `api_key` may refer to a secret.")
    if not _VISIBLE.fullmatch(text):
        raise Wrong("has characters that a header cannot carry.", "Printable ASCII can.")
    return text


def _zone(raw: Any) -> str:
    text = _text(raw, "a time zone of the IANA database")
    try:
        zone = text if text == "UTC" else ZoneInfo(text).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Wrong("is no time zone that this machine knows.") from None
    return zone


def _day(raw: Any) -> str:
    if isinstance(raw, date) and not isinstance(raw, datetime):
        return raw.isoformat()
    try:
        return date.fromisoformat(_text(raw, "a date")).isoformat()
    except ValueError:
        raise Wrong("must be a date, year-month-day.") from None


def _file(raw: Any, environ: Mapping[str, str], folder: Path) -> Path:
    path = _place(_text(raw, "a path"), environ, folder)
    try:
        if path.is_file():
            return path
    except OSError:
        pass
    raise Wrong(
        f"there is no readable file {write_value(str(path))}.", "Relative paths start at the file they stand in."
    )


def _path(raw: Any, environ: Mapping[str, str], folder: Path) -> Path:
    path = _place(_text(raw, "a path"), environ, folder)
    if path.is_dir():
        return path
    return _file(raw, environ, folder)


def _place(text: str, environ: Mapping[str, str], folder: Path) -> Path:
    if text.startswith("~/") and environ.get("HOME"):
        return Path(environ["HOME"]) / text[2:]
    return folder / text


# -- secrets --


def _secret(raw: Any, path: KeyPath, environ: Mapping[str, str], folder: Path) -> Secret:
    text = raw if isinstance(raw, str) else ""
    scheme, _, rest = text.partition(":")
    match scheme:
        case "env":
            value = _variable(rest, path, environ)
        case "file":
            value = _decode(_read(_place(rest, environ, folder)))
        case "cmd":
            value = _decode(_run(rest, path, environ, folder))
        case _:
            raise Wrong("must be a reference to a secret, never the secret itself.", _reference_hint(path))
    return Secret(check_key(value), text)


def _reference_hint(path: KeyPath) -> str:
    return REFERENCE_HINT.format(key=path[-1])


def _webhook(secret: Secret) -> Secret:
    """Give the secret back if it is an address. It is often a credential itself, so that nothing of it is told."""
    if not _is_address(secret.reveal()) or "@" in urlsplit(secret.reveal()).netloc:
        what = "the secret that it refers to is no http or https address, or has a user or a password in it."
        raise Wrong(what, "Set it to the address that alerts are posted to.")
    return secret


def check_key(value: str) -> str:
    """Give a key without the white space around it. Raises Wrong for what cannot be sent in a header."""
    value = value.strip()
    if not value:
        raise Wrong("the secret that it refers to is empty.", "Set it.")
    if not _VISIBLE.fullmatch(value):
        raise Wrong(
            "the secret that it refers to has characters that no key has, such as a line break.", "Set it anew."
        )
    return value


def _variable(name: str, path: KeyPath, environ: Mapping[str, str]) -> str:
    if not _VARIABLE.fullmatch(name):
        what = "after env: stands the name of an environment variable, and this is none."
        raise Wrong(what, _reference_hint(path))
    value = environ.get(name)
    if value is None:
        whose, rest = (f"provider `{path[1]}`", "the provider") if path[0] == "providers" else ("it", "the key")
        hint = f"Set it (export {name}=...) or remove {rest}."
        raise Wrong(f"{whose} needs the environment variable {name}, which is not set.", hint)
    return value


def _decode(data: bytes) -> str:
    if len(data) > MAX_SECRET_BYTES:
        raise Wrong(f"the secret that it refers to has more than {MAX_SECRET_BYTES} bytes.", "Refer to the key alone.")
    return data.decode("utf-8", "replace")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_SECRET_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "the path is not valid"
        raise Wrong(
            f"{write_value(str(path))} cannot be read: {why}.", "Correct the path or its permissions."
        ) from None


def _run(command: str, path: KeyPath, environ: Mapping[str, str], folder: Path) -> bytes:
    """Run a program without a shell and give what it writes, within bounds of time and size."""
    try:
        words = shlex.split(command)
    except ValueError:
        raise Wrong("the command has a quote that is not closed.", "Close it.") from None
    if not words:
        raise Wrong("after cmd: stands a command, and there is none.", _reference_hint(path))
    try:
        process = Popen(  # noqa: S603 - the command is the operator's own, and no shell stands behind it
            words,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=DEVNULL,  # it may tell the secret, and ours ends in a log
            env=dict(environ),
            cwd=folder,
            start_new_session=True,  # so that all that it starts can be ended with it
        )
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "its name is not valid"
        raise Wrong(f"`{words[0]}` cannot be run: {why}.", "Correct the command; it is run without a shell.") from None
    deadline = monotonic() + COMMAND_S
    pipe = cast("IO[bytes]", process.stdout)
    try:
        data = _collect(pipe, deadline)
        if len(data) > MAX_SECRET_BYTES:
            return data  # too much already: no need to wait for the rest
        status = process.wait(max(0.0, deadline - monotonic()))
    except TimeoutExpired:
        raise Wrong(f"`{words[0]}` took longer than {COMMAND_S:g} s.", "Run it by hand to see why.") from None
    finally:
        pipe.close()
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status != 0:
        raise Wrong(f"`{words[0]}` ended with status {status}.", "Run it by hand to see why.")
    return data


def _collect(pipe: IO[bytes], deadline: float) -> bytes:
    data = b""
    with DefaultSelector() as selector:
        selector.register(pipe, EVENT_READ)
        while len(data) <= MAX_SECRET_BYTES and selector.select(max(0.0, deadline - monotonic())):
            part = os.read(pipe.fileno(), MAX_SECRET_BYTES)
            if not part:
                break
            data += part
    return data
