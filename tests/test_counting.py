"""Counts for the line: short ones at once, long ones beside the loop, exact ones where the vocabulary is known."""

import threading
from types import SimpleNamespace

import pytest

from penstock import counting
from penstock.call import Call, Content, Message, Sampling, Text
from penstock.config import catalog_text
from penstock.counting import INLINE_BYTES, LONGEST_BYTES, count_prompt, count_used, estimate, load
from penstock.event import TextDelta
from penstock.meter import Meter
from penstock.routing.catalog import read_catalog
from penstock.target import Profile, Target
from penstock.tokens.count import count_text

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
    count_text("x", GPT)
    await count_prompt(call(**more), GPT)

    assert (threads[0] is not threading.main_thread()) == aside


async def test_a_vocabulary_is_not_loaded_on_the_loop(monkeypatch):
    threads = []
    monkeypatch.setattr(counting, "is_ready", lambda _: False)
    monkeypatch.setattr(counting, "count_call", lambda *_: threads.append(threading.current_thread()))
    await count_prompt(call(raw=b"x"), GPT)
    assert threads != [threading.main_thread()]


def test_what_was_used_is_counted_from_prompt_and_answer():
    used = count_used(call(), ["hello", " world"], GPT)
    assert used.output_tokens == 2
    assert used.input_tokens > 2
    assert used.source == "counted"


def test_a_model_without_a_public_vocabulary_is_estimated():
    assert count_used(call(), ["hello"], Profile()).source == "estimated"


def test_vocabularies_are_loaded_for_the_models_that_have_one_and_not_to_estimate_others(monkeypatch):
    asked = []
    monkeypatch.setattr(counting, "count_text", lambda _, profile: asked.append(profile))
    load([target(GPT), target(GPT, free=True), target(Profile("unknown")), target(Profile("local"), free=True)])
    assert asked == [GPT, GPT]


# -- what a provider did not report --


def target(profile, *, free=False):
    return Target("a/m", "a", "m", "chat", profile, free=free)


def over(asked, answer, profile):
    """A call that is over, and its only try."""
    meter = Meter()
    meter.observe((TextDelta(answer),))
    flight = SimpleNamespace(call=asked, counted=None)
    return flight, SimpleNamespace(target=target(profile), meter=meter)


LONG = "Nobody knows how long this will go on, 12 days or 13. " * 4_000


@pytest.mark.parametrize(("prompt", "answer"), [("hi", "hello"), ("hi", LONG), (LONG, "hello"), (LONG, LONG)])
def test_a_short_one_is_counted_and_a_long_one_is_sampled_with_the_models_own_vocabulary(prompt, answer):
    asked = call(prompt, input_bound=len(prompt))
    used = estimate(*over(asked, answer, GPT))
    true = count_used(asked, (answer,), GPT)
    assert used.source == ("counted" if prompt == "hi" and answer == "hello" else "estimated")
    assert used.input_tokens == pytest.approx(true.input_tokens, rel=0.02)
    assert used.output_tokens == pytest.approx(true.output_tokens, rel=0.02)


@pytest.mark.parametrize("text", [LONG, "今天天气很好,我们一起去公园散步吧。" * 3_000, " " * 100_000])
def test_where_the_vocabulary_is_not_public_characters_are_counted_by_their_class(text):
    asked = call(text, input_bound=len(text.encode()))
    used = estimate(*over(asked, text, Profile()))
    true = count_used(asked, (text,), GPT)
    assert used.source == "estimated"
    assert true.input_tokens * 0.7 <= used.input_tokens <= true.input_tokens * 2 + 16
    assert true.output_tokens * 0.7 <= used.output_tokens <= true.output_tokens * 2


def test_what_was_counted_before_the_call_is_not_counted_again():
    flight, live = over(call(LONG, input_bound=len(LONG)), "hello", Profile())
    flight.counted = 77
    assert estimate(flight, live).input_tokens == 77
    flight, live = over(call(LONG, input_bound=len(LONG)), LONG, GPT)
    flight.counted = 78
    assert estimate(flight, live).input_tokens == 78


def test_what_is_not_kept_of_an_answer_counts_as_the_rest_of_it(monkeypatch):
    monkeypatch.setattr("penstock.meter.KEEP_BYTES", 50_000)
    flight, live = over(call(), LONG[:50_000], GPT)
    live.meter.observe((TextDelta(LONG[50_000:100_000]),))
    assert live.meter.beyond == 50_000
    assert estimate(flight, live).output_tokens == pytest.approx(count_text(LONG[:100_000], GPT).n, rel=0.02)


def test_of_a_prompt_of_many_megabytes_only_the_length_is_taken():
    asked = call("x", input_bound=LONGEST_BYTES + 4)
    assert estimate(*over(asked, "hello", GPT)).input_tokens == LONGEST_BYTES // 4 + 1
