"""Remembers whole answers, to be given again to the same request of the same tenant.

The key is a hash of everything that was asked, never of a list of members: what it does not know of cannot be missed. A
tenant is a team, or a key without one; nobody ever gets what another tenant was answered. Only answers that came to a
good end are kept, in the memory of this process, up to a bound in bytes and in number; the least recently used go first.

It never asks a provider, never waits and knows no configuration. Place in the line: `processes.py` asks it before a call is
made, and fills it afterwards.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import sha256
from sys import getsizeof
from typing import Any, Final

from msgspec import DecodeError, Raw, Struct, json, msgpack, structs

from penstock.call import Call, Who
from penstock.event import Ended, Event, Failed, Finished, TextDelta, ToolUseDelta
from penstock.receipt import Lane, Usage
from penstock.reply import Chunk, Opening

MAX_BYTES: Final = 64 << 20
MAX_ENTRIES: Final = 10_000
ENTRY_BYTES: Final = 1 << 20
"""A longer answer is not kept: it would push out many that are asked for more often."""
REQUEST_BYTES: Final = 1 << 20
"""A longer request is not looked up: to put its members in order would hold up everybody else's calls."""

_FLOAT_BYTES: Final = 24
_RAW_BYTES: Final = 96
_ENTRY_OVERHEAD: Final = 400  # a key, a struct, a link of the list and a slot of the table
_UNFINISHED: Final = frozenset({"content_filter", "error"})
_OF_THE_MOMENT: Final = (b"ratelimit", b"rate-limit", b"retry-after", b"processing-ms")


class Stored(Struct, frozen=True):
    """An answer as it was given: who gave it and what of the provider's may be passed on, and all of it as one chunk.

    `at` is when it was complete, in the loop's seconds. `chunk` has the provider's bytes only in the verbatim lane. `usage`
    and `service_tier` are those of the try that answered, by which its price can be told again.
    """

    target: str
    lane: Lane
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    dropped: tuple[str, ...]
    chunk: Chunk
    at: float
    usage: Usage | None = None
    service_tier: str | None = None

    def opening(self, call_id: str) -> Opening:
        """Give the opening of this answer for another call, which took no try."""
        return Opening(call_id, self.target, self.lane, 0, self.dropped, self.status, self.headers)


# -- what is the same request --


def key(call: Call, who: Who, model: str) -> bytes | None:
    """Hash all that decides an answer: two calls with one key may have one answer. None: this call has to be made.

    `model` stands for what would answer; whoever changes the targets behind a name changes it too. Who pays (feature,
    user, session) is not part of it, except where the body says so.
    """
    if call.native or call.operation == "count":
        return None
    asked = _asked(call)
    if asked is None:
        return None
    pins = tuple([(name, getattr(call.sampling, name)) for name in sorted(call.changed)])
    tenant = ("team", who.team) if who.team is not None else ("key", who.key_id)
    facts = (
        *(tenant, model, call.model, call.dialect, call.form, call.operation, call.strict),
        *(call.stream, call.stream_usage, call.headers, pins),
    )
    try:
        return sha256(msgpack.encode((facts, asked))).digest()
    except OverflowError:  # an integer of more than 64 bits
        return None


def _asked(call: Call) -> tuple[str, object] | None:
    """Give the body with its members in one order, or what a call of the library says instead; numbers as written."""
    if not call.raw:
        return "content", (call.sampling, call.content)
    if len(call.raw) > REQUEST_BYTES:
        return None
    try:
        return "json", json.encode(json.Decoder(float_hook=_as_written).decode(call.raw), order="sorted")
    except (DecodeError, RecursionError, UnicodeError):
        return None


def _as_written(number: str) -> Raw:
    return Raw(number.encode())


# -- what of an answer is kept --


def keep(opening: Opening, chunks: Sequence[Chunk], now: float) -> Stored | None:
    """Make one chunk of a whole answer; None where it did not come to a good end, or is too long.

    What a provider's headers say of that moment (its rate limits) is left out.
    """
    last = chunks[-1].receipt if chunks else None
    if opening.status != 200 or (last is not None and last.status != "ok"):
        return None
    events = [event for chunk in chunks for event in chunk.events]
    if not _is_good(events):
        return None
    raw: bytes | None = None
    if opening.lane == "verbatim":
        pieces = [chunk.raw for chunk in chunks if chunk.raw is not None]
        if len(pieces) != len(chunks):
            return None  # in this lane the events alone are not all that was said
        raw = b"".join(pieces)
    answered = None if last is None else last.answering
    stored = Stored(
        opening.target,
        opening.lane,
        opening.status,
        tuple([header for header in opening.headers if not any(part in header[0] for part in _OF_THE_MOMENT)]),
        opening.dropped,
        Chunk(tuple(_joined(events)), raw),
        now,
        None if answered is None else answered.usage,
        None if answered is None else answered.service_tier,
    )
    return stored if size(stored) <= ENTRY_BYTES else None


def _is_good(events: list[Event]) -> bool:
    """Tell whether an answer is complete: it ended, did not fail, and no choice was taken away."""
    if not any(type(event) is Ended for event in events):
        return False
    for event in events:
        if type(event) is Failed or (type(event) is Finished and event.reason in _UNFINISHED):
            return False
    return True


def _joined(events: Iterable[Event]) -> list[Event]:
    """Make one event of pieces that follow on each other: of a text of one choice, of one tool's arguments."""
    out: list[Event] = []
    pieces: list[str] = []
    for event in events:
        before = out[-1] if out else None
        if type(event) is TextDelta and type(before) is TextDelta and event.choice == before.choice:
            pieces.append(event.text)
        elif type(event) is ToolUseDelta and _goes_on(event, before):
            pieces.append(event.arguments)
        else:
            _close(out, pieces)
            out.append(event)
    _close(out, pieces)
    return out


def _goes_on(event: ToolUseDelta, before: Event | None) -> bool:
    return type(before) is ToolUseDelta and (event.index, event.choice) == (before.index, before.choice)


def _close(out: list[Event], pieces: list[str]) -> None:
    """Add the pieces that came after it to the last event."""
    if pieces:
        last = out[-1]
        if isinstance(last, TextDelta):
            out[-1] = structs.replace(last, text=last.text + "".join(pieces))
        elif isinstance(last, ToolUseDelta):
            out[-1] = structs.replace(last, arguments=last.arguments + "".join(pieces))
        pieces.clear()


def size(value: Any) -> int:
    """Give the bytes of memory that a value takes with all that it holds. Nothing is taken to be shared."""
    total, todo = 0, [value]
    while todo:
        one = todo.pop()
        kind = type(one)
        if kind is bool or one is None:
            continue
        if kind is Raw:  # of which `getsizeof` gives an address (msgspec 0.22)
            total += _RAW_BYTES + len(one)
            continue
        total += getsizeof(one)
        if kind is tuple:
            if one and type(one[0]) is float:  # an embedding
                total += _FLOAT_BYTES * len(one)
            else:
                todo.extend(one)
        elif isinstance(one, Struct):
            todo.extend([getattr(one, name) for name in one.__struct_fields__])
    return total


class ReplyCache:
    """Answers by their keys, the least recently used first."""

    def __init__(self, max_bytes: int = MAX_BYTES, max_entries: int = MAX_ENTRIES) -> None:
        self._entries: OrderedDict[bytes, tuple[Stored, int]] = OrderedDict()
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: bytes, stored: Stored) -> bool:
        """Keep an answer in place of the one before; give whether there was room for it."""
        self.drop(key)
        took = size(stored) + _ENTRY_OVERHEAD
        if took > min(ENTRY_BYTES, self._max_bytes):
            return False
        self._entries[key] = (stored, took)
        self.bytes += took
        while self.bytes > self._max_bytes or len(self._entries) > self._max_entries:
            _, (_, freed) = self._entries.popitem(last=False)
            self.bytes -= freed
        return True

    def get(self, key: bytes, now: float, within_s: float) -> Stored | None:
        """Find an answer that is no older than this. An older one stays: it may still do where nothing else answers."""
        entry = self._entries.get(key)
        if entry is None or now - entry[0].at > within_s:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def drop(self, key: bytes) -> None:
        """Forget an answer, if there is one."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry[1]

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.bytes = 0
