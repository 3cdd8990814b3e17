"""Every event is a frozen value, and the union names all of them."""

from typing import get_args

import pytest

from penstock import event
from penstock.event import Event, TextDelta


def test_the_union_names_every_event():
    kinds = {one for one in vars(event).values() if isinstance(one, type) and one.__module__ == event.__name__}
    helpers = {event.Logprob}
    assert set(get_args(Event)) == kinds - helpers


def test_an_event_cannot_be_changed():
    with pytest.raises(AttributeError):
        TextDelta("a").text = "b"  # type: ignore[misc]
