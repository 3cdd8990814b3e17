"""What one family of models takes beside the common options, both ways."""

from typing import Any

import pytest
from msgspec import Raw
from msgspec.json import encode

from penstock.call import Sampling, Thinking
from penstock.errors import InvalidRequest
from penstock.wire.bedrock_converse_fields import NOTHING, Fields, Written, is_claude, read_fields, write_fields

OLD = "anthropic.claude-sonnet-4-5-20250929-v1:0"
NEW = "us.anthropic.claude-opus-4-6-v1"
NOVA_1, NOVA_2 = "amazon.nova-pro-v1:0", "us.amazon.nova-2-lite-v1:0"
GPT = "openai.gpt-oss-120b-1:0"
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"


def read(**said: object) -> Fields:
    return read_fields(Raw(encode(said)))


def write(model: str, thinking: Thinking | None = None, *, own: bool = False, **sampling: Any) -> Written:
    return write_fields(Sampling(**sampling), thinking, model, own=own)


# -- reading --


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({}, NOTHING),
        ({"top_k": 40, "seed": 7, "min_p": 0.1}, Fields((("top_k", 40), ("seed", 7), ("min_p", 0.1)))),
        ({"presence_penalty": 1, "frequency_penalty": -1}, Fields((("presence_penalty", 1.0), ("frequency_penalty", -1.0)))),
        ({"inferenceConfig": {"topK": 20}}, Fields((("top_k", 20),))),
        ({"inferenceConfig": {"topK": 20, "x": 1}}, Fields((("top_k", 20),), rest=(("inferenceConfig", b'{"topK":20,"x":1}'),))),
        ({"inferenceConfig": {}}, Fields(rest=(("inferenceConfig", b"{}"),))),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, Fields(thinking=Thinking(2048))),
        ({"reasoning_config": {"type": "disabled"}}, Fields(thinking=Thinking(0))),
        ({"thinking": {"type": "adaptive", "display": "summarized"}}, Fields(thinking=Thinking(None, visible=True, adaptive=True))),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024, "display": "omitted"}}, Fields(thinking=Thinking(1024, visible=False))),
        ({"thinking": {"type": "enabled"}}, Fields(rest=(("thinking", b'{"type":"enabled"}'),))),
        (
            {"thinking": {"type": "adaptive", "x": 1}},
            Fields(thinking=Thinking(adaptive=True), rest=(("thinking", b'{"type":"adaptive","x":1}'),)),
        ),
        ({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}, Fields(effort="low")),
        ({"reasoningConfig": {"type": "disabled"}}, Fields(effort="none")),
        ({"reasoningConfig": {"type": "enabled"}}, Fields(rest=(("reasoningConfig", b'{"type":"enabled"}'),))),
        ({"reasoning_effort": "high"}, Fields(effort="high")),
        ({"output_config": {"effort": "max"}}, Fields(effort="max")),
        ({"output_config": {"effort": "max", "format": 1}}, Fields(effort="max", rest=(("output_config", b'{"effort":"max","format":1}'),))),
        ({"top_k": "x", "thinking": 7, "other": [1]}, Fields(rest=(("top_k", b'"x"'), ("thinking", b"7"), ("other", b"[1]")))),
    ],
)  # fmt: skip
def test_fields_are_read_under_every_name_and_the_rest_is_kept(said: dict[str, object], meant: Fields) -> None:
    assert read(**said) == meant


@pytest.mark.parametrize("raw", [b"", b"null", b"{}"])
def test_nothing_said_is_nothing(raw: bytes) -> None:
    assert read_fields(Raw(raw)) is NOTHING


def test_fields_that_are_no_object_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="no object") as caught:
        read_fields(Raw(b"[1,2,3]"))
    assert caught.value.param == "additionalModelRequestFields"


def test_who_may_be_a_claude() -> None:
    assert all(map(is_claude, (OLD, NEW, ARN, "my-model")))
    assert not any(map(is_claude, (NOVA_1, GPT, "us.meta.llama4-scout-17b-instruct-v1:0", "deepseek.r1-v1:0")))


# -- numbers --


def test_top_k_has_the_name_that_the_family_has_for_it() -> None:
    assert write(OLD, top_k=40).fields == {"top_k": 40}
    assert write(NOVA_1, top_k=40).fields == {"inferenceConfig": {"topK": 40}}
    assert write("cohere.command-r-v1:0", top_k=40).fields == {"k": 40}


def test_other_numbers_are_for_clients_who_know_their_model() -> None:
    numbers: dict[str, Any] = {"min_p": 0.1, "seed": 7, "presence_penalty": 1.0, "frequency_penalty": 0.5}
    assert write(GPT, own=True, **numbers).fields == numbers
    foreign = write(GPT, **numbers)
    assert foreign.fields == {}
    assert foreign.dropped == ("min_p", "seed", "presence_penalty", "frequency_penalty")


# -- thinking --


@pytest.mark.parametrize(
    ("thinking", "sampling", "field", "dropped"),
    [
        (Thinking(2048), {}, {"type": "enabled", "budget_tokens": 2048}, ()),
        (None, {"reasoning_effort": "low"}, {"type": "enabled", "budget_tokens": 2048}, ()),
        (
            None,
            {"reasoning_effort": "high", "max_tokens": 4000},
            {"type": "enabled", "budget_tokens": 2000},
            ("reasoning",),
        ),
        (None, {"reasoning_effort": "unheard-of"}, {"type": "enabled", "budget_tokens": 8192}, ()),
        (None, {"reasoning_effort": "low", "max_tokens": 1000}, None, ("reasoning",)),
        (Thinking(adaptive=True), {}, {"type": "enabled", "budget_tokens": 8192}, ()),
        (Thinking(500), {}, {"type": "enabled", "budget_tokens": 1024}, ("reasoning",)),
        (Thinking(5000), {"max_tokens": 3000}, {"type": "enabled", "budget_tokens": 1500}, ("reasoning",)),
        (Thinking(5000), {"max_tokens": 1025}, {"type": "enabled", "budget_tokens": 1024}, ("reasoning",)),
        (Thinking(5000), {"max_tokens": 1024}, None, ("reasoning",)),
        (Thinking(2048, visible=False), {}, {"type": "enabled", "budget_tokens": 2048, "display": "omitted"}, ()),
        (Thinking(0), {}, None, ()),
        (None, {"reasoning_effort": "none"}, None, ()),
    ],
)
def test_a_claude_that_wants_a_number_of_tokens_is_given_one(
    thinking: Thinking | None, sampling: dict[str, Any], field: dict[str, object] | None, dropped: tuple[str, ...]
) -> None:
    written = write(OLD, thinking, **sampling)
    assert written.fields.get("thinking") == field
    assert (written.effort, written.dropped) == (None, dropped)


@pytest.mark.parametrize(
    ("thinking", "sampling", "field", "effort"),
    [
        (None, {"reasoning_effort": "high"}, {"type": "adaptive"}, "high"),
        (None, {"reasoning_effort": "minimal"}, {"type": "adaptive"}, "low"),
        (None, {"reasoning_effort": "none"}, None, None),
        (Thinking(8192, visible=True), {}, {"type": "adaptive", "display": "summarized"}, "medium"),
        (Thinking(adaptive=True), {}, {"type": "adaptive"}, None),
        (Thinking(0), {}, None, None),
    ],
)
def test_a_later_claude_is_told_a_word(
    thinking: Thinking | None, sampling: dict[str, Any], field: dict[str, object] | None, effort: str | None
) -> None:
    written = write(NEW, thinking, **sampling)
    assert (written.fields.get("thinking"), written.effort, written.dropped) == (field, effort, ())


def test_a_claude_that_may_not_think_does_not() -> None:
    for model in (OLD, NEW):
        written = write_fields(Sampling(temperature=0.5), Thinking(2048), model, own=False, free=False)
        assert (written.fields, written.effort, written.dropped) == ({}, None, ("reasoning",))
        assert written.sampling.temperature == 0.5


def test_whether_thoughts_are_shown_does_not_begin_any() -> None:
    assert write(OLD, Thinking(visible=True)).fields == {}


def test_options_give_way_to_thinking_and_are_named() -> None:
    written = write(OLD, Thinking(2048), temperature=0.5, top_p=0.5, top_k=40)
    assert set(written.fields) == {"thinking"}
    assert (written.sampling.temperature, written.sampling.top_p) == (None, None)
    assert set(written.dropped) == {"temperature", "top_p", "top_k"}
    fine = write("anthropic.claude-sonnet-4-20250514-v1:0", Thinking(2048), temperature=1.0, top_p=0.95)
    assert fine.dropped == ()
    assert (fine.sampling.temperature, fine.sampling.top_p) == (1.0, 0.95)


def test_later_claudes_take_either_temperature_or_top_p() -> None:
    both: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9}
    assert write(NEW, **both).sampling == Sampling(temperature=0.5)
    assert write(NEW, **both).dropped == ("top_p",)
    for model in ("anthropic.claude-3-haiku-20240307-v1:0", "anthropic.claude-sonnet-4-20250514-v1:0", GPT):
        assert write(model, **both).dropped == ()


def test_nothing_gives_way_for_a_client_who_knows_the_rules() -> None:
    written = write(OLD, Thinking(500), own=True, temperature=0.5, top_p=0.5, top_k=40, reasoning_effort="low")
    assert written.fields == {"top_k": 40, "thinking": {"type": "enabled", "budget_tokens": 500}}
    assert (written.effort, written.dropped) == ("low", ())
    assert write(OLD, Thinking(0), own=True).fields == {"thinking": {"type": "disabled"}}


def test_the_latest_claudes_take_no_such_options_at_all() -> None:
    written = write("anthropic.claude-opus-4-7", temperature=0.5, top_p=0.9, top_k=5)
    assert (written.fields, written.sampling) == ({}, Sampling(top_k=5))
    assert set(written.dropped) == {"temperature", "top_p", "top_k"}
    assert write("anthropic.claude-opus-4-7", temperature=1.0).dropped == ()


@pytest.mark.parametrize(
    ("sampling", "fields", "dropped"),
    [
        ({"reasoning_effort": "low"}, {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}, ()),
        ({"reasoning_effort": "none"}, {"reasoningConfig": {"type": "disabled"}}, ()),
        (
            {"reasoning_effort": "max", "temperature": 0.5},
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}},
            ("temperature",),
        ),
        (
            {"reasoning_effort": "high", "max_tokens": 5},
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}},
            ("reasoning",),
        ),
    ],
)
def test_nova_has_words_of_its_own(
    sampling: dict[str, Any], fields: dict[str, object], dropped: tuple[str, ...]
) -> None:
    written = write(NOVA_2, **sampling)
    assert (written.fields, written.dropped) == (fields, dropped)


def test_the_first_novas_do_not_think() -> None:
    assert write(NOVA_1, reasoning_effort="low").dropped == ("reasoning",)
    assert write(NOVA_1, Thinking(0)).dropped == ()
    assert write(NOVA_1, reasoning_effort="low").fields == {}


def test_others_are_told_in_their_own_place_or_the_services() -> None:
    assert write(GPT, Thinking(2048)).fields == {"reasoning_effort": "low"}
    written = write(ARN, reasoning_effort="high")
    assert (written.fields, written.effort) == ({}, "high")
    assert write(ARN, Thinking(visible=True)).effort is None
