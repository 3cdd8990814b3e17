import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engine.bpe import SCANNED, Merges, WordEncoder
from penstock.engine.errors import BadModel
from penstock.engine.tokenizer_file import Bpe


def slowly(symbols: list[int], ranks: dict[tuple[int, int], int], joined: list[int]) -> list[int]:
    """The definition itself: find the lowest rank, join its leftmost pair, begin again."""
    while found := [(ranks[pair], at) for at, pair in enumerate(pairwise(symbols)) if pair in ranks]:
        rank, at = min(found)
        symbols = [*symbols[:at], joined[rank], *symbols[at + 2 :]]
    return symbols


def random_merges(rng: random.Random) -> tuple[list[tuple[int, int]], list[int], int]:
    """Merges as training makes them: each of two tokens that are there, into a new one."""
    size = 4
    pairs: list[tuple[int, int]] = []
    for _ in range(rng.randrange(1, 30)):
        pair = (rng.randrange(size), rng.randrange(size))
        if pair not in pairs:
            pairs.append(pair)
            size += 1
    return pairs, list(range(4, size)), size


@settings(deadline=None)
@given(st.integers(0, 1 << 32), st.lists(st.integers(0, 3), max_size=40))
def test_both_ways_of_merging_give_what_the_definition_gives(seed: int, symbols: list[int]) -> None:
    pairs, joined, size = random_merges(random.Random(seed))
    merges = Merges(pairs, joined, size)
    expected = slowly(symbols, {pair: rank for rank, pair in enumerate(pairs)}, joined)

    assert merges.apply(symbols) == expected
    if len(symbols) > 1:
        assert merges._heap(symbols) == expected
        assert merges._scan(symbols) == expected


def test_a_long_word_goes_the_way_of_the_heap_and_gives_the_same() -> None:
    rng = random.Random(4)
    pairs, joined, size = random_merges(rng)
    merges = Merges(pairs, joined, size)
    word = rng.choices(range(4), k=3 * SCANNED)

    assert merges.apply(word) == merges._scan(word)
    assert merges.apply([0]) == [0]
    assert Merges([(0, 1)], [2], 3).apply([0, 1]) == [2]


def test_what_is_merged_is_left_as_it_was() -> None:
    word = [0, 1, 0, 1]

    assert Merges([(0, 1)], [2], 3).apply(word) == [2, 2]
    assert Merges([(0, 1)], [2], 3)._heap(word) == [2, 2]
    assert word == [0, 1, 0, 1]


def test_a_word_in_the_vocabulary_is_taken_whole_where_the_model_says_so() -> None:
    vocab = {"a": 0, "b": 1, "ab": 2, "abb": 3}
    merges: list[tuple[str, str] | str] = [("a", "b")]

    assert WordEncoder(Bpe(vocab, merges, ignore_merges=True), 4).encode("abb") == [3]
    assert WordEncoder(Bpe(vocab, merges, ignore_merges=True), 4).encode("abba") == [2, 1, 0]
    assert WordEncoder(Bpe(vocab, merges), 4).encode("abb") == [2, 1]


def test_unknown_characters_become_bytes_then_the_unknown_token_then_nothing() -> None:
    vocab = {"a": 0, "<unk>": 1, "<0xC3>": 2, "<0xA9>": 3}

    assert WordEncoder(Bpe(vocab, [], unk_token="<unk>", byte_fallback=True), 4).encode("a\u00e9a") == [0, 2, 3, 0]
    assert WordEncoder(Bpe(vocab, [], unk_token="<unk>", byte_fallback=True), 4).encode("\u00eaxa") == [1, 1, 0]
    assert WordEncoder(Bpe(vocab, [], unk_token="<unk>", fuse_unk=True), 4).encode("xya\u00e9") == [1, 0, 1]
    assert WordEncoder(Bpe(vocab, [], unk_token="<unk>"), 4).encode("xyaz") == [1, 1, 0, 1]
    assert WordEncoder(Bpe(vocab, []), 4).encode("xaz") == [0]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Bpe({"a": 0, "b": 1}, [("a", "b")]), "the merge of 'a' and 'b' needs the token 'ab'"),
        (Bpe({"a": 0, "ab": 1}, [("a", "b")]), "needs the token 'b'"),
        (Bpe({"a": 0}, [], unk_token="<unk>"), "unk_token '<unk>' is not in the vocabulary"),
    ],
)
def test_a_model_whose_parts_do_not_fit_is_refused(model: Bpe, message: str) -> None:
    with pytest.raises(BadModel, match=message):
        WordEncoder(model, 4)
