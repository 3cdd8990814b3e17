"""Learning from what providers bill: what is learnt from, what it costs, what is kept, and that bands hold the truth."""

import asyncio
from math import inf
from random import Random
from time import perf_counter
from types import SimpleNamespace

import pytest
from msgspec import structs

from penstock import calibrating
from penstock.calibrating import BEGIN, EVERY, FIRST, LONGEST_BYTES, PACE_S, WAITING, Calibration
from penstock.call import Call, Content, Image, Message, Sampling, Text, Tool
from penstock.errors import InvalidRequest
from penstock.ledger.store import StoreBusy
from penstock.receipt import Usage
from penstock.target import Profile, Target
from penstock.tokens.calibrate import ENOUGH
from penstock.tokens.count import Count, count_call
from penstock.tokens.vocabularies import vocabulary
from tokens.texts import prose

CLAUDE = Target("anthropic/claude-x", "anthropic", "claude-x", "messages", Profile(family="claude"))
GPT = Target("openai/gpt-4o", "openai", "gpt-4o", "chat", Profile(family="gpt-4o", tokenizer="o200k"))
ESTIMATE = Count(1_000, "estimated", (600, 2_000))


class Kept:
    """What the ledger keeps of factors."""

    def __init__(self):
        self.rows = {}
        self.writes = 0
        self.error = None

    def read(self):
        if self.error is not None:
            raise self.error
        return list(self.rows.values())

    def write(self, rows):
        if self.error is not None:
            raise self.error
        self.writes += 1
        self.rows |= {row[0]: row for row in rows}


@pytest.fixture
def kept():
    return Kept()


@pytest.fixture
async def learning(kept):
    made = Calibration(kept.read, kept.write)
    yield made
    made.close()


def call(text="What does this take? " * 20, *, tools=(), parts=(), **more):
    content = Content((Message("user", (Text(text), *parts)),), tools=tools)
    return Call("chat", "m", Sampling(), lambda: content, **({"input_bound": len(text.encode())} | more))


async def learnt(learning):
    """Wait until everything that waits is counted."""
    if learning._work is not None:
        await learning._work


async def teach(learning, ratio, calls, target=CLAUDE, **more):
    asked = call(**more)
    n = round(count_call(asked, target.profile).n * ratio)
    for number in range(calls):
        learning.observe(asked, target, Usage(n), number * PACE_S)
        await learnt(learning)


async def test_an_estimate_is_corrected_once_enough_calls_were_billed(learning):
    await teach(learning, 1.4, ENOUGH - 1)
    assert learning.corrected(ESTIMATE, CLAUDE) is ESTIMATE
    await teach(learning, 1.4, 1)
    better = learning.corrected(ESTIMATE, CLAUDE)
    assert better.n == pytest.approx(1_400, rel=0.06)
    assert better.reports == ENOUGH
    assert better.told() == f"estimated, +-{better.percent} %, from {ENOUGH} calls"


async def test_a_model_with_a_vocabulary_of_its_own_is_never_learnt_about_nor_corrected(learning):
    await teach(learning, 2.0, 60, GPT)
    assert learning._factors == learning._met == {}
    assert learning.corrected(ESTIMATE, GPT) is ESTIMATE


@pytest.mark.parametrize("usage", [None, Usage(500, source="counted"), Usage(500, source="estimated")])
async def test_only_what_a_provider_reported_is_learnt_from(learning, usage):
    learning.observe(call(), CLAUDE, usage, 0.0)
    await learnt(learning)
    assert learning._factors == {}


@pytest.mark.parametrize(
    "more",
    [
        {"input_bound": LONGEST_BYTES + 1},
        {"native": ("previous_response_id",)},
        {"operation": "embed"},
        {"parts": (Image(url="https://example.com/a.png"),)},
    ],
)
async def test_what_holds_more_than_its_text_or_too_much_of_it_teaches_nothing(learning, more):
    learning.observe(call(**more), CLAUDE, Usage(500), 0.0)
    await learnt(learning)
    assert learning._factors == {}


async def test_a_body_that_cannot_be_read_teaches_nothing_and_harms_nobody(learning):
    def read():
        raise InvalidRequest("This is no JSON.")

    learning.observe(Call("chat", "m", Sampling(), read, raw=b"{"), CLAUDE, Usage(500), 0.0)
    await learnt(learning)
    await teach(learning, 1.1, 1)
    assert learning._factors["anthropic/claude-x"].seen == 1


async def test_every_try_that_was_reported_is_learnt_from_unless_the_answer_was_gone_on_with(learning):
    def tried(target, usage):
        return SimpleNamespace(target=target, meter=SimpleNamespace(usage=usage))

    other = Target("b/claude-x", "b", "claude-x", "messages", Profile(family="claude"))
    tries = [tried(CLAUDE, Usage(150)), tried(GPT, Usage(150)), tried(other, None), tried(other, Usage(150))]
    learning.settled(SimpleNamespace(call=call(), tries=tries, continues=False), 0.0)
    await learnt(learning)
    assert {key: factor.seen for key, factor in learning._factors.items()} == {CLAUDE.id: 1, other.id: 1}
    learning.settled(SimpleNamespace(call=call(), tries=tries, continues=True), 0.0)
    assert not learning._queue


async def test_it_says_from_when_on_a_call_of_a_target_may_teach_something(learning):
    assert learning.next_at(CLAUDE) == -inf
    assert learning.next_at(GPT) == inf, "there is nothing to be learnt"
    assert learning.next_at(structs.replace(CLAUDE, free=True)) == inf
    calls = BEGIN + FIRST + EVERY
    for number in range(2 * calls):
        at, before = number * PACE_S / 7, learning.next_at(CLAUDE)
        known = learning._met.get(CLAUDE.id, 0)
        learning.observe(call(), CLAUDE, Usage(150), at)
        await learnt(learning)
        assert learning._met.get(CLAUDE.id, 0) == known + (at >= before)
    assert learning.next_at(CLAUDE) > 0


async def test_a_prompt_too_short_to_tell_anything_changes_nothing(learning):
    learning.observe(call("Hi"), CLAUDE, Usage(9), 0.0)
    await learnt(learning)
    assert learning._factors == {}


async def test_what_is_free_is_not_worth_learning(learning):
    learning.observe(call(), structs.replace(CLAUDE, free=True), Usage(150), 0.0)
    assert not learning._queue


async def test_prompts_with_tools_have_a_factor_of_their_own(learning):
    tools = (Tool("look_up", "Looks something up", b'{"type":"object"}'),)
    await teach(learning, 1.1, 10)
    await teach(learning, 2.0, ENOUGH - 1, tools=tools)
    asked = call(tools=tools)
    counted = count_call(asked, CLAUDE.profile).n
    assert (await learning.count(asked, CLAUDE)).n == pytest.approx(counted * 1.1, rel=0.02), "the other stands in"
    await teach(learning, 2.0, 10, tools=tools)
    assert (await learning.count(asked, CLAUDE)).n == pytest.approx(counted * 2, rel=0.12)
    plain = call()
    assert (await learning.count(plain, CLAUDE)).n == pytest.approx(count_call(plain, CLAUDE.profile).n * 1.1, rel=0.02)


async def test_after_the_first_calls_only_some_are_counted_again(learning, monkeypatch):
    counted = []

    async def count(*arguments):
        counted.append(arguments)
        return count_call(*arguments[:2])

    monkeypatch.setattr(calibrating, "count_prompt", count)
    await teach(learning, 1.2, BEGIN + FIRST + 10 * EVERY)
    assert len(counted) == BEGIN + FIRST + 10


async def test_a_few_calls_do_not_make_a_process_load_a_vocabulary(learning, monkeypatch):
    monkeypatch.setattr(calibrating, "is_ready", lambda _: False)
    await teach(learning, 1.2, BEGIN)
    assert learning._factors == {}
    await teach(learning, 1.2, 1)
    assert learning._factors[CLAUDE.id].seen == 1


async def test_many_calls_at_once_are_counted_again_at_a_steady_pace(learning, monkeypatch):
    counted = []

    async def count(*arguments):
        counted.append(arguments)
        return count_call(*arguments[:2])

    monkeypatch.setattr(calibrating, "count_prompt", count)
    learning._met[CLAUDE.id] = BEGIN + FIRST
    for number in range(200 * EVERY):
        learning.observe(call(), CLAUDE, Usage(500), number * PACE_S / 1_000)
        await learnt(learning)
    assert len(counted) == 4


async def test_a_burst_waits_in_a_short_line(learning):
    for _ in range(WAITING + 10):
        learning.observe(call(), CLAUDE, Usage(500), 0.0)
    assert len(learning._queue) == WAITING
    await learnt(learning)
    assert not learning._queue


async def test_long_prompts_are_counted_beside_the_loop(learning, monkeypatch):
    sizes = []

    async def count(asked, profile, inline_bytes):
        sizes.append(inline_bytes)
        return count_call(asked, profile)

    monkeypatch.setattr(calibrating, "count_prompt", count)
    await teach(learning, 1.2, 1)
    assert sizes == [calibrating.INLINE_BYTES]


# -- what is kept --


async def test_what_was_learnt_outlives_the_process(kept):
    first = Calibration(kept.read, kept.write)
    await teach(first, 1.4, 20)
    first.close()
    second = Calibration(kept.read, kept.write)
    assert second.corrected(ESTIMATE, CLAUDE) == first.corrected(ESTIMATE, CLAUDE)
    assert second.corrected(ESTIMATE, CLAUDE).reports == 20
    second.close()
    assert kept.writes == 1, "nothing was learnt since"


async def test_it_is_written_at_most_once_in_a_while(kept, monkeypatch):
    monkeypatch.setattr(calibrating, "SAVE_S", 0.02)
    learning = Calibration(kept.read, kept.write)
    await teach(learning, 1.4, 10)
    assert kept.writes <= 2
    await asyncio.sleep(0.04)
    assert kept.rows["anthropic/claude-x"][1] == 10
    learning.close()


async def test_of_two_workers_the_one_that_has_seen_more_is_believed(kept):
    some, many = Calibration(kept.read, kept.write), Calibration(kept.read, kept.write)
    await teach(some, 1.1, 8)
    await teach(many, 1.5, 30)
    many.close()
    some.close()
    assert kept.rows["anthropic/claude-x"][1] == 30
    assert some.corrected(ESTIMATE, CLAUDE).reports == 30
    assert kept.writes == 1


async def test_a_busy_store_loses_nothing(kept):
    learning = Calibration(kept.read, kept.write)
    await teach(learning, 1.4, 10)
    kept.error = StoreBusy("The ledger is busy.")
    learning._save()
    kept.error = None
    learning.close()
    assert kept.rows["anthropic/claude-x"][1] == 10


async def test_a_write_that_fails_is_tried_again(kept):
    def write(rows):
        raise StoreBusy("The ledger is busy.")

    learning = Calibration(kept.read, write)
    await teach(learning, 1.4, 10)
    learning._save()
    assert learning._changed
    learning.close()


async def test_rows_that_make_no_sense_are_passed_over(kept):
    bad = [
        ("a", 0, 0.0, 0.1),
        ("b", 9, 9.0, 0.1),
        ("c", 9, 0.1, -1.0),
        ("d", "9", 0.1, 0.1),
        ("e", 9, float("nan"), 0.1),
    ]
    kept.rows = {row[0]: row for row in bad}
    learning = Calibration(kept.read, kept.write)
    assert learning._factors == {}
    learning.observe(call(), CLAUDE, Usage(500), 0.0)
    learning.close()
    learning.observe(call(), CLAUDE, Usage(500), 0.0)
    assert not learning._queue, "after the end nothing is learnt"


# -- figures --


async def test_the_band_holds_what_a_provider_bills_in_at_least_95_of_100_calls(learning, capsys):
    """A provider with another vocabulary than the one that is estimated with, and texts of several languages and of code."""
    rng, theirs = Random(17), vocabulary("qwen2")
    held, widths, before = 0, [], 0
    for number in range(450):
        text = prose(rng)
        true = theirs.count(text).n + 11
        asked = call(text)
        count = await learning.count(asked, CLAUDE)
        if number >= 50:
            held += count.band[0] <= true <= count.band[1]
            widths.append(count.percent)
            before += abs(count_call(asked, CLAUDE.profile).n / true - 1) > abs(count.n / true - 1)
        learning.observe(asked, CLAUDE, Usage(true), number * PACE_S)
        await learnt(learning)
    with capsys.disabled():
        print(
            f"\nband after 50 reports: {held} of 400 true counts in it ({100 * held / 400:.1f} %), +-{sorted(widths)[200]} % "
            f"in the middle; the corrected number is nearer than the plain estimate in {before} of 400"
        )
    assert held >= 380
    assert before >= 300


async def test_a_call_that_is_not_learnt_from_costs_microseconds(learning, capsys):
    asked, usage = call(), Usage(500)
    learning._met[CLAUDE.id] = BEGIN + FIRST + EVERY * 10 + 1
    for target, most_us in ((GPT, 2), (CLAUDE, 5)):
        times = []
        for _ in range(200):
            began = perf_counter()
            learning.observe(asked, target, usage, 0.0)
            times.append(perf_counter() - began)
            learning._met[CLAUDE.id] = BEGIN + FIRST + EVERY * 10 + 1
        middle = sorted(times)[100] * 1e6
        with capsys.disabled():
            print(f"\nobserve of a call that teaches nothing, {target.id}: {middle:.2f} us")
        assert middle < most_us * 5  # a noisy machine
