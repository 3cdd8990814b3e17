"""Byte-pair encoding of one word: symbols, then the lowest-ranked pair joined, again and again, until none is left.

After Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units" (2016). Takes a word as
`pretokenize.py` cut it and gives token ids; never looks at the text around it. A short word is merged by scanning it, a
long one with a heap over a linked list, so that 200,000 times the same letter cost n log n and not n squared.
"""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

from penstock.engine.errors import BadModel
from penstock.engine.tokenizer_file import Bpe

SCANNED = 96
"""Symbols up to which scanning is quicker than a heap (measured)."""

_NEVER = 1 << 60


class Merges:
    """Which two neighbouring tokens become which one, and in which order. Immutable once made."""

    __slots__ = ("_joined", "_ranks", "_stride")

    def __init__(self, pairs: Sequence[tuple[int, int]], joined: Sequence[int], size: int) -> None:
        """Take the pairs in the order of learning, the token that each becomes, and a bound of all ids."""
        self._stride = size
        self._joined = list(joined)
        self._ranks = {left * size + right: rank for rank, (left, right) in enumerate(pairs)}

    def apply(self, symbols: list[int]) -> list[int]:
        """Join pairs until no known pair is left; of equal pairs the leftmost first."""
        if len(symbols) < 2:
            return symbols
        return self._scan(symbols) if len(symbols) <= SCANNED else self._heap(symbols)

    def _scan(self, symbols: list[int]) -> list[int]:
        known, stride, joined = self._ranks.get, self._stride, self._joined
        symbols = symbols.copy()
        ranks = [known(left * stride + right, _NEVER) for left, right in pairwise(symbols)]
        while (rank := min(ranks)) != _NEVER:
            at = ranks.index(rank)
            symbols[at] = joined[rank]
            del symbols[at + 1], ranks[at]
            if at:
                ranks[at - 1] = known(symbols[at - 1] * stride + symbols[at], _NEVER)
            if at < len(ranks):
                ranks[at] = known(symbols[at] * stride + symbols[at + 1], _NEVER)
            elif not ranks:
                break
        return symbols

    def _heap(self, symbols: list[int]) -> list[int]:
        """Merge a long word: a heap of (rank, place), packed into one number each, over a doubly linked list.

        An entry is stale where the pair at its place has meanwhile become another one, which its rank tells.
        """
        known, stride, joined = self._ranks.get, self._stride, self._joined
        symbols = symbols.copy()
        n = len(symbols)
        after, before = list(range(1, n + 1)), list(range(-1, n - 1))
        pairs = enumerate(pairwise(symbols))
        heap = [rank * n + at for at, (left, right) in pairs if (rank := known(left * stride + right)) is not None]
        heapify(heap)
        while heap:
            rank, at = divmod(heappop(heap), n)
            right = after[at]
            if symbols[at] < 0 or right == n or known(symbols[at] * stride + symbols[right]) != rank:
                continue
            symbols[at], symbols[right] = joined[rank], -1
            following = after[at] = after[right]
            if following < n:
                before[following] = at
                if (rank := known(symbols[at] * stride + symbols[following])) is not None:
                    heappush(heap, rank * n + at)
            left = before[at]
            if left >= 0 and (rank := known(symbols[left] * stride + symbols[at])) is not None:
                heappush(heap, rank * n + left)
        return [symbol for symbol in symbols if symbol >= 0]


class WordEncoder:
    """Words to ids by one model's vocabulary and merges. Keeps nothing of what it encodes."""

    __slots__ = ("_fuse_unknown", "_merges", "_unknown", "_vocab", "_whole_words", "_with_bytes")

    def __init__(self, model: Bpe, size: int) -> None:
        """Raise `BadModel` where a merge, or the token for the unknown, is not in the vocabulary."""
        vocab = self._vocab = model.vocab
        pairs: list[tuple[int, int]] = []
        joined: list[int] = []
        for left, right in model.pairs():
            try:
                pairs.append((vocab[left], vocab[right]))
                joined.append(vocab[left + right])
            except KeyError as missing:
                raise BadModel(
                    f"tokenizer.json: the merge of {left!r} and {right!r} needs the token {missing}, which the "
                    "vocabulary does not hold; take the file from its source again"
                ) from missing
        self._merges = Merges(pairs, joined, size)
        self._whole_words = model.ignore_merges
        self._fuse_unknown = model.fuse_unk
        self._unknown = vocab.get(model.unk_token or "")
        if model.unk_token and self._unknown is None:
            raise BadModel(f"tokenizer.json: model.unk_token {model.unk_token!r} is not in the vocabulary")
        codes = [vocab.get(f"<0x{byte:02X}>") for byte in range(256)] if model.byte_fallback else []
        self._with_bytes = codes

    def encode(self, word: str) -> list[int]:
        """Give the ids of a word that is not empty."""
        vocab = self._vocab
        if self._whole_words and (whole := vocab.get(word)) is not None:
            return [whole]
        try:
            symbols = [vocab[character] for character in word]
        except KeyError:
            symbols = self._symbols(word)
        return self._merges.apply(symbols)

    def _symbols(self, word: str) -> list[int]:
        """Give the ids of single characters where some are not in the vocabulary.

        Such a character becomes its bytes' tokens if the model has all of them, else the token for the unknown (runs of
        which may count as one), else nothing. As in the `tokenizers` library, an unknown is put down when the next
        known character comes.
        """
        found: list[int] = []
        pending = False
        for character in word:
            symbol = self._vocab.get(character)
            if symbol is None:
                if self._with_bytes:
                    codes = [code for byte in character.encode() if (code := self._with_bytes[byte]) is not None]
                    if len(codes) == len(character.encode()):
                        found += codes
                        continue
                if self._unknown is not None:
                    if pending and not self._fuse_unknown:
                        found.append(self._unknown)
                    pending = True
                continue
            if pending and self._unknown is not None:
                found.append(self._unknown)
                pending = False
            found.append(symbol)
        if pending and self._unknown is not None:
            found.append(self._unknown)
        return found
