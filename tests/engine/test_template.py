"""The oracle is `apply_chat_template` of the `transformers` library; the templates are in the styles of known models."""

import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from engine import kinds
from penstock.engine.errors import BadModel, EngineError
from penstock.engine.template import MOST_CHARACTERS, ChatTemplate

CHATML = """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""

LLAMA3 = """{{- bos_token }}
{%- set today = strftime_now("%d %b %Y") if strftime_now is defined else "26 Jul 2024" %}
{%- if messages[0]["role"] == "system" %}
    {%- set opening = messages[0].content | trim %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set opening = "" %}
    {%- set rest = messages %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\n" }}
{%- endif %}
{{- "Today: " + today + "\n\n" + opening + "<|eot_id|>" }}
{%- if tools %}
    {{- "<|start_header_id|>user<|end_header_id|>\n\nThese functions may be called:\n\n" }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
    {{- "<|eot_id|>" }}
{%- endif %}
{%- for message in rest %}
    {%- if message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- elif "tool_calls" in message and message.tool_calls %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception("one call at a time") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- "<|start_header_id|>assistant<|end_header_id|>\n\n" }}
        {{- '{"name": "' + call.name + '", "parameters": ' }}{{- call.arguments | tojson }}{{- "}<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>" + message["role"] + "<|end_header_id|>\n\n" + message["content"] | trim + "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|start_header_id|>assistant<|end_header_id|>\n\n" }}
{%- endif %}
"""

MISTRAL = """{%- if messages[0]['role'] == 'system' %}
    {%- set opening = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set asked = loop_messages | selectattr('role', 'equalto', 'user') | list %}
{%- set ns = namespace(turn=0) %}
{%- for message in loop_messages | rejectattr('role', 'equalto', 'tool') | list %}
    {%- if not (message.tool_calls is defined and message.tool_calls is not none) %}
        {%- if (message['role'] == 'user') != (ns.turn % 2 == 0) %}
            {{- raise_exception('roles must alternate user, assistant, user ...') }}
        {%- endif %}
        {%- set ns.turn = ns.turn + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message['role'] == 'user' %}
        {%- if tools is not none and (message == asked[-1]) %}
            {{- '[AVAILABLE_TOOLS] [' }}
            {%- for tool in tools %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, value in tool.function.items() if key != 'return' %}
                    {%- if value is string %}{{- '"' + key + '": "' + value + '"' }}{%- else %}{{- '"' + key + '": ' + value | tojson }}{%- endif %}
                    {%- if not loop.last %}{{- ', ' }}{%- endif %}
                {%- endfor %}
                {{- '}}' }}
                {%- if not loop.last %}{{- ', ' }}{%- else %}{{- ']' }}{%- endif %}
            {%- endfor %}
            {{- '[/AVAILABLE_TOOLS]' }}
        {%- endif %}
        {%- if loop.last and opening is defined %}
            {{- '[INST] ' + opening + '\n\n' + message['content'] + '[/INST]' }}
        {%- else %}
            {{- '[INST] ' + message['content'] + '[/INST]' }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- '[TOOL_CALLS] [' }}
        {%- for call in message.tool_calls %}
            {%- set out = call.function | tojson %}
            {{- out[:-1] + ', "id": "' + call.id + '"}' + (', ' if not loop.last else ']' + eos_token) }}
        {%- endfor %}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + message['content'] | trim + eos_token }}
    {%- elif message['role'] == 'tool' %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content | string + '}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception('unknown role ' + message['role']) }}
    {%- endif %}
{%- endfor %}
"""

QWEN = """{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You answer helpfully.' }}
    {%- endif %}
    {{- "\n\n# Tools\n\nSignatures stand within <tools></tools>:\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools><|im_end|>\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\n' + message.content }}
        {%- endif %}
        {%- for call in message.tool_calls %}
            {%- if call.function is defined %}
                {%- set call = call.function %}
            {%- endif %}
            {{- '\n<tool_call>\n{"name": "' }}{{- call.name }}{{- '", "arguments": ' }}{{- call.arguments | tojson }}{{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}{{- message.content }}{{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""

TEMPLATES = {"ChatML": CHATML, "Llama 3": LLAMA3, "Mistral": MISTRAL, "Qwen2.5": QWEN}

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "water_level",
            "description": "The level of a gate's water, in metres. \u00c9t\u00e9 <&> 'quoted' \"twice\".",
            "parameters": {
                "type": "object",
                "properties": {"gate": {"type": "string", "enum": ["north", "s\u00fcd"]}, "depth": {"type": "number"}},
                "required": ["gate"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object"}}},
]  # fmt: skip

PLAIN = [
    {"role": "system", "content": "  Be brief.\n"},
    {"role": "user", "content": "How high is the water? <b>&amp; {{ 7 * 7 }} {% if %}"},
    {"role": "assistant", "content": " Two metres. \u6c34 \U0001f30a"},
    {"role": "user", "content": "And now?"},
]

WITH_CALLS = [
    {"role": "user", "content": "How high is it?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "call00001",
                "type": "function",
                "function": {"name": "water_level", "arguments": {"gate": "s\u00fcd", "depth": 1.5, "deep": [1, None, True]}},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call00001", "content": '{"level": 2}'},
    {"role": "assistant", "content": "Two metres."},
    {"role": "user", "content": "Thank you."},
]  # fmt: skip

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def library() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=kinds.make("gpt2"), bos_token="<s>", eos_token="</s>")


def theirs(library: PreTrainedTokenizerFast, source: str, messages: Sequence[Mapping[str, Any]], **options: Any) -> str:
    # Their clock is the real one, so the template is given a fixed date in its place.
    fixed = source.replace('strftime_now("%d %b %Y")', '"21 Nov 2026"')
    return str(library.apply_chat_template(messages, chat_template=fixed, tokenize=False, **options))


@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES.keys())
@pytest.mark.parametrize("tools", [None, TOOLS], ids=["without tools", "with tools"])
@pytest.mark.parametrize(
    "messages", [PLAIN, PLAIN[1:], PLAIN[1:2], WITH_CALLS], ids=["system", "plain", "one", "calls"]
)
@pytest.mark.parametrize("prompt", [True, False], ids=["prompt", "no prompt"])
def test_prompts_are_those_of_transformers(
    library: PreTrainedTokenizerFast, source: str, tools: Any, messages: list[dict[str, Any]], *, prompt: bool
) -> None:
    template = ChatTemplate(source, bos="<s>", eos="</s>")
    expected = theirs(library, source, messages, tools=tools, add_generation_prompt=prompt)

    assert template.render(messages, tools=tools, add_generation_prompt=prompt, now=NOW) == expected
    assert expected


@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_prompts_are_those_of_transformers_for_odd_texts(library: PreTrainedTokenizerFast, source: str) -> None:
    template = ChatTemplate(source, bos="<s>", eos="</s>")
    rng = random.Random(41)
    texts = list(kinds.fuzz(300, seed=42))
    for _ in range(60):
        turns = rng.randrange(1, 6)
        messages = [
            {"role": "assistant" if turn % 2 else "user", "content": rng.choice(texts)} for turn in range(turns)
        ]
        expected = theirs(library, source, messages, add_generation_prompt=True)

        assert template.render(messages, now=NOW) == expected


def test_without_the_time_a_template_has_a_date_of_its_own_or_says_what_is_missing() -> None:
    assert "Today: 26 Jul 2024" in ChatTemplate(LLAMA3).render(PLAIN)
    assert "Today: 21 Nov 2026" in ChatTemplate(LLAMA3).render(PLAIN, now=NOW)
    with pytest.raises(EngineError, match="'strftime_now' is undefined"):
        ChatTemplate("{{ strftime_now('%Y') }}").render(PLAIN)


def test_what_a_user_writes_is_never_run() -> None:
    assert "{{ 7 * 7 }} {% if %}" in ChatTemplate(CHATML).render(PLAIN)


def test_a_template_that_refuses_the_messages_says_why() -> None:
    with pytest.raises(EngineError, match="refuses these messages: roles must alternate") as caught:
        ChatTemplate(MISTRAL).render([PLAIN[1], PLAIN[1]])

    assert not isinstance(caught.value, BadModel)
    with pytest.raises(EngineError) as caught:
        ChatTemplate("{{ raise_exception(messages[0].content) }}").render([{"role": "user", "content": "x" * 10_000}])
    assert len(str(caught.value)) < 600


def test_messages_are_only_read() -> None:
    messages = [{"role": "user", "content": ["a"]}]
    with pytest.raises(EngineError, match="unsafe"):
        ChatTemplate("{{ messages[0].content.append('b') }}").render(messages)

    assert messages == [{"role": "user", "content": ["a"]}]


@pytest.mark.parametrize("value", [b"bytes", object(), {1, 2}, bytearray(b"a"), memoryview(b"a")])
def test_values_that_json_does_not_have_are_refused(value: object) -> None:
    with pytest.raises(EngineError, match=f"not a {type(value).__name__}"):
        ChatTemplate(CHATML).render([{"role": "user", "content": value}])


class Loud(str):
    """A text with methods of its own."""

    __slots__ = ()

    def upper(self) -> str:
        raise AssertionError("a template reached a method of ours")


def test_values_are_copied_so_that_nothing_with_methods_of_its_own_gets_in() -> None:
    assert ChatTemplate("{{ messages[0].content.upper() }}").render([{"role": "user", "content": Loud("a")}]) == "A"
    assert (
        ChatTemplate("{{ messages|tojson }}").render(({"n": (1, 2.5, None, True)},)) == '[{"n": [1, 2.5, null, true]}]'
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% if %}", "line 1: Expected an expression"),
        ("\n{% endfor %}", "line 2"),
        ("{{ x|nofilter }}", "No filter named 'nofilter'"),
        ("{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}", "recursion"),
        ("{{ " + "9" * 10_000 + " }}", "Exceeds the limit"),
        ("{% for x in a %}" * 30 + "{% endfor %}" * 30, "too many statically nested blocks"),
        ("x" * (MOST_CHARACTERS + 1), "1000001 characters; at most 1000000 are read"),
    ],
    ids=range(7),
)
def test_a_source_that_is_no_template_is_refused(source: str, message: str) -> None:
    with pytest.raises(BadModel, match=message):
        ChatTemplate(source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ nope.x }}", "'nope' is undefined"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ messages + 1 }}", "concatenate"),
        ("{{ messages[0]|tojson(indent='x' * 500) }}", "more than 100 characters"),
        ("{{ {}[[]] }}{{ 'a'.index('b') }}", "substring not found"),
        ("{% include 'x' %}", "no loader"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "without end"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself without end"),
    ],
)
def test_a_template_that_fails_or_never_ends_is_an_error_that_says_so(source: str, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        ChatTemplate(source).render(PLAIN)


@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_a_long_conversation_has_fuel_enough_and_is_quick(source: str) -> None:
    messages = [
        {"role": "assistant" if turn % 2 else "user", "content": "some water here. " * 100 + str(turn)}
        for turn in range(1_001)
    ]
    template = ChatTemplate(source, bos="<s>", eos="</s>")
    start = time.process_time()
    text = template.render(messages, tools=TOOLS * 30)

    assert text.count("some water here.") == 100_100
    assert time.process_time() - start < 5, "a tenth of a second where nothing else runs"


def test_a_template_may_be_rendered_again_with_all_its_fuel() -> None:
    template = ChatTemplate("{% for a in range(9000) %}{{ a }}{% endfor %}")

    assert {len(template.render(PLAIN)) for _ in range(50)} == {34_890}
