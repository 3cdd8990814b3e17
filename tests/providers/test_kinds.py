"""Where each service is, what it speaks and on which path it is asked: as its own API reference says."""

import pytest

from penstock.config import KINDS
from penstock.errors import ConfigError
from penstock.providers.kinds import SERVICES, base_url, dialect_of, path, service_of
from penstock.settings import ProviderSettings, Secret

VERTEX = {"project": "acme", "location": "europe-west4"}
PLACE = "/v1/projects/acme/locations/europe-west4/publishers"


def settings(kind, **more):
    return ProviderSettings(name="one", kind=kind, **more)


@pytest.mark.parametrize(
    ("kind", "more", "url"),
    [
        ("openai", {}, "https://api.openai.com/v1"),
        ("anthropic", {}, "https://api.anthropic.com"),
        ("gemini", {}, "https://generativelanguage.googleapis.com"),
        ("ollama", {}, "http://127.0.0.1:11434"),
        ("bedrock", {"region": "eu-central-1"}, "https://bedrock-runtime.eu-central-1.amazonaws.com"),
        (
            "bedrock",
            {"cloud_environ": (("AWS_REGION", Secret("us-west-2", "env:x")),)},
            "https://bedrock-runtime.us-west-2.amazonaws.com",
        ),
        ("vertex", VERTEX, "https://europe-west4-aiplatform.googleapis.com"),
        ("vertex", {"project": "acme", "location": "global"}, "https://aiplatform.googleapis.com"),
        ("anthropic", {"base_url": "http://127.0.0.1:1"}, "http://127.0.0.1:1"),
        ("bedrock", {"base_url": "http://127.0.0.1:1"}, "http://127.0.0.1:1"),
    ],
)
def test_each_kind_has_its_own_address_unless_it_is_given(kind, more, url):
    assert base_url(settings(kind, **more)) == url


@pytest.mark.parametrize(
    ("kind", "missing"), [("azure", "base_url"), ("bedrock", "region"), ("vertex", "project"), ("mine", "base_url")]
)
def test_a_setting_that_the_address_needs_is_asked_for(kind, missing):
    with pytest.raises(ConfigError, match=rf"providers\.one\.{missing}: kind '{kind}' needs a {missing}"):
        base_url(settings(kind))


def test_a_kind_speaks_its_own_dialect_unless_told_otherwise():
    assert dialect_of(settings("anthropic")) == "messages"
    assert dialect_of(settings("openai", dialect="responses")) == "responses"
    with pytest.raises(ConfigError, match=r"kind bedrock does not speak chat\. It speaks: converse"):
        dialect_of(settings("bedrock", dialect="chat"))


def test_a_kind_of_a_plugin_may_speak_anything():
    assert service_of("mine").dialects == service_of("openai").dialects


@pytest.mark.parametrize(
    ("kind", "more", "prefix", "operation", "stream", "expected"),
    [
        ("openai", {}, "/v1", "generate", True, "/v1/chat/completions"),
        ("openai", {}, "/v1", "embed", False, "/v1/embeddings"),
        ("openai", {}, "/v1", "count", False, None),
        ("openai", {"dialect": "responses"}, "/v1", "generate", False, "/v1/responses"),
        ("openai", {"dialect": "responses"}, "/v1", "count", False, "/v1/responses/input_tokens"),
        ("openai", {"dialect": "messages"}, "/v1", "generate", False, "/v1/messages"),
        ("openai", {"dialect": "messages"}, "/v1", "count", False, "/v1/messages/count_tokens"),
        ("openai", {"dialect": "messages"}, "", "generate", False, "/v1/messages"),
        ("anthropic", {}, "", "generate", True, "/v1/messages"),
        ("anthropic", {}, "", "embed", False, None),
        ("anthropic", {"dialect": "chat"}, "", "generate", False, "/v1/chat/completions"),
        ("gemini", {}, "", "generate", False, "/v1beta/models/m%2Fx:generateContent"),
        ("gemini", {}, "", "generate", True, "/v1beta/models/m%2Fx:streamGenerateContent?alt=sse"),
        ("gemini", {}, "/v1", "count", False, "/v1/models/m%2Fx:countTokens"),
        ("gemini", {}, "/v1beta", "embed", False, "/v1beta/models/m%2Fx:batchEmbedContents"),
        ("gemini", {"dialect": "chat"}, "", "generate", False, "/v1beta/openai/chat/completions"),
        ("vertex", VERTEX, "", "generate", True, f"{PLACE}/google/models/m%2Fx:streamGenerateContent?alt=sse"),
        ("vertex", VERTEX, "", "count", False, f"{PLACE}/google/models/m%2Fx:countTokens"),
        ("vertex", VERTEX, "", "embed", False, None),
        ("vertex", VERTEX | {"dialect": "messages"}, "", "generate", True, f"{PLACE}/anthropic/models/m%2Fx:streamRawPredict"),
        ("vertex", VERTEX | {"dialect": "messages"}, "", "generate", False, f"{PLACE}/anthropic/models/m%2Fx:rawPredict"),
        ("vertex", VERTEX | {"dialect": "messages"}, "", "count", False, f"{PLACE}/anthropic/models/count-tokens:rawPredict"),
        ("vertex", VERTEX | {"dialect": "messages"}, "", "embed", False, None),
        ("bedrock", {}, "", "generate", False, "/model/m%2Fx/converse"),
        ("bedrock", {}, "", "generate", True, "/model/m%2Fx/converse-stream"),
        ("bedrock", {}, "", "count", False, "/model/m%2Fx/count-tokens"),
        ("bedrock", {}, "", "embed", False, None),
        ("ollama", {}, "", "generate", True, "/api/chat"),
        ("ollama", {}, "", "embed", False, "/api/embed"),
        ("ollama", {"dialect": "chat"}, "", "generate", True, "/v1/chat/completions"),
        ("azure", {}, "", "generate", False, "/openai/v1/chat/completions"),
        ("azure", {}, "/openai/v1", "generate", False, "/openai/v1/chat/completions"),
        ("azure", {"api_version": "v1"}, "/openai", "embed", False, "/openai/v1/embeddings"),
        ("azure", {"api_version": "2024-10-21"}, "", "generate", False, "/openai/deployments/m%2Fx/chat/completions?api-version=2024-10-21"),
        ("azure", {"api_version": "2025-04-01-preview", "dialect": "responses"}, "", "generate", False, "/openai/responses?api-version=2025-04-01-preview"),
    ],
)  # fmt: skip
def test_each_question_has_its_path(kind, more, prefix, operation, stream, expected):
    assert path(settings(kind, **more), prefix, "m/x", operation, stream=stream) == expected


def test_the_word_models_before_a_name_of_gemini_is_not_doubled():
    asked = path(settings("gemini"), "", "models/gemini-3-pro", "generate", stream=False)
    assert asked == "/v1beta/models/gemini-3-pro:generateContent"


def test_the_older_forms_of_ollama_have_paths_of_their_own():
    def asked(operation, form):
        return path(settings("ollama"), "", "m", operation, stream=False, form=form)

    assert asked("generate", "generate") == "/api/generate"
    assert asked("generate", "chat") == "/api/chat"
    assert asked("embed", "embeddings") == "/api/embeddings"
    assert asked("embed", "embed") == "/api/embed"


def test_the_configuration_knows_of_each_service_what_it_needs_and_speaks():
    for name, service in SERVICES.items():
        assert (KINDS[name].needs, KINDS[name].dialects) == (service.needs, service.dialects)
