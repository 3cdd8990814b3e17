"""The data plane as an OpenAPI 3.1 document, as far as generated requests need one: every endpoint, its members and their types.

The members of a body are those of the API that the endpoint belongs to; what stands in them is left wide on purpose, so that
right and wrong ones are drawn.
"""

from typing import Any

ANY: dict[str, Any] = {}
TEXT = {"type": "string"}
NUMBER = {"type": "number"}
WHOLE = {"type": "integer"}
FLAG = {"type": "boolean"}
MODEL = {"type": "string", "enum": ["demo", "fast", "chat/plain", "nobody"]}

PART = {"type": "object", "properties": {"type": {"enum": ["text", "image_url", "tool_use"]}, "text": TEXT}}
CONTENT = {"anyOf": [TEXT, {"type": "array", "items": PART, "maxItems": 3}]}
ROLE = {"enum": ["user", "assistant", "system", "tool"]}
MESSAGE = {"type": "object", "properties": {"role": ROLE, "content": CONTENT}, "required": ["role", "content"]}
MESSAGES = {"type": "array", "items": MESSAGE, "maxItems": 4}
GEMINI_PART = {"type": "object", "properties": {"text": TEXT, "thought": FLAG, "functionCall": ANY, "inlineData": ANY}}
GEMINI_TURN = {
    "type": "object",
    "properties": {
        "role": {"enum": ["user", "model"]},
        "parts": {"type": "array", "items": GEMINI_PART, "maxItems": 3},
    },
}
CONTENTS = {"type": "array", "items": GEMINI_TURN, "maxItems": 4}
BLOCK = {"type": "object", "properties": {"text": TEXT, "toolUse": ANY, "toolResult": ANY, "image": ANY}}
TURN = {
    "type": "object",
    "properties": {
        "role": {"enum": ["user", "assistant"]},
        "content": {"type": "array", "items": BLOCK, "maxItems": 3},
    },
}
TURNS = {"type": "array", "items": TURN, "maxItems": 4}
TOOLS = {"type": "array", "items": {"type": "object"}, "maxItems": 2}

CHAT = {
    "model": MODEL,
    "messages": MESSAGES,
    "stream": FLAG,
    "tools": TOOLS,
    "tool_choice": ANY,
    "temperature": NUMBER,
    "max_tokens": WHOLE,
    "n": WHOLE,
    "stop": CONTENT,
    "response_format": ANY,
    "metadata": ANY,
    "stream_options": ANY,
}
RESPONSES = {
    "model": MODEL,
    "input": {"anyOf": [TEXT, MESSAGES]},
    "instructions": TEXT,
    "stream": FLAG,
    "tools": TOOLS,
    "reasoning": ANY,
    "text": ANY,
    "max_output_tokens": WHOLE,
    "previous_response_id": TEXT,
}
MESSAGES_BODY = {
    "model": MODEL,
    "messages": MESSAGES,
    "system": CONTENT,
    "max_tokens": WHOLE,
    "stream": FLAG,
    "tools": TOOLS,
    "thinking": ANY,
    "stop_sequences": {"type": "array", "items": TEXT},
}
GENERATE = {
    "contents": CONTENTS,
    "systemInstruction": GEMINI_TURN,
    "tools": TOOLS,
    "generationConfig": {"type": "object", "properties": {"temperature": NUMBER, "maxOutputTokens": WHOLE}},
}
CONVERSE = {
    "messages": TURNS,
    "system": {"type": "array", "items": BLOCK, "maxItems": 2},
    "inferenceConfig": {"type": "object", "properties": {"temperature": NUMBER, "maxTokens": WHOLE}},
    "toolConfig": ANY,
    "additionalModelRequestFields": ANY,
}
OLLAMA = {"model": MODEL, "stream": FLAG, "format": ANY, "options": {"type": "object"}, "think": ANY, "keep_alive": ANY}
EMBED = {"model": MODEL, "input": {"anyOf": [TEXT, {"type": "array", "items": TEXT, "maxItems": 3}]}}

GEMINI_VERBS = {
    "generateContent": (GENERATE, ["contents"]),
    "streamGenerateContent": (GENERATE, ["contents"]),
    "countTokens": ({"contents": CONTENTS, "generateContentRequest": ANY}, []),
    "embedContent": ({"content": GEMINI_TURN, "taskType": TEXT, "outputDimensionality": WHOLE}, ["content"]),
    "batchEmbedContents": ({"requests": {"type": "array", "items": {"type": "object"}, "maxItems": 2}}, ["requests"]),
}
POSTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "/v1/chat/completions": (CHAT, ["model", "messages"]),
    "/v1/responses": (RESPONSES, ["model", "input"]),
    "/v1/responses/input_tokens": (RESPONSES, ["model", "input"]),
    "/v1/embeddings": (EMBED | {"encoding_format": {"enum": ["float", "base64"]}}, ["model", "input"]),
    "/v1/messages": (MESSAGES_BODY, ["model", "messages", "max_tokens"]),
    "/v1/messages/count_tokens": (MESSAGES_BODY, ["model", "messages"]),
    **{f"/v1beta/models/{{model}}:{verb}": body for verb, body in GEMINI_VERBS.items()},
    **{f"/v1/models/{{model}}:{verb}": body for verb, body in GEMINI_VERBS.items()},
    "/model/{model}/converse": (CONVERSE, ["messages"]),
    "/model/{model}/converse-stream": (CONVERSE, ["messages"]),
    "/model/{model}/count-tokens": (
        {"input": {"type": "object", "properties": {"converse": {"type": "object"}}}},
        ["input"],
    ),
    "/api/chat": (OLLAMA | {"messages": MESSAGES, "tools": TOOLS}, ["model", "messages"]),
    "/api/generate": (OLLAMA | {"prompt": TEXT, "system": TEXT, "images": ANY}, ["model", "prompt"]),
    "/api/embed": (EMBED | {"truncate": FLAG, "options": {"type": "object"}}, ["model", "input"]),
    "/api/embeddings": ({"model": MODEL, "prompt": TEXT}, ["model", "prompt"]),
}
GETS = ("/v1/models", "/v1/models/{model}", "/v1beta/models", "/v1beta/models/{model}", "/api/tags")
GETS_PLAIN = ("/healthz", "/readyz")


def _parameters(path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": "x-penstock-strict", "in": "header", "schema": {"enum": ["true", "false"]}},
        {"name": "x-penstock-deadline-ms", "in": "header", "schema": WHOLE},
        {"name": "x-penstock-feature", "in": "header", "schema": TEXT},
    ]
    if "{model}" in path:
        found.append({"name": "model", "in": "path", "required": True, "schema": MODEL | {"minLength": 1}})
    if path.startswith(("/v1beta", "/v1/models")):
        found.append({"name": "alt", "in": "query", "schema": {"enum": ["sse", "json"]}})
    return found


def document() -> dict[str, Any]:
    """Give the document."""
    paths: dict[str, Any] = {}
    for path, (members, required) in POSTS.items():
        schema = {"type": "object", "properties": members, "required": required}
        body = {"required": True, "content": {"application/json": {"schema": schema}}}
        operation = {
            "parameters": _parameters(path),
            "requestBody": body,
            "responses": {"default": {"description": "any"}},
        }
        paths[path] = {"post": operation}
    for path in (*GETS, *GETS_PLAIN):
        told = {"parameters": _parameters(path), "responses": {"default": {"description": "any"}}}
        paths.setdefault(path, {})["get"] = told
    return {"openapi": "3.1.0", "info": {"title": "penstock's data plane", "version": "1"}, "paths": paths}
