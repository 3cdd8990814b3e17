"""Keeps one bearer token that ends, and has it fetched again in time.

Strategy: a token that lasts is given at once; one that ends soon too, while a single fetch in a thread brings the next one.
Only where none can be used does a call wait, all calls for the same fetch. A fetch that fails leaves the old token in use as
long as it is valid. Nothing here knows where tokens come from, and no message, repr or log shows one.
Place in the line: `auth.py` hands a `BearerToken` to `http.py`, which asks it for header lines before each try.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from penstock.errors import UpstreamAuth

EARLY_S: Final = 240.0
"""So long before it ends a token is fetched again: less than the 300 s for which Azure's library gives its cached one."""
LATE_S: Final = 20.0
"""From here on a call waits for the next token, since it has to arrive with it too; it goes with the old one if that fails."""
PAUSE_S: Final = 10.0
"""So long after a fetch no other one begins while there is a token that can be used."""
AGAIN_S: Final = 1.0
"""So long a failure is told to all who ask where there is none."""
PATIENCE_S: Final = 30.0
"""So long a call waits for a token at most."""


class Token(Struct, frozen=True):
    """One token: `text`, when it ends (Unix seconds), and header lines that have to go with it."""

    text: str
    expires_at: float
    lines: bytes = b""

    def __repr__(self) -> str:
        return f"Token(expires_at={self.expires_at})"

    __str__ = __repr__


Fetch = Callable[[], Token]
"""Fetches a token; it is called in a thread, may block, bounds its own waits, and raises UpstreamAuth."""


class BearerToken:
    """A token at any time. `clock` gives Unix seconds."""

    __slots__ = ("_clock", "_due", "_failed", "_failed_at", "_fetch", "_fetching", "_held")

    def __init__(self, fetch: Fetch, clock: Callable[[], float] = time.time) -> None:
        self._fetch = fetch
        self._clock = clock
        self._held: Token | None = None
        self._due = 0.0  # from here on it is fetched again
        self._failed: UpstreamAuth | None = None
        self._failed_at = 0.0
        self._fetching: asyncio.Task[Token] | None = None

    @property
    def text(self) -> str:
        """The token in use, to be kept out of errors; "" where there is none."""
        return "" if self._held is None else self._held.text

    async def lines(self, path: str, body: bytes) -> bytes:
        """Give the header lines that carry the token. Raises UpstreamAuth with what to do."""
        del path, body
        token = await self.token()
        return b"authorization: Bearer %b\r\n%b" % (token.text.encode(), token.lines)

    async def token(self) -> Token:
        """Give a token that is valid now. Raises UpstreamAuth with what to do."""
        held, now = self._held, self._clock()
        if held is not None and now < held.expires_at:
            if now < self._due:
                return held
            if now < held.expires_at - LATE_S or now < self._failed_at + PAUSE_S:
                self._begin()
                return held
        elif self._failed is not None and now < self._failed_at + AGAIN_S:
            raise _told(self._failed)
        try:
            return await asyncio.wait_for(asyncio.shield(self._begin()), PATIENCE_S)
        except (UpstreamAuth, TimeoutError) as error:
            if held is not None and self._clock() < held.expires_at:
                return held
            if isinstance(error, UpstreamAuth):
                raise _told(error) from None
            text = f"Fetching a token for the provider took more than {PATIENCE_S:.0f} s."
            raise UpstreamAuth(text, hint="Look at the way to its token service, proxies included.") from None

    def forget(self) -> None:
        """Have the token fetched anew, since the provider refused it."""
        self._held = None

    def close(self) -> None:
        """Let go of a fetch that runs."""
        if self._fetching is not None:
            self._fetching.cancel()

    def _begin(self) -> asyncio.Task[Token]:
        """Give the fetch that runs, or begin one; one of a loop that is gone does not run any more."""
        loop = asyncio.get_running_loop()
        if self._fetching is None or self._fetching.get_loop() is not loop:
            self._fetching = loop.create_task(self._renew())
            self._fetching.add_done_callback(self._done)
        return self._fetching

    async def _renew(self) -> Token:
        token = await asyncio.to_thread(self._fetch)
        now = self._clock()
        self._held = token
        self._due = max(token.expires_at - min(EARLY_S, max(0.0, token.expires_at - now) / 2), now + PAUSE_S)
        return token

    def _done(self, task: asyncio.Task[Token]) -> None:
        """Note how the fetch ended; a failure is told to whoever waits, and to nobody if nobody does."""
        self._fetching = None if self._fetching is task else self._fetching
        self._failed = None
        if not task.cancelled() and isinstance(error := task.exception(), UpstreamAuth):
            self._failed, self._failed_at = error, self._clock()
            self._due = self._failed_at + PAUSE_S


def _told(error: UpstreamAuth) -> UpstreamAuth:
    """Give the same failure to be raised once more: one that is kept must not gather tracebacks."""
    return UpstreamAuth(error.message, hint=error.hint)
