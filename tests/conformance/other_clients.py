"""The official clients of Anthropic, Google, Amazon and Ollama, as an application uses them."""

import json
from typing import Any

import anthropic
import boto3
import botocore.config
import httpx
import httpx2
import ollama
from botocore.exceptions import ClientError, EventStreamError
from google import genai
from google.genai import errors, types

from conformance.says import IMAGE_URL, PNG, PNG64, SCHEMA, TOOLS
from conformance.seen import Ask, Called, Seen, Wrong


class Messages:
    """Anthropic's client."""

    dialect = "messages"

    def __init__(self, url: str, key: str) -> None:
        self.url, self.headers = url, dict[str, str]()
        http = anthropic.DefaultHttpxClient(event_hooks={"response": [self._remember]})
        self.sdk = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, http_client=http)

    def _remember(self, reply: httpx2.Response) -> None:
        self.headers = dict(reply.headers)

    def close(self) -> None:
        self.sdk.close()

    def models(self) -> list[str]:
        return [model.id for model in self.sdk.models.list()]

    def user(self, text: str, image: str = "") -> list[Any]:
        if not image:
            return [{"role": "user", "content": text}]
        inline = {"type": "base64", "media_type": "image/png", "data": PNG64}
        source = {"type": "url", "url": IMAGE_URL} if image == "url" else inline
        return [{"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": text}]}]

    def results(self, seen: Seen, texts: list[str]) -> list[Any]:
        pairs = zip(seen.calls, texts, strict=True)
        blocks = [{"type": "tool_result", "tool_use_id": call.id, "content": text} for call, text in pairs]
        return [{"role": "user", "content": blocks}]

    def _asked(self, history: list[Any], ask: Ask) -> dict[str, Any]:
        more: dict[str, Any] = {"messages": history, "system": ask.system}
        if ask.tools:
            more["tools"] = [{"name": name, "description": f"{name}.", "input_schema": TOOLS[name]} for name in TOOLS]
        if ask.thinking:
            more["thinking"] = {"type": "enabled", "budget_tokens": 2048}
        return more

    def ask(self, model: str, history: list[Any], ask: Ask) -> Seen:
        more = self._asked(history, ask) | {"max_tokens": ask.limit}
        if ask.schema:
            more["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
        if ask.temperature is not None:
            more["extra_body"] = {"temperature": ask.temperature}  # which this SDK has no name for any more
        if not ask.stream:
            return self._seen(self.sdk.messages.create(model=model, **more))
        with self.sdk.messages.stream(model=model, **more) as stream:
            texts = list(stream.text_stream)
            final = stream.get_final_message()
        seen = self._seen(final)
        assert "".join(texts) == seen.text
        return seen._replace(pieces=len(texts))

    def _seen(self, message: Any) -> Seen:
        usage = message.usage
        cached = usage.cache_read_input_tokens or 0
        blocks = message.content
        return Seen(
            "".join(block.text for block in blocks if block.type == "text"),
            "".join(block.thinking for block in blocks if block.type == "thinking"),
            tuple(Called(block.id, block.name, block.input) for block in blocks if block.type == "tool_use"),
            message.stop_reason,
            (message.stop_details.explanation or "") if message.stop_details else "",
            usage.input_tokens + cached + (usage.cache_creation_input_tokens or 0),
            cached,
            usage.output_tokens,
            usage.output_tokens_details.thinking_tokens if usage.output_tokens_details else None,
            [{"role": "assistant", "content": [block.to_dict() for block in blocks]}],
        )

    def count(self, model: str, history: list[Any], ask: Ask) -> int:
        return self.sdk.messages.count_tokens(model=model, **self._asked(history, ask)).input_tokens

    def wrong(self, error: anthropic.APIError) -> Wrong:
        reply = getattr(error, "response", None)
        after = None if reply is None else reply.headers.get("retry-after")
        return Wrong(type(error).__name__, getattr(error, "status_code", None), error.message, after, error)


class Generate:
    """Google's client, with its default version of the API."""

    dialect = "generate"

    def __init__(self, url: str, key: str) -> None:
        self.url, self.headers = url, dict[str, str]()
        hooks = {"event_hooks": {"response": [self._remember]}}
        options = types.HttpOptions(base_url=url, client_args=hooks)
        self.sdk = genai.Client(api_key=key, http_options=options)

    def _remember(self, reply: Any) -> None:
        self.headers = dict(reply.headers)

    def close(self) -> None:
        self.sdk.close()

    def models(self) -> list[str]:
        return [model.name.removeprefix("models/") for model in self.sdk.models.list()]

    def embed(self, model: str, texts: list[str]) -> list[list[float]]:
        return [one.values for one in self.sdk.models.embed_content(model=model, contents=texts).embeddings]

    def user(self, text: str, image: str = "") -> list[Any]:
        parts = [types.Part(text=text)]
        if image == "url":
            parts.append(types.Part.from_uri(file_uri=IMAGE_URL, mime_type="image/png"))
        elif image:
            parts.append(types.Part.from_bytes(data=PNG, mime_type="image/png"))
        return [types.Content(role="user", parts=parts)]

    def results(self, seen: Seen, texts: list[str]) -> list[Any]:
        responses = [
            types.FunctionResponse(id=call.id or None, name=call.name, response={"result": text})
            for call, text in zip(seen.calls, texts, strict=True)
        ]
        return [types.Content(role="user", parts=[types.Part(function_response=one) for one in responses])]

    def _config(self, ask: Ask) -> types.GenerateContentConfig:
        config: dict[str, Any] = {"system_instruction": ask.system, "max_output_tokens": ask.limit}
        if ask.tools:
            declared = [
                types.FunctionDeclaration(name=name, description=f"{name}.", parameters_json_schema=TOOLS[name])
                for name in TOOLS
            ]
            config["tools"] = [types.Tool(function_declarations=declared)]
        if ask.schema:
            config |= {"response_mime_type": "application/json", "response_json_schema": SCHEMA}
        if ask.thinking:
            config["thinking_config"] = types.ThinkingConfig(include_thoughts=True, thinking_budget=2048)
        if ask.temperature is not None:
            config["temperature"] = ask.temperature
        return types.GenerateContentConfig(**config)

    def ask(self, model: str, history: list[Any], ask: Ask) -> Seen:
        asked = {"model": model, "contents": history, "config": self._config(ask)}
        if not ask.stream:
            reply = self.sdk.models.generate_content(**asked)
            return self._seen(reply, reply.candidates[0].content.parts if reply.candidates[0].content else [])
        parts: list[types.Part] = []
        last, count = None, 0
        for chunk in self.sdk.models.generate_content_stream(**asked):
            last = chunk
            for candidate in chunk.candidates or []:
                new = (candidate.content.parts if candidate.content else None) or []
                parts += new
                count += any(part.text and not part.thought for part in new)
        return self._seen(last, parts)._replace(pieces=count)

    def _seen(self, reply: Any, parts: list[types.Part] | None) -> Seen:
        usage = reply.usage_metadata
        thoughts = usage.thoughts_token_count
        parts = parts or []
        calls = [part.function_call for part in parts if part.function_call]
        finish = reply.candidates[0].finish_reason
        return Seen(
            "".join(part.text for part in parts if part.text and not part.thought),
            "".join(part.text for part in parts if part.text and part.thought),
            tuple(Called(call.id or "", call.name, call.args) for call in calls),
            finish.name if finish else "",
            "",
            usage.prompt_token_count,
            usage.cached_content_token_count,
            (usage.candidates_token_count or 0) + (thoughts or 0),
            thoughts,
            [types.Content(role="model", parts=parts)],
        )

    def count(self, model: str, history: list[Any], ask: Ask) -> int:
        return self.sdk.models.count_tokens(model=model, contents=history).total_tokens

    def wrong(self, error: errors.APIError) -> Wrong:
        after = self.headers.get("retry-after")
        return Wrong(type(error).__name__, error.code, error.message or "", after, error)


class Converse:
    """Amazon's client, with a key of the gateway as session token: so it works over plain HTTP."""

    dialect = "converse"

    def __init__(self, url: str, key: str) -> None:
        self.url, self.headers = url, dict[str, str]()
        self.sdk = boto3.client(
            "bedrock-runtime",
            endpoint_url=url,
            region_name="eu-central-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            aws_session_token=key,
            config=botocore.config.Config(retries={"total_max_attempts": 1}),
        )

    def close(self) -> None:
        self.sdk.close()

    def user(self, text: str, image: str = "") -> list[Any]:
        blocks: list[Any] = [{"text": text}]
        if image:
            blocks.append({"image": {"format": "png", "source": {"bytes": PNG}}})
        return [{"role": "user", "content": blocks}]

    def results(self, seen: Seen, texts: list[str]) -> list[Any]:
        blocks = [
            {"toolResult": {"toolUseId": call.id, "content": [{"text": text}], "status": "success"}}
            for call, text in zip(seen.calls, texts, strict=True)
        ]
        return [{"role": "user", "content": blocks}]

    def _asked(self, history: list[Any], ask: Ask) -> dict[str, Any]:
        more: dict[str, Any] = {"messages": history, "system": [{"text": ask.system}]}
        if ask.tools:
            specs = [{"name": name, "description": f"{name}.", "inputSchema": {"json": TOOLS[name]}} for name in TOOLS]
            more["toolConfig"] = {"tools": [{"toolSpec": spec} for spec in specs]}
        return more

    def ask(self, model: str, history: list[Any], ask: Ask) -> Seen:
        more = self._asked(history, ask) | {"inferenceConfig": {"maxTokens": ask.limit}}
        if ask.temperature is not None:
            more["inferenceConfig"]["temperature"] = ask.temperature
        if ask.schema:
            schema = {"jsonSchema": {"schema": json.dumps(SCHEMA), "name": "answer"}}
            more["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": schema}}
        if ask.thinking:
            thinking = {"type": "enabled", "budget_tokens": 2048}
            more["additionalModelRequestFields"] = {"thinking": thinking}
        if not ask.stream:
            reply = self.sdk.converse(modelId=model, **more)
            self.headers = reply["ResponseMetadata"]["HTTPHeaders"]
            return self._seen(reply["output"]["message"], reply["stopReason"], reply["usage"])
        reply = self.sdk.converse_stream(modelId=model, **more)
        self.headers = reply["ResponseMetadata"]["HTTPHeaders"]
        try:
            return self._streamed(reply["stream"])
        finally:
            reply["stream"].close()

    def _streamed(self, stream: Any) -> Seen:
        blocks: dict[int, dict[str, Any]] = {}
        finish, usage, count, stopped = "", {}, 0, set()
        for event in stream:
            ((name, data),) = event.items()
            match name:
                case "contentBlockStart":
                    blocks[data["contentBlockIndex"]] = {"toolUse": data["start"]["toolUse"] | {"input": ""}}
                case "contentBlockDelta":
                    assert data["contentBlockIndex"] not in stopped
                    self._add(blocks.setdefault(data["contentBlockIndex"], {}), data["delta"])
                    count += "text" in data["delta"]
                case "contentBlockStop":
                    stopped.add(data["contentBlockIndex"])
                case "messageStop":
                    finish = data["stopReason"]
                case "metadata":
                    usage = data["usage"]
        assert stopped == set(blocks), "every block ends"
        content = [blocks[index] for index in sorted(blocks)]
        for block in content:
            if "toolUse" in block:
                block["toolUse"]["input"] = json.loads(block["toolUse"]["input"] or "{}")
        return self._seen({"role": "assistant", "content": content}, finish, usage)._replace(pieces=count)

    @staticmethod
    def _add(block: dict[str, Any], delta: dict[str, Any]) -> None:
        if "text" in delta:
            block["text"] = block.get("text", "") + delta["text"]
        elif "toolUse" in delta:
            block["toolUse"]["input"] += delta["toolUse"]["input"]
        elif "redactedContent" in delta["reasoningContent"]:
            block["reasoningContent"] = delta["reasoningContent"]
        else:
            thought = block.setdefault("reasoningContent", {"reasoningText": {"text": ""}})["reasoningText"]
            for name, value in delta["reasoningContent"].items():
                thought[name] = thought.get(name, "") + value

    def _seen(self, message: Any, finish: str, usage: Any) -> Seen:
        blocks = message["content"]
        uses = [block["toolUse"] for block in blocks if "toolUse" in block]
        thoughts = [block["reasoningContent"].get("reasoningText") for block in blocks if "reasoningContent" in block]
        cached = usage.get("cacheReadInputTokens", 0)
        return Seen(
            "".join(block.get("text", "") for block in blocks),
            "".join(thought["text"] for thought in thoughts if thought),
            tuple(Called(use["toolUseId"], use["name"], use["input"]) for use in uses),
            finish,
            "",
            usage["inputTokens"] + cached + usage.get("cacheWriteInputTokens", 0),
            cached,
            usage["outputTokens"],
            None,
            [message],
        )

    def count(self, model: str, history: list[Any], ask: Ask) -> int:
        return self.sdk.count_tokens(modelId=model, input={"converse": self._asked(history, ask)})["inputTokens"]

    def wrong(self, error: ClientError | EventStreamError) -> Wrong:
        said = error.response["Error"]
        about = error.response.get("ResponseMetadata", {})
        after = about.get("HTTPHeaders", {}).get("retry-after")
        return Wrong(said["Code"], about.get("HTTPStatusCode"), said["Message"], after, error)


class Ollama:
    """Ollama's client."""

    dialect = "ollama"

    def __init__(self, url: str, key: str) -> None:
        self.url, self.headers = url, dict[str, str]()
        hooks = {"response": [self._remember]}
        self.sdk = ollama.Client(url, headers={"authorization": f"Bearer {key}"}, event_hooks=hooks)

    def _remember(self, reply: httpx.Response) -> None:
        self.headers = dict(reply.headers)

    def close(self) -> None:
        self.sdk.close()

    def models(self) -> list[str]:
        return [model.model for model in self.sdk.list().models]

    def embed(self, model: str, texts: list[str]) -> list[list[float]]:
        return [list(one) for one in self.sdk.embed(model, texts).embeddings]

    def user(self, text: str, image: str = "") -> list[Any]:
        return [{"role": "user", "content": text} | ({"images": [PNG]} if image else {})]

    def results(self, seen: Seen, texts: list[str]) -> list[Any]:
        pairs = zip(seen.calls, texts, strict=True)
        return [{"role": "tool", "tool_name": call.name, "content": text} for call, text in pairs]

    def ask(self, model: str, history: list[Any], ask: Ask) -> Seen:
        more: dict[str, Any] = {"options": {"num_predict": ask.limit}}
        if ask.temperature is not None:
            more["options"]["temperature"] = ask.temperature
        if ask.tools:
            functions = [{"name": name, "description": f"{name}.", "parameters": TOOLS[name]} for name in TOOLS]
            more["tools"] = [{"type": "function", "function": function} for function in functions]
        if ask.schema:
            more["format"] = SCHEMA
        if ask.thinking:
            more["think"] = "low"
        messages = [{"role": "system", "content": ask.system}, *history]
        if not ask.stream:
            reply = self.sdk.chat(model, messages, **more)
            return self._seen([reply])
        replies = list(self.sdk.chat(model, messages, stream=True, **more))
        return self._seen(replies)._replace(pieces=sum(bool(reply.message.content) for reply in replies))

    def _seen(self, replies: list[ollama.ChatResponse]) -> Seen:
        messages, last = [reply.message for reply in replies], replies[-1]
        calls = [call for message in messages for call in message.tool_calls or []]
        assert [reply.done for reply in replies] == [False] * (len(replies) - 1) + [True]
        text = "".join(message.content or "" for message in messages)
        thought = "".join(message.thinking or "" for message in messages)
        turn = ollama.Message(role="assistant", content=text, thinking=thought or None, tool_calls=calls or None)
        return Seen(
            text,
            thought,
            tuple(Called("", call.function.name, dict(call.function.arguments)) for call in calls),
            last.done_reason or "",
            "",
            last.prompt_eval_count,
            None,
            last.eval_count,
            None,
            [turn if len(replies) > 1 else last.message],
        )

    def wrong(self, error: ollama.ResponseError) -> Wrong:
        after = self.headers.get("retry-after")
        return Wrong(type(error).__name__, error.status_code, error.error, after, error)
