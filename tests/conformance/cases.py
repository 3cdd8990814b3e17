"""The cases of the grid: what each client asks of each target, and what it has to see.

`CASES` names them in the order of the table. Each takes a client, the name of a target and the stand-in, and asserts. What an
API cannot say stands in `outcome.py`.
"""

import json
from collections.abc import Callable
from typing import Any

import anthropic
import botocore.exceptions
import ollama
import openai
import pytest
from google.genai import errors as google_errors

from conformance.outcome import FAMILY, TARGET_IDS, THINKERS, drops
from conformance.says import ANSWER, HELLO, IMAGE_URL, PNG64, REFUSED, SAYS, SCHEMA, TEXT, Say, pieces, signature
from conformance.seen import Ask, Seen
from conformance.stand_in import COUNT, RETRY_AFTER, VECTOR, Got, StandIn

FINISH: dict[str, dict[str, str]] = {
    "chat": {"stop": "stop", "tools": "tool_calls", "length": "length"},
    "responses": {"stop": "completed", "tools": "completed", "length": "incomplete max_output_tokens"},
    "messages": {"stop": "end_turn", "tools": "tool_use", "length": "max_tokens"},
    "generate": {"stop": "STOP", "tools": "STOP", "length": "MAX_TOKENS"},
    "converse": {"stop": "end_turn", "tools": "tool_use", "length": "max_tokens"},
    "ollama": {"stop": "stop", "tools": "stop", "length": "length"},
}
API_ERRORS = (
    openai.APIError,
    anthropic.APIError,
    google_errors.APIError,
    botocore.exceptions.ClientError,
    botocore.exceptions.EventStreamError,
    ollama.ResponseError,
)


class Cell:
    """One client in front of one target."""

    def __init__(self, client: Any, target: str, stand_in: StandIn, case: str) -> None:
        self.client, self.target, self.stand_in, self.case = client, target, stand_in, case
        self.speaks: str = client.dialect

    def ask(self, model: str, history: list[Any], turn: int = 1, **more: Any) -> tuple[Seen, Got]:
        """Ask; give what the client saw and what the provider got, which has to be in order."""
        seen = self.client.ask(f"{self.target}/{model}", history, Ask(**more))
        return seen, self.got(turn)

    def got(self, turn: int) -> Got:
        (got,) = self.stand_in.taken()
        assert got.problems == []
        headers = {name.lower(): value for name, value in self.client.headers.items()}
        assert headers["x-penstock-target"] == f"{self.target}/{got.model}"
        lane = "verbatim" if self.target == self.speaks else "translated"
        assert headers["x-penstock-lane"] == lane
        lost = headers.get("x-penstock-dropped", "")
        assert lost == ", ".join(drops(self.case, self.speaks, self.target, turn))
        return got

    def check(self, seen: Seen, say: Say) -> None:
        """Compare an answer with what the stand-in said."""
        assert seen.text == say.text
        assert seen.thought == say.thought
        assert [(call.name, call.arguments) for call in seen.calls] == [(use.name, use.arguments) for use in say.uses]
        self.check_ids(seen, say)
        assert seen.finish == FINISH[self.speaks][say.finish]
        assert (seen.input, seen.output) == (say.input, say.output)
        if seen.cached is not None and self.target != "ollama":
            assert seen.cached == say.cached
        if seen.thinking is not None and self.target not in {"ollama", "converse"}:
            assert seen.thinking == say.thinking

    def check_ids(self, seen: Seen, say: Say) -> None:
        ids = [call.id for call in seen.calls]
        if self.speaks == "ollama" or (self.speaks == self.target == "generate"):
            assert not any(ids)  # the client's API, or its own provider, has none
        elif self.target in TARGET_IDS:
            assert ids == [f"{TARGET_IDS[self.target]}{use.id}" for use in say.uses]
        else:
            assert all(ids)
            assert len(set(ids)) == len(ids)


def plain(cell: Cell, *, stream: bool = False) -> None:
    seen, got = cell.ask("plain", cell.client.user(HELLO), stream=stream)

    cell.check(seen, SAYS["plain"])
    assert HELLO in words(got.body)
    assert (seen.pieces > 3) == stream


def streamed(cell: Cell) -> None:
    plain(cell, stream=True)


def empty(cell: Cell) -> None:
    for stream in (False, True):
        seen, _ = cell.ask("empty", cell.client.user(HELLO), stream=stream)
        cell.check(seen, SAYS["empty"])


def tools(cell: Cell) -> None:
    for stream in (False, True):
        seen, got = cell.ask("tools", cell.client.user(HELLO), tools=True, stream=stream)

        cell.check(seen, SAYS["tools"])
        assert {"get_weather", "get_time"} <= set(words(got.body))


def parallel(cell: Cell) -> None:
    for stream in (False, True):
        seen, _ = cell.ask("parallel", cell.client.user(HELLO), tools=True, stream=stream)
        cell.check(seen, SAYS["parallel"])


def results(cell: Cell) -> None:
    """The second turn: what the client got goes back with a result to each call."""
    for stream in (False, True):
        history = cell.client.user(HELLO)
        seen, _ = cell.ask("parallel", history, tools=True, stream=stream)
        texts = [f"result of {call.name} \u2028" for call in seen.calls]
        history += [*seen.turn, *cell.client.results(seen, texts)]
        seen, got = cell.ask("parallel", history, tools=True, stream=stream)

        cell.check(seen, SAYS["plain"])
        said = "\n".join(words(got.body))
        assert [text for text in texts if text not in said] == []
        assert said.index(texts[0]) < said.index(texts[1])
        assert all(word in said for use in SAYS["parallel"].uses for word in (*use.arguments.values(), use.name))
        assert all(piece in said for piece in pieces(TEXT))  # a streamed text may come back in its pieces


def image_url(cell: Cell) -> None:
    seen, got = cell.ask("image", cell.client.user(HELLO, image="url"))

    cell.check(seen, SAYS["image"])
    assert any(IMAGE_URL in word for word in words(got.body)) == ("image" not in drops(*cell_name(cell)))


def image_inline(cell: Cell) -> None:
    seen, got = cell.ask("image", cell.client.user(HELLO, image="inline"))

    cell.check(seen, SAYS["image"])
    assert any(PNG64 in standard(word) for word in words(got.body))


def structured(cell: Cell) -> None:
    for stream in (False, True):
        seen, got = cell.ask("structured", cell.client.user(HELLO), schema=True, stream=stream)

        cell.check(seen, SAYS["structured"])
        assert json.loads(seen.text) == json.loads(ANSWER)
        assert holds(got.body, SCHEMA), "the schema arrives"


def reasoning(cell: Cell) -> None:
    """Thoughts arrive, and what is signed comes back with the result of the tool in the next turn."""
    model = f"{THINKERS[cell.target]}reasoning"
    for stream in (False, True):
        history = cell.client.user(HELLO)
        seen, got = cell.ask(model, history, tools=True, thinking=True, stream=stream)

        cell.check(seen, SAYS["reasoning"])
        assert thinks(got.body), "the provider is asked to think"
        history += [*seen.turn, *cell.client.results(seen, ["result of get_weather"])]
        seen, got = cell.ask(model, history, 2, tools=True, thinking=True, stream=stream)
        cell.check(seen, SAYS["plain"])
        family = FAMILY.get(cell.target)
        if family is not None and cell.speaks != "ollama" and "reasoning" not in lost_signatures(cell):
            assert signature(family, "1") in [standard(word) for word in words(got.body)]


def refusal(cell: Cell) -> None:
    for stream in (False, True):
        seen, _ = cell.ask("refusal", cell.client.user(HELLO), stream=stream)

        assert REFUSED in (seen.text, seen.refusal)
        refused = {
            "chat": seen.finish == "content_filter" or bool(seen.refusal),
            "responses": seen.finish == "incomplete content_filter" or bool(seen.refusal),
            "messages": seen.finish == "refusal",
            "generate": seen.finish in {"SAFETY", "PROHIBITED_CONTENT"},
            "converse": seen.finish in {"guardrail_intervened", "content_filtered"},
            "ollama": seen.finish in {"refusal", "content_filter"},  # not Ollama's words, but free text in its client
        }
        assert refused[cell.speaks], seen


def length(cell: Cell) -> None:
    for stream in (False, True):
        seen, _ = cell.ask("length", cell.client.user(HELLO), stream=stream)
        cell.check(seen, SAYS["length"])


# -- errors --


def wrong(cell: Cell, model: str, *, stream: bool) -> Any:
    with pytest.raises(API_ERRORS) as raised:
        cell.client.ask(model, cell.client.user(HELLO), Ask(stream=stream))
    assert [got.problems for got in cell.stand_in.taken()] in ([[]], [])
    return cell.client.wrong(raised.value)


KINDS = {
    "chat": {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError", 429: "RateLimitError"},
    "messages": {
        400: "BadRequestError",
        401: "AuthenticationError",
        404: "NotFoundError",
        429: "RateLimitError",
        529: "OverloadedError",
    },
    "generate": {400: "ClientError", 401: "ClientError", 404: "ClientError", 429: "ClientError"},
    "converse": {
        400: "ValidationException",
        401: "UnrecognizedClientException",
        404: "ResourceNotFoundException",
        429: "ThrottlingException",
        502: "InternalServerException",
        529: "ServiceUnavailableException",
        503: "ServiceUnavailableException",
    },
    "ollama": {},
}
KINDS["responses"] = KINDS["chat"]
OTHERWISE = {
    "chat": "InternalServerError",
    "responses": "InternalServerError",
    "messages": "InternalServerError",
    "generate": "ServerError",
    "converse": "",
    "ollama": "ResponseError",
}


def fails(cell: Cell, model: str, status: int, word: str) -> None:
    for stream in (False, True):
        mine = f"{cell.speaks}-{stream}-{model}"  # one that said 429 is not asked again for as long as it said
        error = wrong(cell, f"{cell.target}/{mine}", stream=stream)

        assert error.status == status
        assert error.kind == KINDS[cell.speaks].get(status, OTHERWISE[cell.speaks])
        assert word in error.message
        if status == 429:
            assert error.retry_after == str(RETRY_AFTER)


def error_400(cell: Cell) -> None:
    fails(cell, "e400", 400, "The model says 400.")


def error_401(cell: Cell) -> None:
    """The provider refuses the gateway's own key: no business of the client, so it is a 502."""
    fails(cell, "e401", 502, "credential")


def error_429(cell: Cell) -> None:
    fails(cell, "e429", 429, "The model says 429.")


def error_500(cell: Cell) -> None:
    fails(cell, "e500", 502, "The model says 500.")


def error_529(cell: Cell) -> None:
    fails(cell, "e529", 529, "The model says 529.")


def unknown_model(cell: Cell) -> None:
    with pytest.raises(API_ERRORS) as raised:
        cell.client.ask("fsat", cell.client.user(HELLO), Ask())
    error = cell.client.wrong(raised.value)

    assert error.status == 404
    assert error.kind == KINDS[cell.speaks].get(404, OTHERWISE[cell.speaks])
    assert "fast" in error.message


def wrong_key(cell: Cell) -> None:
    client = type(cell.client)(cell.client.url, "ps-wrong")
    error = wrong(Cell(client, cell.target, cell.stand_in, cell.case), "fast", stream=False)
    client.close()

    assert error.status == 401
    assert error.kind == KINDS[cell.speaks].get(401, OTHERWISE[cell.speaks])
    assert "penstock" not in error.kind


def broken_stream(cell: Cell) -> None:
    """An error in the middle of a stream is raised by the client, not swallowed."""
    error = wrong(cell, f"{cell.target}/break", stream=True)

    assert "The model broke down." in error.message


# -- other questions --


def count(cell: Cell) -> None:
    tokens = cell.client.count(f"{cell.target}/plain", cell.client.user(HELLO), Ask(tools=True))

    got = cell.stand_in.taken()
    assert [one.problems for one in got] in ([[]], [])
    if cell.target in {"chat", "ollama"}:
        assert got == []
        assert tokens > 3  # their APIs cannot be asked: counted here
    else:
        assert tokens == COUNT


def embeddings(cell: Cell) -> None:
    vectors = cell.client.embed(f"{cell.target}/plain", ["one", "two \u2028"])

    (got,) = cell.stand_in.taken()
    assert got.problems == []
    assert vectors == [list(VECTOR)] * 2
    assert {"one", "two \u2028"} <= set(words(got.body))


def models(cell: Cell) -> None:
    assert cell.client.models() == ["fast"]


CASES: dict[str, Callable[[Cell], None]] = {
    "plain": plain,
    "streamed": streamed,
    "empty": empty,
    "tools": tools,
    "parallel tools": parallel,
    "tool results": results,
    "image by URL": image_url,
    "image inline": image_inline,
    "structured output": structured,
    "reasoning": reasoning,
    "refusal": refusal,
    "length": length,
    "error 400": error_400,
    "provider's 401": error_401,
    "rate limit 429": error_429,
    "failure 500": error_500,
    "overload 529": error_529,
    "wrong key": wrong_key,
    "unknown model": unknown_model,
    "broken stream": broken_stream,
    "count": count,
    "embeddings": embeddings,
    "model list": models,
}


def lost_signatures(cell: Cell) -> tuple[str, ...]:
    """What is lost of thoughts: Gemini's signatures stand in its calls, so they come back though its thoughts do not."""
    return () if cell.target == "generate" else drops(cell.case, cell.speaks, cell.target, 2)


def cell_name(cell: Cell) -> tuple[str, str, str]:
    return cell.case, cell.speaks, cell.target


def words(value: Any) -> list[str]:
    """Every text in a body; texts that are JSON are looked into."""
    if isinstance(value, dict):
        return [word for name, inner in value.items() for word in (name, *words(inner))]
    if isinstance(value, list):
        return [word for inner in value for word in words(inner)]
    if not isinstance(value, str):
        return []
    if value[:1] in {"{", "["}:
        try:
            return [value, *words(json.loads(value))]
        except ValueError:
            pass
    return [value]


def standard(text: str) -> str:
    """Base64 in the standard alphabet; Google's client writes the other, and Google's servers take both."""
    return text.replace("-", "+").replace("_", "/")


def holds(value: Any, part: Any) -> bool:
    """Whether a part stands anywhere in a body, also as JSON in a text."""
    if value == part:
        return True
    if isinstance(value, str) and value[:1] == "{":
        return holds(json.loads(value), part)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(holds(one, part) for one in inner)


def thinks(body: dict[str, Any]) -> bool:
    """Whether a body asks for thinking, each API in its own words."""
    names = {"reasoning_effort", "reasoning", "thinking", "thinkingConfig", "think", "effort"}
    return not names.isdisjoint(words(body))
