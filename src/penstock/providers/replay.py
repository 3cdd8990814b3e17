"""Decides what a rule of a script does, step by step: the events of its reply and its faults, each at its time.

Given a rule and what was asked, `steps` yields what happens in the order of time, in seconds since the call was sent. It
never waits and knows no clock; `scripted.py` performs the steps.
"""

import math
import re
from collections.abc import Iterator
from http import HTTPStatus
from itertools import cycle

from msgspec import Struct, structs

from penstock.errors import (
    UpstreamAuth,
    UpstreamError,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamMissing,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
)
from penstock.providers.script import Chunking, Rule, Tokens
from penstock.receipt import Usage
from penstock.reply import (
    Ended,
    Event,
    Failed,
    Finish,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
)

EXCERPT = 120
QUICKEST_S = 0.01
"""Between two pieces of an answer that does not end."""

_BEGUN = frozenset({"error", "truncate", "pause", "empty", "endless"})
"""Faults of a reply that has begun, wherever in it they come."""

_WORD = re.compile(r"\S+")
_WORD_AND_SPACE = re.compile(r"\s*\S+\s*|\s+")
_PLACEHOLDER = re.compile(r"\{(prompt|excerpt|model|n)\}")


class Asked(Struct, frozen=True):
    """What a reply depends on beside its rule. `number` counts the uses of the rule, from 1."""

    model: str
    prompt: str
    input_words: int = 0
    max_tokens: int | None = None
    number: int = 1


class Step(Struct, frozen=True):
    """What happens at a moment: events come in, or the exchange fails. `at_s` counts from the sending; inf is never.

    `drips`: until then there is no silence, although nothing is said, so that only the deadline ends the wait.
    """

    at_s: float
    events: tuple[Event, ...] = ()
    error: UpstreamError | None = None
    drips: bool = False


def steps(rule: Rule, asked: Asked) -> Iterator[Step]:
    """Give what happens, in order: first the beginning of the reply, or its failure before that."""
    start_s = (rule.ttft_ms or 0.0) / 1000
    if rule.fault == "pause" and rule.after_chunks is None:
        start_s += _pause_s(rule)
    if _fails_at_once(rule):
        yield _failure(rule, asked, start_s)
        return
    yield Step(start_s, (Started(f"scripted-{asked.number}", asked.model),))
    if rule.fault == "empty":
        yield Step(start_s, (Ended(),))
        return
    reply = _Reply(rule, asked)
    yield from _endless(reply, start_s) if rule.fault == "endless" else _course(rule, asked, reply, start_s)


def _course(rule: Rule, asked: Asked, reply: "_Reply", start_s: float) -> Iterator[Step]:
    """Give the pieces of a reply and its end, or as many of them as there are before its fault."""
    at_s, pause_s = start_s, 0.0
    is_cut = rule.fault is not None and rule.fault != "pause"
    for place, events in enumerate(reply.pieces()):
        if is_cut and place == (rule.after_chunks or 0):
            break
        if place == rule.after_chunks:
            pause_s = _pause_s(rule)
        at_s = start_s + place * reply.gap_s + pause_s
        yield Step(at_s, events)
    else:
        if rule.after_chunks is not None and not pause_s:  # there were not so many
            at_s += _pause_s(rule)
    yield _failure(rule, asked, at_s) if is_cut else Step(at_s, reply.end())


def _endless(reply: "_Reply", start_s: float) -> Iterator[Step]:
    """Say the same over and over; never without any time in between, since nobody could take it all in."""
    gap_s = max(reply.gap_s, QUICKEST_S)
    for place, piece in enumerate(cycle(reply.said())):
        yield Step(start_s + place * gap_s, (TextDelta(piece),))
    yield Step(math.inf, drips=True)  # nothing was there to be said


def _pause_s(rule: Rule) -> float:
    return (rule.pause_ms or 0.0) / 1000


def _fails_at_once(rule: Rule) -> bool:
    """Whether the exchange fails before the reply begins; an error event and a cut end need one that has begun."""
    if rule.fault is None:
        return rule.status is not None
    return rule.fault == "refuse" or (rule.after_chunks is None and rule.fault not in _BEGUN)


def _failure(rule: Rule, asked: Asked, at_s: float) -> Step:
    says = _fill(rule.message, asked) if rule.message is not None else ""
    match rule.fault:
        case "stall":
            return Step(math.inf)
        case "drip":
            return Step(math.inf, drips=True)
        case "refuse":
            return Step(at_s, error=UpstreamFailed(says or "The connection was refused, as scripted."))
        case "reset":
            return Step(at_s, error=UpstreamFailed(says or "The connection was reset, as scripted."))
        case "garble":
            return Step(at_s, error=UpstreamGarbled(says or "The reply cannot be read, as scripted."))
        case "truncate":
            return Step(at_s, (Failed(UpstreamGarbled(says or "The reply was cut before its end mark, as scripted.")),))
        case "error":
            return Step(at_s, (Failed(_by_status(rule.status or 500, says, rule.retry_after_s)),))
        case _:
            return Step(at_s, error=_by_status(rule.status or 500, says, rule.retry_after_s))


def _by_status(status: int, message: str, retry_after_s: float | None) -> UpstreamError:
    """Make of an HTTP status what a provider's answer with it becomes."""
    text = message or f"The provider answered {status}, as scripted."
    match status:
        case 401 | 403:
            return UpstreamAuth(text)
        case 404:
            return UpstreamMissing(text)
        case 429:
            return UpstreamRateLimited(text, retry_after_s=retry_after_s)
        case 503 | 529:
            return UpstreamOverloaded(text, status=status, retry_after_s=retry_after_s)
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
            return UpstreamFailed(text, retry_after_s=retry_after_s)
        case _:
            return UpstreamRejected(text, status=status)


class _Reply:
    """The content of one reply, in pieces."""

    def __init__(self, rule: Rule, asked: Asked) -> None:
        self._rule = rule
        self._asked = asked
        self._chunk: Chunking = "word" if rule.chunk is None else rule.chunk
        texts = (rule.text,) if isinstance(rule.text, str) else rule.text or ("",)
        self._text = _fill(texts[(asked.number - 1) % len(texts)], asked)
        self._reasoning = _fill(rule.reasoning or "", asked)
        self._refusal = _fill(rule.refusal or "", asked)
        self._cut = False
        if rule.usage == "words" and asked.max_tokens is not None:
            self._text, self._cut = _first_words(self._text, asked.max_tokens)

    @property
    def gap_s(self) -> float:
        """Seconds from one piece to the next: the words at their rate, spread evenly over the pieces."""
        if self._rule.tokens_per_s is None:
            return (self._rule.chunk_ms or 0.0) / 1000
        whole = [self._reasoning, self._text, self._refusal, *(tool.arguments for tool in self._rule.tool_calls)]
        words, pieces = sum(map(count_words, whole)), sum(_count(text, self._chunk) for text in whole)
        return words / self._rule.tokens_per_s / max(1, pieces)

    def pieces(self) -> Iterator[tuple[Event, ...]]:
        """Give the content, as much at a time as arrives together."""
        for piece in _split(self._reasoning, self._chunk):
            yield (ReasoningDelta(piece),)
        for piece in self.said():
            yield (TextDelta(piece),)
        for piece in _split(self._refusal, self._chunk):
            yield (RefusalDelta(piece),)
        for index, tool in enumerate(self._rule.tool_calls):
            start: tuple[Event, ...] = (ToolUseStarted(index, f"call_{self._asked.number}_{index}", tool.name),)
            for piece in _split(tool.arguments, self._chunk):
                yield (*start, ToolUseDelta(index, piece))
                start = ()
            if start:
                yield start

    def said(self) -> Iterator[str]:
        """Give the text, piece by piece."""
        return _split(self._text, self._chunk)

    def end(self) -> tuple[Event, ...]:
        """Give the events that complete the reply."""
        usage = self._usage()
        finish = self._finish()
        return (Finished(finish, finish), *(() if usage is None else (UsageReported(usage),)), Ended())

    def _finish(self) -> Finish:
        if self._rule.finish is not None:
            return self._rule.finish
        if self._cut:
            return "length"
        return "tool_calls" if self._rule.tool_calls else "refusal" if self._refusal else "stop"

    def _usage(self) -> Usage | None:
        reported = self._rule.usage
        if isinstance(reported, Tokens):
            return Usage(**structs.asdict(reported))
        if reported == "none":
            return None
        thought = count_words(self._reasoning)
        said = count_words(self._text) + count_words(self._refusal)
        called = sum(1 + count_words(tool.arguments) for tool in self._rule.tool_calls)
        return Usage(self._asked.input_words, thought + said + called, reasoning_tokens=thought)


def _fill(text: str, asked: Asked) -> str:
    """Put the call's own words in for `{prompt}` and the like; in one pass, so that what is put in stays as it is."""
    return _PLACEHOLDER.sub(lambda found: _value(found[1], asked), text)


def _value(name: str, asked: Asked) -> str:
    match name:
        case "prompt":
            return asked.prompt
        case "excerpt":
            line = " ".join(asked.prompt[: 2 * EXCERPT].split())
            return line if len(line) <= EXCERPT else f"{line[:EXCERPT].rstrip()} ..."
        case "model":
            return asked.model
        case _:
            return str(asked.number)


def count_words(text: str) -> int:
    """Count what stands between white space: the tokens of a scripted provider."""
    return sum(1 for _ in _WORD.finditer(text))


def _first_words(text: str, most: int) -> tuple[str, bool]:
    """Give at most so many words, and whether that cut the text."""
    for place, word in enumerate(_WORD.finditer(text)):
        if place == most:
            return text[: word.start()].rstrip(), True
    return text, False


def _split(text: str, chunk: Chunking) -> Iterator[str]:
    if chunk == "word":
        yield from (found[0] for found in _WORD_AND_SPACE.finditer(text))
    elif text:
        size = len(text) if chunk == "whole" else 1 if chunk == "character" else chunk
        yield from (text[start : start + size] for start in range(0, len(text), size))


def _count(text: str, chunk: Chunking) -> int:
    return sum(1 for _ in _split(text, chunk))
