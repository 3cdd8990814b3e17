"""Writes a provider's credential into the head of a request.

Keys only, for now; what has to be signed or fetched (SigV4, Google, Azure) will stand beside it. Never logs, never keeps
more than the head that it made.
"""

from penstock.settings import ProviderSettings

Header = tuple[bytes, bytes]


def credential_headers(settings: ProviderSettings) -> tuple[Header, ...]:
    """Give the headers that carry the provider's key; none if it needs none (a model server on loopback)."""
    if settings.api_key is None:
        return ()
    return ((b"authorization", b"Bearer " + settings.api_key.reveal().encode()),)
