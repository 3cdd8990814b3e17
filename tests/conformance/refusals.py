"""What each provider would refuse of a request: its official types, and the rules that its documentation adds.

`problems_of(dialect, operation, body)` lists them. Types come from the SDKs (openai, anthropic, google-genai, ollama) and from
botocore's service model; conversations, ids, signatures and base64 are checked by hand.
"""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import anthropic.types
import botocore.loaders
import botocore.model
import google.genai.types as google
import ollama
import openai.types
import openai.types.chat
import openai.types.responses

from conformance.says import signature
from conformance.valid import is_base64, problems, shape_problems

ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
EXTENSIONS = frozenset({"reasoning_details", "reasoning_content", "extra_content"})
"""What compatible servers document beyond OpenAI's types: OpenRouter, DeepSeek, Google."""

Body = dict[str, Any]


def problems_of(dialect: str, operation: str, body: Body) -> list[str]:
    """List why a provider would refuse the body."""
    check = _CHECKS.get((dialect, operation))
    return [f"{dialect} has no {operation}"] if check is None else list(check(body))


def _is_ours(text: Any, family: str) -> bool:
    """Whether a signature is one that a stand-in of this family made."""
    if family == "google" and isinstance(text, str):
        text = text.replace("-", "+").replace("_", "/")
    return isinstance(text, str) and any(text == signature(family, str(number)) for number in range(1, 12))


def _data_url(url: str) -> Iterator[str]:
    if url.startswith("data:"):
        head, _, data = url.partition(",")
        if not head.endswith(";base64") or not is_base64(data) or not head.startswith("data:image/"):
            yield f"no picture: {url[:40]}"
    elif not url.startswith("https://"):
        yield f"no address: {url[:40]}"


def _answered(called: list[str], answered: list[str]) -> Iterator[str]:
    if sorted(called) != sorted(answered):
        yield f"calls {called} have the results {answered}"


# -- OpenAI --


def _chat(body: Body) -> Iterator[str]:
    yield from problems(body, openai.types.chat.CompletionCreateParams, allow=EXTENSIONS)
    waiting: list[str] = []
    for message in body["messages"]:
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                yield f"a result of {message['tool_call_id']}, which was not called"
            else:
                waiting.remove(message["tool_call_id"])
            continue
        if waiting:
            yield f"calls without a result: {waiting}"
        waiting = [call["id"] for call in message.get("tool_calls") or []]
        if any(len(one) > 64 for one in waiting):
            yield f"an id is longer than 64: {waiting}"
        for call in message.get("tool_calls") or []:
            json.loads(call["function"]["arguments"])
        if message["role"] == "assistant" and not message.get("content") and not waiting and not message.get("refusal"):
            yield "an assistant message without content"
        for part in message["content"] if isinstance(message.get("content"), list) else []:
            if part["type"] == "image_url":
                yield from _data_url(part["image_url"]["url"])
    if waiting:
        yield f"calls without a result: {waiting}"
    yield from _known_tools(body, [tool["function"]["name"] for tool in body.get("tools", [])])


def _known_tools(body: Body, names: list[str]) -> Iterator[str]:
    if len(set(names)) != len(names):
        yield f"tools of one name: {names}"
    if "tool_choice" in body and not names:
        yield "a tool_choice without tools"
    if "parallel_tool_calls" in body and not names:
        yield "parallel_tool_calls without tools"


def _responses(body: Body) -> Iterator[str]:
    yield from problems(body, openai.types.responses.ResponseCreateParams)
    yield from _items(body)
    if body.get("store") is not False and any(
        "encrypted_content" in i for i in body["input"] if isinstance(body["input"], list)
    ):
        yield "encrypted thoughts with a stored answer"


def _items(body: Body) -> Iterator[str]:
    items = body["input"] if isinstance(body["input"], list) else []
    called = [item["call_id"] for item in items if item.get("type") == "function_call"]
    yield from _answered(called, [item["call_id"] for item in items if item.get("type") == "function_call_output"])
    for item in items:
        if item.get("type") == "reasoning":
            if not _is_ours(item.get("encrypted_content"), "openai"):
                yield f"a thought whose encrypted_content is not OpenAI's: {item.get('encrypted_content')!r}"
            if not item["id"].startswith("rs_"):
                yield f"a thought with the id {item['id']!r}"
        for part in item["content"] if isinstance(item.get("content"), list) else []:
            if part["type"] == "input_image":
                yield from _data_url(part["image_url"])


def _responses_count(body: Body) -> Iterator[str]:
    yield from problems(body, openai.types.responses.InputTokenCountParams)
    yield from _items(body)


def _embeddings(body: Body) -> Iterator[str]:
    yield from problems(body, openai.types.EmbeddingCreateParams)


# -- Anthropic --


def _messages(body: Body) -> Iterator[str]:
    yield from problems(body, anthropic.types.MessageCreateParams)
    yield from _anthropic_turns(body)
    thinking = body.get("thinking", {})
    if body["max_tokens"] < 1:
        yield "max_tokens below 1"
    if thinking.get("type") == "enabled":
        if not 1024 <= thinking["budget_tokens"] < body["max_tokens"]:
            yield f"thinking of {thinking['budget_tokens']} with max_tokens {body['max_tokens']}"
        if body.get("temperature", 1) != 1 or "top_k" in body:
            yield "sampling with thinking"
    if not 0 <= body.get("temperature", 1) <= 1:
        yield "temperature out of range"


def _messages_count(body: Body) -> Iterator[str]:
    yield from problems(body, anthropic.types.MessageCountTokensParams)
    yield from _anthropic_turns(body)


def _anthropic_turns(body: Body) -> Iterator[str]:
    waiting: list[str] = []
    if body["messages"][0]["role"] != "user":
        yield "the first message is not the user's"
    for message in body["messages"]:
        blocks = message["content"]
        blocks = [{"type": "text", "text": blocks}] if isinstance(blocks, str) else blocks
        if not blocks:
            yield "a message without content"
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if message["role"] == "user":
            yield from _answered(waiting, results)
            if any(block["type"] != "tool_result" for block in blocks[: len(results)]):
                yield "results have to come first"
        waiting = [block["id"] for block in blocks if block["type"] == "tool_use"]
        for block in blocks:
            yield from _anthropic_block(block)
    if waiting:
        yield f"calls without a result: {waiting}"
    turns = [message["content"] for message in body["messages"] if message["role"] == "assistant"]
    if body.get("thinking", {}).get("type") == "enabled" and turns and results:
        first = turns[-1][0]["type"]
        if first not in {"thinking", "redacted_thinking"}:
            yield f"with thinking, a turn with calls has to begin with it, not with {first}"


def _anthropic_block(block: Body) -> Iterator[str]:
    if block["type"] == "text" and not block["text"].strip():
        yield "a text without text"
    if block["type"] == "thinking" and not _is_ours(block["signature"], "anthropic"):
        yield f"a signature that is not Anthropic's: {block['signature']!r}"
    if block["type"] == "tool_use" and not ID.fullmatch(block["id"]):
        yield f"an id that is none: {block['id']!r}"
    if block["type"] == "image" and block["source"]["type"] == "base64" and not is_base64(block["source"]["data"]):
        yield "a picture in no standard base64"


# -- Google --


class GenerateBody(google._common.BaseModel):
    """The body as it is sent: the members of `GenerateContentConfig` that stand beside `contents`, and the rest of it."""

    contents: list[google.Content]
    tools: list[google.Tool] | None = None
    tool_config: google.ToolConfig | None = None
    safety_settings: list[google.SafetySetting] | None = None
    system_instruction: google.Content | None = None
    generation_config: google.GenerationConfig | None = None
    cached_content: str | None = None
    labels: dict[str, str] | None = None
    service_tier: str | None = None


_GENERATION = frozenset({"responseJsonSchema", "enableEnhancedCivicAnswers", "imageConfig"})


def _generate(body: Body) -> Iterator[str]:
    yield from problems(body, GenerateBody, allow=_GENERATION)
    yield from _google_turns(body["contents"])


def _generate_count(body: Body) -> Iterator[str]:
    inner = body.get("generateContentRequest")
    if inner is not None:
        if not str(inner.get("model", "")).startswith("models/"):
            yield f"generateContentRequest names the model {inner.get('model')!r}"
        inner = {name: value for name, value in inner.items() if name != "model"}
        if set(body) != {"generateContentRequest"}:
            yield f"contents and generateContentRequest at once: {sorted(body)}"
    yield from _generate(inner if inner is not None else body)


def _google_turns(contents: list[Body]) -> Iterator[str]:
    waiting: list[str] = []
    for content in contents:
        parts = [{camel(name): value for name, value in part.items()} for part in content.get("parts") or []]
        if not parts:
            yield "a content without parts"
        if content.get("role") not in {"user", "model"}:
            yield f"the role {content.get('role')!r}"
        results = [part["functionResponse"]["name"] for part in parts if "functionResponse" in part]
        if content.get("role") == "user":
            yield from _answered(waiting, results)
        waiting = [part["functionCall"]["name"] for part in parts if "functionCall" in part]
        for part in parts:
            if "thoughtSignature" in part and not _is_ours(part["thoughtSignature"], "google"):
                yield f"a signature that is not Google's: {part['thoughtSignature']!r}"
    if waiting:
        yield f"calls without a result: {waiting}"


def camel(name: str) -> str:
    """A name as it is documented; Google's own client writes some of them with underscores."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


class EmbedBody(google._common.BaseModel):
    model: str
    content: google.Content
    task_type: str | None = None
    title: str | None = None
    output_dimensionality: int | None = None


class BatchBody(google._common.BaseModel):
    requests: list[EmbedBody]


def _generate_embed(body: Body) -> Iterator[str]:
    yield from problems(body, BatchBody)


# -- Amazon --


@cache
def bedrock() -> botocore.model.ServiceModel:
    """The service model of bedrock-runtime, as botocore ships it."""
    return botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("bedrock-runtime", "service-2"))


def _converse(body: Body) -> Iterator[str]:
    yield from shape_problems(body, bedrock().operation_model("Converse").input_shape)
    yield from _amazon_turns(body)


def _converse_count(body: Body) -> Iterator[str]:
    yield from shape_problems(body, bedrock().operation_model("CountTokens").input_shape)
    yield from _amazon_turns(body["input"]["converse"])


def _amazon_turns(body: Body) -> Iterator[str]:
    waiting, last = [], "assistant"
    for message in body["messages"]:
        blocks = message["content"]
        if message["role"] == last:
            yield f"two messages of the {last} in a row"
        last = message["role"]
        if not blocks:
            yield "a message without content"
        if message["role"] == "user":
            results = [block["toolResult"]["toolUseId"] for block in blocks if "toolResult" in block]
            yield from _answered(waiting, results)
        waiting = [block["toolUse"]["toolUseId"] for block in blocks if "toolUse" in block]
        for block in blocks:
            if "text" in block and not block["text"].strip():
                yield "a text without text"
            thought = block.get("reasoningContent", {}).get("reasoningText")
            if thought is not None and not _is_ours(thought.get("signature"), "anthropic"):
                yield f"a signature that is not Anthropic's: {thought.get('signature')!r}"
        if any(not ID.fullmatch(one) for one in waiting):
            yield f"an id that is none: {waiting}"
    if waiting:
        yield f"calls without a result: {waiting}"
    thinks = body.get("additionalModelRequestFields", {}).get("thinking", {}).get("type") == "enabled"
    turns = [message["content"] for message in body["messages"] if message["role"] == "assistant"]
    if thinks and turns and results and "reasoningContent" not in turns[-1][0]:
        yield f"with thinking, a turn with calls has to begin with it, not with {list(turns[-1][0])}"
    said = json.dumps(body["messages"])
    if "toolConfig" not in body and ('"toolUse"' in said or '"toolResult"' in said):
        yield "calls in the conversation without a toolConfig"


# -- Ollama --


def _ollama(body: Body) -> Iterator[str]:
    allow = frozenset({"id", "index", "tool_call_id", "additionalProperties", "strict", "$defs", "truncate", "shift"})
    yield from problems({**body, "messages": []}, ollama._types.ChatRequest, allow=allow)
    called: list[str] = []
    for message in body["messages"]:
        text = {name: value for name, value in message.items() if name != "images"}
        yield from problems(text, ollama.Message, allow=allow)
        called += [call["function"]["name"] for call in message.get("tool_calls") or []]
        for image in message.get("images") or []:
            if not is_base64(image):
                yield "a picture in no standard base64"
        if message["role"] == "tool":
            if message.get("tool_name") not in called:
                yield f"a result of {message.get('tool_name')!r}, which was not called"
            else:
                called.remove(message["tool_name"])
    if called:
        yield f"calls without a result: {called}"


def _ollama_embed(body: Body) -> Iterator[str]:
    yield from problems(body, ollama._types.EmbedRequest)


_CHECKS: dict[tuple[str, str], Callable[[Body], Iterator[str]]] = {
    ("chat", "generate"): _chat,
    ("chat", "embed"): _embeddings,
    ("responses", "generate"): _responses,
    ("responses", "count"): _responses_count,
    ("responses", "embed"): _embeddings,
    ("messages", "generate"): _messages,
    ("messages", "count"): _messages_count,
    ("generate", "generate"): _generate,
    ("generate", "count"): _generate_count,
    ("generate", "embed"): _generate_embed,
    ("converse", "generate"): _converse,
    ("converse", "count"): _converse_count,
    ("ollama", "generate"): _ollama,
    ("ollama", "embed"): _ollama_embed,
}
