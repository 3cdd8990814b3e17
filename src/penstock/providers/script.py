"""The form of a script, and which of its rules serves a call.

A script is one TOML file of rules, documented in `docs/scripted.md`. For a call the first rule that matches, passes its dice and
has its turn serves; what it then does is `replay.py`'s business. Nothing here reads a clock or opens a file; chance
comes from the generator that is handed in.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, structs
from msgspec.json import Encoder

from penstock.document import Document, Form, Wrong
from penstock.errors import Mistake
from penstock.reply import Finish
from penstock.toml import parse

Text = Annotated[str, Meta(min_length=1)]
Texts = Text | tuple[Text, ...]
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Milliseconds = Annotated[float, Meta(ge=0, le=86_400_000)]
Chunking = Literal["word", "character", "whole"] | Annotated[int, Meta(ge=1, le=1_000_000)]
Fault = Literal[
    "refuse", "reset", "stall", "drip", "pause", "empty", "endless", "error", "truncate", "garble"
]  # fmt: skip
NEVER_LATE = frozenset({None, "refuse", "empty", "endless"})
"""Faults of which nobody can say after how many chunks they come."""


class ToolCall(Struct, frozen=True):
    """One of `tool_calls`. `arguments` is a table, or text that goes out as it is, well written or not."""

    name: Annotated[Text, Meta(examples=["get_weather"])]
    arguments: Annotated[str, Meta(extra={"form": "arguments"}, examples=[{"city": "Paris"}])] = "{}"


class Tokens(Struct, frozen=True):
    """`usage` as the provider reports it."""

    input_tokens: Annotated[Count, Meta(examples=[12])]
    output_tokens: Annotated[Count, Meta(examples=[34])]
    cached_input_tokens: Count = 0
    cache_write_tokens: Count = 0
    reasoning_tokens: Count = 0


Reported = Literal["words", "none"] | Tokens


class Rule(Struct, frozen=True):
    """One of `rules`: which calls it serves, how often, and what it does. None takes what the script says."""

    model: Annotated[Text, Meta(examples=["demo"])] | None = None
    equals: Annotated[Texts, Meta(examples=["ping"])] | None = None
    contains: Annotated[Texts, Meta(examples=[["price", "cost"]])] | None = None
    starts_with: Annotated[Texts, Meta(examples=["translate"])] | None = None
    ends_with: Annotated[Texts, Meta(examples=["?"])] | None = None
    times: Annotated[int, Meta(ge=1, le=1_000_000_000, examples=[2])] | None = None
    every: Annotated[int, Meta(ge=2, le=1_000_000_000, examples=[3])] | None = None
    probability: Annotated[float, Meta(ge=0, le=1, examples=[0.1])] | None = None
    busy_above: Annotated[Count, Meta(examples=[20])] | None = None

    text: Annotated[str | tuple[str, ...], Meta(examples=["You said: {prompt}"])] | None = None
    reasoning: Annotated[Text, Meta(examples=["Let me see."])] | None = None
    refusal: Annotated[Text, Meta(examples=["I cannot help with that."])] | None = None
    tool_calls: Annotated[
        tuple[ToolCall, ...], Meta(examples=[[{"name": "get_weather", "arguments": {"city": "Paris"}}]])
    ] = ()
    finish: Annotated[Finish, Meta(examples=["length"])] | None = None
    usage: Annotated[Reported, Meta(examples=["none"])] | None = None

    ttft_ms: Annotated[Milliseconds, Meta(examples=[30])] | None = None
    tokens_per_s: Annotated[float, Meta(gt=0, le=1_000_000, examples=[150])] | None = None
    chunk_ms: Annotated[Milliseconds, Meta(examples=[5])] | None = None
    chunk: Annotated[Chunking, Meta(examples=[4])] | None = None

    fault: Annotated[Fault, Meta(examples=["reset"])] | None = None
    status: Annotated[int, Meta(ge=400, le=599, examples=[429])] | None = None
    retry_after_s: Annotated[float, Meta(ge=0, le=86_400, examples=[2])] | None = None
    message: Annotated[Text, Meta(examples=["Too many requests."])] | None = None
    after_chunks: Annotated[Count, Meta(examples=[3])] | None = None
    pause_ms: Annotated[Milliseconds, Meta(examples=[2000])] | None = None

    def matches(self, model: str, prompt: str) -> bool:
        """Tell whether the conditions hold; `prompt` is casefolded and stripped. One of several texts suffices."""
        return (
            (self.model is None or self.model == model)
            and _any_of(self.equals, lambda text: text == prompt)
            and _any_of(self.contains, lambda text: text in prompt)
            and _any_of(self.starts_with, prompt.startswith)
            and _any_of(self.ends_with, prompt.endswith)
        )

    def contradictions(self) -> Iterator[Mistake]:
        """Find keys that make no sense beside each other."""
        answers = self.text is not None or bool(self.refusal or self.reasoning or self.tool_calls)
        fails = self.fault is not None or self.status is not None
        if not answers and not fails:
            yield Mistake("", "says neither what to answer nor how to fail.", None, 'Example: text = "Hello."')
        if self.text == ():
            yield Mistake("text", "is an empty list.", None, 'An empty answer is text = "".')
        if self.status is not None and self.fault not in {None, "error"}:
            yield Mistake("status", f"means nothing for the fault {self.fault}.", None, "Remove one of the two.")
        if self.status is not None and self.fault is None and answers:
            yield Mistake(
                "status", "leaves no room for an answer.", None, 'Remove one of them, or add fault = "error".'
            )
        if self.every is not None and self.every <= (self.times or 1):
            yield Mistake("every", "must be more than `times`.", None, "Example: every = 3")
        if self.retry_after_s is not None and self.status is None:
            yield Mistake("retry_after_s", "goes with a status.", None, "Example: status = 429")
        if self.message is not None and not fails:
            yield Mistake("message", "goes with a fault or a status.", None, "An answer is `text`.")
        yield from self._faulty(answers=answers)
        if self.tokens_per_s is not None and self.chunk_ms is not None:
            yield Mistake("chunk_ms", "and `tokens_per_s` both set the pace.", None, "Keep one of them.")

    def _faulty(self, *, answers: bool) -> Iterator[Mistake]:
        """Find what makes no sense beside the fault, or for want of one."""
        if self.after_chunks is not None and self.fault in NEVER_LATE:
            yield Mistake("after_chunks", "goes with a fault that can come late.", None, 'Example: fault = "reset"')
        if self.after_chunks and not answers:
            yield Mistake("after_chunks", "needs an answer that can be cut.", None, 'Example: text = "One two three."')
        if (self.fault == "pause" and not answers) or (self.fault == "endless" and not self.text):
            yield Mistake("fault", f"{self.fault} needs something to say.", None, 'Example: text = "One two three."')
        if (self.fault == "pause") is (self.pause_ms is None):
            yield Mistake("pause_ms", "and the fault pause go together.", None, 'Example: fault = "pause"')


class Script(Struct, frozen=True):
    """The whole file: the rules, and what holds for those that do not say otherwise."""

    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    ttft_ms: Milliseconds = 0.0
    tokens_per_s: Annotated[float, Meta(gt=0, le=1_000_000, examples=[150])] | None = None
    chunk_ms: Annotated[Milliseconds, Meta(examples=[5])] | None = None
    chunk: Chunking = "word"
    usage: Reported = "words"
    rules: Annotated[tuple[Rule, ...], Meta(examples=[[{"text": "Hello."}]])] = ()

    def contradictions(self) -> Iterator[Mistake]:
        """Find keys that make no sense beside each other."""
        if not self.rules:
            yield Mistake("", "there is no rule.", None, 'Write one: [[rules]] with text = "Hello."')
        if self.tokens_per_s is not None and self.chunk_ms is not None:
            yield Mistake("chunk_ms", "and `tokens_per_s` both set the pace.", None, "Keep one of them.")


def _any_of(wanted: str | tuple[str, ...] | None, holds: Callable[[str], bool]) -> bool:
    if wanted is None:
        return True
    return any(holds(text.casefold()) for text in ((wanted,) if isinstance(wanted, str) else wanted))


# -- reading --


def read_script(source: str, data: bytes) -> Script:
    """Read a script, with what holds for all rules filled into each. Raises ConfigError with all of its mistakes."""
    document = Document(source, parse(source, data), {"arguments": Form("a table or text", lambda raw, _: _json(raw))})
    script = document.read(Script) or Script()
    document.finish()
    return structs.replace(script, rules=tuple(_filled(script, rule) for rule in script.rules))


def _filled(script: Script, rule: Rule) -> Rule:
    paced = rule.tokens_per_s is not None or rule.chunk_ms is not None
    return structs.replace(
        rule,
        ttft_ms=script.ttft_ms if rule.ttft_ms is None else rule.ttft_ms,
        tokens_per_s=rule.tokens_per_s if paced else script.tokens_per_s,
        chunk_ms=rule.chunk_ms if paced else script.chunk_ms,
        chunk=script.chunk if rule.chunk is None else rule.chunk,
        usage=script.usage if rule.usage is None else rule.usage,
    )


def _json(raw: Any) -> str:
    if isinstance(raw, str):
        return raw
    if not isinstance(raw, dict):
        raise Wrong("must be a table or text.")
    return Encoder(decimal_format="number").encode(raw).decode()


# -- choosing --


class Rota:
    """Which rule serves next: counts turns and rolls the dice. The same calls in the same order get the same rules."""

    __slots__ = ("_rng", "_rules", "_turns", "_uses")

    def __init__(self, script: Script, rng: Random) -> None:
        self._rules = script.rules
        self._rng = rng
        self._turns = [0] * len(script.rules)
        self._uses = [0] * len(script.rules)

    def choose(self, model: str, prompt: str, busy: int = 0) -> tuple[Rule, int] | None:
        """Give the rule for a call and the number of its use, from 1; None if none serves. `busy` others are under way."""
        folded = prompt.casefold().strip()
        for place, rule in enumerate(self._rules):
            if rule.busy_above is not None and busy < rule.busy_above:
                continue
            if rule.matches(model, folded) and self._has_turn(place, rule):
                self._uses[place] += 1
                return rule, self._uses[place]
        return None

    def _has_turn(self, place: int, rule: Rule) -> bool:
        """Roll the dice, and count a turn if they fall well: of each `every` turns the first `times` are served."""
        if rule.probability is not None and self._rng.random() >= rule.probability:
            return False
        turn = self._turns[place]
        self._turns[place] += 1
        if rule.every is not None:
            return turn % rule.every < (rule.times or 1)
        return rule.times is None or turn < rule.times
