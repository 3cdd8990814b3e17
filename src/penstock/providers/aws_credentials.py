"""Where the keys for AWS come from, and when they have to be fetched again.

In this order: explicit settings, the environment (handed in by the configuration), the shared files of the AWS tools, and
with the extra `penstock[aws]` whatever botocore finds: SSO, assumed roles, web identity, container and instance metadata.
Files and botocore are used in a thread, never on the event loop; however many calls wait, one fetch runs. Nothing here
signs, and no message shows a key. Place in the line: `http.py` asks before it signs each try.

Source: AWS SDKs and Tools Reference Guide, "Standardized credential providers" and "Shared config and credentials files".
"""

import asyncio
import configparser
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from msgspec import Struct

from penstock.errors import UpstreamAuth
from penstock.providers.sigv4 import Credentials

EARLY_S: Final = 300.0
"""So long before they expire, keys are fetched again, while calls go on with the old ones."""
LATE_S: Final = 30.0
"""From here on the old ones are not used any more: a call has to arrive with them, too."""
REREAD_S: Final = 60.0
"""How long keys without an end are taken from a file before it is read again, since other tools rewrite it."""
PAUSE_S: Final = 10.0
"""After a failed fetch in good time, the next one waits so long."""
_NO_END: Final = float("inf")
_FETCHED: Final = frozenset({"role_arn", "sso_session", "sso_start_url", "web_identity_token_file"})
"""Members of a profile whose keys have to be fetched, also where some stand beside them."""


class AwsAccess(Struct, frozen=True):
    """What the configuration says about an AWS account; keys win over `profile`, both over the environment.

    `environ` is as much of the environment as the configuration hands in: names that begin with AWS_, and HOME.
    """

    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    profile: str = ""
    environ: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"AwsAccess(profile={self.profile!r})"

    __str__ = __repr__


class Source(Protocol):
    """What `CredentialSource` needs of a chain of botocore: `fetch` may block, and raises UpstreamAuth."""

    def __call__(self, access: AwsAccess) -> Credentials:
        """Fetch keys."""
        ...


# -- what stands in settings, environment and files --


def bearer_token(environ: Mapping[str, str]) -> str | None:
    """Give the API key of Bedrock, which is sent as a bearer token instead of a signature; None if there is none."""
    return environ.get("AWS_BEARER_TOKEN_BEDROCK", "").strip() or None


def plain_credentials(access: AwsAccess) -> Credentials | None:
    """Give keys from the settings or the environment, where they need no file; None if there are none.

    Raises UpstreamAuth where one half of a pair is missing.
    """
    environ = dict(access.environ)
    found = _pair(access.access_key_id, access.secret_access_key, access.session_token, "the configuration")
    if found is not None or access.profile:
        return found
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    key, secret, token = (environ.get(name, "").strip() for name in names)
    return _pair(key, secret, token, "the environment")


def file_credentials(access: AwsAccess) -> Credentials | None:
    """Give keys that stand in the shared credentials file or, after it, in the config file. Reads them; None if there are none.

    Raises UpstreamAuth where a file cannot be read, or holds one half of a pair.
    """
    profile, config = _profile(access), _config_section(access)
    if _FETCHED & config.keys() or "AWS_WEB_IDENTITY_TOKEN_FILE" in dict(access.environ):
        return None
    for section, where in (
        (_sections(_file(access, "AWS_SHARED_CREDENTIALS_FILE", "credentials")).get(profile, {}), "credentials"),
        (config, "config"),
    ):
        token = section.get("aws_session_token", "")
        key, secret = section.get("aws_access_key_id", ""), section.get("aws_secret_access_key", "")
        found = _pair(key, secret, token, f"the profile {profile!r} of the shared {where} file")
        if found is not None:
            return found
    return None


def _pair(key: str, secret: str, token: str, where: str) -> Credentials | None:
    if not key and not secret:
        return None
    if not key or not secret:
        missing = "secret access key" if key else "access key id"
        raise UpstreamAuth(f"There is no {missing} for AWS in {where}.", hint="Give both halves of the pair, or none.")
    return Credentials(key, secret, token or None)


def _profile(access: AwsAccess) -> str:
    environ = dict(access.environ)
    return access.profile or environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or "default"


def _config_section(access: AwsAccess) -> Mapping[str, str]:
    """Give the profile's section of the config file, where all but the default one are called `profile NAME`."""
    profile = _profile(access)
    sections = _sections(_file(access, "AWS_CONFIG_FILE", "config"))
    return sections.get(f"profile {profile}") or (sections.get("default", {}) if profile == "default" else {})


def _file(access: AwsAccess, variable: str, name: str) -> Path | None:
    environ = dict(access.environ)
    home = environ.get("HOME", "")
    said = environ.get(variable, "")
    if said:
        return Path(home, said[2:]) if said.startswith("~/") and home else Path(said)
    return Path(home, ".aws", name) if home else None


def _sections(path: Path | None) -> dict[str, dict[str, str]]:
    """Read an INI file; a file that is not there has no sections."""
    reader = configparser.RawConfigParser(default_section="", strict=False)
    try:
        text = "" if path is None else path.read_text("utf-8")
        reader.read_string(text)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise UpstreamAuth(
            f"The AWS file {path} cannot be read: {type(error).__name__}.", hint="Correct it, or name another one."
        ) from None
    return {section: dict(reader.items(section)) for section in reader.sections()}


# -- what botocore finds --


class BotocoreChain:
    """The credential chain of botocore, which keeps and refreshes what it fetched. Blocks; used in a thread only."""

    def __init__(self) -> None:
        self._found: object | None = None

    def __call__(self, access: AwsAccess) -> Credentials:
        """Fetch keys, or what was fetched as long as it lasts. Raises UpstreamAuth."""
        try:
            from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]  # it has no types
            from botocore.session import Session  # type: ignore[import-untyped]
        except ImportError:
            raise UpstreamAuth(
                "There are no AWS keys in the configuration, the environment or the shared files.",
                hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_BEARER_TOKEN_BEDROCK, or install penstock[aws] "
                "for SSO, roles, containers and instances.",
            ) from None
        try:
            if self._found is None:
                self._found = Session(profile=access.profile or None).get_credentials()
            found: Any = self._found
            frozen = None if found is None else found.get_frozen_credentials()
        except (BotoCoreError, ClientError) as error:
            raise UpstreamAuth(
                f"AWS keys could not be fetched: {type(error).__name__}.",
                hint="Try `aws sts get-caller-identity` on this machine.",
            ) from None
        if frozen is None or not frozen.access_key:
            raise UpstreamAuth(
                "AWS keys were found nowhere.", hint="Try `aws sts get-caller-identity` on this machine."
            )
        expiry = getattr(found, "_expiry_time", None)
        return Credentials(
            frozen.access_key, frozen.secret_key, frozen.token, None if expiry is None else expiry.timestamp()
        )


# -- keeping them --


class CredentialSource:
    """Keys for one account, at any time.

    `clock` gives Unix seconds. Strategy: keys that last are given at once; those that end soon too, while one fetch in the
    background brings the next ones; only when there are none that can be used does a call wait, all calls for the same fetch.
    """

    def __init__(self, access: AwsAccess, chain: Source | None = None, clock: Callable[[], float] = time.time) -> None:
        self._access = access
        self._chain: Source = BotocoreChain() if chain is None else chain
        self._clock = clock
        self._held: Credentials | None = None
        self._due = 0.0  # from here on they are fetched again
        self._fetching: asyncio.Task[Credentials] | None = None

    async def credentials(self) -> Credentials:
        """Give keys that can be signed with now. Raises UpstreamAuth with what to do."""
        held, now = self._held, self._clock()
        if held is not None and (held.expires_at is None or now < held.expires_at - LATE_S):
            if now >= self._due:
                self._begin()
            return held
        return await asyncio.shield(self._begin())

    def forget(self) -> None:
        """Have keys fetched anew, since the provider refused these."""
        self._held = None

    def close(self) -> None:
        """Let go of a fetch that runs."""
        if self._fetching is not None:
            self._fetching.cancel()

    def _begin(self) -> asyncio.Task[Credentials]:
        """Give the fetch that runs, or begin one."""
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
            self._fetching.add_done_callback(self._done)
        return self._fetching

    def _done(self, task: asyncio.Task[Credentials]) -> None:
        self._fetching = None
        if not task.cancelled() and task.exception() is not None:
            self._due = self._clock() + PAUSE_S  # whoever waits is told; whoever has keys goes on with them

    async def _fetch(self) -> Credentials:
        plain = plain_credentials(self._access)
        held, due = (plain, _NO_END) if plain is not None else await asyncio.to_thread(self._look)
        self._held, self._due = held, due
        return held

    def _look(self) -> tuple[Credentials, float]:
        """Look where it may take long, in a thread; give keys and when to look again."""
        found = file_credentials(self._access)
        now = self._clock()
        if found is not None:
            return found, now + REREAD_S
        found = self._chain(self._access)
        if found.expires_at is None:
            return found, now + REREAD_S
        return found, found.expires_at - min(EARLY_S, max(0.0, found.expires_at - now) / 2)
