"""What is written to an HTTP provider besides a body, and read of it besides a reply: fixed lines, trust, the type of an error.

Pure, but for the certificates that it reads. Place in the line: beside `http.py`.
"""

from penstock.errors import ConfigError, Mistake
from penstock.providers.auth import credential_headers
from penstock.providers.pool import SSLContext, trust_store
from penstock.settings import ProviderSettings

LIMIT_NEEDED = frozenset({"messages"})
"""Dialects in which a request has to say how long the answer may be."""


def typed(body: bytes, kind: bytes | None) -> bytes:
    """Put the type of an error into its body, where AWS says it in a header alone."""
    word = (kind or b"").partition(b":")[0]
    if not word.isalnum() or not body.startswith(b"{") or b'"__type"' in body:
        return body
    rest = body[1:].lstrip()
    return b'{"__type":"%b"%b%b' % (word, b"" if rest.startswith(b"}") else b",", rest)


def trusted(name: str, ca_file: str) -> SSLContext:
    """Read the certificates that a provider's own may go back to. Raises ConfigError where there are none."""
    try:
        return trust_store(ca_file)
    except OSError:  # what TLS raises is one
        mistake = Mistake(f"providers.{name}.ca_file", f"{ca_file} holds no certificate.", None, "Give a file in PEM.")
        raise ConfigError("the configuration", (mistake,)) from None


def fixed_lines(host: bytes, settings: ProviderSettings) -> bytes:
    """Write the lines of a head that are the same for every question."""
    own = tuple((name.lower().encode(), value.encode()) for name, value in settings.headers)
    lines = [
        b"host: " + host,
        b"content-type: application/json",
        b"accept: */*" if settings.kind == "bedrock" else b"accept: application/json, text/event-stream",
        b"accept-encoding: identity",
        b"user-agent: penstock",
        *(name + b": " + value for name, value in (*credential_headers(settings), *own)),
        b"",
    ]
    return b"\r\n".join(lines)
