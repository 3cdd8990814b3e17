"""Writes a provider's credential into the head of a request.

A key stands in a header that never changes. What has to be signed for each request (AWS), or fetched and renewed (Google,
Azure), comes from an `Authority`. Never logs, never keeps more than the head that it made.
"""

from typing import Protocol

from penstock.providers.kinds import ANTHROPIC_VERSION, dialect_of, service_of
from penstock.settings import ProviderSettings

Header = tuple[bytes, bytes]


class Authority(Protocol):
    """Gives the header lines of one request; waits only where a credential has to be fetched. Raises UpstreamAuth."""

    async def lines(self, path: str, body: bytes) -> bytes:
        """Give header lines, each with its line end, for a POST of this body to this path."""
        ...


def credential_headers(settings: ProviderSettings) -> tuple[Header, ...]:
    """Give the headers that carry the provider's key; none if it needs none (a model server on loopback)."""
    service = service_of(settings.kind)
    headers: list[Header] = []
    if settings.api_key is not None:
        key = settings.api_key.reveal().encode()
        name = "" if settings.kind == "gemini" and dialect_of(settings) == "chat" else service.key_header
        headers.append((name.encode(), key) if name else (b"authorization", b"Bearer " + key))
    if dialect_of(settings) == "messages" and settings.kind != "vertex":
        headers.append((b"anthropic-version", ANTHROPIC_VERSION.encode()))
    return tuple(headers)


def authority(settings: ProviderSettings, host: str) -> Authority | None:
    """Give what signs or fetches, for a provider that takes no plain key; None for all others."""
    del settings, host
    return None
