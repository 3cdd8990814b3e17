"""The one door to the tokenizer engine: vocabularies by name, each loaded when it is first asked for.

Turns text into tokens of one vocabulary. It knows no model, no message and no price (`count.py` does), and nothing here
matches control tokens: what a user writes is text, also where it spells `<|im_end|>`.

The engine holds the interpreter's lock while it works, so no single call gets more than `SLICE_CHARS` of text. A longer
text is cut where the vocabulary surely starts a new token, and then the sum over the slices is exact; where there is no
such place within reach (one endless run of a letter, say), it is cut anyway and the tally carries a slack.

Two things are done to text before it is encoded, since the models' own tokenizers do so: Unicode NFC for the vocabularies
that ask for it (Qwen), and every lone surrogate becomes U+FFFD, which is what UTF-8 has for it.

Swapping the engine is a change of this file: implement `Tokenizer`.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Protocol

import splintr
from msgspec import Struct

from penstock.tokens.gguf import read_vocabulary
from penstock.tokens.own import Cut, OwnVocabulary, from_gguf, from_tokenizer_json, pattern_of

SLICE_CHARS = 8_192
"""ASCII text per call of the engine, and half as much of any other: at most 16 KiB of UTF-8 either way. That takes a few
milliseconds at the worst, and threads that count at the same time may make the loop wait for one slice each."""

_REACH_CHARS = 2_048
"""How far back from the end of a slice a sure boundary is looked for."""

_CUT_SLACK = 8
"""Tokens by which one cut in the middle of a run may change a count; measured, not proven: hence an estimate."""

_SYMBOL = re.compile(r"</?[a-z0-9]{1,14}>|\[(?:@BOS@|multimodal)\]")

_LONG_S = "'\u017f"
_LONG_S_SLACK = 2

_NEW_MARK_SLACK = 3

_AFTER_WORD = frozenset(' \t\r\n0123456789.,;:!?/+=-_()[]{}<>|\\"#$%&*@^`~\u3002\uff0c\u3001\uff1b\uff1a\uff01\uff1f')


class Piece(Struct, frozen=True, gc=False):
    """One token: its id and the bytes of text that it stands for."""

    id: int
    text: bytes


class Tally(Struct, frozen=True, gc=False):
    """A number of tokens; the true one lies within `slack` of it, and is it exactly where the slack is 0."""

    n: int
    slack: int = 0


class Tokenizer(Protocol):
    """One vocabulary. Every text is ordinary text, and every text can be encoded."""

    def encode(self, text: str) -> list[int]:
        """Give the token ids, without any that the vocabulary puts around a whole prompt."""

    def pieces(self, text: str) -> list[Piece]:
        """Give the tokens with their bytes, which together are the text as the vocabulary sees it."""

    def count_steps(self, text: str) -> Iterator[Tally]:
        """Give a tally per slice, so that a caller may do something else in between."""

    def count(self, text: str) -> Tally:
        """Give the sum of all steps."""


class _Engine(Protocol):
    """What is used of the engine's tokenizers."""

    def encode_ordinary(self, text: str) -> list[int]: ...
    def encode_raw(self, text: str) -> list[int]: ...
    def decode_token_bytes(self, id: int) -> bytes: ...  # noqa: A002  the engine's own name


class _Known(Struct, frozen=True):
    """A vocabulary of the engine, and what has to be known about it to count with it."""

    engine: str
    cut: Cut = "word"
    nfc: bool = False
    long_s: bool = False
    """Its contractions match without regard to case, and the engine does not take U+017F for an s."""
    is_loose: bool = False
    """It cuts rare characters otherwise than the reference does."""
    prefix: str = ""
    """What goes before every text, as one token that is not counted."""
    symbols: tuple[range, ...] = ()
    """Ids among which are symbols like `<table>`: ordinary tokens that are matched as they stand, before any merging."""


KNOWN: Mapping[str, _Known] = MappingProxyType(
    {
        "cl100k": _Known("cl100k_base"),
        "o200k": _Known("o200k_base", long_s=True),
        "o200k_harmony": _Known("o200k_harmony", long_s=True),
        "llama2": _Known("llama2", "dropped space"),
        "codellama": _Known("llama2", "dropped space"),  # it adds control tokens, which are not matched in text
        "llama3": _Known("llama3"),
        "qwen2": _Known("qwen2", nfc=True),
        "deepseek_v3": _Known("deepseek_v3"),
        "mistral_v1": _Known("mistral_v1", "dropped space"),
        "mistral_v2": _Known("mistral_v2", "dropped space"),
        "mistral_v3": _Known("mistral_v3"),
        "gemma2": _Known("gemma2", "space", symbols=(range(4, 217), range(255_999, 256_000))),
        "gemma3": _Known("gemma3", "space", symbols=(range(4, 238), range(255_999, 262_144))),
        "gemma4": _Known(
            "gemma3", "space", symbols=(range(4, 238),)
        ),  # they differ in control tokens alone, and Gemma 4's own is slow to load
        "phi4": _Known("phi4"),
        "glm4": _Known("glm4"),
        "kimi_k2": _Known("kimi_k2", long_s=True),
        "olmo2": _Known("olmo2"),
    }
)
"""Names that a profile may use, with the engine's. mistral_v3 is Tekken; qwen2 also serves Qwen 2.5 and 3."""


@lru_cache(maxsize=32)
def vocabulary(name: str) -> Tokenizer:
    """Give the vocabulary of that name, loading it on first use; KeyError lists the known names.

    Loading takes 0.1 to 0.3 seconds with the interpreter's lock held, and 30 to 50 MB, once per process: ask for what the
    configured models need before serving.
    """
    known = KNOWN.get(name)
    if known is None:
        raise KeyError(f"There is no vocabulary {name!r}. Known are: {', '.join(sorted(KNOWN))}.")
    engine = _loaded(known.engine)
    found = {engine.decode_token_bytes(id).decode("utf-8", "replace"): id for ids in known.symbols for id in ids}  # noqa: A001
    symbols = {text: id for text, id in found.items() if _SYMBOL.fullmatch(text)}  # noqa: A001  the field's own word
    _ready().add(name)
    return _Engined(engine, known, symbols, engine.encode_ordinary)


@lru_cache(maxsize=1)
def _ready() -> set[str]:
    return set()


def is_loaded(name: str) -> bool:
    """Tell whether the vocabulary of that name is at hand, so that nobody has to wait for it."""
    return name in _ready() or name in _given()


@lru_cache(maxsize=32)
def _loaded(engine_name: str) -> _Engine:
    engine: _Engine = splintr.Tokenizer.from_pretrained(engine_name)
    engine.encode_ordinary("a" * 64)  # builds the table for long words, which would otherwise delay the first of them
    return engine


def from_json(tokenizer_json: bytes) -> Tokenizer:
    """Read a Hugging Face tokenizer.json; ValueError says what in it cannot be used.

    Long texts are estimates where nothing is known about safe cuts. A vocabulary that has neither bytes nor a token for the
    unknown raises ValueError for a text that it cannot express.
    """
    return _own(from_tokenizer_json(tokenizer_json), "tokenizer.json")


def from_gguf_file(file: memoryview) -> Tokenizer:
    """Read the vocabulary of a GGUF file, of which only the head is touched; ValueError says what in it cannot be used."""
    return _own(from_gguf(read_vocabulary(file)), "GGUF file")


def _own(own: OwnVocabulary, what: str) -> Tokenizer:
    engine: _Engine
    try:
        if own.pieces:
            engine = splintr.SpmTokenizer(list(own.pieces), list(own.scores))
        else:
            engine = splintr.from_json_bytes(own.tokenizer_json)
        engine.encode_raw("a")
    except (ValueError, OverflowError) as error:
        raise ValueError(f"This {what} cannot be used: {error}. Check that it is the whole file.") from error
    symbols = dict(own.symbols)
    known = _Known("", own.cut, nfc=own.nfc, is_loose=own.is_loose, prefix=own.prefix)
    return _Engined(engine, known, symbols, engine.encode_raw)


@lru_cache(maxsize=1)
def _given() -> dict[str, Tokenizer]:
    return {}


def give(name: str, tokenizer: Tokenizer) -> None:
    """Make a vocabulary of the user's own known to this process by a name, in place of what had it before."""
    _given()[name] = tokenizer


def find(name: str | None) -> Tokenizer | None:
    """Give the vocabulary of that name, loading it on first use; None where there is none."""
    if name is None:
        return None
    return vocabulary(name) if name in KNOWN else _given().get(name)


class _Engined:
    """A vocabulary of the engine. `symbols` are found in the text before it is encoded."""

    __slots__ = ("_encode", "_engine", "_known", "_pattern", "_symbols")

    def __init__(
        self, engine: _Engine, known: _Known, symbols: Mapping[str, int], encode: Callable[[str], list[int]]
    ) -> None:
        self._engine = engine
        self._encode = encode
        self._known = known
        self._symbols = symbols
        self._pattern = re.compile(pattern_of(symbols)) if symbols else None

    def encode(self, text: str) -> list[int]:
        return [id for part, _ in self._slices(text) for id in self._ids(part)]  # noqa: A001  the field's own word

    def pieces(self, text: str) -> list[Piece]:
        found: list[Piece] = []
        spare_space = self._known.cut == "dropped space"
        for number, (part, _) in enumerate(self._slices(text)):
            ids = self._ids(part)
            data = [self._engine.decode_token_bytes(id) for id in ids]  # noqa: A001  as above
            if spare_space and data and not number:
                data[0] = data[0].removeprefix(b" ")
            found += map(Piece, ids, data)
        return found

    def count_steps(self, text: str) -> Iterator[Tally]:
        known = self._known
        for part, slack in self._slices(text):
            doubt = slack
            if known.long_s and not part.isascii():
                doubt += _LONG_S_SLACK * part.count(_LONG_S)
            if known.nfc:
                doubt += _doubtful_marks(part)
            if known.is_loose and not part.isascii():
                doubt += sum(not char.isalnum() for char in part) + 1
            yield Tally(len(self._ids(part)), doubt)

    def count(self, text: str) -> Tally:
        n = slack = 0
        for step in self.count_steps(text):
            n += step.n
            slack += step.slack
        return Tally(n, slack)

    def _ids(self, part: str) -> list[int]:
        if self._pattern is None:
            return self._plain_ids(part)
        found: list[int] = []
        start = 0
        for match in self._pattern.finditer(part):
            symbol = self._symbols.get(match.group())
            if symbol is not None:
                found += self._plain_ids(part[start : match.start()])
                found.append(symbol)
                start = match.end()
        return found + self._plain_ids(part[start:]) if start else self._plain_ids(part)

    def _plain_ids(self, part: str) -> list[int]:
        composes, prefix = self._known.nfc and not part.isascii(), self._known.prefix
        try:
            ids = self._encode(prefix + (unicodedata.normalize("NFC", part) if composes else part))
        except UnicodeEncodeError:
            part = _without_surrogates(part)
            ids = self._encode(prefix + (unicodedata.normalize("NFC", part) if composes else part))
        return ids[1:] if prefix else ids

    def _slices(self, text: str) -> Iterator[tuple[str, int]]:
        """Give the slices in order, each with the slack that the cut behind it costs."""
        size = SLICE_CHARS if text.isascii() else SLICE_CHARS // 2
        start, cut = 0, self._known.cut
        while len(text) - start > size:
            end = _boundary(text, start, start + size, cut)
            if end is None:
                end = start + size
                yield text[start:end], _CUT_SLACK
                start = end
            else:
                yield text[start:end], 0
                start = end + (cut == "dropped space")
        yield text[start:], 0


def _boundary(text: str, start: int, end: int, cut: Cut) -> int | None:
    """Give the last place after `start`, up to `end`, where a cut changes nothing; None if there is none within reach."""
    if cut == "nowhere":
        return None
    after = _AFTER_WORD if cut == "word" else " "
    for place in range(min(end, len(text) - 2), max(start, end - _REACH_CHARS), -1):  # something has to be left
        if text[place] in after and _is_letter(text[place - 1]):
            return place
    return None


def _is_letter(char: str) -> bool:
    """Say whether this is a letter to every vocabulary: ASCII, CJK, kana or Hangul that no Unicode version doubts."""
    return (
        "a" <= char <= "z"
        or "A" <= char <= "Z"
        or "\u4e00" <= char <= "\u9fa5"
        or "\u3041" <= char <= "\u3096"
        or "\u30a1" <= char <= "\u30fa"
        or "\uac00" <= char <= "\ud7a3"
    )


def _doubtful_marks(part: str) -> int:
    """Give the slack for marks that an older Unicode does not put into order: that of Hugging Face's tokenizers is older."""
    if part.isascii() or unicodedata.is_normalized("NFC", part):
        return 0
    old = unicodedata.ucd_3_2_0.combining
    marks = [char for char in set(part) if unicodedata.combining(char) and not old(char)]
    return _NEW_MARK_SLACK * sum(map(part.count, marks))


def _without_surrogates(text: str) -> str:
    """Join surrogates that make a pair, as UTF-16 would, and replace the others by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
