from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engine.training import learn_merges


def slowly(words: dict[str, int], vocab: dict[str, int], size: int) -> list[tuple[str, str]]:
    """The definition itself: count every pair anew, join the most frequent one, begin again."""
    spelled = {word: [vocab[character] for character in word] for word in words}
    merges = []
    while len(vocab) < size:
        texts = {number: text for text, number in vocab.items()}
        counts: Counter[tuple[int, int]] = Counter()
        for word, symbols in spelled.items():
            for pair in pairwise(symbols):
                counts[pair] += words[word]
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        left, right = texts[best[0]], texts[best[1]]
        merges.append((left, right))
        token = vocab.setdefault(left + right, len(vocab))
        for word, symbols in spelled.items():
            joined: list[int] = []
            for symbol in symbols:
                if joined and joined[-1] == best[0] and symbol == best[1]:
                    joined[-1] = token
                else:
                    joined.append(symbol)
            spelled[word] = joined
    return merges


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text("aab", min_size=1, max_size=16), st.integers(1, 5), max_size=6), st.integers(3, 60))
def test_the_merges_are_those_of_the_definition(words: dict[str, int], size: int) -> None:
    vocab, expected_vocab = {"a": 0, "b": 1, "c": 2}, {"a": 0, "b": 1, "c": 2}
    expected = slowly(words, expected_vocab, size)

    assert learn_merges(words, vocab, size) == expected
    assert vocab == expected_vocab


def test_the_most_frequent_pair_is_joined_first_and_the_lower_ids_win_a_tie() -> None:
    vocab = {"a": 0, "b": 1, "c": 2, "d": 3}

    assert learn_merges({"cdab": 2, "ab": 1}, vocab, 6) == [("a", "b"), ("c", "d")]
    assert list(vocab)[4:] == ["ab", "cd"]


def test_no_merge_makes_a_token_that_is_there_already() -> None:
    vocab = {"a": 0, "b": 1, "ab": 2}

    assert learn_merges({"ab": 5, "bb": 1}, vocab, 10) == [("b", "b")]
    assert vocab == {"a": 0, "b": 1, "ab": 2, "bb": 3}


def test_runs_of_one_character_are_joined_from_the_left() -> None:
    vocab = {"a": 0}

    assert learn_merges({"aaa": 5, "aaaa": 1}, vocab, 10) == [("a", "a"), ("aa", "a"), ("aa", "aa")]
