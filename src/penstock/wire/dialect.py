"""What a dialect is.

A dialect turns the bytes of one API into the neutral vocabulary and back, on either side of the line. It is pure: no
socket, no clock, no chance. Any client's dialect reaches any provider's, since both meet in `Call` and in events.
Place in the line: every dialect implements this; `registry.py` says which there are.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from msgspec import Struct

from penstock.call import NOTHING_ASKED, Asked, Call
from penstock.errors import PenstockError, UpstreamError
from penstock.reply import Event, Reply, Told

__all__ = (
    "NOTHING_ASKED",
    "Asked",
    "Dialect",
    "Frame",
    "Frames",
    "ModelRow",
    "StreamReader",
    "StreamWriter",
    "Tell",
    "told_nothing",
)


class ModelRow(Struct, frozen=True):
    """A model in a list: `created` is Unix seconds, 0 where unknown; limits are tokens; for `capabilities` see `Profile`."""

    id: str
    owner: str = "penstock"
    created: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    capabilities: frozenset[str] = frozenset()


class StreamReader(Protocol):
    """One upstream reply while it streams.

    `passed` holds, after each `feed` and `end`, what of the fed bytes goes on to a client of the same dialect: whole frames
    as they came, so the client's stream can be ended in good form at any time. From a frame that fails on nothing is
    passed; whoever writes to the client says the `Failed` with a `StreamWriter`.
    """

    passed: bytes

    def feed(self, data: bytes) -> tuple[Event, ...]:
        """Give the events that these bytes complete. Never raises: what cannot be read is a `Failed`."""
        ...

    def end(self) -> tuple[Event, ...]:
        """Say what the end of the bytes means: `Failed` with an UpstreamGarbled if no end mark was seen."""
        ...


class StreamWriter(Protocol):
    """One client reply while it streams."""

    content_type: bytes

    def send(self, events: Iterable[Event]) -> bytes:
        """Write some events; b"" if they say nothing yet."""
        ...


class Dialect(Protocol):
    """One API, in both directions, for one operation: answers, or embeddings."""

    @property
    def name(self) -> str:
        """The name in configurations, receipts and `Call.dialect`."""
        ...

    @property
    def stream_type(self) -> bytes:
        """The content type of its streams."""
        ...

    def read_request(self, body: bytes, asked: Asked = NOTHING_ASKED) -> Call:
        """Read a client's request. Raises InvalidRequest and nothing else, whatever the bytes."""
        ...

    def write_request(self, call: Call, model: str) -> tuple[bytes, tuple[str, ...]]:
        """Write a provider's request, and the names of what could not be expressed."""
        ...

    def splice(self, call: Call, model: str) -> bytes | None:
        """Edit top-level members into `call.raw`, for the verbatim lane; None if that cannot say what the call says."""
        ...

    def read_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read a whole reply, `Ended` included; an error that came with status 200 is a `Failed`. Raises UpstreamGarbled."""
        ...

    def tap_reply(self, body: bytes) -> tuple[Event, ...]:
        """Read of a whole reply what the meter needs, where its bytes go on as they are. Raises UpstreamGarbled."""
        ...

    def write_reply(self, reply: Reply, call: Call) -> bytes:
        """Write a whole reply to the call."""
        ...

    def read_error(self, status: int, body: bytes) -> UpstreamError:
        """Say what a provider's error means; its `body` is kept only where it may be shown."""
        ...

    def write_error(self, error: PenstockError) -> bytes:
        """Write an error as the clients of this dialect expect it."""
        ...

    def error_headers(self, error: PenstockError) -> tuple[tuple[bytes, bytes], ...]:
        """Give the headers in which this dialect tells of an error as well; most have none."""
        ...

    def stream_reader(self, *, strip_usage: bool = False) -> StreamReader:
        """Make the reader of one stream; with `strip_usage` the frame with nothing but usage is not passed on."""
        ...

    def stream_writer(self, call: Call) -> StreamWriter:
        """Make the writer of one stream."""
        ...

    def write_count_request(self, call: Call, model: str) -> bytes | None:
        """Write the question how many tokens a prompt has; None where the API has no such question."""
        ...

    def read_count(self, body: bytes) -> int:
        """Read the answer to it. Raises UpstreamGarbled."""
        ...

    def write_count(self, tokens: int) -> bytes:
        """Write the answer to a client's question how many tokens a prompt has."""
        ...

    def write_models(self, models: Sequence[ModelRow]) -> bytes:
        """Write a list of models."""
        ...

    def write_model(self, model: ModelRow) -> bytes:
        """Write one model."""
        ...


class Frame(Protocol):
    """What requests have in common but for their messages."""

    def read(self, body: bytes) -> Call | None:
        """Read such a request, as its dialect does; None for any other, and for one that is not right."""
        ...


Frames = Callable[[Call], Frame | None]
"""Says what requests like a call just read have in common with it; None where there are none. It is a dialect's `frame`,
where it has one: it reads a request quicker that is like the one before it."""

Tell = Callable[[bytes], Told | None]
"""Says in one value what `tap_reply` does of a whole reply of which nothing is unusual, else None. It is a dialect's `tell`, where
it has one."""


class Readers(Protocol):
    """Makes the readers of the streams of one model, as `stream_reader` does, which learn from one stream to the next.

    It is what a dialect's `stream_readers` gives, where it has them.
    """

    def __call__(self, *, strip_usage: bool = False) -> StreamReader:
        """Make one."""
        ...


def told_nothing(body: bytes) -> Told | None:
    """Stand for the `tell` of a dialect that has none."""
    del body
    return None
