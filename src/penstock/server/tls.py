"""The server's certificate, as a TLS context. Nothing here listens or connects."""

import ssl
from pathlib import Path
from ssl import SSLContext

__all__ = ("Certificate", "SSLContext", "server_context")


class Certificate:
    """A certificate that can be replaced while serving: connections made from then on are shown the new one."""

    def __init__(self, certificate: Path, key: Path | None) -> None:
        """Load it. Raises OSError, as `replace` does."""
        self._current = server_context(certificate, key)
        self.context = server_context(certificate, key)  # for what listens; the current one takes its place
        self.context.sni_callback = self._choose

    def replace(self, context: SSLContext) -> None:
        """Show another certificate from now on."""
        self._current = context

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: SSLContext) -> None:
        """Be asked for every connection, whether its client names a server or not."""
        connection.context = self._current


def server_context(certificate: Path, key: Path | None) -> SSLContext:
    """Load a certificate chain and its key, both PEM, for HTTP/1.1. Raises OSError, of which `ssl.SSLError` is one."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    return context
