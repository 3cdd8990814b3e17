"""Learning of byte-pair merges: count the words of a corpus, join the most frequent pair, again and again.

Takes words with their counts and gives the merges; knows nothing of files or of special tokens. The same words give the
same merges, whatever their order: of equally frequent pairs the one with the lower ids wins, which is also what the
`tokenizers` library does, so both learn the same vocabulary.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush
from itertools import pairwise


def learn_merges(words: Mapping[str, int], vocab: dict[str, int], size: int) -> list[tuple[str, str]]:
    """Give merges in the order of learning, and add the tokens they make to `vocab`, until it holds `size` tokens.

    Every character of every word is in `vocab` already. What else is in it, control tokens, is never made by a merge, so
    that no text of a user becomes one. Ends early where no two neighbours are left to join.

    A pair is counted up only while the token in it is made, so it stands in the heap once, with a count that may have
    fallen since.
    """
    texts = {number: text for text, number in vocab.items()}
    ordered = sorted(words)
    spelled = [[vocab[character] for character in word] for word in ordered]
    counts = [words[word] for word in ordered]
    pairs: defaultdict[tuple[int, int], int] = defaultdict(int)
    where: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    for number, word in enumerate(spelled):
        for pair in pairwise(word):
            pairs[pair] += counts[number]
            where[pair].add(number)
    heap = [(-count, pair) for pair, count in pairs.items()]
    heapify(heap)
    merges: list[tuple[str, str]] = []
    while heap and len(vocab) < size:
        count, pair = heappop(heap)
        if -count != pairs[pair]:
            if pairs[pair] > 0:
                heappush(heap, (-pairs[pair], pair))
            continue
        left, right = texts[pair[0]], texts[pair[1]]
        if left + right in vocab:
            continue
        merges.append((left, right))
        token = vocab[left + right] = len(vocab)
        texts[token] = left + right
        grown = set()
        for number in where.pop(pair):
            changes = _join(spelled[number], pair, token)
            for changed, times in changes:
                pairs[changed] += times * counts[number]
                if times > 0:
                    where[changed].add(number)
                    grown.add(changed)
        for changed in grown:
            if pairs[changed] > 0:
                heappush(heap, (-pairs[changed], changed))
    return merges


def _join(word: list[int], pair: tuple[int, int], token: int) -> Iterable[tuple[tuple[int, int], int]]:
    """Join every `pair` of a word in place, from the left; give which pairs came (+1) and went (-1)."""
    first, second = pair
    changes: list[tuple[tuple[int, int], int]] = []
    at = 0
    while True:
        try:
            at = word.index(first, at)
        except ValueError:
            return changes
        if at + 1 < len(word) and word[at + 1] == second:
            if at:
                changes += (((word[at - 1], first), -1), ((word[at - 1], token), 1))
            if at + 2 < len(word):
                changes += (((second, word[at + 2]), -1), ((token, word[at + 2]), 1))
            word[at : at + 2] = [token]
        at += 1
