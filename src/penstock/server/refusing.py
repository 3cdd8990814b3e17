"""What the server refuses before it is a call: a method that a path does not take, a web page's request to an open door.

Decides nothing else. Place in the line: `app.py` asks here, and words what is raised in the endpoint's dialect.
"""

from penstock.errors import MethodNotAllowed, PenstockError
from penstock.server.loopback import refuse_strangers
from penstock.server.request import Head, Request


def stay_at_home(request: Request | Head) -> None:
    """While there is no key, answer nobody from a web page. Raises PermissionDenied."""
    origin = request.header(b"origin")
    host = (request.header(b"host") or b"").decode("latin-1")
    refuse_strangers(host, None if origin is None else origin.decode("latin-1"))


class WrongMethod(MethodNotAllowed):
    """A 405 tells what is allowed (RFC 9110, 15.5.6)."""

    allow = b""


def wrong_method(request: Request, right: str) -> WrongMethod:
    """Give what to raise where only the `right` method is taken."""
    error = WrongMethod(f"{request.path} takes {right}, not {request.method}.")
    error.allow = b"GET, HEAD" if right == "GET" else right.encode()
    return error


def reading_only(request: Request) -> None:
    """Refuse what would change something. Raises WrongMethod."""
    if request.method not in {"GET", "HEAD"}:
        raise wrong_method(request, "GET")


class ProtocolError(PenstockError):
    """What the HTTP protocol itself refused."""
