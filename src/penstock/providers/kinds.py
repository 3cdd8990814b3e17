"""What is known of the services that answer over HTTP: where they are, what they speak, and on which path each question goes.

Data and pure functions: nothing here connects, signs or reads a clock. A service that is not listed is reached as
`kind = "openai"` with its `base_url`. Sources: the providers' own API references.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from msgspec import Struct

from penstock.call import Operation
from penstock.errors import ConfigError, Mistake
from penstock.settings import ProviderSettings

ANTHROPIC_VERSION: Final = "2023-06-01"
VERTEX_VERSION: Final = "vertex-2023-10-16"


class Service(Struct, frozen=True):
    """One kind: its own address (`{location}` and `{region}` come from the settings), what it speaks, how it takes a key.

    `key_header` is the name of the header that carries the key, "" for `authorization: Bearer`; `dialects` are all that it
    can be told to speak, its usual one first.
    """

    dialects: tuple[str, ...]
    base_url: str | None = None
    key_header: str = ""
    needs: tuple[str, ...] = ()


SERVICES: Final[Mapping[str, Service]] = MappingProxyType(
    {
        "openai": Service(
            ("chat", "responses", "messages", "generate", "converse", "ollama"), "https://api.openai.com/v1"
        ),
        "azure": Service(("chat", "responses"), None, "api-key", ("base_url",)),
        "anthropic": Service(("messages", "chat"), "https://api.anthropic.com", "x-api-key"),
        "gemini": Service(("generate", "chat"), "https://generativelanguage.googleapis.com", "x-goog-api-key"),
        "vertex": Service(
            ("generate", "messages"), "https://{location}-aiplatform.googleapis.com", "", ("project", "location")
        ),
        "bedrock": Service(("converse",), "https://bedrock-runtime.{region}.amazonaws.com", "", ("region",)),
        "ollama": Service(("ollama", "chat"), "http://127.0.0.1:11434"),
    }
)

_OTHER: Final = Service(SERVICES["openai"].dialects, None, "", ("base_url",))
"""A kind of a plugin that is an HTTP provider as well."""

_GENERATE: Final = MappingProxyType(
    {"generate": "generateContent", "count": "countTokens", "embed": "batchEmbedContents"}
)
_CONVERSE: Final = MappingProxyType({"generate": "converse", "count": "count-tokens"})
_FIXED: Final[Mapping[str, Mapping[Operation, str]]] = MappingProxyType(
    {
        "chat": {"generate": "/chat/completions", "embed": "/embeddings"},
        "responses": {"generate": "/responses", "count": "/responses/input_tokens", "embed": "/embeddings"},
        "messages": {"generate": "/messages", "count": "/messages/count_tokens"},
        "ollama": {"generate": "/api/chat", "embed": "/api/embed"},
    }
)
_FORMS: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {("ollama", "generate"): "/api/generate", ("ollama", "embeddings"): "/api/embeddings"}
)
"""Forms of a dialect that have a path of their own."""

_CHAT_ROOTS: Final = MappingProxyType({"ollama": "/v1", "gemini": "/v1beta/openai", "anthropic": "/v1"})
"""Where services whose own API is another one keep OpenAI's."""

_VERSIONED: Final = MappingProxyType({"messages": "/v1", "generate": "/v1beta"})
"""What stands before the path of these dialects, unless the base address ends in a version already."""


def service_of(kind: str) -> Service:
    """Give what is known of a kind."""
    return SERVICES.get(kind, _OTHER)


def dialect_of(settings: ProviderSettings) -> str:
    """Give the name of the dialect that a provider speaks. Raises ConfigError for one that its kind cannot."""
    service = service_of(settings.kind)
    named = settings.dialect or service.dialects[0]
    if named not in service.dialects:
        what = f"the kind {settings.kind} does not speak {named}."
        raise _mistaken(settings, "dialect", what, f"It speaks: {', '.join(service.dialects)}.")
    return named


def base_url(settings: ProviderSettings) -> str:
    """Give the address of a provider. Raises ConfigError where it takes a setting that is not there."""
    service = service_of(settings.kind)
    region = region_of(settings)
    for name in service.needs:
        if (region if name == "region" else getattr(settings, name)) is None and not (
            settings.base_url and name in {"region", "location"}
        ):
            raise _mistaken(settings, name, f"kind {settings.kind!r} needs a {name}.", "")
    if settings.base_url is not None:
        return settings.base_url
    assert service.base_url is not None, "a kind without an address needs a base_url"
    if settings.location == "global":
        return service.base_url.replace("{location}-", "")
    return service.base_url.format(location=settings.location, region=region)


def region_of(settings: ProviderSettings) -> str | None:
    """Give the region of AWS: of the settings, else of the environment."""
    environ = dict(settings.cloud_environ)
    named = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    return settings.region or (None if named is None else named.reveal())


def path(
    settings: ProviderSettings, prefix: str, model: str, operation: Operation, *, stream: bool, form: str = ""
) -> str | None:
    """Give path and query of a question to a model; None where the provider cannot be asked that.

    `prefix` is the path of the base address, `form` which of a dialect's forms the question is written in.
    """
    speaks = dialect_of(settings)
    if settings.kind == "vertex":
        return _vertex(settings, prefix, speaks, model, operation, stream=stream)
    if speaks == "generate":
        verb = _generate_verb(operation, stream=stream)
        return f"{_versioned(prefix, speaks)}/models/{_segment(model)}:{verb}"
    if speaks == "converse":
        verb = "converse-stream" if stream and operation == "generate" else _CONVERSE.get(operation, "")
        return f"{prefix}/model/{quote(model, safe='')}/{verb}" if verb else None
    tail = _FORMS.get((speaks, form)) or _FIXED[speaks].get(operation)
    if tail is None:
        return None
    if settings.kind == "azure":
        return _azure(settings, prefix, model, tail)
    if speaks == "chat" and not prefix:
        return f"{_CHAT_ROOTS.get(settings.kind, '')}{tail}"
    return f"{_versioned(prefix, speaks)}{tail}"


def _azure(settings: ProviderSettings, prefix: str, model: str, tail: str) -> str:
    """Azure OpenAI: the v1 API, or deployments with an `api_version`; the base address may already name `/openai`."""
    root = prefix.removesuffix("/v1").removesuffix("/openai") + "/openai"
    if settings.api_version is None or settings.api_version == "v1":
        return f"{root}/v1{tail}"
    query = f"?api-version={quote(settings.api_version, safe='')}"
    if tail.startswith("/responses"):
        return f"{root}{tail}{query}"
    return f"{root}/deployments/{quote(model, safe='')}{tail}{query}"


def _vertex(
    settings: ProviderSettings, prefix: str, speaks: str, model: str, operation: Operation, *, stream: bool
) -> str | None:
    place = f"{prefix or '/v1'}/projects/{settings.project}/locations/{settings.location}/publishers"
    if speaks == "messages":
        if operation == "count":
            return f"{place}/anthropic/models/count-tokens:rawPredict"
        verb = "streamRawPredict" if stream else "rawPredict"
        return f"{place}/anthropic/models/{_segment(model)}:{verb}" if operation == "generate" else None
    if operation == "embed":
        return None
    return f"{place}/google/models/{_segment(model)}:{_generate_verb(operation, stream=stream)}"


def _generate_verb(operation: Operation, *, stream: bool) -> str:
    return "streamGenerateContent?alt=sse" if stream and operation == "generate" else _GENERATE[operation]


def _versioned(prefix: str, speaks: str) -> str:
    version = _VERSIONED.get(speaks, "")
    return prefix if prefix.rpartition("/")[2].startswith("v1") else prefix + version


def _segment(model: str) -> str:
    """Write a model's name into a path: what would end the segment is encoded."""
    return quote(model.removeprefix("models/"), safe="-._~@:")


def _mistaken(settings: ProviderSettings, key: str, what: str, hint: str) -> ConfigError:
    return ConfigError("the configuration", (Mistake(f"providers.{settings.name}.{key}", what, None, hint),))
