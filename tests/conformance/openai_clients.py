"""OpenAI's official client, for both of its APIs, as an application uses it."""

import json
from typing import Any

import httpx2
import openai

from conformance.says import IMAGE_URL, PNG64, SCHEMA, TOOLS
from conformance.seen import Ask, Called, Seen, Wrong


class OpenAI:
    """What both APIs share: client, models, embeddings, errors."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self.headers = url, dict[str, str]()
        hooks = {"response": [self._remember]}
        http = openai.DefaultHttpxClient(event_hooks=hooks)
        self.sdk = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, http_client=http)

    def _remember(self, reply: httpx2.Response) -> None:
        self.headers = dict(reply.headers)

    def close(self) -> None:
        self.sdk.close()

    def models(self) -> list[str]:
        return [model.id for model in self.sdk.models.list()]

    def embed(self, model: str, texts: list[str]) -> list[list[float]]:
        reply = self.sdk.embeddings.create(model=model, input=texts)
        assert reply.usage.prompt_tokens >= 0
        return [row.embedding for row in reply.data]

    def wrong(self, error: openai.APIError) -> Wrong:
        reply = getattr(error, "response", None)
        after = None if reply is None else reply.headers.get("retry-after")
        return Wrong(type(error).__name__, getattr(error, "status_code", None), error.message, after, error)


class Chat(OpenAI):
    """Chat completions."""

    dialect = "chat"

    def user(self, text: str, image: str = "") -> list[Any]:
        if not image:
            return [{"role": "user", "content": text}]
        url = IMAGE_URL if image == "url" else f"data:image/png;base64,{PNG64}"
        parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
        return [{"role": "user", "content": parts}]

    def results(self, seen: Seen, texts: list[str]) -> list[Any]:
        pairs = zip(seen.calls, texts, strict=True)
        return [{"role": "tool", "tool_call_id": call.id, "content": text} for call, text in pairs]

    def ask(self, model: str, history: list[Any], ask: Ask) -> Seen:
        more: dict[str, Any] = {"max_tokens": ask.limit}
        if ask.tools:
            tools = [{"name": name, "description": f"{name}.", "parameters": TOOLS[name]} for name in TOOLS]
            more["tools"] = [{"type": "function", "function": tool} for tool in tools]
        if ask.schema:
            schema = {"name": "answer", "schema": SCHEMA, "strict": True}
            more["response_format"] = {"type": "json_schema", "json_schema": schema}
        if ask.thinking:
            more["reasoning_effort"] = "low"
        if ask.temperature is not None:
            more["temperature"] = ask.temperature
        messages = [{"role": "system", "content": ask.system}, *history]
        create = self.sdk.chat.completions.create
        if not ask.stream:
            return self._whole(create(model=model, messages=messages, **more))
        usage = {"include_usage": True}
        return self._streamed(create(model=model, messages=messages, stream=True, stream_options=usage, **more))

    def _whole(self, reply: Any) -> Seen:
        (choice,) = reply.choices
        return self._seen(choice.message.to_dict(), choice.finish_reason, reply.usage)

    def _streamed(self, stream: Any) -> Seen:
        """Put the deltas together as applications do: texts joined, lists by their `index`."""
        message: dict[str, Any] = {"role": "assistant"}
        finish = usage = None
        count = 0
        for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                finish = choice.finish_reason or finish
                delta = choice.delta.to_dict()
                count += bool(delta.get("content"))
                _join(message, delta)
        for call in message.get("tool_calls", []):
            call.pop("index")
        return self._seen(message, finish, usage)._replace(pieces=count)

    def _seen(self, message: dict[str, Any], finish: Any, usage: Any) -> Seen:
        calls = [
            Called(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in message.get("tool_calls") or []
        ]
        return Seen(
            message.get("content") or "",
            message.get("reasoning_content") or "",
            tuple(calls),
            finish,
            message.get("refusal") or "",
            usage.prompt_tokens,
            usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens,
            usage.completion_tokens,
            usage.completion_tokens_details and usage.completion_tokens_details.reasoning_tokens,
            [message],
        )


def _join(whole: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name in {"role", "index", "id", "type", "name", "format"} or name not in whole or whole[name] is None:
            whole[name] = json.loads(json.dumps(value))
        elif isinstance(value, str):
            whole[name] += value
        elif isinstance(value, dict):
            _join(whole[name], value)
        elif isinstance(value, list):
            for item in value:
                same = next((one for one in whole[name] if one.get("index") == item.get("index")), None)
                if same is None:
                    whole[name].append(item)
                else:
                    _join(same, item)


class Responses(OpenAI):
    """Responses of a stateless application: nothing is stored, thoughts come encrypted."""

    dialect = "responses"

    def user(self, text: str, image: str = "") -> list[Any]:
        if not image:
            return [{"role": "user", "content": text}]
        url = IMAGE_URL if image == "url" else f"data:image/png;base64,{PNG64}"
        parts = [{"type": "input_text", "text": text}, {"type": "input_image", "image_url": url, "detail": "auto"}]
        return [{"role": "user", "content": parts}]

    def results(self, seen: Seen, texts: list[str]) -> list[Any]:
        pairs = zip(seen.calls, texts, strict=True)
        return [{"type": "function_call_output", "call_id": call.id, "output": text} for call, text in pairs]

    def _asked(self, history: list[Any], ask: Ask) -> dict[str, Any]:
        more: dict[str, Any] = {"input": history, "instructions": ask.system}
        if ask.tools:
            more["tools"] = [
                {
                    "type": "function",
                    "name": name,
                    "description": f"{name}.",
                    "parameters": TOOLS[name],
                    "strict": False,
                }
                for name in TOOLS
            ]
        return more

    def ask(self, model: str, history: list[Any], ask: Ask) -> Seen:
        more = self._asked(history, ask) | {"store": False, "max_output_tokens": ask.limit}
        if ask.schema:
            more["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}}
        if ask.thinking:
            more |= {"reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"]}
        if ask.temperature is not None:
            more["temperature"] = ask.temperature
        create = self.sdk.responses.create
        if not ask.stream:
            return self._seen(create(model=model, **more))
        count, text, response = 0, "", None
        with create(model=model, stream=True, **more) as stream:
            for number, event in enumerate(stream):
                assert event.sequence_number in {number, None}  # llama.cpp leaves it out
                if event.type == "response.output_text.delta":
                    text += event.delta
                    count += 1
                if event.type in {"response.completed", "response.incomplete", "response.failed"}:
                    response = event.response
        seen = self._seen(response)
        assert text == seen.text
        return seen._replace(pieces=count)

    def _seen(self, response: Any) -> Seen:
        calls = [
            Called(item.call_id, item.name, json.loads(item.arguments))
            for item in response.output
            if item.type == "function_call"
        ]
        thoughts = [item for item in response.output if item.type == "reasoning"]
        parts = [part for item in response.output if item.type == "message" for part in item.content]
        why = response.incomplete_details.reason if response.incomplete_details else ""
        return Seen(
            response.output_text,
            "".join(part.text for item in thoughts for part in [*item.summary, *(item.content or [])]),
            tuple(calls),
            f"{response.status} {why}".strip(),
            "".join(part.refusal for part in parts if part.type == "refusal"),
            response.usage.input_tokens,
            response.usage.input_tokens_details and response.usage.input_tokens_details.cached_tokens,
            response.usage.output_tokens,
            response.usage.output_tokens_details and response.usage.output_tokens_details.reasoning_tokens,
            [item.to_dict() for item in response.output],
        )

    def count(self, model: str, history: list[Any], ask: Ask) -> int:
        return self.sdk.responses.input_tokens.count(model=model, **self._asked(history, ask)).input_tokens
