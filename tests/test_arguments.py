"""What callers of the library pass in: prompts in every form, options with their ranges, and a bound that is one."""

import math
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.arguments import Options, _Said, read_call
from penstock.call import (
    Audio,
    Caller,
    File,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Reasoning,
    Refusal,
    Sampling,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    Who,
)
from penstock.errors import InvalidRequest


def read(prompt="Hi", model="fast", *, stream=False, **options):
    return read_call(prompt, model, options, stream=stream)


def messages(prompt, **options):
    return read(prompt, **options)[0].content.messages


def test_a_text_is_a_user_s_message():
    assert messages("Hi") == (Message("user", (Text("Hi"),)),)


def test_a_system_text_comes_first():
    assert messages("Hi", system="Be brief.")[0] == Message("system", (Text("Be brief."),))


def test_messages_may_be_values_and_dictionaries_with_texts_or_parts():
    picture = Image(url="https://example.com/a.png")
    given_ones = [
        {"role": "system", "content": "Be brief."},
        Message("user", (Text("Hi"), picture)),
        {"role": "user", "content": [Text("Hi"), picture], "name": "ann"},
    ]

    assert messages(given_ones) == (
        Message("system", (Text("Be brief."),)),
        Message("user", (Text("Hi"), picture)),
        Message("user", (Text("Hi"), picture), "ann"),
    )


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("", "The prompt is empty"),
        ([], "no message"),
        (b"Hi", "type bytes"),
        (5, "type int"),
        (None, "type NoneType"),
        ({"role": "user", "content": "Hi"}, "type dict"),
        (["Hi"], r"messages\[0\] is of the type str"),
        (
            [{"role": "user", "content": "Hi"}, {"role": "robot", "content": "Hi"}],
            r"messages\[1\] has the role 'robot'",
        ),
        ([{"content": "Hi"}], "has the role None"),
        ([{"role": ["user"], "content": "Hi"}], "has the role"),
        ([{"role": "user"}], "neither a text nor a list of parts"),
        ([{"role": "user", "content": 5}], "neither a text nor a list of parts"),
        ([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "neither a text nor a list of parts"),
        ([{"role": "user", "content": "Hi", "name": 5}], "a name that is no text"),
        ([{"role": "assistant", "content": "Hi", "tool_calls": []}], "has tool_calls, which a dictionary cannot say"),
        ("half \ud800", "half a surrogate pair at offset 5"),
        ([Message("user", (ToolResult("1", (Text("\udfff"),)),))], "half a surrogate pair"),
    ],
)
def test_what_is_no_prompt_is_refused_with_the_place(prompt, told):
    with pytest.raises(InvalidRequest, match=told) as refused:
        read(prompt)

    assert refused.value.param.startswith("messages")
    assert refused.value.hint or "empty" in told or "no message" in told or refused.value.param != "messages"


def test_a_call_says_how_the_answer_is_drawn():
    call, _, _ = read(
        temperature=0,
        top_p=0.5,
        max_tokens=7,
        stop="END",
        seed=-1,
        logit_bias={"42": -100},
        n=2,
        logprobs=True,
        stream=True,
    )

    assert call.sampling == Sampling(
        temperature=0,
        top_p=0.5,
        max_tokens=7,
        stop=("END",),
        seed=-1,
        logit_bias=(("42", -100.0),),
        n=2,
        logprobs=True,
    )
    assert (call.dialect, call.model, call.raw, call.stream, call.stream_usage) == ("", "fast", b"", True, True)


def test_several_stops_tools_and_a_form_of_the_answer_are_taken_over():
    tool, form = Tool("now", "The time.", b"{}"), OutputFormat("json")
    call, _, _ = read(stop=["a", "b"], tools=[tool], tool_choice=ToolChoice("auto"), output=form)

    assert call.sampling.stop == ("a", "b")
    assert (call.content.tools, call.content.tool_choice, call.content.output) == ((tool,), ToolChoice("auto"), form)


def test_who_pays_is_said_beside_the_call():
    _, who, caller = read(team="web", feature="search", user="ann", session="s1", deadline_s=3)

    assert who == Who(team="web", admin=True)
    assert caller == Caller(feature="search", user="ann", session="s1", deadline_s=3.0)


def test_none_is_the_same_as_nothing():
    nothing = dict.fromkeys(get_type_hints(Options))

    assert read(**nothing)[0].sampling == Sampling()
    assert read(**nothing)[1:] == read()[1:]


def test_every_option_that_is_typed_is_understood():
    assert set(get_type_hints(Options)) == set(_Said.__struct_fields__)
    assert set(Sampling.__struct_fields__) < set(_Said.__struct_fields__)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", "hot"),
        ("temperature", 2.5),
        ("temperature", -1),
        ("temperature", math.nan),
        ("top_p", 1.5),
        ("max_tokens", 0),
        ("max_tokens", -5),
        ("max_tokens", 2.5),
        ("n", 0),
        ("n", 129),
        ("seed", 1.5),
        ("stop", 5),
        ("stop", ["a", 5]),
        ("logit_bias", {"1": 101}),
        ("logit_bias", [1]),
        ("top_logprobs", 21),
        ("deadline_s", 0),
        ("deadline_s", -1),
        ("deadline_s", math.inf),
        ("feature", 5),
        ("system", ["Hi"]),
        ("tools", ["now"]),
        ("tools", 5),
        ("tool_choice", "auto"),
        ("output", "json"),
        ("logprobs", 1),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_name(name, value):
    with pytest.raises(InvalidRequest, match=f"^{name} cannot be") as refused:
        read(**{name: value})

    assert refused.value.param == name


def test_an_option_that_does_not_exist_is_a_type_error_that_names_its_neighbour():
    with pytest.raises(TypeError, match="no option 'tempreture'; did you mean 'temperature'"):
        read(tempreture=1)
    with pytest.raises(TypeError, match="no option 'zzz'; there are: system"):
        read(zzz=1)


@pytest.mark.parametrize("model", ["", 5, ["fast"]])
def test_what_is_no_model_s_name_is_refused(model):
    with pytest.raises(InvalidRequest, match="model has to be a name") as refused:
        read(model=model)

    assert refused.value.param == "model"


# -- the bound --

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
EXTRA = (("cache_control", b'{"type":"ephemeral"}'),)
PARTS = st.recursive(
    st.one_of(
        st.builds(Text, TEXTS, st.just(EXTRA)),
        st.builds(Refusal, TEXTS),
        st.builds(Reasoning, TEXTS, st.none() | TEXTS),
        st.builds(ToolUse, TEXTS, TEXTS, TEXTS),
    ),
    lambda inner: st.builds(ToolResult, TEXTS, st.lists(inner, max_size=3).map(tuple)),
    max_leaves=5,
)


def size(value):
    """Every byte of text in a value, wherever it stands."""
    match value:
        case str():
            return len(value.encode())
        case bytes():
            return len(value)
        case tuple() | list():
            return sum(map(size, value))
        case _ if hasattr(value, "__struct_fields__"):
            return sum(size(getattr(value, name)) for name in value.__struct_fields__ if name not in {"role", "kind"})
        case _:
            return 0


@given(
    st.lists(st.builds(Message, st.just("user"), st.lists(PARTS, max_size=4).map(tuple), st.none() | TEXTS), min_size=1)
)
def test_the_bound_is_at_least_every_byte_and_some_marks_per_message(given_ones):
    call, _, _ = read(given_ones)

    parts = sum(len(message.parts) for message in given_ones)
    assert call.input_bound >= size(given_ones) + 16 * (len(given_ones) + parts)


def test_tools_and_the_form_of_the_answer_are_in_the_bound():
    tool = Tool("now", "The time, in UTC.", b'{"type":"object"}')
    plain = read()[0].input_bound

    assert read(tools=[tool])[0].input_bound >= plain + size(tool)
    assert read(output=OutputFormat("json_schema", schema=b"{}" * 100))[0].input_bound >= plain + 200


@pytest.mark.parametrize(
    "part",
    [Image(url="https://x"), Audio(data="AA"), File(file_id="f"), Foreign("chat", "x", b"{}")],
    ids=lambda p: type(p).__name__,
)
def test_there_is_no_bound_for_what_is_not_text(part):
    assert read([Message("user", (Text("Hi"), part))])[0].input_bound is None
    assert read([Message("tool", (ToolResult("1", (part,)),))])[0].input_bound is None
