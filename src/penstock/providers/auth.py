"""Writes a provider's credential into the head of a request.

A key stands in a header that never changes. What has to be signed for each request (AWS), or fetched and renewed (Google,
Azure), comes from an `Authority`. Never logs, never keeps more than the head that it made.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

from penstock.providers.aws_credentials import AwsAccess, CredentialSource, bearer_token
from penstock.providers.azure_credentials import azure_bearer
from penstock.providers.google_credentials import google_bearer
from penstock.providers.kinds import ANTHROPIC_VERSION, dialect_of, region_of, service_of
from penstock.providers.sigv4 import Unsigned, sign
from penstock.settings import ProviderSettings

Header = tuple[bytes, bytes]


class Authority(Protocol):
    """Gives what a request is authorised with at any time; it never waits while it has something that is valid."""

    @property
    def text(self) -> str:
        """The secret in use, to be kept out of errors; "" where there is none."""
        ...

    async def lines(self, path: str, body: bytes) -> bytes:
        """Give header lines, each with its line end, for a POST of this body to this path. Raises UpstreamAuth."""
        ...

    def forget(self) -> None:
        """Fetch anew, since the provider refused what it got."""
        ...

    def close(self) -> None:
        """Let go of what is under way."""
        ...


def credential_headers(settings: ProviderSettings) -> tuple[Header, ...]:
    """Give the headers that carry the provider's key; none if it needs none (a model server on loopback)."""
    headers: list[Header] = []
    key = static_key(settings).encode()
    if key:
        speaks_own = dialect_of(settings) == service_of(settings.kind).dialects[0]
        name = service_of(settings.kind).key_header if speaks_own or settings.kind == "azure" else ""
        headers.append((name.encode(), key) if name else (b"authorization", b"Bearer " + key))
    if dialect_of(settings) == "messages" and settings.kind != "vertex":
        headers.append((b"anthropic-version", ANTHROPIC_VERSION.encode()))
    return tuple(headers)


def static_key(settings: ProviderSettings) -> str:
    """Give the key that stands in the settings or, for Bedrock, in the environment; "" where there is none."""
    if settings.api_key is not None:
        return settings.api_key.reveal()
    return (bearer_token(_environ(settings)) or "") if settings.kind == "bedrock" else ""


def authority(settings: ProviderSettings, host: str) -> Authority | None:
    """Give what signs or fetches, for a provider that takes no plain key; None for all others."""
    if static_key(settings):
        return None
    match settings.kind:
        case "bedrock":
            return AwsSigner(settings, host)
        case "vertex":
            return google_bearer(settings)
        case "azure":
            return azure_bearer(settings)
        case _:
            return None


class AwsSigner:
    """Signs each request with the AWS keys of the moment."""

    text = ""  # the secret key itself is never sent

    def __init__(self, settings: ProviderSettings, host: str) -> None:
        """Prepare; keys are looked for with the first request."""
        self._region = region_of(settings) or "us-east-1"  # a proxy with an address of its own needs none
        environ = tuple(_environ(settings).items())
        self._source = CredentialSource(AwsAccess(profile=settings.profile or "", environ=environ))
        self._host = host.encode()

    async def lines(self, path: str, body: bytes) -> bytes:
        """Give the signature's header lines. Raises UpstreamAuth where there are no keys."""
        keys = await self._source.credentials()
        where, _, query = path.partition("?")
        headers = ((b"host", self._host), (b"content-type", b"application/json"))
        signed = sign(Unsigned("POST", where, headers, body, query), keys, self._region, datetime.now(UTC))
        return b"".join([name + b": " + value + b"\r\n" for name, value in signed])

    def forget(self) -> None:
        """Look for keys again."""
        self._source.forget()

    def close(self) -> None:
        """Let go of a look that is under way."""
        self._source.close()


def _environ(settings: ProviderSettings) -> Mapping[str, str]:
    return {name: value.reveal() for name, value in settings.cloud_environ}
