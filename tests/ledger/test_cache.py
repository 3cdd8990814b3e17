"""Whole answers that are given again: to the same request of the same tenant, and to nobody else."""

import random
import tracemalloc
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.call import Call, Content, Message, Sampling, Text, Tool, Who
from penstock.errors import UpstreamFailed
from penstock.event import (
    Embedded,
    Ended,
    Failed,
    Finished,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
)
from penstock.ledger.cache import ENTRY_BYTES, REQUEST_BYTES, ReplyCache, Stored, keep, key, size
from penstock.receipt import Attempt, Receipt, Usage
from penstock.reply import Chunk, Opening, fold

WEB = Who(team="web", key_id="k1")
HI = Content((Message("user", (Text("hi"),)),))
BODY = {"model": "fast", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5}
OPENING = Opening("call-1", "box/m", "verbatim", 2, ("seed",), 200, ((b"x-request-id", b"r1"),))
WHOLE = (Started("1", "m"), TextDelta("Hello"), Finished("stop", "stop"), UsageReported(Usage(9, 2)), Ended())


def call(body=BODY, **changes):
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    fields = {"dialect": "chat", "model": "fast", "sampling": Sampling(), "read": lambda: HI, "raw": raw}
    return Call(**{**fields, **changes})


def bare(content=HI, sampling=None):
    """A call of the library."""
    return call(b"", dialect="", read=lambda: content, sampling=sampling or Sampling())


def receipt(status="ok"):
    return Receipt("call-1", 1, "chat", "fast", status, 200)


def stored(text="Hello", at=0.0):
    return Stored("box/m", "translated", 200, (), (), Chunk((TextDelta(text), Ended())), at)


# -- the key --


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "smart"},
        {"dialect": "messages"},
        {"form": "sse"},
        {"operation": "embed"},
        {"stream": True},
        {"stream_usage": True},
        {"strict": True},
        {"headers": ((b"anthropic-beta", b"x"),)},
        {"headers": ((b"anthropic-beta", b"y"),)},
        {"sampling": Sampling(temperature=0.0), "changed": ("temperature",)},
        {"sampling": Sampling(temperature=0.1), "changed": ("temperature",)},
        {"sampling": Sampling(seed=0), "changed": ("seed",)},
        {"sampling": Sampling(max_tokens=1), "changed": ("max_tokens",)},
    ],
)
def test_whatever_is_asked_differently_has_another_key(changes):
    assert key(call(**changes), WEB, "fast") != key(call(), WEB, "fast")


def test_pins_of_a_feature_have_keys_of_their_own():
    pinned = [
        key(call(sampling=Sampling(temperature=t, seed=s), changed=changed), WEB, "fast")
        for t, s, changed in [
            (0.0, None, ("temperature",)),
            (0.5, None, ("temperature",)),
            (0.0, 1, ("temperature", "seed")),
            (None, 1, ("seed",)),
        ]
    ]
    assert len(set(pinned)) == 4
    assert pinned[2] == key(
        call(sampling=Sampling(temperature=0.0, seed=1), changed=("seed", "temperature")), WEB, "fast"
    )


def test_every_field_of_a_call_is_either_hashed_or_known_not_to_matter():
    hashed = {*("model", "dialect", "form", "operation", "stream", "stream_usage", "strict", "headers"), "raw", "read"}
    by_body = {"sampling", "changed", "native"}
    who_pays_or_derived = {"feature", "session", "user", "input_bound"}
    assert set(Call.__struct_fields__) == hashed | by_body | who_pays_or_derived


tenants = st.builds(
    Who, team=st.none() | st.sampled_from(["a", "b", "k1"]), key_id=st.none() | st.sampled_from(["a", "k1"])
)


@given(tenants, tenants)
def test_tenants_share_a_key_only_if_they_are_one(one, other):
    def tenant(who):
        return ("team", who.team) if who.team is not None else ("key", who.key_id)

    same = key(call(), one, "fast") == key(call(), other, "fast")
    assert same == (tenant(one) == tenant(other))


def test_who_of_a_team_asks_and_for_what_makes_no_difference():
    other = Who(team="web", key_id="k2", user="u", session="s", feature="f")
    assert key(call(), other, "fast") == key(call(), WEB, "fast")


def test_what_would_answer_is_part_of_the_key():
    assert key(call(), WEB, "fast") != key(call(), WEB, "smart")


numbers = st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
bodies = st.dictionaries(st.text(max_size=6), values, min_size=1, max_size=5)


def places(value, path=()):
    """Every place in a JSON value."""
    yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*path, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from places(inner, (*path, number))


def put(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


def shuffled(value, rng):
    if isinstance(value, dict):
        items = [(name, shuffled(inner, rng)) for name, inner in value.items()]
        rng.shuffle(items)
        return dict(items)
    return [shuffled(inner, rng) for inner in value] if isinstance(value, list) else value


@given(bodies, st.data())
def test_a_change_at_any_place_of_the_body_changes_the_key(body, data):
    path = data.draw(st.sampled_from([place for place in places(body) if place]))
    new = data.draw(values)
    changed = put(body, path, new)
    before, after = msgspec.json.encode(body), msgspec.json.encode(changed)
    same_meaning = msgspec.json.encode(body, order="sorted") == msgspec.json.encode(changed, order="sorted")
    assert (key(call(before), WEB, "m") == key(call(after), WEB, "m")) == same_meaning


@given(bodies, st.integers())
def test_the_order_of_members_and_blanks_make_no_difference(body, seed):
    other = msgspec.json.format(msgspec.json.encode(shuffled(body, random.Random(seed))), indent=3)
    assert key(call(body), WEB, "m") == key(call(other), WEB, "m")


def test_numbers_count_as_they_are_written():
    texts = [
        b"0.1",
        b"0.10000000000000000001",
        b"1e400",
        b"18446744073709551616",
        b"18446744073709551617",
        b"1",
        b'"1"',
    ]
    assert len({key(call(b'{"seed":%b}' % text), WEB, "m") for text in texts}) == len(texts)


def test_escapes_are_the_characters_they_stand_for():
    assert key(call(b'{"a":"\\u0041"}'), WEB, "m") == key(call(b'{"a":"A"}'), WEB, "m")


def test_a_call_of_the_library_is_told_by_its_contents():
    asked = [
        bare(),
        bare(Content((Message("user", (Text("hello"),)),))),
        bare(Content((Message("system", (Text("hi"),)),))),
        bare(msgspec.structs.replace(HI, tools=(Tool("f"),))),
        bare(sampling=Sampling(temperature=0.0)),
        bare(sampling=Sampling(temperature=0.1)),
        bare(sampling=Sampling(top_p=0.0)),
    ]
    keys = [key(one, WEB, "m") for one in asked]
    assert None not in keys
    assert len(set(keys)) == len(asked)
    assert keys[0] == key(bare(), WEB, "m")


@pytest.mark.parametrize(
    "asked",
    [
        call(native=("store",)),
        call(operation="count"),
        call(b'{"a":'),
        call(b'{"a":"\xff"}'),
        call(b"[" * 100_000),
        call(b'{"a":"%b"}' % (b"x" * REQUEST_BYTES)),
        bare(sampling=Sampling(seed=2**70)),
    ],
    ids=["stored state", "a count", "no JSON", "no UTF-8", "too deep", "too long", "too large a number"],
)
def test_what_cannot_be_given_again_has_no_key(asked):
    assert key(asked, WEB, "m") is None


# -- what is kept --


def test_an_answer_becomes_one_chunk():
    chunks = [
        Chunk(WHOLE[:1], b"a"),
        Chunk((TextDelta("Hel"),), b"b"),
        Chunk((TextDelta("lo"),), b"c"),
        Chunk(WHOLE[2:], b"d", receipt()),
    ]
    one = keep(OPENING, chunks, 5.0)
    assert one.chunk == Chunk(WHOLE, b"abcd")
    assert (one.target, one.lane, one.status, one.dropped, one.at) == ("box/m", "verbatim", 200, ("seed",), 5.0)
    assert one.opening("call-2") == Opening("call-2", "box/m", "verbatim", 0, ("seed",), 200, OPENING.headers)


def test_what_the_try_that_answered_used_is_kept_to_price_it_again():
    used = Usage(10, 5, image_input_tokens=3)
    failed, answered = Attempt("a/m"), Attempt("box/m", usage=used, service_tier="flex")
    whole = msgspec.structs.replace(receipt(), target="box/m", tries=(failed, answered))
    one = keep(OPENING, [Chunk(WHOLE, b"x", whole)], 0.0)
    assert (one.usage, one.service_tier) == (used, "flex")
    for other in (receipt(), msgspec.structs.replace(whole, target="static")):
        one = keep(OPENING, [Chunk(WHOLE, b"x", other)], 0.0)
        assert (one.usage, one.service_tier) == (None, None)


def test_what_a_provider_says_of_that_moment_is_left_out():
    headers = (
        *(
            (b"x-ratelimit-remaining-requests", b"3"),
            (b"anthropic-ratelimit-tokens-reset", b"1"),
            (b"retry-after", b"1"),
        ),
        *((b"openai-processing-ms", b"12"), (b"openai-version", b"2020")),
    )
    one = keep(msgspec.structs.replace(OPENING, headers=headers), [Chunk(WHOLE, b"x", receipt())], 0.0)
    assert one.headers == ((b"openai-version", b"2020"),)


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [Chunk(WHOLE[:-1], b"x", receipt())],
        [Chunk((*WHOLE[:-1], Failed(UpstreamFailed("x"))), b"x", receipt())],
        [Chunk((*WHOLE, Failed(UpstreamFailed("x"))), b"x", receipt())],
        [Chunk((TextDelta("x"), Finished("content_filter"), Ended()), b"x", receipt())],
        [Chunk((TextDelta("x"), Finished("stop"), Finished("error", choice=1), Ended()), b"x", receipt())],
        [Chunk(WHOLE, b"x", receipt("degraded"))],
        [Chunk(WHOLE, b"x", receipt("error"))],
        [Chunk(WHOLE[:2], None), Chunk(WHOLE[2:], b"x", receipt())],
        [Chunk(WHOLE, b"x" * ENTRY_BYTES, receipt())],
    ],
    ids=["nothing", "cut", "failed", "failed late", "filtered", "an error", "fixed text", "error", "no bytes", "long"],
)
def test_an_answer_without_a_good_end_is_not_kept(chunks):
    assert keep(OPENING, chunks, 0.0) is None


def test_a_reply_with_another_status_is_not_kept():
    assert keep(msgspec.structs.replace(OPENING, status=202), [Chunk(WHOLE, b"x", receipt())], 0.0) is None


pieces = st.lists(
    st.builds(TextDelta, st.text(max_size=3), st.integers(0, 1))
    | st.builds(ToolUseDelta, st.integers(0, 1), st.text(max_size=3), st.integers(0, 1)),
    max_size=12,
)


@given(pieces)
def test_joined_pieces_are_the_same_reply(events):
    tools = [ToolUseStarted(index, f"t{index}", "f", choice=choice) for index in (0, 1) for choice in (0, 1)]
    events = [*tools, *events, Finished("stop"), Finished("stop", choice=1), Ended()]
    one = keep(msgspec.structs.replace(OPENING, lane="translated"), [Chunk((event,)) for event in events], 0.0)
    assert fold(one.chunk.events) == fold(events)
    assert one.chunk.raw is None
    kinds = [(type(e), getattr(e, "index", None), e.choice) for e in one.chunk.events if hasattr(e, "choice")]
    deltas = [kind for kind in kinds if kind[0] in {TextDelta, ToolUseDelta}]
    assert all(before != after for before, after in pairwise(deltas))


# -- the store --


def test_an_answer_is_found_while_it_is_fresh_enough():
    cache = ReplyCache()
    assert cache.put(b"k", one := stored(at=100.0))
    assert cache.get(b"k", 110.0, 10.0) is one
    assert cache.get(b"k", 110.1, 10.0) is None
    assert cache.get(b"k", 110.1, 60.0) is one, "an old one may still do where nothing else answers"
    assert cache.get(b"other", 100.0, 10.0) is None


def test_a_new_answer_takes_the_place_of_the_old_one():
    cache = ReplyCache()
    cache.put(b"k", stored("x" * 1000))
    cache.put(b"k", new := stored("y"))
    assert cache.get(b"k", 0.0, 1.0) is new
    assert len(cache) == 1
    alone = ReplyCache()
    alone.put(b"k", new)
    assert cache.bytes == alone.bytes


def test_the_least_recently_used_goes_first():
    cache = ReplyCache(max_entries=3)
    for name in (b"a", b"b", b"c"):
        cache.put(name, stored())
    cache.get(b"a", 0.0, 1.0)
    cache.put(b"d", stored())
    assert [name for name in (b"a", b"b", b"c", b"d") if cache.get(name, 0.0, 1.0)] == [b"a", b"c", b"d"]


def test_a_long_answer_is_not_kept_and_drops_the_old_one():
    cache = ReplyCache()
    cache.put(b"k", stored())
    assert not cache.put(b"k", stored("x" * ENTRY_BYTES))
    assert cache.get(b"k", 0.0, 1.0) is None
    assert cache.bytes == 0


def test_all_can_be_forgotten():
    cache = ReplyCache()
    cache.put(b"k", stored())
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)


@dataclass
class Step:
    name: bytes
    length: int
    read: bool


@settings(max_examples=50)
@given(st.lists(st.builds(Step, st.sampled_from([b"%d" % n for n in range(12)]), st.integers(0, 4000), st.booleans())))
def test_the_bounds_hold_whatever_happens(steps):
    cache = ReplyCache(max_bytes=8000, max_entries=5)
    for step in steps:
        if step.read:
            cache.get(step.name, 0.0, 1.0)
        else:
            cache.put(step.name, stored("x" * step.length))
        assert len(cache) <= 5
        assert cache.bytes <= 8000
    kept = [cache.get(b"%d" % n, 0.0, 1.0) for n in range(12)]
    assert cache.bytes == sum(size(one) + 400 for one in kept if one)


def makers(kind, number):
    """Answers whose parts are all objects of their own."""
    if kind == "text":
        return Chunk((TextDelta(chr(97 + number % 20) * (2000 + number)), Ended()))
    if kind == "raw":
        return Chunk((TextDelta(f"text {number}"), Ended()), bytes(5000 + number))
    return Chunk((Embedded(0, tuple(number + n / 7 for n in range(500))), Ended()))


@pytest.mark.parametrize("kind", ["text", "raw", "vector"])
def test_the_sizes_are_honest(kind):
    """The bytes that are counted are those that Python really takes."""
    cache: Any = ReplyCache()
    names = [b"%032d" % number for number in range(400)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number, name in enumerate(names):
        cache.put(name, Stored("box/m", "verbatim", 200, (), (), makers(kind, number), float(number)))
    took = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(cache) == 400
    assert 0.8 < cache.bytes / took < 1.35


def test_the_size_of_what_an_ordinary_receipt_has_in_common_with_others_is_that_of_its_bytes():
    sizes = [size((msgspec.Raw(b"x" * length),)) for length in (0, 100, 1000)]
    assert sizes[1] - sizes[0] == 100
    assert sizes[2] - sizes[0] == 1000
    assert sizes[0] < 300
