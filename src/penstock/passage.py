"""The words of streams that pass as they came: read, metered and passed on, all those together that one turn of the loop brings.

A stream brings one event like the other, each in a chunk of its own. Where that is known (`Passage`), what a socket brings is
only kept, and at the end of the turn all of it takes each step in one loop: code that has just run runs fastest. Nothing waits
any longer than what is written does anyhow (`outbox.py`), and nothing is put in another order: what does not look as it should
is for its source to read in full, after what came before it. Whoever sees a source end has read first what it `brought`.

Exact, not a guess: see `wire/sse_template.py` for what an event says, RFC 9112, 7.1, for the chunk around it.
Place in the line: below both ends of it, the providers' (`providers/connection.py`) and the clients' (`server/outlet.py`).
"""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from msgspec import DecodeError, Struct

from penstock.event import Event, TextDelta
from penstock.outbox import Outbox
from penstock.per_loop import PerLoop

_CRLF: Final = b"\r\n"
_SIZE_BYTES: Final = 8
"""Of the size of a chunk, its line end included: six digits at the most."""

LEADS: Final = 32
"""Sizes of chunks of which is kept what such a chunk begins with; words are as long as each other, give or take some letters."""


Going = tuple[Callable[[bytes], object], bytes]
"""What sends bytes, and these."""


class Source(Protocol):
    """The connection to a provider that brings a stream."""

    due: float  # when it has been silent for too long
    short: "Passage | None"  # how what it brings next may pass

    def read_on(self, data: bytes) -> None:
        """Read bytes in full."""

    def fill(self) -> None:
        """Hear that nothing more may come for now."""


class Outflow(Protocol):
    """Where the bytes of one reply go."""

    pending: bytes  # what waits to be sent
    gone: bool
    congested: bool

    @property
    def send(self) -> Callable[[bytes], object]:
        """Send bytes at once. Does not raise."""

    def write(self, data: bytes) -> None:
        """Send them after what was written before, if that is still of use."""


class Measure(Protocol):
    """The meter of a reply."""

    text: list[str]
    passed: int

    @property
    def limit(self) -> int:
        """How many bytes of text may pass until somebody has to look."""

    @property
    def unseen(self) -> int:
        """How many may pass that are only put into `text`, and counted in `passed`."""

    def observe(self, events: tuple[Event, ...]) -> None:
        """Take events in."""


class Taker(Struct, eq=False):
    """Who takes the words of one reply: its meter and its client.

    `look` is asked once more has passed than the meter's limit, and says whether that must not go on.
    """

    meter: Measure
    outflow: Outflow
    look: Callable[[], bool]


class Shape:
    """What chunks look like that bring one event each, like another but for what it says: `head`, that, and `tail`.

    `each` makes a text of what stands between them and the two bytes beside it, which are quotes; it raises DecodeError or
    ValueError. `noted` is told each text that is taken, and gives it back. `read` does both.
    """

    __slots__ = ("_each", "_head", "_noted", "ending", "leads", "read", "stop", "tail")

    def __init__(
        self, head: bytes, tail: bytes, each: Callable[[bytes], str], noted: Callable[[str], str] | None = None
    ) -> None:
        self.tail, self._head = tail + _CRLF, head
        self.ending, self.stop = -len(self.tail), 1 - len(self.tail)
        self._each, self._noted = each, noted
        self.read: Callable[[bytes], str] = each if noted is None else lambda said: noted(each(said))
        self.leads: dict[int, tuple[bytes, int]] = {}  # what a chunk of so many bytes begins with, and its length

    def lead(self, size: int) -> tuple[bytes, int]:
        """Give what a chunk of so many bytes begins with, as most servers write it, and its length."""
        known = self.leads.get(size)
        return self._write_lead(size) if known is None else known

    def _write_lead(self, size: int) -> tuple[bytes, int]:
        digits = (size - 5).bit_length() + 3 >> 2
        number = b"%x\r\n" % (size - digits - 4)
        # More than they are where no chunk has so many.
        lead = number + self._head if len(number) == digits + 2 else bytes(size + 1)
        if len(self.leads) >= LEADS:
            self.leads.clear()
        self.leads[size] = found = lead, len(lead)
        return found

    def several(self, data: bytes) -> str:
        """Read several chunks. Raises DecodeError, or ValueError where one of them is no such chunk."""
        head, tail, each, noted = self._head, self.tail, self._each, self._noted
        found: list[str] = []
        end, start, stop = 0, len(head) - 1, self.stop
        while end < len(data):
            begin, at = end, data.find(_CRLF, end, end + _SIZE_BYTES) + 2
            end = data.index(tail, at + start) + len(tail)
            if not (data.startswith(head, at) and data.startswith(b"%x\r\n" % (end - at - 2), begin)):
                raise ValueError("there is something else in between")
            found.append(each(data[at + start : end + stop]))
        if not found:
            raise ValueError("there is nothing")
        text = "".join(found)
        return text if noted is None else noted(text)


class Passage:
    """The words of one stream on their way from its source to who takes them, for as long as they look alike.

    What each of them needs stands here, side by side: the less of a stream has to be fetched from memory the better.
    """

    __slots__ = (
        *("source", "size", "lead", "begin", "ending", "tail", "read", "stop", "idle_s", "meter", "unseen", "text"),
        *("outflow", "shape", "_taker"),
    )

    source: Source
    idle_s: float  # how long it may be silent

    def __init__(self, shape: Shape, taker: Taker) -> None:
        self.size, self.lead, self.begin = (
            0,
            b"",
            0,
        )  # of the last chunk: its bytes, what it began with, and so many of it
        self.ending, self.tail, self.read, self.stop = shape.ending, shape.tail, shape.read, shape.stop
        self.shape, self._taker = shape, taker
        self.meter, self.outflow = taker.meter, taker.outflow
        self.text, self.unseen = taker.meter.text, taker.meter.unseen

    def from_source(self, source: Source, idle_s: float) -> None:
        """Note where the words come from."""
        self.source, self.idle_s = source, idle_s

    def over(self, text: str) -> bool:
        """Have a text seen after which somebody may have to look; tell whether it must not go on."""
        meter = self.meter
        meter.observe((TextDelta(text),))
        refused = meter.passed > meter.limit and self._taker.look()
        self.unseen = meter.unseen
        return refused


Arrival = tuple[Passage, bytes]


class Passages(PerLoop):
    """What this turn of one loop has brought. `arrive` takes bytes in, with how they may pass."""

    _name = "penstock_passages"

    __slots__ = ("_left", "_outbox", "_time", "arrive")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._time, self._outbox = loop.time, Outbox.of(loop)
        self._left: Iterable[Arrival] = ()
        self.arrive: Callable[[Arrival], None] = self._arrive_first

    def _arrive_first(self, arrival: Arrival) -> None:
        """Do what `arrive` is to do, for the first of a turn; for all others it is nothing but the list's own."""
        self._begin([arrival])

    def _begin(self, arrivals: list[Arrival]) -> None:
        self._keep(arrivals)
        self._outbox.at_end(self.run)

    def _keep(self, arrivals: list[Arrival]) -> None:
        if arrivals:
            self._left, self.arrive = iter(arrivals), arrivals.append
        else:
            self._left, self.arrive = (), self._arrive_first

    def brought(self, source: Source) -> bool:
        """Tell whether this one has brought something that is not read yet."""
        arrivals = list(self._left)
        self._keep(arrivals)
        return any(passage.source is source for passage, _ in arrivals)

    def read_of(self, source: Source) -> None:
        """Have read what this one has brought, which ends; that of others has its time."""
        if self.brought(source):
            arrivals = list(self._left)
            self._keep([arrival for arrival in arrivals if arrival[0].source is source])
            try:
                self.run()
            finally:
                self._begin([*self._left, *(arrival for arrival in arrivals if arrival[0].source is not source)])

    def run(self) -> None:
        """Have all of it read, and what may pass passed on. Whatever is raised on the way, the rest has its turn in the next one."""
        going: list[Going] = []
        try:
            self._read(going)
        except BaseException:
            self._begin(list(self._left))
            raise
        finally:
            _send(going)
        self._keep([])

    def _read(self, going: list[Going]) -> None:
        """Read and meter what has come; what may pass is `going`."""
        time = self._time
        now = time()
        for passage, data in self._left:
            source, text = passage.source, None
            if source.short is passage:
                if (size := len(data)) != passage.size:  # words of one length follow each other often enough
                    passage.size = size
                    passage.lead, passage.begin = passage.shape.lead(size)
                try:
                    if data[: passage.begin] == passage.lead and data[passage.ending :] == passage.tail:
                        read = passage.read  # what a slot holds is called at less cost once it is at hand
                        text = read(data[passage.begin - 1 : passage.stop])
                    else:
                        text = passage.shape.several(data)
                except (DecodeError, ValueError):
                    source.short = None
            if text is None:
                _send(going)  # what is read in full may be written at once
                source.read_on(data)
                continue
            source.due = now + passage.idle_s
            meter, outflow = passage.meter, passage.outflow
            passed = meter.passed + (len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass")))
            if passed <= passage.unseen:
                meter.passed = passed
                passage.text.append(text)
            elif passage.over(text):
                source.fill()
                continue
            if not (outflow.pending or outflow.congested or outflow.gone):
                going.append((outflow.send, data))
            else:
                outflow.write(data)
                if outflow.congested:
                    source.fill()


def _send(going: list[Going]) -> None:
    for send, data in going:
        send(data)
    going.clear()
