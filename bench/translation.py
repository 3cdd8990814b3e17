"""What translating costs: a call of 1 KB from each dialect into each other one, and one chunk of a stream back.

    .venv/bin/python bench/translation.py [--quick]

A call is read in the client's dialect and written in the provider's, messages and tools included. A chunk is read in the
provider's dialect and written in the client's. Each figure is the median CPU time over many rounds, each of which takes all
pairs in turn; a pair's turn is timed as a whole, so the clock's own cost does not count. Prints a table and whether each target is met, and writes
`bench/results/translation.md`. Exit codes: 0 every target met, 1 one missed.
"""

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from penstock.call import Asked
from penstock.wire.eventstream import event_frame, header_block
from penstock.wire.registry import dialect

CALL_US, CHUNK_US = 60.0, 5.0
RESULTS: Final = Path(__file__).parent / "results" / "translation.md"
NAMES: Final = ("chat", "responses", "messages", "generate", "converse", "ollama")

Pair = tuple[str, str]
"""A client's dialect and a provider's."""

SCHEMA: Final = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Final = {"name": "get_weather", "description": "Tells the weather of a city."}
TEXT: Final = "The quick brown fox jumps over the lazy dog near the river bank, and nobody minds. " * 6
TURNS: Final = ("How are you today?", "Very well, thank you. What can I do for you?")


def _openai_messages() -> list[Any]:
    texts = (("system", "Be brief."), ("user", TURNS[0]), ("assistant", TURNS[1]), ("user", TEXT))
    return [{"role": role, "content": text} for role, text in texts]


def _calls() -> Mapping[str, tuple[bytes, Asked]]:
    """Give the same conversation in every dialect: system text, three turns, a tool, a temperature."""
    messages, said = _openai_messages(), _openai_messages()[1:]
    function = {"type": "function", "function": TOOL | {"parameters": SCHEMA}}
    flat = {"type": "function", **TOOL, "parameters": SCHEMA}
    gemini = [
        {"role": "model" if one["role"] == "assistant" else "user", "parts": [{"text": one["content"]}]} for one in said
    ]
    bodies: dict[str, Any] = {
        "chat": {"model": "m", "messages": messages, "tools": [function], "max_tokens": 300, "temperature": 0.5},
        "responses": {
            "model": "m",
            "input": messages,
            "tools": [flat],
            "max_output_tokens": 300,
            "temperature": 0.5,
            "store": False,
        },
        "messages": {
            "model": "m",
            "system": "Be brief.",
            "messages": said,
            "tools": [TOOL | {"input_schema": SCHEMA}],
            "max_tokens": 300,
            "temperature": 0.5,
        },
        "generate": {
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "contents": gemini,
            "tools": [{"functionDeclarations": [TOOL | {"parametersJsonSchema": SCHEMA}]}],
            "generationConfig": {"maxOutputTokens": 300, "temperature": 0.5},
        },
        "converse": {
            "system": [{"text": "Be brief."}],
            "messages": [{"role": one["role"], "content": [{"text": one["content"]}]} for one in said],
            "toolConfig": {"tools": [{"toolSpec": TOOL | {"inputSchema": {"json": SCHEMA}}}]},
            "inferenceConfig": {"maxTokens": 300, "temperature": 0.5},
        },
        "ollama": {
            "model": "m",
            "messages": messages,
            "tools": [function],
            "options": {"num_predict": 300, "temperature": 0.5},
        },
    }
    asked = {"generate": Asked("m", stream=False), "converse": Asked("m", stream=False), "ollama": Asked(form="chat")}
    return MappingProxyType(
        {
            name: (json.dumps(body, separators=(",", ":")).encode(), asked.get(name, Asked()))
            for name, body in bodies.items()
        }
    )


def _sse(data: Any, event: str = "") -> bytes:
    return (f"event: {event}\n" if event else "").encode() + f"data: {json.dumps(data)}\n\n".encode()


def _frame(name: str, payload: Any) -> bytes:
    heads = header_block({":event-type": name, ":content-type": "application/json", ":message-type": "event"})
    return event_frame(heads, json.dumps(payload).encode())


def _streams() -> Mapping[str, tuple[bytes, bytes]]:
    """Give how each provider's stream begins, and one chunk with a few words of it."""
    words = " and then some more"
    chat: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "created": 1760000000, "model": "m"}
    response = {"id": "r", "object": "response", "created_at": 1760000000, "model": "m", "status": "in_progress"}
    at = {"item_id": "i", "output_index": 0, "content_index": 0}
    item = {"type": "message", "id": "i", "status": "in_progress", "role": "assistant", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    begun = (
        _sse({"type": "response.created", "response": response | {"output": []}}, "response.created")
        + _sse({"type": "response.output_item.added", "output_index": 0, "item": item}, "response.output_item.added")
        + _sse({"type": "response.content_part.added", **at, "part": part}, "response.content_part.added")
    )
    usage = {"input_tokens": 9, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": words}}
    gemini = {"candidates": [{"content": {"parts": [{"text": words}], "role": "model"}, "index": 0}]}
    text = {"type": "response.output_text.delta", **at, "delta": words, "logprobs": [], "sequence_number": 4}
    line = {"model": "m", "created_at": "2026-11-20T10:15:30.1Z", "message": {"role": "assistant", "content": words}}
    return MappingProxyType(
        {
            "chat": (
                _sse({**chat, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}),
                _sse({**chat, "choices": [{"index": 0, "delta": {"content": words}, "finish_reason": None}]}),
            ),
            "responses": (begun, _sse(text, "response.output_text.delta")),
            "messages": (
                _sse({"type": "message_start", "message": message}, "message_start")
                + _sse(block, "content_block_start"),
                _sse(delta, "content_block_delta"),
            ),
            "generate": (b"", _sse({**gemini, "modelVersion": "m", "responseId": "r"})),
            "converse": (
                _frame("messageStart", {"role": "assistant"}),
                _frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": words}, "p": "abcdefgh"}),
            ),
            "ollama": (b"", json.dumps({**line, "done": False}).encode() + b"\n"),
        }
    )


def call_work(client: str, provider: str) -> Callable[[], object]:
    """Give the work of reading a call in one dialect and writing it in another."""
    body, asked = _calls()[client]
    read, write = dialect(client).read_request, dialect(provider).write_request
    assert TEXT.encode() in write(read(body, asked), "m")[0], "the conversation arrives"
    return lambda: write(read(body, asked), "m")


def chunk_work(client: str, provider: str) -> Callable[[], object]:
    """Give the work of reading a chunk in the provider's dialect and writing it in the client's."""
    body, asked = _calls()[client]
    begun, chunk = _streams()[provider]
    reader = dialect(provider).stream_reader()
    writer = dialect(client).stream_writer(dialect(client).read_request(body, asked))
    writer.send(reader.feed(begun))
    assert b"some more" in writer.send(reader.feed(chunk)), "the words arrive"
    return lambda: writer.send(reader.feed(chunk))


def medians_us(works: Mapping[Pair, Callable[[], object]], each: int, rounds: int) -> dict[Pair, float]:
    """Give the median CPU time of one turn of each work in microseconds; every round takes all works in turn."""
    times: dict[Pair, list[float]] = {pair: [] for pair in works}
    for _ in range(rounds):
        for pair, work in works.items():
            begun = time.thread_time_ns()
            for _ in range(each):
                work()
            times[pair].append((time.thread_time_ns() - begun) / each)
    return {pair: statistics.median(taken) / 1000 for pair, taken in times.items()}


def table(title: str, figures: Mapping[tuple[str, str], float]) -> str:
    """Lay out a Markdown table: a row for each client, a column for each provider."""
    head = f"| {title} | " + " | ".join(NAMES) + " |"
    rows = [
        f"| {client} | " + " | ".join(f"{figures[client, provider]:.1f}" for provider in NAMES) + " |"
        for client in NAMES
    ]
    return "\n".join([head, "|---|" + "---:|" * len(NAMES), *rows])


def main(arguments: Sequence[str]) -> int:
    """Measure every pair, print, and write the results."""
    rounds = 7 if "--quick" in arguments else 40
    gc.disable()
    pairs = [(client, provider) for client in NAMES for provider in NAMES]
    calls = medians_us({pair: call_work(*pair) for pair in pairs}, 50, rounds)
    chunks = medians_us({pair: chunk_work(*pair) for pair in pairs}, 200, rounds)
    sizes = ", ".join(f"{name} {len(body)}" for name, (body, _) in _calls().items())
    met, lines = [], []
    for what, figures, most in (("call", calls, CALL_US), ("chunk", chunks, CHUNK_US)):
        worst = max(figures, key=lambda pair, figures=figures: figures[pair])
        good = figures[worst] <= most
        met.append(good)
        print(f"{'pass' if good else 'MISS'}: a {what} costs at most {figures[worst]:.1f} us ({' to '.join(worst)})")
        met_line = f"Dearest {what}: {figures[worst]:.1f} us, {' to '.join(worst)}; target {most:.0f} us."
        lines.append(met_line)
    text = "\n\n".join(
        [
            "# The cost of translating",
            "Microseconds of CPU time, medians, written by `bench/translation.py`. Rows are what the client speaks, columns the provider.",
            f"Bytes of the calls: {sizes}.",
            table("call, 1 KB", calls),
            table("chunk of a stream", chunks),
            *lines,
        ]
    )
    print(text)
    if "--quick" not in arguments:
        RESULTS.write_text(text + "\n", encoding="utf-8")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
