"""Where an upstream is reached: its address, the proxy on the way, and which proxy the environment asks for.

Pure: text in, values out. It never resolves a name, opens a socket or reads the environment itself (`config.py` hands it
in). Place in the line: `config.py` and `http.py` make these values, `pool.py` dials them.

Source: RFC 3986 for URLs; the proxy variables as curl and Go's net/http/httpproxy read them.
"""

import base64
import ipaddress
import re
from collections.abc import Mapping
from typing import Final, Literal, Self
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

_CONNECT_ANSWER: Final = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_PORTS: Final = {"http": 80, "https": 443}
_IP = ipaddress.IPv4Address | ipaddress.IPv6Address


class Address(msgspec.Struct, frozen=True):
    """One upstream. `host` is lower case and bare (`::1`, not `[::1]`)."""

    scheme: Literal["http", "https"]
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> tuple[Self, str]:
        """Read a base URL: `https://api.example.com/v1` gives the address and the path prefix `/v1`.

        Raises `ValueError` with what is wrong; the message never repeats the URL, which may hold a secret.
        """
        parts, port = _split(url)
        scheme: Literal["http", "https"]
        match parts.scheme:
            case "http":
                scheme = "http"
            case "https":
                scheme = "https"
            case other:
                raise ValueError(f"a base URL starts with http:// or https://, not with {other!r}")
        if parts.username is not None or parts.password is not None:
            raise ValueError("a base URL holds no user or password: put the key into api_key")
        if parts.query or parts.fragment:
            raise ValueError("a base URL ends with its path: take away what follows the ? or #")
        if " " in parts.path or not parts.path.isprintable() or not parts.path.isascii():
            raise ValueError("the path of a base URL holds a blank or a special character: write it %-encoded")
        return cls(scheme, _host(parts), port or _PORTS[scheme]), parts.path.rstrip("/")

    @property
    def host_header(self) -> bytes:
        """The value of a Host header: `host` or `host:port`, brackets around IPv6, the scheme's own port left out."""
        return (_bracketed(self.host) if self.port == _PORTS[self.scheme] else self.netloc).encode()

    @property
    def netloc(self) -> str:
        """`host:port`, always with the port, as CONNECT and messages want it."""
        return f"{_bracketed(self.host)}:{self.port}"


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy. `credential` is a complete Proxy-Authorization line, or empty; it is never shown."""

    host: str
    port: int
    credential: bytes = b""

    def __repr__(self) -> str:
        return f"Proxy({self.netloc!r})"

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read `http://user:password@host:port`; without a scheme http is meant, without a port 80.

        Raises `ValueError`; the message never repeats the URL.
        """
        parts, port = _split(url if "://" in url else f"http://{url}")
        if parts.scheme != "http":
            raise ValueError(f"the proxy URL starts with {parts.scheme}://, but only http:// proxies are spoken to")
        credential = b""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            credential = b"proxy-authorization: Basic %b\r\n" % base64.b64encode(pair.encode())
        return cls(_host(parts), port or _PORTS["http"], credential)

    @property
    def netloc(self) -> str:
        """`host:port`, for messages."""
        return f"{_bracketed(self.host)}:{self.port}"

    def forwarded(self, address: Address, request: bytes) -> bytes:
        """Rewrite a request for a proxy that forwards it: absolute-form target (RFC 9112 section 3.2.2) and credentials."""
        method, _, rest = request.partition(b" ")
        line, _, rest = rest.partition(b"\r\n")
        return b"%b http://%b%b\r\n%b%b" % (method, address.host_header, line, self.credential, rest)


def unopened(head: bytes) -> str | None:
    """Read a proxy's answer to CONNECT; give why it opens no tunnel, None where it does."""
    answer = _CONNECT_ANSWER.match(head)
    if answer is None or not head.endswith(b"\r\n\r\n"):
        return "it did not answer CONNECT in HTTP/1.1"
    return None if answer[1].startswith(b"2") else f"it refused the tunnel with status {answer[1].decode()}"


def proxy_for(address: Address, environ: Mapping[str, str]) -> str | None:
    """Tell which proxy URL the environment wants for an address, or None for a direct connection.

    Reads `http_proxy` or `https_proxy` by the scheme, then `all_proxy`, each in lower case first and in upper case
    second, and leaves out what `no_proxy` names. `HTTP_PROXY` in upper case is ignored under CGI, where a client sets
    it with a `Proxy:` header (httpoxy, CVE-2016-5385). Like curl it gives loopback no special place.
    """
    under_cgi = "REQUEST_METHOD" in environ
    for name in (f"{address.scheme}_proxy", "all_proxy"):
        url = environ.get(name) or ("" if under_cgi and name == "http_proxy" else environ.get(name.upper(), ""))
        if url.strip():
            exceptions = environ.get("no_proxy") or environ.get("NO_PROXY", "")
            if any(_excepts(entry, address) for entry in exceptions.replace(",", " ").split()):
                return None
            return url.strip()
    return None


def _excepts(entry: str, address: Address) -> bool:
    """Whether one entry of NO_PROXY names the address: `*`, a suffix, an IP or a CIDR block, each with or without port."""
    if entry == "*":
        return True
    name, port = _entry(entry.lower())
    if port is not None and port != address.port:
        return False
    literal = _ip(address.host)
    if literal is not None:
        try:
            return literal in ipaddress.ip_network(name, strict=False)
        except ValueError:
            return False
    suffix = name.removeprefix("*").strip(".")
    host = address.host.rstrip(".")
    return bool(suffix) and (host == suffix or host.endswith(f".{suffix}"))


def _entry(entry: str) -> tuple[str, int | None]:
    """Split an entry of NO_PROXY into its name and its port; IPv6 has colons of its own."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        port = rest.removeprefix(":")
    elif entry.count(":") == 1:
        name, _, port = entry.partition(":")
    else:
        name, port = entry, ""
    return name, int(port) if port.isdecimal() else None


def _ip(host: str) -> _IP | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _split(url: str) -> tuple[SplitResult, int | None]:
    """Split a URL; what urllib calls wrong is said without repeating the text."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise ValueError("the URL's host or port is malformed: write it as http://host:port/path") from None
    return parts, port


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if not host or not host.isprintable() or any(sign in host for sign in " \\<>\"'`{}|^%"):
        raise ValueError("the URL names no valid host: write it as http://host:port/path")
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise ValueError("the URL's host is no valid domain name: write it in its xn-- form") from None
