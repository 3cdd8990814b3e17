"""What an application sees of an answer, whichever official client it uses, and what it asks for."""

from typing import Any, NamedTuple

from conformance.says import LIMIT, SYSTEM


class Called(NamedTuple):
    """A call of a tool as the client's own object has it."""

    id: str
    name: str
    arguments: Any


class Seen(NamedTuple):
    """One answer. Tokens are inclusive, as each client says them: None where its API does not."""

    text: str = ""
    thought: str = ""
    calls: tuple[Called, ...] = ()
    finish: str = ""
    refusal: str = ""
    input: int | None = None
    cached: int | None = None
    output: int | None = None
    thinking: int | None = None
    turn: Any = None
    """The answer as an application sends it back in the next turn."""
    pieces: int = 1
    """In how many pieces the text came."""


class Ask(NamedTuple):
    """What a call asks for beside its conversation."""

    tools: bool = False
    schema: bool = False
    thinking: bool = False
    stream: bool = False
    system: str = SYSTEM
    limit: int = LIMIT
    temperature: float | None = None


class Wrong(NamedTuple):
    """An error as the client raised it."""

    kind: str
    status: int | None
    message: str
    retry_after: str | None
    error: BaseException
