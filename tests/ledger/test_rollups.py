import re
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.ledger.periods import MAX_NS, QUARTER_NS
from penstock.ledger.rollups import DAY, NAMES, PAIRS, WAYS, WIDE, Span, bounds, part_of, pieces

DAYS = 3


def kept_by(rng, density):
    """Sums of random ways, of so many of the buckets in ten."""
    return {
        quarters: {
            at: rng.randrange(2 ** len(WAYS)) for at in range(0, DAYS * DAY, quarters) if rng.randrange(10) < density
        }
        for quarters in (1, DAY)
    }


marked = st.builds(kept_by, st.integers(0, 999).map(Random), st.integers(0, 10))
edges = st.integers(0, DAYS * DAY * QUARTER_NS) | st.integers(0, DAYS * DAY).map(lambda quarter: quarter * QUARTER_NS)


def marks_of(kept):
    """As the store gives them: those that have sums, in order."""

    def marks(quarters, first, beyond):
        return sorted((at, ways) for at, ways in kept[quarters].items() if first <= at < beyond and ways)

    return marks


@given(marked, st.tuples(edges, edges).map(sorted), st.sets(st.sampled_from(NAMES)), st.sampled_from([(DAY, 1), (1,)]))
def test_the_pieces_of_a_span_are_all_of_it_once_and_use_only_what_is_kept_and_fits(kept, ends, by, lengths):
    span = Span(*ends)
    found = sorted(pieces(span, tuple(by), marks_of(kept), lengths), key=lambda piece: piece.since_ns)
    at = span.since_ns
    for piece in found:
        assert piece.since_ns == at < piece.until_ns
        at = piece.until_ns
        if piece.quarters:
            assert piece.quarters in lengths
            assert by <= set(WAYS[piece.way])
            first, beyond = piece.since_ns // QUARTER_NS, piece.until_ns // QUARTER_NS
            assert (first * QUARTER_NS, beyond * QUARTER_NS) == (piece.since_ns, piece.until_ns)
            buckets = range(first, beyond, piece.quarters)
            assert buckets.stop == beyond
            assert first % piece.quarters == 0
            assert all(kept[piece.quarters].get(bucket, 0) >> piece.way & 1 for bucket in buckets)
    assert span.until_ns in (at, span.since_ns)


@given(marked, st.tuples(edges, edges).map(sorted), st.sets(st.sampled_from(NAMES)))
def test_whatever_a_whole_bucket_has_is_used(kept, ends, by):
    found = pieces(Span(*ends), tuple(by), marks_of(kept))
    for gap in found:
        if not gap.quarters:
            for quarters, buckets in kept.items():
                for bucket, ways in buckets.items():
                    within = gap.since_ns <= bucket * QUARTER_NS and (bucket + quarters) * QUARTER_NS <= gap.until_ns
                    assert not (within and any(ways >> way & 1 and by <= set(WAYS[way]) for way in range(len(WAYS))))


def test_days_are_taken_before_quarters_the_smallest_way_first_and_neighbours_together():
    everything = 2 ** len(WAYS) - 1
    kept = {DAY: {0: everything, 96: everything}, 1: dict.fromkeys(range(3 * DAY), 1 << WIDE)}
    whole = Span(0, 2 * DAY * QUARTER_NS + 5 * QUARTER_NS + 7)
    day, quarters, rest = pieces(whole, ("team",), marks_of(kept))
    assert (day.quarters, WAYS[day.way], day.until_ns) == (DAY, ("team",), 2 * DAY * QUARTER_NS)
    assert (quarters.quarters, quarters.way, quarters.until_ns) == (1, WIDE, whole.until_ns - 7)
    assert (rest.quarters, rest.since_ns, rest.until_ns) == (0, whole.until_ns - 7, whole.until_ns)


def test_what_no_way_has_is_summed_from_the_calls():
    kept = {DAY: {0: 255}, 1: {}}
    (only,) = pieces(Span(0, DAY * QUARTER_NS), ("user", "team"), marks_of(kept))
    assert only.quarters == 0


def test_a_span_beyond_all_time_ends_where_time_does():
    (only,) = pieces(Span(-5, 2**80), (), marks_of({DAY: {}, 1: {}}))
    assert (only.since_ns, only.until_ns) == (0, MAX_NS)
    assert bounds(Span(-5, 2**80))["until_ns"] == MAX_NS


def test_every_name_has_a_way_of_its_own_or_as_one_of_a_pair():
    assert Counter(name for way in WAYS[:WIDE] for name in way) == Counter(NAMES)
    assert {name for pair in PAIRS for name in pair} == set(NAMES) - {"user"} == set(WAYS[WIDE])


@pytest.mark.parametrize("timed", [False, True])
def test_the_statement_of_a_piece_has_all_its_values(timed):
    for piece in pieces(Span(3, 2 * DAY * QUARTER_NS), ("team",), marks_of({DAY: {0: 255, 96: 255}, 1: {}})):
        statement, values = part_of(piece, ("team",), timed=timed)
        assert set(re.findall(r":(\w+)", statement)) <= {*values, "step"}
