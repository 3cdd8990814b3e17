import random
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import NotFound
from penstock.ledger.ids import BACKWARD_MS, Ids, asked_id, first_key, id_bytes, id_text

NOW_NS = 1_763_754_000_123_456_789


class NoChance(random.Random):
    """Draws the largest number there is."""

    def getrandbits(self, k):
        return (1 << k) - 1


def test_an_id_is_a_uuid_of_version_7_that_holds_its_millisecond():
    text = Ids(random.Random(1)).new(NOW_NS)
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert parsed.int >> 80 == NOW_NS // 1_000_000


@settings(deadline=None)
@given(st.lists(st.integers(-5_000, 50), min_size=1, max_size=200), st.integers(0, 2**32))
def test_ids_grow_however_small_or_backward_the_steps_of_the_clock_are(steps, seed):
    ids, now, made = Ids(random.Random(seed)), NOW_NS, []
    for step in steps:
        now = max(now + step * 1_000_000, NOW_NS - 9_000_000_000)
        made.append(ids.new(now))
    assert made == sorted(set(made))


def test_ids_follow_a_clock_that_was_set_back_for_good():
    ids = Ids(random.Random(1))
    ids.new(NOW_NS)
    earlier = NOW_NS - (BACKWARD_MS + 1) * 1_000_000
    assert uuid.UUID(ids.new(earlier)).int >> 80 == earlier // 1_000_000


def test_ids_stay_valid_and_grow_when_the_random_part_of_a_millisecond_is_used_up():
    ids = Ids(NoChance())
    ids._random = 0
    made = [ids.new(NOW_NS) for _ in range(3)]
    ids._random, ids._node = (1 << 26) - 1, (1 << 48) - 2
    made += [ids.new(NOW_NS) for _ in range(2)]
    assert made == sorted(set(made))
    assert all(uuid.UUID(text).version == 7 for text in made)
    assert uuid.UUID(made[-1]).int >> 80 == NOW_NS // 1_000_000 + 1


def test_two_processes_make_different_ids_in_the_same_moment():
    one, other = Ids(random.Random()), Ids(random.Random())
    assert not {one.new(NOW_NS) for _ in range(1000)} & {other.new(NOW_NS) for _ in range(1000)}


@settings(deadline=None)
@given(st.uuids())
def test_text_and_bytes_of_an_id_are_the_same_id(value):
    assert id_bytes(str(value)) == value.bytes
    assert id_text(value.bytes) == str(value)


@pytest.mark.parametrize("text", ["", "x", "0" * 31, "0" * 33, "g" * 32, "0" * 64, "é" * 32, "\ud800" * 32, "-" * 36])
def test_what_is_no_id_is_refused_with_a_hint(text):
    with pytest.raises(ValueError):  # noqa: PT011 - whatever its text, it is caught by its type
        id_bytes(text)
    with pytest.raises(NotFound, match="is not a call id") as caught:
        asked_id(text)
    assert "penstock calls" in caught.value.hint


def test_an_asked_id_may_have_blanks_around_it():
    assert asked_id(f" {uuid.UUID(int=5)}\n") == uuid.UUID(int=5).bytes


def test_the_first_key_of_a_moment_is_not_above_any_id_of_it_and_above_those_before():
    ids = Ids(random.Random(1))
    before, within = id_bytes(ids.new(NOW_NS - 1_000_000)), id_bytes(ids.new(NOW_NS))
    assert before < first_key(NOW_NS) <= within
    assert first_key(-5) == bytes(16)
    assert first_key(2**80) == b"\xff" * 6 + bytes(10)
