"""Which dialect an address of the data plane belongs to, and what its path and query say about the call.

Pure: a path in, an `Endpoint` out. The addresses are the providers' own, so that their clients need nothing but another host.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from penstock.call import NOTHING_ASKED, Asked, Operation


class Endpoint(Struct, frozen=True):
    """One address that takes calls: the name of its dialect, and what it says beside the body."""

    dialect: str
    asked: Asked = NOTHING_ASKED


_COUNT: Final = Asked(operation="count")
_EMBED: Final = Asked(operation="embed")

FIXED: Final[Mapping[str, Endpoint]] = MappingProxyType(
    {
        "/v1/chat/completions": Endpoint("chat"),
        "/v1/embeddings": Endpoint("chat", _EMBED),
        "/v1/responses": Endpoint("responses"),
        "/v1/responses/input_tokens": Endpoint("responses", _COUNT),
        "/v1/messages": Endpoint("messages"),
        "/v1/messages/count_tokens": Endpoint("messages", _COUNT),
        "/api/chat": Endpoint("ollama", Asked(form="chat")),
        "/api/generate": Endpoint("ollama", Asked(form="generate")),
        "/api/embed": Endpoint("ollama", Asked(operation="embed", form="embed")),
        "/api/embeddings": Endpoint("ollama", Asked(operation="embed", form="embeddings")),
    }
)

_VERBS: Final[Mapping[str, tuple[Operation, bool, str]]] = MappingProxyType(
    {
        "generateContent": ("generate", False, ""),
        "streamGenerateContent": ("generate", True, "array"),
        "countTokens": ("count", False, ""),
        "embedContent": ("embed", False, "one"),
        "batchEmbedContents": ("embed", False, "batch"),
    }
)
_ACTIONS: Final[Mapping[str, tuple[Operation, bool]]] = MappingProxyType(
    {"converse": ("generate", False), "converse-stream": ("generate", True), "count-tokens": ("count", False)}
)
_LISTS: Final = ("/v1beta/models", "/v1/models")

_ROOTS: Final = (("/v1/messages", "messages"), ("/v1/responses", "responses"), ("/v1beta/", "generate"), ("/model/", "converse"), ("/api/", "ollama"))  # fmt: skip


def find(path: str, query: bytes) -> Endpoint | None:
    """Give the endpoint of a path that takes calls; None for any other path."""
    known = FIXED.get(path)
    if known is not None:
        return known
    if path.startswith("/model/"):
        model, _, action = path.removeprefix("/model/").rpartition("/")
        if action in _ACTIONS and model:
            operation, stream = _ACTIONS[action]
            return Endpoint("converse", Asked(model, stream, operation))
        return None
    model, _, verb = (model_in(path) or "").rpartition(":")
    if verb in _VERBS and model:
        operation, stream, form = _VERBS[verb]
        if stream and b"alt=sse" in query.split(b"&"):
            form = "sse"
        return Endpoint("generate", Asked(model, stream, operation, form))
    return None


def model_in(path: str) -> str | None:
    """Give what stands behind `/v1/models/` or `/v1beta/models/`, without Gemini's `models/`; None elsewhere."""
    for root in _LISTS:
        if path.startswith(root + "/"):
            return path.removeprefix(root + "/").removeprefix("models/") or None
    return None


def dialect_at(path: str, fields: Mapping[bytes, bytes]) -> str:
    """Give the name of the dialect in which whoever asks at this path expects to be answered, errors and lists included.

    `/v1/models` is an address of three APIs; there, the headers tell (Anthropic's SDK names its version, Google's its key).
    """
    for root, name in _ROOTS:
        if path.startswith(root):
            return name
    if path.startswith("/v1/models"):
        if b"anthropic-version" in fields:
            return "messages"
        if b"x-goog-api-key" in fields or b"x-goog-api-client" in fields or path.rpartition(":")[2] in _VERBS:
            return "generate"
    return "chat"
