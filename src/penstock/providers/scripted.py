"""A provider that replays replies, faults and latencies from a file: for tests, chaos tests and demonstrations.

It performs the steps that `script.py` and `replay.py` decide, on the loop's clock: `send` returns when the reply begins, each `read` gives
the next piece when its time has come, and silence ends where it ends with a real provider, at the target's own limits or
at the deadline. Without a `path` it plays the packaged demonstration. It opens no connection and keeps no text.
"""

import asyncio
from collections.abc import Callable, Iterator
from importlib.resources import files
from math import inf
from random import Random

from penstock.call import Call, Content, Text, ToolResult
from penstock.errors import (
    ConfigError,
    DeadlineExceeded,
    Mistake,
    PenstockError,
    UpstreamMissing,
    UpstreamTimeout,
)
from penstock.plugins import Exchange
from penstock.providers.replay import Asked, Step, count_words, steps
from penstock.providers.script import Rota, read_script
from penstock.receipt import Lane
from penstock.reply import Chunk, Event, Failed
from penstock.settings import ProviderSettings
from penstock.target import Target

DEMONSTRATION = "demo.toml"


class ScriptedProvider:
    """One script and how far it has been used. Raises ConfigError if the file cannot be used."""

    dialect = ""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        source, data = _read(settings)
        script = read_script(source, data)
        self._source = source
        self._rota = Rota(script, Random(script.seed))  # noqa: S311 - a seed makes the script repeatable
        self._busy = 0  # calls under way

    async def send(self, call: Call, target: Target, deadline: float) -> Exchange:
        """Find the rule for the call and wait until its reply begins. Raises an UpstreamError as scripted, or DeadlineExceeded."""
        content = call.content
        prompt = last_user_text(content)
        chosen = self._rota.choose(target.model, prompt, self._busy)
        if chosen is None:
            raise UpstreamMissing(
                f"No rule of {self._source} serves this call of the model {target.model!r}.",
                hint="End the script with a rule that has no conditions.",
            )
        rule, number = chosen
        asked = Asked(target.model, prompt, _input_words(content), call.sampling.max_tokens, number)
        performance = _Performance(steps(rule, asked), deadline)
        play = performance.next if call.stream else performance.whole
        self._busy += 1
        try:
            begun = await play(self._settings.first_byte_s)
        except BaseException:
            self._busy -= 1
            raise
        exchange = ScriptedExchange(begun, performance if call.stream else None, self._settings.idle_s, _dropped(call))
        exchange.left = self._left
        return exchange

    async def close(self) -> None:
        """Do nothing: there is no connection."""

    def _left(self) -> None:
        self._busy -= 1


class ScriptedExchange:
    """One reply while it is played."""

    __slots__ = ("_idle_s", "_performance", "_waiting", "dropped", "left")

    lane: Lane = "translated"
    status = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(
        self, begun: tuple[Event, ...], performance: "_Performance | None", idle_s: float, dropped: tuple[str, ...]
    ) -> None:
        self._waiting: tuple[Event, ...] | None = begun
        self._performance = performance
        self._idle_s = idle_s
        self.dropped = dropped
        self.left: Callable[[], None] | None = None  # is told once that it is closed

    async def read(self) -> Chunk | None:
        """Give the next piece when its time has come; None after the end. Raises as `send` does."""
        if self._waiting is not None:
            events, self._waiting = self._waiting, None
            return Chunk(events)
        if self._performance is None:
            self.close()
            return None
        try:
            events = await self._performance.next(self._idle_s)
        except PenstockError:
            self.close()
            raise
        if not events:
            self.close()
            return None
        return Chunk(events)

    def close(self) -> None:
        """Stop playing."""
        self._waiting = self._performance = None
        left, self.left = self.left, None
        if left is not None:
            left()


class _Performance:
    """The steps of one reply against the loop's clock."""

    __slots__ = ("_deadline", "_loop", "_start", "_steps")

    def __init__(self, planned: Iterator[Step], deadline: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._steps = planned
        self._deadline = deadline

    async def next(self, patience_s: float) -> tuple[Event, ...]:
        """Wait for the next step, but not longer than that; nothing after the last one."""
        step = next(self._steps, None)
        if step is None:
            return ()
        await self._wait(self._start + step.at_s, inf if step.drips else self._loop.time() + patience_s)
        if step.error is not None:
            raise step.error
        return step.events

    async def whole(self, patience_s: float) -> tuple[Event, ...]:
        """Wait for all steps, as a caller who does not stream does: one patience for all of them."""
        events: list[Event] = []
        latest = self._start + patience_s
        while more := await self.next(latest - self._loop.time()):
            events += more
        failed = events[-1]
        if isinstance(failed, Failed):
            raise failed.error
        return tuple(events)

    async def _wait(self, until: float, latest: float) -> None:
        """Sleep until a moment, or raise at the first of the two limits that comes before it."""
        await asyncio.sleep(max(0.0, min(until, latest, self._deadline) - self._loop.time()))
        if until > self._deadline <= latest:
            raise DeadlineExceeded("The deadline passed while the provider was answering, as scripted.")
        if until > latest:
            raise UpstreamTimeout("The provider stayed silent for longer than it may, as scripted.")


def _read(settings: ProviderSettings) -> tuple[str, bytes]:
    if settings.path is None:
        return DEMONSTRATION, files("penstock").joinpath("providers", DEMONSTRATION).read_bytes()
    try:
        return str(settings.path), settings.path.read_bytes()
    except OSError as error:
        place = f"providers.{settings.name}.path"
        mistake = Mistake(place, f"cannot be read: {error.strerror}.", None, "Correct the path or its permissions.")
        raise ConfigError(str(settings.path), (mistake,)) from None


def last_user_text(content: Content) -> str:
    """Give the text of the last message of a user, its parts on lines of their own; empty if there is none."""
    for message in reversed(content.messages):
        if message.role == "user":
            return "\n".join(part.text for part in message.parts if isinstance(part, Text))
    return ""


def _input_words(content: Content) -> int:
    words = 0
    for message in content.messages:
        for part in message.parts:
            inner = part.parts if isinstance(part, ToolResult) else (part,)
            words += sum(count_words(one.text) for one in inner if isinstance(one, Text))
    return words


def _dropped(call: Call) -> tuple[str, ...]:
    """Name what was asked for and is not in a script."""
    asked = {
        "n": (call.sampling.n or 1) > 1,
        "logprobs": bool(call.sampling.logprobs),
        "response_format": call.content.output is not None and call.content.output.kind != "text",
    }
    return tuple(name for name, wanted in asked.items() if wanted)
