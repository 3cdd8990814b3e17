"""Usage that adds up, sources at their characters, log probabilities; what cannot be read costs nothing."""

import pytest
from google.genai import types
from msgspec import Raw
from msgspec.json import encode

from penstock.call import Citation
from penstock.receipt import Usage
from penstock.reply import Logprob
from penstock.wire.gemini_details import (
    read_citations,
    read_grounded,
    read_logprobs,
    read_tier,
    read_usage,
    write_citations,
    write_logprobs,
    write_usage,
)


def raw(value: object) -> Raw:
    return Raw(encode(value))


def usage(**members: object) -> Usage | None:
    return read_usage(raw(members))


def test_usage_is_inclusive() -> None:
    assert usage(
        promptTokenCount=100,
        toolUsePromptTokenCount=20,
        candidatesTokenCount=7,
        thoughtsTokenCount=30,
        totalTokenCount=157,
        cachedContentTokenCount=64,
        promptTokensDetails=[{"modality": "AUDIO", "tokenCount": 9}, {"modality": "TEXT", "tokenCount": 91}],
        candidatesTokensDetails=[{"modality": "AUDIO", "tokenCount": 5}],
    ) == Usage(120, 37, 64, reasoning_tokens=30, audio_input_tokens=9, audio_output_tokens=5)


@pytest.mark.parametrize(
    ("members", "counted"),
    [
        ({"promptTokenCount": 5}, Usage(5, 0)),
        ({"promptTokenCount": 5, "thoughtsTokenCount": 3, "totalTokenCount": 8}, Usage(5, 3, reasoning_tokens=3)),
        ({"promptTokenCount": 5, "totalTokenCount": 12}, Usage(5, 7)),
        (
            {"promptTokenCount": 5, "candidatesTokenCount": 9, "thoughtsTokenCount": 4, "totalTokenCount": 14},
            Usage(5, 9, reasoning_tokens=4),
        ),
        ({"promptTokenCount": 5, "cachedContentTokenCount": 99, "candidatesTokenCount": -3}, Usage(5, 0, 5)),
        ({"totalTokenCount": 5}, Usage(0, 5)),
        ({"promptTokenCount": 5, "promptTokensDetails": "AUDIO"}, Usage(5, 0)),
        ({"promptTokenCount": 5, "promptTokensDetails": [{"modality": 7}]}, Usage(5, 0)),
        ({"candidatesTokenCount": 5}, None),
        ({"promptTokenCount": "5"}, None),
        ({}, None),
    ],
)
def test_counts_are_held_to_what_makes_sense(members: dict[str, object], counted: Usage | None) -> None:
    assert usage(**members) == counted


def test_what_is_seen_is_counted_with_pictures() -> None:
    counted = usage(
        promptTokenCount=900,
        toolUsePromptTokenCount=100,
        candidatesTokenCount=300,
        totalTokenCount=1300,
        promptTokensDetails=[
            {"modality": "TEXT", "tokenCount": 500},
            {"modality": "IMAGE", "tokenCount": 258},
            {"modality": "VIDEO", "tokenCount": 100},
            {"modality": "DOCUMENT", "tokenCount": 30},
            {"modality": "MODALITY_UNSPECIFIED", "tokenCount": 12},
            {"modality": "AUDIO"},
        ],
        toolUsePromptTokensDetails=[{"modality": "IMAGE", "tokenCount": 7}, {"modality": "AUDIO", "tokenCount": 5}],
        candidatesTokensDetails=[{"modality": "IMAGE", "tokenCount": 258}],
    )
    assert counted == Usage(1000, 300, audio_input_tokens=5, image_input_tokens=395, image_output_tokens=258)
    written = write_usage(counted)
    assert written["promptTokensDetails"] == [
        {"modality": "TEXT", "tokenCount": 600},
        {"modality": "IMAGE", "tokenCount": 395},
        {"modality": "AUDIO", "tokenCount": 5},
    ]
    types.GenerateContentResponseUsageMetadata.model_validate(written)
    assert read_usage(raw(written)) == counted


def test_details_of_text_alone_take_the_quick_way() -> None:
    text = [{"modality": "TEXT", "tokenCount": 5}]
    assert usage(promptTokenCount=5, candidatesTokenCount=2, totalTokenCount=7, promptTokensDetails=text) == Usage(5, 2)
    assert usage(
        promptTokenCount=5, promptTokensDetails=text, candidatesTokensDetails=[{"modality": "IMAGE"}]
    ) == Usage(5)


def test_no_usage_is_none() -> None:
    for json in (b"", b"null", b"[1,2]", b'"five"'):
        assert read_usage(Raw(json)) is None


def test_usage_is_written_as_google_does() -> None:
    counted = Usage(120, 37, 64, reasoning_tokens=30, audio_input_tokens=9, audio_output_tokens=7)
    written = write_usage(counted, "flex")
    types.GenerateContentResponseUsageMetadata.model_validate(written)
    assert read_usage(raw(written)) == counted
    assert written["totalTokenCount"] == 157
    assert written["candidatesTokensDetails"] == [{"modality": "AUDIO", "tokenCount": 7}]
    assert read_tier(raw(written)) == "flex"
    assert read_tier(raw({"trafficType": "NEW"})) is None
    assert read_tier(Raw(b"[trafficType")) is None
    assert "trafficType" not in write_usage(counted)


def test_citations_are_read_in_either_name() -> None:
    one = {"startIndex": 1, "endIndex": 5, "uri": "u", "title": "t", "license": "mit"}
    for name in ("citations", "citationSources"):
        (citation,) = read_citations(raw({name: [one]}))
        assert citation == Citation("u", "t", None, 1, 5, dialect="generate", native=encode(one))
        assert encode(write_citations([citation])) == encode([one])
    assert list(read_citations(raw({}))) == list(read_citations(Raw(b"7"))) == []
    assert list(read_citations(raw({"citations": [7]}))) == []


def test_sources_are_told_at_their_characters() -> None:
    metadata = {
        "groundingChunks": [
            {"web": {"uri": "a"}},
            {"maps": {"uri": "b", "title": "B"}},
            {},
            {"retrievedContext": {"uri": "c"}},
        ],
        "groundingSupports": [
            {"segment": {"endIndex": 3}, "groundingChunkIndices": [0, 1, 2, 9, -1]},
            {"segment": {"startIndex": 3, "endIndex": 4}, "groundingChunkIndices": [1]},
            {},
        ],
    }
    assert read_grounded(raw(metadata), "é1é2") == [
        Citation("a", None, None, 0, 2, dialect="generate"),
        Citation("b", "B", None, 0, 2, dialect="generate"),
        Citation("b", "B", None, 2, 3, dialect="generate"),
        Citation("c", dialect="generate"),
    ]
    assert read_grounded(Raw(b"7"), "") == []
    assert write_citations(read_grounded(raw(metadata), "é1é2")) == []


def test_log_probabilities_go_both_ways() -> None:
    tokens = (Logprob("a", -0.5, None, (Logprob("a", -0.5), Logprob("b", -2.0))), Logprob("c", -1.0))
    written = write_logprobs(tokens)
    types.LogprobsResult.model_validate(written)
    assert (read_logprobs(raw(written)), written["logProbabilitySum"]) == (tokens, -1.5)
    assert read_logprobs(raw({"chosenCandidates": [{"token": "x"}]})) == (Logprob("x", 0.0),)
    assert read_logprobs(raw({})) == read_logprobs(Raw(b"7")) == ()
