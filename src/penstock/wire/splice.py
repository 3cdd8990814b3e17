"""Edits of top-level members inside the bytes of a JSON object; everything else stays byte for byte.

Pure. Strategy: one C-speed decode into raw members proves the text and says what the members are; where they stand
follows from their lengths. A name that occurs twice is refused, since two readers may take different ones of the two (RFC
8259, 4) and what was checked here would not be what is obeyed there.
Place in the line: below the dialects, for the verbatim lane.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import DecodeError, Raw, ValidationError
from msgspec.json import Decoder, decode, encode

from penstock.errors import InvalidRequest

_MEMBERS: Final = Decoder(dict[str, Raw])
_KEY: Final = re.compile(rb'[{,][ \t\n\r]*("[^"\\]*(?:\\.[^"\\]*)*")[ \t\n\r]*:[ \t\n\r]*').match
_NEXT: Final = frozenset({b",", b"}"})
_SPACE: Final = re.compile(rb"[ \t\n\r]*").match
_LONE_SURROGATE: Final = re.compile(
    rb"(?<!\\)(?:\\\\)*(?:\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F])"
).search

Span = tuple[int, int, int]
"""Where a member stands: the start of its name, the start of its value, the end of its value."""


class Outline:
    """The top-level members of a JSON object and where they stand.

    `members` maps each name to the bytes of its value, in the order of the text. Raises InvalidRequest if the text is not
    one JSON object, is nested so deeply that reading it fails, or has two members of one name.
    """

    __slots__ = ("_spans", "members", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        try:
            self.members = members = _MEMBERS.decode(raw if raw.isascii() else _checked(raw))
        except (DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise refusal(raw, error) from None
        # Written without spaces, as most clients do, the members account for every byte of the text: there is no room
        # for a second one of a name, and spans can wait until they are asked for.
        length = 1 + 4 * len(members) + sum(map(len, members)) + sum(map(len, members.values()))
        self._spans = None if members and length == len(raw) else _walk(raw, members)

    def span(self, name: str) -> Span:
        """Give the place of a member; KeyError if there is none."""
        if self._spans is not None:
            return self._spans[name]
        start = 1
        for key, value in self.members.items():
            at = start + len(key) + 3
            if key == name:
                return start, at, at + len(value)
            start = at + len(value) + 1
        raise KeyError(name)

    def put(self, name: str, value: bytes) -> bytes:
        """Give the text with the value of one member replaced; the very text where it says that already."""
        raw, own = self.raw, bytes(self.members[name])
        if own == value:
            return raw
        is_first = self._spans is None and next(iter(self.members)) == name
        start = len(name) + 4 if is_first else self.span(name)[1]  # behind a brace, two quotes and a colon
        return b"".join((raw[:start], value, memoryview(raw)[start + len(own) :]))

    def splice(self, edits: Sequence[tuple[str, bytes | None]]) -> bytes:
        """Give the text with each named member's value replaced, removed (None), or added at the end.

        The values have to be JSON texts, the names distinct.
        """
        members = self.members
        cuts: list[tuple[int, int, bytes]] = []
        added: list[bytes] = []
        removed: set[str] = set()
        for name, value in edits:
            if value is None:
                removed.add(name)
            elif name in members:
                _, start, end = self.span(name)
                cuts.append((start, end, value))
            else:
                added.append(encode(name) + b":" + value)
        removed &= members.keys()
        if removed:
            cuts += self._removals(removed)
        raw = self.raw
        if added:
            close = raw.rindex(b"}")
            comma = b"," if len(members) > len(removed) else b""
            cuts.append((close, close, comma + b",".join(added)))
        out: list[bytes] = []
        done = 0
        for start, end, value in sorted(cuts):
            out += (raw[done:start], value)
            done = end
        out.append(raw[done:])
        return b"".join(out)

    def _removals(self, removed: set[str]) -> list[tuple[int, int, bytes]]:
        """Cut members out together with the comma before them; before the first that stays, with the comma behind."""
        cuts: list[tuple[int, int, bytes]] = []
        spans = [(name, *self.span(name)) for name in self.members]
        previous = spans[0][1]  # from here on what precedes a member goes with it
        kept = False
        for name, start, _, end in spans:
            if name not in removed:
                if not kept and start > previous:
                    cuts.append((previous, start, b""))
                kept = True
            elif kept:
                cuts.append((previous, end, b""))
            previous = end if kept else previous
        if not kept:
            cuts.append((spans[0][1], spans[-1][3], b""))
        return cuts


def splice(raw: bytes, edits: Sequence[tuple[str, bytes | None]]) -> bytes:
    """Edit top-level members of a JSON object as `Outline.splice` does. Raises InvalidRequest as `Outline` does."""
    return Outline(raw).splice(edits)


def _checked(raw: bytes) -> bytes:
    """Give a text that is UTF-8 throughout: strings that the decoder skips it does not check. Raises UnicodeDecodeError."""
    raw.decode()
    return raw


def refusal(raw: bytes, error: Exception) -> InvalidRequest:
    """Say what is wrong with a text that is no JSON object."""
    if isinstance(error, RecursionError):
        return InvalidRequest("The body is nested too deeply.", hint="Send JSON of at most 64 levels.")
    if raw.startswith(b"\xef\xbb\xbf"):
        return InvalidRequest("The body begins with a byte order mark.", hint="Send plain UTF-8 (RFC 8259, 8.1).")
    if isinstance(error, UnicodeDecodeError):
        return InvalidRequest(
            f"The body is not UTF-8: {error.reason} at byte {error.start}.", hint="Send JSON in UTF-8."
        )
    if isinstance(error, ValidationError):
        return InvalidRequest("The body is JSON, but not an object.", hint='Send an object: {"model": ...}.')
    if not raw.strip():
        return InvalidRequest("The body is empty.", hint='Send a JSON object: {"model": ...}.')
    if (found := _LONE_SURROGATE(raw)) is not None:
        text = f"The body has half of a surrogate pair at byte {found.start()}, which is no character."
        return InvalidRequest(text, hint="Send both halves, or the character in UTF-8.")
    what = str(error).removeprefix("JSON is malformed: ")
    return InvalidRequest(f"The body is not valid JSON: {what}.", hint='Send a JSON object: {"model": ...}.')


def _walk(raw: bytes, members: Mapping[str, Raw]) -> dict[str, Span]:
    """Find the members one after the other, and so each one that occurs twice.

    Before each step `at` is the true start of a member or the end of the object. The text there begins with the bytes of
    the value that the decoder kept for this name, and then a comma or the brace follows; so these bytes are the value here.
    """
    spans: dict[str, Span] = {}
    at = raw.index(b"{")
    while (key := _KEY(raw, at)) is not None:
        begin, start = key.start(1), key.end()
        token = raw[begin + 1 : key.end(1) - 1]
        name: str = token.decode() if b"\\" not in token else decode(key[1])
        value = members[name]
        at = end = start + len(value)
        if raw[at : at + 1] not in _NEXT:
            at = _SPACE(raw, at).end()  # type: ignore[union-attr]  # the pattern matches nothing, too
        if name in spans or not raw.startswith(value, start) or raw[at : at + 1] not in _NEXT:
            raise InvalidRequest(
                f"The body has two members {name!r}.",
                param=name,
                hint="Send each member once; readers disagree on two.",
            )
        spans[name] = (begin, start, end)
    return spans
