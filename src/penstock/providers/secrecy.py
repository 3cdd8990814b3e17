"""Keeps the credential of a provider out of what is told of its replies: some quote it.

It reads no settings and sends nothing. Place in the line: beside `http.py`, which asks it about every error and header.
"""

from typing import Protocol, TypeVar

from penstock.errors import PenstockError, UpstreamError
from penstock.providers.failures import quotes
from penstock.reply import Event, Failed

HIDDEN = "the provider's own words quote a credential and are not shown."

Kept = TypeVar("Kept", bound=PenstockError)


class Changing(Protocol):
    """A credential that is fetched, and changes."""

    @property
    def text(self) -> str:
        """What it is by now."""
        ...


class Secrecy:
    """One provider's credential: a key that stays (or ""), and what is fetched besides."""

    def __init__(self, key: str, changing: Changing | None) -> None:
        self._key = key
        self._changing = changing

    __repr__ = object.__repr__

    def shows(self, text: str) -> bool:
        """Tell whether a text quotes it."""
        return quotes(self._key, text) or (self._changing is not None and quotes(self._changing.text, text))

    def keep(self, error: Kept) -> Kept:
        """Take the provider's words out of an error that quotes it."""
        if self.shows(error.message):
            error.message = HIDDEN
            if isinstance(error, UpstreamError):
                error.body = b""
        return error

    def keep_in(self, events: tuple[Event, ...]) -> None:
        """See that an error which the provider puts into its reply quotes it not."""
        for event in events:
            if type(event) is Failed:
                self.keep(event.error)
