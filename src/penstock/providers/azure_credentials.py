"""Where Entra tokens for Azure OpenAI come from: azure-identity, the extra `penstock[azure]`.

Its DefaultAzureCredential looks at the environment, workload and managed identities and the Azure tools, in this order.
It blocks and may start those tools, so it runs in the thread of `tokens.py`. A static `api_key` needs none of this. No
message shows a token or quotes what Entra says; only the code of an error is told.

Source: "Azure Identity client library for Python" and "Entra authentication error codes" in Microsoft's documentation.
"""

import re
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from penstock.errors import UpstreamAuth
from penstock.providers.address import Address, proxy_for
from penstock.providers.tokens import BearerToken, Token
from penstock.settings import ProviderSettings

SCOPE: Final = "https://cognitiveservices.azure.com/.default"
TIMEOUT_S: Final = 10
_AUTHORITY: Final = "login.microsoftonline.com"
_CODE: Final = re.compile(r"AADSTS\d{4,8}").search
_HINT: Final = (
    "Set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, give the machine a managed identity, "
    "sign in with `az login`, or give an api_key."
)


class TokenCredential(Protocol):
    """What is used of azure-core's protocol of that name."""

    def get_token(self, *scopes: str) -> Any:
        """Give an object with `token` and `expires_on` (Unix seconds)."""
        ...


def azure_bearer(
    settings: ProviderSettings, clock: Callable[[], float] = time.time, credential: TokenCredential | None = None
) -> BearerToken:
    """Give what keeps the Entra token of a provider; nothing is looked for yet. `credential` replaces the usual chain."""
    return BearerToken(_Fetch(settings, credential), clock)


class _Fetch:
    """Fetches a token; see `tokens.Fetch`. The chain is kept, since it remembers which of its links worked."""

    __slots__ = ("_credential", "_settings")

    def __init__(self, settings: ProviderSettings, credential: TokenCredential | None) -> None:
        self._settings = settings
        self._credential = credential

    def __call__(self) -> Token:
        """Fetch a token. Raises UpstreamAuth."""
        try:
            from azure.core.exceptions import AzureError, ClientAuthenticationError
        except ImportError:
            text = "Entra tokens need the extra [azure]."
            raise UpstreamAuth(text, hint='Install it: pip install "penstock[azure]", or give an api_key.') from None
        try:
            if self._credential is None:
                self._credential = _chain(self._settings)
            got = self._credential.get_token(SCOPE)
        except ClientAuthenticationError as error:
            found = _CODE(str(error))
            text = (
                f"Entra refused the credential ({found[0]})." if found else "There is no credential that Entra takes."
            )
            raise UpstreamAuth(text, hint=_HINT) from None
        except AzureError:
            text = "Entra's token service could not be reached."
            raise UpstreamAuth(text, hint="Look at the way to it, proxies and ca_file included.") from None
        except ValueError:
            text = "The settings of the Azure identity are not valid."
            raise UpstreamAuth(text, hint="Look at the AZURE_ variables of the environment.") from None
        return Token(got.token, float(got.expires_on))


def _chain(settings: ProviderSettings) -> TokenCredential:
    """Make the usual chain, with the proxy and the certificates of the settings."""
    from azure.identity import DefaultAzureCredential

    environ = {name: value.reveal() for name, value in settings.cloud_environ}
    options: dict[str, Any] = {"connection_timeout": TIMEOUT_S, "read_timeout": TIMEOUT_S, "retry_total": 1}
    authority = environ.get("AZURE_AUTHORITY_HOST", "").strip()
    if authority:
        options["authority"] = authority
        options["disable_instance_discovery"] = True  # who names the authority vouches for it
    if settings.ca_file is not None:
        options["connection_verify"] = str(settings.ca_file)
    address, _ = Address.parse(authority if "://" in authority else f"https://{authority or _AUTHORITY}")
    proxy = proxy_for(address, {name: value.reveal() for name, value in settings.proxy_environ})
    if proxy is not None:
        options["proxies"] = {address.scheme: proxy}
    return DefaultAzureCredential(**options)
