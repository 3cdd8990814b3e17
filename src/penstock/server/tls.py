"""The server's certificate, as a TLS context. Nothing here listens or connects."""

import ssl
from pathlib import Path
from ssl import SSLContext

__all__ = ("SSLContext", "server_context")


def server_context(certificate: Path, key: Path | None) -> SSLContext:
    """Load a certificate chain and its key, both PEM, for HTTP/1.1. Raises OSError, of which `ssl.SSLError` is one."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    return context
