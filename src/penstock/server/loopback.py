"""Who may come in while there is no key: programs on this machine, and no web page from elsewhere.

A browser can reach loopback as well, so without keys a request is refused that carries a foreign `Host` (DNS rebinding)
or an `Origin` other than this server's own. Pure: header values in, a verdict out.
"""

from ipaddress import ip_address
from urllib.parse import urlsplit

from penstock.errors import PermissionDenied


def refuse_strangers(host: str, origin: str | None) -> None:
    """Raise PermissionDenied for what a web page from elsewhere could have sent."""
    if not is_here(host) or origin not in (None, f"http://{host}", f"https://{host}"):
        raise PermissionDenied(
            "This request comes from a web page, or by a name that is not this machine's.",
            hint="Use http://127.0.0.1, or make a key: penstock keys create.",
        )


def is_here(host: str) -> bool:
    """Whether a `Host` names this machine itself."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
