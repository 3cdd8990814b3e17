"""Counts for the line: short ones at once, long ones beside the loop, exact ones where the vocabulary is known."""

import threading

import pytest

from penstock import counting
from penstock.call import Call, Content, Message, Sampling, Text
from penstock.config import catalog_text
from penstock.counting import INLINE_BYTES, count_prompt, count_used, load
from penstock.routing.catalog import read_catalog
from penstock.target import Profile

GPT = read_catalog(catalog_text()).find("gpt-4o").profile


def call(text="hello world", **more):
    content = Content((Message("user", (Text(text),)),))
    return Call("chat", "m", Sampling(), lambda: content, **more)


@pytest.mark.parametrize(
    ("more", "aside"),
    [
        ({"raw": b"x" * 100}, False),
        ({"input_bound": 100}, False),
        ({"raw": b"x" * (INLINE_BYTES + 1)}, True),
        ({"input_bound": INLINE_BYTES + 1}, True),
        ({}, True),
    ],
)
async def test_only_a_short_prompt_is_counted_on_the_loop(monkeypatch, more, aside):
    threads = []

    def counted(*arguments):
        threads.append(threading.current_thread())
        return counting.count_text("x", GPT)

    monkeypatch.setattr(counting, "count_call", counted)
    await count_prompt(call(**more), GPT)

    assert (threads[0] is not threading.main_thread()) == aside


def test_what_was_used_is_counted_from_prompt_and_answer():
    used = count_used(call(), ["hello", " world"], GPT)
    assert used.output_tokens == 2
    assert used.input_tokens > 2
    assert used.source == "counted"


def test_a_model_without_a_public_vocabulary_is_estimated():
    assert count_used(call(), ["hello"], Profile()).source == "estimated"


def test_vocabularies_are_loaded_for_the_models_that_have_one(monkeypatch):
    asked = []
    monkeypatch.setattr(counting, "count_text", lambda _, profile: asked.append(profile))
    load([GPT, Profile()])
    assert asked == [GPT]
