"""What the embedded engine is asked, and what it is not."""

import pytest

from penstock.call import (
    Audio,
    Call,
    Content,
    Image,
    Message,
    OutputFormat,
    Reasoning,
    Refusal,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolResult,
    ToolUse,
)
from penstock.errors import Inexpressible, InvalidRequest
from penstock.providers.local_prompt import order_of, token_bias


def call(*messages, sampling=None, **content):
    whole = Content(tuple(messages) or (Message("user", (Text("Hi"),)),), **content)
    return Call("chat", "mini", sampling or Sampling(), lambda: whole)


def test_a_conversation_becomes_messages_of_plain_text():
    order, dropped = order_of(
        call(
            Message("developer", (Text("Be brief."),)),
            Message("user", (Text("One."), Text("Two."))),
            Message("assistant", (Reasoning("hm"), Text("Yes."), Refusal("No."), ToolUse("1", "add", '{"a":1}'))),
            Message("tool", (ToolResult("1", (Text("2"), Text("3"))),)),
        ),
        "local/mini",
    )
    assert [tuple(message.values()) for message in order.messages] == [
        ("system", "Be brief."),
        ("user", "One.\nTwo."),
        ("assistant", 'Yes.\nNo.\nadd({"a":1})'),
        ("user", "2\n3"),
    ]
    assert dropped == ()
    assert (order.choices, order.explain) == (1, 0)


@pytest.mark.parametrize("part", [Image(url="https://x.test/a.png"), Audio(data="")])
def test_what_is_no_text_is_for_another_model(part):
    with pytest.raises(Inexpressible, match="local/mini reads text only") as raised:
        order_of(call(Message("user", (part,))), "local/mini")
    assert raised.value.then == "next"


def test_embeddings_are_for_another_model():
    asked = Call("chat", "mini", Sampling(), lambda: Content(()), operation="embed")
    with pytest.raises(Inexpressible, match="makes no embeddings"):
        order_of(asked, "local/mini")


def test_what_such_a_model_cannot_do_is_named():
    _, dropped = order_of(
        call(
            sampling=Sampling(reasoning_effort="high"),
            tools=(Tool("add"),),
            output=OutputFormat("json"),
            thinking=Thinking(tokens=5),
            extra=(("logit_wishes", b"1"), ("explain", b"3")),
        ),
        "local/mini",
    )
    assert dropped == ("tools", "output", "reasoning_effort", "reasoning", "logit_wishes")


def test_candidates_are_told_where_they_are_asked_for():
    assert order_of(call(extra=(("explain", b"3"),)), "x")[0].explain == 3


@pytest.mark.parametrize("json", [b"51", b"-1", b"true", b'"3"'])
def test_how_many_candidates_has_bounds(json):
    with pytest.raises(InvalidRequest, match="from 0 to 50"):
        order_of(call(extra=(("explain", json),)), "x")


def test_a_bias_goes_by_the_id_of_a_token():
    assert token_bias(call(sampling=Sampling(logit_bias=(("7", -2.5), ("0", 1.0))))) == ((7, -2.5), (0, 1.0))
    with pytest.raises(InvalidRequest, match="names the token 'cat'"):
        token_bias(call(sampling=Sampling(logit_bias=(("cat", 1.0),))))
    with pytest.raises(InvalidRequest, match="is no id") as caught:
        token_bias(call(sampling=Sampling(logit_bias=(("9" * 5000, 1.0),))))
    assert len(caught.value.message) < 100
