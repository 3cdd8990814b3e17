"""What the events of a stream have in common: every byte but those of the text, which is one string of JSON.

Servers write one event like the other. Where all that stands around the text is, byte for byte, what it was in an event
that was read in full, only the text is left to be read. Exact, not a guess: the dialect has proven that the string in this
place is the text and that the event means nothing else; what comes is a string there only if the decoder takes it as one,
from quote to quote. Everything else is for the full reader, as is an empty text.
Pure. Place in the line: beside `framing.py`, under the stream readers whose events repeat.
"""

from collections.abc import Callable
from typing import Annotated, Final

from msgspec import DecodeError, Meta
from msgspec.json import Decoder

from penstock.passage import Passage, Shape, Taker
from penstock.reply import TextDelta
from penstock.wire.framing import MAX_FRAME_BYTES, Frame

MAX_TEMPLATE_BYTES: Final = 8192
"""A longer event is no word of a stream of words, and is not kept."""

_STRING: Final = Decoder(Annotated[str, Meta(min_length=1)]).decode

Place = tuple[int, int]
"""Where a string stands in the data of a frame, without its quotes."""


class TextTemplate:
    """Reads events that are `head`, a text and `tail`: from the first byte to the blank line, the quotes included.

    `noted` is told each text that passes `in_chunks`, and gives it back.
    """

    __slots__ = ("_head", "_shape", "_start", "_stop", "_tail", "_two", "noted", "used")

    def __init__(self, head: bytes, tail: bytes) -> None:
        self._head = head
        self._tail = tail
        self._start, self._stop = len(head) - 1, 1 - len(tail)  # where the text stands, with its quotes
        self._two = 2 * (len(head) + len(tail))  # bytes that two events have at the least
        self.used = False  # whether it has read any
        self.noted: Callable[[str], str] | None = None
        self._shape: Shape | None = None

    def read(self, data: bytes) -> tuple[TextDelta, ...] | None:
        """Read bytes that are nothing but such events; None if they are not."""
        if not (data.startswith(self._head) and data.endswith(self._tail)):
            return None
        self.used = True
        try:
            if len(data) < self._two:
                return (TextDelta(_STRING(data[self._start : self._stop])),)
            return self._read_many(data)
        except (DecodeError, UnicodeDecodeError):
            return None

    def in_chunks(self, taker: Taker) -> Passage:
        """Give the way of such events, each in a chunk of its own, to who takes them."""
        shape = self._shape
        if shape is None:
            shape = self._shape = Shape(self._head, self._tail, self._decoder(), self.noted)
        return Passage(shape, taker)

    def _decoder(self) -> Callable[[bytes], str]:
        """Give what reads the text of what differs from event to event: see `_start` and `_stop`."""
        return _STRING

    def _read_many(self, data: bytes) -> tuple[TextDelta, ...] | None:
        """Read one event or more."""
        if len(data) > MAX_FRAME_BYTES:
            return None
        head, tail, start, stop = self._head, self._tail, self._start, self._stop
        said: list[bytes] = []
        at = 0
        while at < len(data):
            end = data.find(b"\n", at + start) + 2  # no text has a line end, nor has what follows it
            if not (data.startswith(head, at) and data.endswith(tail, at, end)):
                return None
            said.append(data[at + start : end + stop])
            at = end
        return tuple(map(TextDelta, map(self._decoder(), said)))


class NoisyTemplate(TextTemplate):
    """As `TextTemplate`, with a second string after the text that differs each time and says nothing: `head text middle noise tail`.

    OpenAI fills its events up so that their lengths do not tell what is in them.
    """

    __slots__ = ("_middle",)

    def __init__(self, head: bytes, middle: bytes, tail: bytes) -> None:
        super().__init__(head, tail)
        self._middle = middle
        self._two = 0  # one is read as many are

    def _decoder(self) -> Callable[[bytes], str]:
        """See `TextTemplate._decoder`."""
        middle = self._middle

        def decode(event: bytes) -> str:
            text, _, noise = event.partition(middle)
            _STRING(b'"%b' % noise)
            said: str = _STRING(b'%b"' % text)
            return said

        return decode


def template(block: bytes, frame: Frame, text: Place, noise: Place | None = None) -> TextTemplate | None:
    """Make the template of a frame with its text, and the noise after it, in these places of its data.

    `block` are its bytes. None where they are not written in the usual way: the name if there is one, one line of data.
    """
    data = frame.data
    lead = b"event: %b\ndata: " % frame.event.encode() if frame.event else b"data: "
    if block != b"%b%b\n\n" % (lead, data):
        return None
    head = lead + data[: text[0]]
    if noise is None:
        return TextTemplate(head, data[text[1] :] + b"\n\n")
    return NoisyTemplate(head, data[text[1] : noise[0]], data[noise[1] :] + b"\n\n")
