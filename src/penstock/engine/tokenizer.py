"""The tokenizer: text to the ids of a model's vocabulary and back.

The first and the last step of the inference loop. Reads and writes the `tokenizer.json` of Hugging Face model folders,
gives the ids of the `tokenizers` library, and can learn a vocabulary of its own. It never puts tokens around a text:
what begins and ends a prompt is written by the chat template.

The line of `encode`: `added.py` finds added tokens, normalization and `pretokenize.py` make words of what lies between,
`bpe.py` makes ids of each word. Words are remembered, since text repeats them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from penstock.engine import training
from penstock.engine.added import AddedTokens
from penstock.engine.bpe import WordEncoder
from penstock.engine.detokenize import Detokenizing
from penstock.engine.errors import BadModel, EngineError
from penstock.engine.pretokenize import (
    LLAMA3_PATTERN,
    PreTokenizing,
    byte_characters,
    compile_normalizer,
    compile_regex,
)
from penstock.engine.tokenizer_file import (
    AddedToken,
    Bpe,
    ByteLevel,
    Pattern,
    PreTokenizerSequence,
    Split,
    TokenizerFile,
    read,
    texts,
    write,
)

REMEMBERED_WORDS = 65_536
REMEMBERED_CHARACTERS = 64
"""Bounds of what a tokenizer remembers: so many words, none longer than this. A full memory is emptied."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Tokenizer:
    """One vocabulary. Any text can be encoded, any ids decoded. May be used by several threads."""

    __slots__ = (
        "_added",
        "_byte_text",
        "_bytes",
        "_detokenizing",
        "_file",
        "_memory",
        "_pretokenizing",
        "_texts",
        "_words",
        "leading_spaces",
        "size",
        "special",
        "special_ids",
    )

    size: int
    """One more than the highest id: how many rows the model's embedding needs at least."""
    special: Mapping[str, int]
    """The control tokens, by their text."""
    special_ids: frozenset[int]
    """The same tokens' ids."""
    leading_spaces: int
    """Spaces that `encode` puts before a text and `decode` takes away from it, at most."""

    def __init__(self, file: TokenizerFile) -> None:
        """Raise `BadModel` where the parts of the file do not fit together."""
        self._file = file
        normalize = compile_normalizer(file.normalizer)
        # The library gives the tokens it looks for in normalized text their normalized form, so they decode to that.
        self._texts = {
            **texts(file.model, file.added_tokens),
            **{token.id: normalize(token.content) for token in file.added_tokens if token.normalized},
        }
        if not self._texts:
            raise BadModel("tokenizer.json: the vocabulary is empty; take the file from its source again")
        self.size = max(self._texts) + 1
        self.special = MappingProxyType({token.content: token.id for token in file.added_tokens if token.special})
        self.special_ids = frozenset(self.special.values())
        self._added = AddedTokens(file.added_tokens, normalize)
        self._pretokenizing = PreTokenizing(file.pre_tokenizer, file.model)
        self._words = WordEncoder(file.model, self.size)
        self._detokenizing = Detokenizing(file.decoder)
        self.leading_spaces = self._detokenizing.stripped
        self._byte_text = str.maketrans(dict(enumerate(byte_characters())))
        self._memory: dict[str, list[int]] = {}
        self._bytes: dict[int, bytes] = {}

    @classmethod
    def from_json(cls, text: bytes) -> "Tokenizer":
        """Read the bytes of a `tokenizer.json`: byte-pair encoding, byte level or with byte fallback.

        Raises `BadModel`, which says what is wrong with the file or not supported, and where.
        """
        return cls(read(text))

    def to_json(self) -> bytes:
        """Write a `tokenizer.json` that gives the same ids here and in the `tokenizers` library."""
        return write(self._file)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Give the ids of a text.

        special     whether the text of a control token in it is that token: so in what a template wrote, not in what a
                    user wrote. Added tokens that are no control tokens are found either way

        A lone surrogate, which no UTF-8 can hold, counts as U+FFFD. Time grows as n log n at worst.
        """
        if not text.isascii():
            text = _LONE_SURROGATE.sub("\ufffd", text)
        ids: list[int] = []
        known = self._memory.get
        for section, first in self._added.cut(text, special=special):
            if isinstance(section, int):
                ids.append(section)
                continue
            for word in self._pretokenizing.words(section, first=first):
                found = known(word)
                ids += self._encode_word(word) if found is None else found
        return ids

    def _encode_word(self, word: str) -> list[int]:
        symbols = word
        if self._pretokenizing.byte_level:
            symbols = word.encode().decode("latin-1").translate(self._byte_text)
        ids = self._words.encode(symbols)
        if len(word) <= REMEMBERED_CHARACTERS:
            if len(self._memory) >= REMEMBERED_WORDS:
                self._memory.clear()
            self._memory[word] = ids
        return ids

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """Give the text of ids, with the text of control tokens or without. Bytes that are no UTF-8 become U+FFFD.

        Ids that the vocabulary does not hold give no text, as models may have more rows than tokens.
        """
        left_out = frozenset[int]() if special else self.special_ids
        known = self._texts
        return self._detokenizing.text([known[token] for token in ids if token in known and token not in left_out])

    def token_bytes(self, id: int) -> bytes:  # noqa: A002  # the field's word for it
        """Give the bytes of one token: often a part of a character. A control token gives its text, an unknown id none."""
        found = self._bytes.get(id)
        if found is None:
            text = self._texts.get(id)
            if text is None:
                return b""
            found = self._bytes[id] = self._detokenizing.token_bytes(text)
        return found


def train(texts: Iterable[str], size: int, special: Sequence[str] = ()) -> Tokenizer:
    """Learn a byte-level vocabulary of at most `size` tokens from texts; the same texts give the same vocabulary.

    The control tokens come first, then the 256 bytes, then what was learned, most frequent pairs first. Texts are cut as
    Llama 3 does. Raises `EngineError` where `size` has no room for the control tokens and the bytes, or a control
    token cannot be told from a byte.
    """
    byte_text = byte_characters()
    if size < 256 + len(special):
        raise EngineError(f"256 bytes and {len(special)} control tokens do not fit into a vocabulary of {size} tokens")
    if len({"", *special, *byte_text}) != 257 + len(special):
        raise EngineError(
            "a control token is empty, or given twice, or a single character: choose texts like '<|end|>'"
        )
    table = str.maketrans(dict(enumerate(byte_text)))
    pattern = compile_regex(LLAMA3_PATTERN)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(pattern.findall(_LONE_SURROGATE.sub("\ufffd", text)))
    words = {word.encode().decode("latin-1").translate(table): count for word, count in counts.items()}
    vocab = {token: number for number, token in enumerate((*special, *sorted(byte_text)))}
    merges = training.learn_merges(words, vocab, size)
    return Tokenizer(
        TokenizerFile(
            model=Bpe(vocab=vocab, merges=list(merges), ignore_merges=False),
            added_tokens=tuple(
                AddedToken(id=number, content=token, normalized=False, special=True)
                for number, token in enumerate(special)
            ),
            pre_tokenizer=PreTokenizerSequence(
                (
                    Split(Pattern(regex=LLAMA3_PATTERN), "Isolated"),
                    ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
                )
            ),
            decoder=ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
        )
    )
