"""The call: its content is read once, on first use."""

import msgspec
import pytest

from penstock.call import Call, Caller, Content, Message, Part, Sampling, Text


def test_content_is_read_once_and_only_when_asked_for():
    reads = []

    def read():
        reads.append(1)
        return Content((Message("user", (Text("hi"),)),))

    call = Call(dialect="", model="m", sampling=Sampling(), read=read)
    assert reads == []
    assert call.content is call.content
    assert reads == [1]


def test_values_are_frozen():
    with pytest.raises(AttributeError):
        Sampling().seed = 1


@pytest.mark.parametrize("kind", list(Part.__args__))
def test_every_part_has_a_tag_of_its_own(kind):
    assert msgspec.inspect.type_info(kind).tag


def test_a_call_may_take_as_long_as_the_gateway_lets_it_or_less():
    assert Caller().within(120.0) == 120.0
    assert Caller(deadline_s=300.0).within(120.0) == 120.0
    assert Caller(deadline_s=5.0).within(120.0) == 5.0
