"""Every address of the data plane belongs to one dialect, and says what its API says there."""

import pytest

from penstock.call import Asked
from penstock.server.endpoints import FIXED, Endpoint, dialect_at, find, model_in


@pytest.mark.parametrize(
    ("path", "dialect", "operation"),
    [
        ("/v1/chat/completions", "chat", "generate"),
        ("/v1/embeddings", "chat", "embed"),
        ("/v1/responses", "responses", "generate"),
        ("/v1/responses/input_tokens", "responses", "count"),
        ("/v1/messages", "messages", "generate"),
        ("/v1/messages/count_tokens", "messages", "count"),
        ("/api/chat", "ollama", "generate"),
        ("/api/generate", "ollama", "generate"),
        ("/api/embed", "ollama", "embed"),
    ],
)
def test_a_fixed_address_has_its_dialect(path, dialect, operation):
    found = find(path, b"")
    assert found is not None
    assert (found.dialect, found.asked.operation) == (dialect, operation)
    assert FIXED[path] is found


@pytest.mark.parametrize("root", ["/v1beta/models/", "/v1/models/"])
@pytest.mark.parametrize(
    ("rest", "query", "asked"),
    [
        ("gemini-3-pro:generateContent", b"", Asked("gemini-3-pro", False)),
        ("openai/gpt-4o:generateContent", b"key=x", Asked("openai/gpt-4o", False)),
        ("box/llama3:8b:streamGenerateContent", b"alt=sse", Asked("box/llama3:8b", True, form="sse")),
        ("m:streamGenerateContent", b"key=k&alt=sse", Asked("m", True, form="sse")),
        ("m:streamGenerateContent", b"alt=json", Asked("m", True, form="array")),
        ("m:countTokens", b"", Asked("m", False, "count")),
        ("m:embedContent", b"", Asked("m", False, "embed", "one")),
        ("m:batchEmbedContents", b"", Asked("m", False, "embed", "batch")),
    ],
)
def test_geminis_addresses_name_the_model_and_what_is_wanted(root, rest, query, asked):
    assert find(root + rest, query) == Endpoint("generate", asked)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/model/anthropic.claude-v1:0/converse", Asked("anthropic.claude-v1:0", False)),
        ("/model/box/m/converse-stream", Asked("box/m", True)),
        ("/model/m/count-tokens", Asked("m", False, "count")),
    ],
)
def test_bedrocks_addresses_name_the_model_and_what_is_wanted(path, asked):
    assert find(path, b"") == Endpoint("converse", asked)


@pytest.mark.parametrize(
    "path",
    ["/", "/v1/models", "/v1/models/m", "/v1beta/models/m:fly", "/model/m/invoke", "/model/converse", "/v1beta/models/:countTokens", "/v1/nothing"],
)  # fmt: skip
def test_other_addresses_take_no_calls(path):
    assert find(path, b"") is None


def test_a_model_is_named_behind_either_list():
    assert model_in("/v1/models/a/b") == "a/b"
    assert model_in("/v1beta/models/m") == "m"
    assert model_in("/v1beta/models/models/m") == "m"
    assert model_in("/v1/models/") is None
    assert model_in("/v1/models") is None


@pytest.mark.parametrize(
    ("path", "fields", "dialect"),
    [
        ("/v1/messages/x", {}, "messages"),
        ("/v1/responses", {}, "responses"),
        ("/v1beta/anything", {}, "generate"),
        ("/model/x/y", {}, "converse"),
        ("/api/x", {}, "ollama"),
        ("/v1/models", {}, "chat"),
        ("/v1/models", {b"anthropic-version": b"2023-06-01"}, "messages"),
        ("/v1/models/m", {b"x-goog-api-key": b"k"}, "generate"),
        ("/v1/models/m", {b"x-goog-api-client": b"google-genai"}, "generate"),
        ("/v1/models/m:generateContent", {}, "generate"),
        ("/v1/models/llama3:8b", {}, "chat"),
        ("/v1/models/ft:gpt-4o:org::abc", {}, "chat"),
        ("/v1/models/llama3:8b", {b"anthropic-version": b"2023-06-01"}, "messages"),
        ("/v1/chat/completions", {b"anthropic-version": b"x"}, "chat"),
        ("/elsewhere", {}, "chat"),
    ],
)
def test_errors_and_lists_are_written_as_whoever_asks_expects(path, fields, dialect):
    assert dialect_at(path, fields) == dialect
