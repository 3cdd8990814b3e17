"""Where tokens for Google Cloud (Vertex AI) come from.

In this order: the file that the settings name, the one that GOOGLE_APPLICATION_CREDENTIALS names, the one that gcloud keeps
(`gcloud auth application-default login`), and the metadata server of the machine. Files are read anew for each fetch, so a
changed key needs no restart; they take the extra `penstock[google]`, whose google-auth does the signing. The metadata server
takes nothing. Everything here blocks and runs in the thread of `tokens.py`; no message shows a key or a token.

Source: "How Application Default Credentials works" and "About VM metadata" in Google Cloud's documentation.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

from msgspec import DecodeError, Struct
from msgspec.json import decode

from penstock.errors import UpstreamAuth
from penstock.providers.address import Address, proxy_for
from penstock.providers.pool import trust_store
from penstock.providers.tokens import BearerToken, Token
from penstock.settings import ProviderSettings

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
TIMEOUT_S: Final = 10.0
METADATA_TIMEOUT_S: Final = 3.0
MAX_BYTES: Final = 1_048_576
"""No token is larger."""

_METADATA: Final = "metadata.google.internal"
_METADATA_PATH: Final = "/computeMetadata/v1/instance/service-accounts/default/token"
_METADATA_HEADERS: Final = (("Metadata-Flavor", "Google"),)
_GCLOUD_FILE: Final = "application_default_credentials.json"
_HINT: Final = (
    "Name a service account's file in `credentials`, run `gcloud auth application-default login`, or give an api_key."
)


def google_bearer(settings: ProviderSettings, clock: Callable[[], float] = time.time) -> BearerToken:
    """Give what keeps the token of a provider on Google Cloud; nothing is read or fetched yet."""
    return BearerToken(_Fetch(settings, clock), clock)


class _Fetch:
    """Fetches a token; see `tokens.Fetch`."""

    __slots__ = ("_ca_file", "_clock", "_credentials", "_environ", "_proxies")

    def __init__(self, settings: ProviderSettings, clock: Callable[[], float]) -> None:
        self._credentials = settings.credentials
        self._environ = {name: value.reveal() for name, value in settings.cloud_environ}
        self._proxies = {name: value.reveal() for name, value in settings.proxy_environ}
        self._ca_file = None if settings.ca_file is None else str(settings.ca_file)
        self._clock = clock

    def __call__(self) -> Token:
        """Fetch a token from the first place that has credentials. Raises UpstreamAuth."""
        found = find_file(self._credentials, self._environ)
        if found is None:
            return self._ask_metadata()
        return _refresh(_load(found), Transport(self._proxies, self._ca_file), found)

    def _ask_metadata(self) -> Token:
        """Ask the machine itself, which Google's own machines answer, without any proxy."""
        host = self._environ.get("GCE_METADATA_HOST") or self._environ.get("GCE_METADATA_IP") or _METADATA
        try:
            reply = Transport({})(
                f"http://{host}{_METADATA_PATH}?scopes={SCOPE}",
                headers=dict(_METADATA_HEADERS),
                timeout=METADATA_TIMEOUT_S,
            )
        except OSError:
            raise UpstreamAuth("There are no credentials for Google Cloud.", hint=_HINT) from None
        try:
            said = decode(reply.data, type=_Metadata) if reply.status == 200 else None
        except (DecodeError, UnicodeDecodeError):
            said = None
        if said is None or reply.headers.get("metadata-flavor") != "Google":
            text = f"The metadata server of this machine gave no token ({reply.status})."
            raise UpstreamAuth(text, hint=f"Give the machine a service account. {_HINT}")
        return Token(said.access_token, self._clock() + said.expires_in)


class _Metadata(Struct):
    """The answer of the metadata server."""

    access_token: str
    expires_in: float


def find_file(credentials: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Find the file with credentials: of the settings, of the environment, of gcloud; None if there is none."""
    if credentials is not None:
        return credentials
    named = environ.get("GOOGLE_APPLICATION_CREDENTIALS", "").strip()
    if named:
        return Path(named)
    home = environ.get("HOME", "")
    folder = environ.get("CLOUDSDK_CONFIG") or (f"{home}/.config/gcloud" if home else "")
    found = Path(folder, _GCLOUD_FILE)
    return found if folder and found.is_file() else None


# -- files, with google-auth --


def _load(path: Path) -> Any:
    """Read a file of any kind that Google has, each with the class that is made for it."""
    try:
        from google.auth.exceptions import GoogleAuthError
    except ImportError:
        text = "Files with Google credentials need the extra [google]."
        raise UpstreamAuth(text, hint='Install it: pip install "penstock[google]".') from None
    try:
        return _made(decode(path.read_bytes(), type=dict[str, Any]))
    except OSError as error:
        what = f"cannot be read: {error.strerror or type(error).__name__}"
    except (DecodeError, UnicodeDecodeError, RecursionError):
        what = "is no JSON object"
    except (GoogleAuthError, ValueError, KeyError, TypeError, AttributeError):
        what = "holds no credentials that google-auth can use"  # its own words may quote the key
    raise UpstreamAuth(f"The file {path} {what}.", hint="Download the key again, or name another file.")


def _made(info: Mapping[str, Any]) -> Any:
    """Make credentials: of a service account, a user, a workload elsewhere (AWS, OIDC, a program), or one that acts for another."""
    from google.auth import aws, external_account_authorized_user, identity_pool, impersonated_credentials, pluggable
    from google.oauth2 import credentials, service_account

    scopes = [SCOPE]
    kind = info.get("type")
    make: Any
    match kind:
        case "service_account":
            make = service_account.Credentials.from_service_account_info
        case "authorized_user":
            make = credentials.Credentials.from_authorized_user_info
        case "impersonated_service_account":
            make = impersonated_credentials.Credentials.from_impersonated_service_account_info
        case "external_account_authorized_user":
            return external_account_authorized_user.Credentials.from_info(info)  # type: ignore[no-untyped-call]
        case "external_account" if str(info.get("subject_token_type")).startswith("urn:ietf:params:aws:"):
            make = aws.Credentials.from_info
        case "external_account" if "executable" in info["credential_source"]:
            make = pluggable.Credentials.from_info
        case "external_account":
            make = identity_pool.Credentials.from_info
        case _:
            raise ValueError("the type is not one of Google's")
    return make(info, scopes=scopes)


def _refresh(credentials: Any, transport: "Transport", path: Path) -> Token:
    """Have credentials fetch a token. What Google says of a failure is told by its code alone."""
    from google.auth.exceptions import GoogleAuthError, TransportError

    try:
        credentials.refresh(_Raising(transport, TransportError))
    except TransportError:
        text = "Google's token service could not be reached."
        raise UpstreamAuth(text, hint="Look at the way to it, proxies and ca_file included.") from None
    except (GoogleAuthError, ValueError) as error:
        text = f"Google refused the credentials of {path}{_code(error)}."
        raise UpstreamAuth(
            text, hint="Look whether the key or the login was revoked, and at this machine's clock."
        ) from None
    project = getattr(credentials, "quota_project_id", None)
    lines = b"x-goog-user-project: %b\r\n" % project.encode() if isinstance(project, str) and _is_word(project) else b""
    return Token(credentials.token, credentials.expiry.replace(tzinfo=UTC).timestamp(), lines)


def _code(error: Exception) -> str:
    """Give the code of an error of OAuth (RFC 6749, 5.2), such as invalid_grant, in brackets; "" where there is none."""
    said = next((arg.get("error") for arg in error.args if isinstance(arg, dict)), None)
    return f" ({said})" if isinstance(said, str) and _is_word(said) else ""


def _is_word(text: str) -> bool:
    return bool(text) and len(text) <= 64 and text.isascii() and text.replace("_", "").replace("-", "").isalnum()


# -- the way there --


class Answer(Struct):
    """What google-auth wants of a response; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    data: bytes


class Transport:
    """Asks one question over HTTP, as google-auth wants it asked, on the standard library alone.

    Every wait is bounded; it follows no redirect, since a question may hold a credential; proxies are those it is given.
    """

    __slots__ = ("_ca_file", "_proxies")

    def __init__(self, proxies: Mapping[str, str], ca_file: str | None = None) -> None:
        self._proxies = proxies
        self._ca_file = ca_file

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> Answer:
        """Ask, and give the answer whatever its status. Raises OSError."""
        try:
            address, _path = Address.parse(url.partition("?")[0])
        except ValueError as error:
            raise OSError(str(error)) from None
        proxy = proxy_for(address, self._proxies)
        opener = OpenerDirector()  # without the handlers that follow redirects, or open files
        opener.add_handler(ProxyHandler({address.scheme: proxy} if proxy else {}))
        opener.add_handler(HTTPHandler())
        opener.add_handler(HTTPSHandler(context=trust_store(self._ca_file)))
        data = body.encode() if isinstance(body, str) else body
        request = Request(url, data, dict(headers or {}), method=method)  # noqa: S310 - the scheme was checked above
        try:
            with opener.open(request, timeout=TIMEOUT_S if timeout is None else timeout) as reply:
                said = reply.read(MAX_BYTES)
                return Answer(reply.status, {name.lower(): value for name, value in reply.headers.items()}, said)
        except (HTTPException, ValueError) as error:
            raise OSError(f"the answer cannot be read: {type(error).__name__}") from None


class _Raising:
    """A transport whose failures are of google-auth's own kind, as it wants them."""

    __slots__ = ("_failure", "_transport")

    def __init__(self, transport: Transport, failure: type[Exception]) -> None:
        self._transport = transport
        self._failure = failure

    def __call__(self, url: str, method: str = "GET", body: Any = None, headers: Any = None, **more: Any) -> Answer:
        """Ask as `Transport` does."""
        try:
            return self._transport(url, method, body, headers, more.get("timeout"))
        except OSError as error:
            raise self._failure(str(error)) from None
