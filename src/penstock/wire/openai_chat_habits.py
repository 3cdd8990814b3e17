"""What the streams of one model have in common: their events are the same from stream to stream, but for who speaks and the text.

The members in front of the choices tell one stream from another (its id, its time); they are read for each stream, once. What
stands behind them, from the choices on, meant the same the last time it stood there: nothing (a role), a text, an end.
Exact, not a guess: where the members in front are an object by themselves, what follows is read as it was, byte for byte,
when all of an event was read; a text is one only if the decoder takes it as a string, from quote to quote. The noise with
which OpenAI fills events up is left out. Whatever is different is for the full reader, from which all of this is learned. No
text that was read is kept.
Pure. Place in the line: beside `openai_chat_stream.py`, whose readers share one of these for as long as their route lives.
"""

import re
from typing import Annotated, Final

from msgspec import DecodeError, Meta
from msgspec.json import Decoder

from penstock.reply import Event, Finished, Started, TextDelta
from penstock.wire import openai_chat_reply_types as wire
from penstock.wire.openai_chat_reply import check_utf8, started
from penstock.wire.openai_chat_usage import NULL
from penstock.wire.sse_template import NoisyTemplate, TextTemplate

_DATA: Final = b"data: "
_CHOICES: Final = b',"choices":'
_LINE: Final = b"\n\n"
_END: Final = b"}" + _LINE
_NOISE: Final = b',"obfuscation":"'
_CLOSED: Final = b'"' + _END
_FILLED: Final = _NOISE + _CLOSED
"""How an event ends that is filled up with noise, once that is taken out."""
_USAGE: Final = b'[],"usage":'
_TEXT: Final = re.compile(rb'"content" ?: ?"([^"\\]+)"').search
_HEAD: Final = Decoder(wire.ReplyHead)
_REST: Final = Decoder(wire.StreamChunk)
_STRING: Final = Decoder(Annotated[str, Meta(min_length=1)]).decode

MOST: Final = 16
"""Kinds of ends, and of events without a text, that are remembered; then remembering begins anew."""
LONGEST: Final = 1024
"""Bytes of what is remembered of one event."""
TRIALS: Final = 32
"""So many events in vain, and no more is tried: these streams are written in another way."""

After = tuple[Finished, ...]
"""What an event says behind its text."""


class Head:
    """Who speaks in one stream: the bytes in front of the choices, which all of its events begin with."""

    __slots__ = ("size", "start", "text")

    def __init__(self, text: bytes, start: Started) -> None:
        self.text = text
        self.size = len(text)
        self.start = start

    @classmethod
    def of(cls, event: bytes) -> "Head | None":
        """Find it in an event; None where it is not plainly there."""
        size = event.find(_CHOICES) + len(_CHOICES)
        text = event[:size]
        members = text[len(_DATA) : -len(_CHOICES)]
        if not text.startswith(_DATA) or b"\n" in members or b"\r" in members:
            return None
        try:
            check_utf8(members)
            head = _HEAD.decode(members + b"}")
        except (DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if not head.id or head.usage or head.error:
            return None
        return cls(text, started(head))


class Habits:
    """What was seen of the streams so far."""

    __slots__ = ("_noisy", "_said", "_tails", "_trials", "before")

    def __init__(self) -> None:
        self._noisy = False  # events are filled up with noise, which is left out in what is remembered
        self.before = b""  # what stands between a head and a text, the quote included
        self._tails: dict[bytes, After] = {}  # what stands behind a text, from the quote to the end of the event
        self._said: dict[bytes, After] = {}  # what stands behind a head, where there is no text
        self._trials = TRIALS

    def read(self, rest: bytes) -> tuple[Event, ...] | None:
        """Say what stands behind a head, up to the end of the event; None where that is not known."""
        if self._noisy:
            rest = _quiet(rest)
        said = self._said.get(rest)
        if said is not None:
            return said
        start = len(self.before)
        if not start or rest[:start] != self.before:
            return None
        end = rest.find(b'"', start)
        after = self._tails.get(rest[end:])
        if after is None:
            return None
        try:
            return TextDelta(_STRING(rest[start - 1 : end + 1])), *after
        except (DecodeError, UnicodeDecodeError):
            return None

    def template(self, head: Head, rest: bytes) -> TextTemplate:
        """Give the template of the events of a stream that are like one just read, a text and nothing else."""
        if self._noisy:
            rest = _quiet(rest)
        lead, tail = head.text + self.before, rest[rest.find(b'"', len(self.before)) :]
        found = TextTemplate(lead, tail)
        if tail.endswith(_FILLED):
            found = NoisyTemplate(lead, tail.removesuffix(_CLOSED), _CLOSED)
        found.used = True  # there is nothing to be tried out
        return found

    def usage(self, rest: bytes) -> bytes | None:
        """Give what stands behind a head for the usage, if that is all there is in the event; it has yet to be read."""
        if not rest.startswith(_USAGE):
            return None
        said = _quiet(rest) if self._noisy else rest
        end = _FILLED if said.endswith(_FILLED) else _END
        json = said[len(_USAGE) : -len(end)]
        return None if not said.endswith(end) or b"\n" in json or b"\r" in json else json

    def learn(self, event: bytes, events: tuple[Event, ...]) -> Head | None:
        """Remember what the full reader made of one event, if that is a habit, and give its head, if it has one."""
        if not self._trials:
            return None
        self._trials -= 1
        head = Head.of(event)
        if head is not None and len(event) - head.size <= LONGEST:
            said = events[1:] if events[:1] == (head.start,) else events
            if self._keep(event[head.size :], said):
                self._trials = TRIALS
        return head

    def _keep(self, rest: bytes, said: tuple[Event, ...]) -> bool:
        """Remember what stands behind a head, if it depends on nothing but itself; tell whether that is so."""
        chunk, after = _alone(rest), tuple([event for event in said if type(event) is Finished])
        quiet = _quiet(rest)
        if chunk is None or len(after) > 1:
            return False
        self._noisy = self._noisy or quiet != rest
        rest = quiet
        if said == after:
            _bounded(self._said)[rest] = after
            return True
        found = _TEXT(rest)
        if found is None or said != (TextDelta(found[1].decode()), *after):
            return False
        start, end = found.span(1)
        longer = _alone(rest[:end] + b"?" + rest[end:])
        if longer is None or not _says_more(longer, chunk):
            return False
        if rest[:start] != self.before:
            self.before = rest[:start]
            self._tails.clear()
        _bounded(self._tails)[rest[end:]] = after
        return True


def _quiet(rest: bytes) -> bytes:
    """Take the noise out of what stands behind a head: letters and digits in its last member, which is read by nobody."""
    at = rest.rfind(_NOISE)
    is_noisy = at >= 0 and rest.endswith(_CLOSED) and rest[at + len(_NOISE) : -len(_CLOSED)].isalnum()
    return rest[:at] + _FILLED if is_noisy else rest


def _bounded(known: dict[bytes, After]) -> dict[bytes, After]:
    """Make room for one more."""
    if len(known) >= MOST:
        known.clear()
    return known


def _alone(rest: bytes) -> wire.StreamChunk | None:
    """Read what stands behind a head without it; None where it is more than one line, or says something of what a head says."""
    if not rest.endswith(_LINE) or b"\n" in rest[: -len(_LINE)] or b"\r" in rest:
        return None
    try:
        chunk = _REST.decode(b'{"choices":' + rest)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None
    told = chunk.id, chunk.created, chunk.model, chunk.system_fingerprint, chunk.service_tier
    return chunk if told == (None,) * 5 and not chunk.error and len(chunk.usage) <= NULL and chunk.choices else None


def _says_more(longer: wire.StreamChunk, chunk: wire.StreamChunk) -> bool:
    """Tell whether two chunks are the same, but that the text of the first choice is one mark longer."""
    more, less = (longer.choices or [])[0].delta, (chunk.choices or [])[0].delta
    if more is None or less is None or not isinstance(less.content, str) or more.content != less.content + "?":
        return False
    more.content = less.content
    return longer == chunk
