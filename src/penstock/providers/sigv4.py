"""Signs a request for AWS (Signature Version 4).

Pure: keys, region and time are handed in, headers are handed out; nothing is read, kept or sent. Place in the line: the
HTTP provider signs each try with the credentials of that moment. Source: AWS, "Create a signed AWS API request" (IAM User
Guide); every service but S3 encodes the path, which is percent-encoded already, once more in what is signed.
"""

from datetime import UTC, datetime
from hashlib import sha256
from hmac import digest
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from msgspec import Struct

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_UNSIGNED: Final = frozenset(
    {
        *("baggage", "connection", "expect", "keep-alive", "proxy-authenticate", "proxy-authorization", "te"),
        *("traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade", "user-agent", "x-amzn-trace-id"),
    }
)
"""Headers that change on the way, as the AWS SDKs have them."""
_UNRESERVED: Final = "-_.~"

Header = tuple[bytes, bytes]


class Credentials(Struct, frozen=True):
    """AWS keys. `expires_at` is Unix seconds, None for keys that do not expire. Neither repr nor str shows them."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None
    expires_at: float | None = None

    def __repr__(self) -> str:
        return f"Credentials(***, expires_at={self.expires_at})"

    __str__ = __repr__


class Unsigned(Struct, frozen=True):
    """A request as it will be sent. `path` is percent-encoded once, `query` is without `?`; `headers` have to hold host."""

    method: str
    path: str
    headers: tuple[Header, ...]
    body: bytes = b""
    query: str = ""


def sign(
    request: Unsigned, credentials: Credentials, region: str, now: datetime, service: str = "bedrock"
) -> tuple[Header, ...]:
    """Give the headers that have to be added to a request: date, session token if there is one, and the signature."""
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    added: list[Header] = [(b"x-amz-date", stamp.encode())]
    if credentials.session_token:
        added.append((b"x-amz-security-token", credentials.session_token.encode()))
    names, headers = _canonical_headers((*request.headers, *added))
    canonical = "\n".join(
        (
            request.method,
            quote(_normal(request.path), safe="/" + _UNRESERVED),
            _canonical_query(request.query),
            headers,
            names,
            sha256(request.body).hexdigest(),
        )
    )
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4" + credentials.secret_access_key.encode()
    for part in scope.split("/"):
        key = digest(key, part.encode(), "sha256")
    signature = digest(key, text.encode(), "sha256").hex()
    value = f"{_ALGORITHM} Credential={credentials.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    return (*added, (b"authorization", value.encode()))


def _normal(path: str) -> str:
    """Take dot segments and empty segments out of a path (RFC 3986, 6.2.2.3); a slash at its end stays."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in {"", "."}:
            kept.append(segment)
    end = "/" if kept and path.endswith("/") else ""
    return f"/{'/'.join(kept)}{end}"


def _canonical_headers(headers: tuple[Header, ...]) -> tuple[str, str]:
    """Give the names and the lines of the headers that are signed: sorted, in lower case, inner blanks collapsed."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        lower = name.decode("latin-1").lower()
        if lower not in _UNSIGNED:
            values.setdefault(lower, []).append(" ".join(value.decode().split()))
    lines = [f"{name}:{','.join(values[name])}\n" for name in sorted(values)]
    return ";".join(sorted(values)), "".join(lines)


def _canonical_query(query: str) -> str:
    pairs = []
    for piece in query.split("&") if query else ():
        name, _, value = piece.partition("=")
        pairs.append(tuple(quote(unquote_to_bytes(part), safe=_UNRESERVED) for part in (name, value)))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))
