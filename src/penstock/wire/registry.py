"""Which dialects there are, for which operation. Place in the line: where the two edges look a dialect up."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from penstock.call import Operation
from penstock.wire.anthropic_messages import AnthropicMessages
from penstock.wire.bedrock_converse import BedrockConverse
from penstock.wire.dialect import Dialect
from penstock.wire.gemini import Gemini
from penstock.wire.gemini_embeddings import GeminiEmbeddings
from penstock.wire.ollama import Ollama
from penstock.wire.ollama_embeddings import OllamaEmbeddings
from penstock.wire.openai_chat import OpenAIChat
from penstock.wire.openai_embeddings import OpenAIEmbeddings
from penstock.wire.openai_responses import OpenAIResponses

_ANSWERS: Final[Mapping[str, Dialect]] = MappingProxyType(
    {
        "chat": OpenAIChat(),
        "responses": OpenAIResponses(),
        "messages": AnthropicMessages(),
        "generate": Gemini(),
        "converse": BedrockConverse(),
        "ollama": Ollama(),
    }
)
_EMBEDDINGS: Final[Mapping[str, Dialect]] = MappingProxyType(
    {
        "chat": OpenAIEmbeddings(),
        "responses": OpenAIEmbeddings(),  # the same server has both
        "generate": GeminiEmbeddings(),
        "ollama": OllamaEmbeddings(),
    }
)


def dialect(name: str, operation: Operation = "generate") -> Dialect:
    """Give the dialect of that name. Raises KeyError with the names there are."""
    known = _EMBEDDINGS if operation == "embed" else _ANSWERS
    try:
        return known[name]
    except KeyError:
        names = ", ".join(sorted(known))
        raise KeyError(f"There is no dialect {name!r} to {operation}; known: {names}.") from None


def on_vertex(name: str, version: str) -> Dialect:
    """Give a dialect as Vertex AI takes it: Anthropic's with its version in the body and without the model."""
    return AnthropicMessages(anthropic_version=version) if name == "messages" else Gemini(wraps_count=False)
