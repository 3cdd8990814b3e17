"""From text to words: Unicode normal forms, then the cuts that no merge of byte pairs may cross.

What the members `normalizer` and `pre_tokenizer` of a `tokenizer.json` say, compiled once per tokenizer. A word leaves
here as a piece of the normalized text; `bpe.py` makes ids of it. The results are those of the `tokenizers` library, but
for characters younger than the Unicode tables of one of both sides.
"""

import unicodedata
from collections.abc import Callable, Iterable
from typing import Literal

import regex
from msgspec import UNSET

from penstock.engine.errors import BadModel, EngineError
from penstock.engine.tokenizer_file import (
    Bpe,
    ByteLevel,
    Digits,
    Metaspace,
    Normalizer,
    NormalizerSequence,
    Pattern,
    Prepend,
    PreTokenizer,
    PreTokenizerSequence,
    Replace,
    Split,
)

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""How GPT-2 cuts text: contractions, words, numbers and signs with the space before them, white space."""

LLAMA3_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How Llama 3 cuts text: as GPT-2, but numbers in groups of three, line ends apart, contractions in either case."""

PATTERN_S = 30.0
"""How long one pattern may work on one piece of text. The patterns above take a second for tens of megabytes."""

METASPACE = "\u2581"
"""What SentencePiece writes for a space."""

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]
TextStep = Callable[[str], str]
CutStep = Callable[[list[str], bool], list[str]]


def byte_characters() -> list[str]:
    """Give the printable character that stands for each byte in a byte-level vocabulary, as GPT-2 chose them.

    A byte that is printable in Latin-1 stands for itself, the others follow from U+0100 on.
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    rest = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(rest)) for byte in range(256)]


def compile_regex(source: str) -> regex.Pattern[str]:
    """Compile a regular expression of ours. Unlike Python's own, these know Unicode's classes, and its white space."""
    return regex.compile(source)


def compile_pattern(pattern: Pattern) -> regex.Pattern[str]:
    """Compile what a `tokenizer.json` looks for; raises `BadModel` where that is no regular expression."""
    if pattern.regex is UNSET:
        return regex.compile(regex.escape(str(pattern.string)))
    try:
        return regex.compile(pattern.regex, regex.V0)
    except regex.error as error:
        raise BadModel(f"tokenizer.json: the pattern {pattern.regex!r} cannot be used: {error}") from error


def compile_normalizer(normalizer: Normalizer | None) -> TextStep:
    """Give the function that the normalizer is."""
    match normalizer:
        case None:
            return lambda text: text
        case NormalizerSequence(normalizers=parts):
            steps = [compile_normalizer(part) for part in parts]
            return lambda text: _through(steps, text)
        case Prepend(prepend=before):
            return lambda text: before + text if text else text
        case Replace(pattern=pattern, content=content):
            if pattern.string is not UNSET:
                old = pattern.string
                return lambda text: text.replace(old, content) if old else text
            compiled = compile_pattern(pattern)
            return lambda text: compiled.sub(lambda _: content, text)
        case _:
            form: Form = type(normalizer).__struct_config__.tag  # type: ignore[assignment]  # one of the four by name
            return lambda text: text if text.isascii() else unicodedata.normalize(form, text)


def _through(steps: Iterable[TextStep], text: str) -> str:
    for step in steps:
        text = step(text)
    return text


class PreTokenizing:
    """Normalized text to words. `byte_level` says that each word is to be written in bytes before it is looked up."""

    __slots__ = ("_cuts", "byte_level")

    def __init__(self, pre_tokenizer: PreTokenizer | None, model: Bpe) -> None:
        """Raise `BadModel` where a part comes after the one that writes bytes, or a pattern cannot be used."""
        self._cuts: list[CutStep] = []
        self.byte_level = False
        for part in _flat(pre_tokenizer):
            if self.byte_level:
                raise BadModel("tokenizer.json: ByteLevel must be the last of the pre_tokenizers")
            self._add(part)
        if not self.byte_level and _spaces_begin_words(model):
            self._cuts.append(_cut_before_spaces())

    def words(self, text: str, *, first: bool) -> list[str]:
        """Give the words of a section of the text, none of them empty; `first` says that the text begins with it.

        Raises `EngineError` where a pattern that came with the model takes for ever on it.
        """
        words = [text] if text else []
        try:
            for cut in self._cuts:
                words = cut(words, first)
        except TimeoutError as error:
            raise EngineError(
                f"a pattern of the model's tokenizer.json took more than {PATTERN_S} s on this text; shorten the text, or "
                "correct the pattern"
            ) from error
        return words

    def _add(self, part: PreTokenizer) -> None:
        match part:
            case Split(pattern=pattern):
                self._cuts.append(_splitter(compile_pattern(pattern), part))
            case Digits(individual_digits=single):
                digits = regex.compile(r"\p{N}" if single else r"\p{N}+")
                self._cuts.append(_splitter(digits, Split(Pattern(regex=""), "Isolated")))
            case Metaspace():
                self._cuts.append(_metaspace(part))
            case ByteLevel():
                self.byte_level = True
                if part.add_prefix_space:
                    self._cuts.append(_prefix_space)
                if part.use_regex:
                    self._cuts.append(_splitter(regex.compile(GPT2_PATTERN), Split(Pattern(regex=""), "Isolated")))
            case _:
                raise AssertionError(f"{part!r} is a sequence, and those are flat by now")


def _flat(part: PreTokenizer | None) -> Iterable[PreTokenizer]:
    match part:
        case None:
            return
        case PreTokenizerSequence(pretokenizers=parts):
            for inner in parts:
                yield from _flat(inner)
        case _:
            yield part


def _prefix_space(words: list[str], _first: bool) -> list[str]:  # noqa: FBT001  # the shape of every cut
    return [word if word.startswith(" ") else f" {word}" for word in words]


def _metaspace(part: Metaspace) -> CutStep:
    mark, scheme = part.replacement, part.scheme
    if len(mark) != 1:
        raise BadModel(f"tokenizer.json: Metaspace.replacement {mark!r} must be one character")
    with_mark = regex.compile(f"{regex.escape(mark)}?[^{regex.escape(mark)}]+|{regex.escape(mark)}")

    def cut(words: list[str], first: bool) -> list[str]:  # noqa: FBT001  # the shape of every cut
        found: list[str] = []
        for number, word in enumerate(words):
            marked = word.replace(" ", mark)
            begins = scheme == "always" or (scheme == "first" and first and number == 0)
            if begins and not marked.startswith(mark):
                marked = mark + marked
            found += with_mark.findall(marked) if part.split else [marked]
        return found

    return cut


def _spaces_begin_words(model: Bpe) -> bool:
    """Whether no token holds a space mark after another character, so that no merge can cross such a place.

    Cutting there changes no id, and lets words be remembered; SentencePiece trains its vocabularies so.
    """
    inside = regex.compile(f"[^{METASPACE}]{METASPACE}")
    return (
        METASPACE in model.vocab
        and not model.ignore_merges
        and not any(inside.search(left + right) for left, right in model.pairs())
    )


def _cut_before_spaces() -> CutStep:
    word = regex.compile(f"{METASPACE}+[^{METASPACE}]*|[^{METASPACE}]+")
    return lambda words, _first: [piece for text in words for piece in word.findall(text)]


def _splitter(pattern: regex.Pattern[str], split: Split) -> CutStep:
    """Give the cut that a `Split` makes. Where matches are isolated and leave nothing out, they are all there is."""
    quick = split.behavior == "Isolated" and not pattern.groups

    def cut(words: list[str], _first: bool) -> list[str]:  # noqa: FBT001  # the shape of every cut
        found: list[str] = []
        for word in words:
            if quick:
                pieces = pattern.findall(word, timeout=PATTERN_S)
                if sum(map(len, pieces)) == len(word):
                    found += pieces
                    continue
            found += _assigned(_segments(pattern, word, invert=split.invert), split)
        return [piece for piece in found if piece]

    return cut


def _segments(pattern: regex.Pattern[str], word: str, *, invert: bool) -> list[tuple[str, bool]]:
    """Give the matches and what lies between, in order, each with whether it counts as a match."""
    found: list[tuple[str, bool]] = []
    end = 0
    for match in pattern.finditer(word, timeout=PATTERN_S):
        if match.start() > end:
            found.append((word[end : match.start()], invert))
        found.append((match.group(), not invert))
        end = match.end()
    if end < len(word):
        found.append((word[end:], invert))
    return found


def _assigned(segments: list[tuple[str, bool]], split: Split) -> list[str]:
    """Give the pieces that a behavior makes of matches and what lies between them."""
    match split.behavior:
        case "Isolated":
            return [text for text, _ in segments]
        case "Removed":
            return [text for text, matched in segments if not matched]
        case "Contiguous":
            return _joined(segments, lambda before, now: before == now)
        case "MergedWithPrevious":
            return _joined(segments, lambda before, now: now and not before)
        case _:
            backwards = _joined([(text[::-1], matched) for text, matched in segments[::-1]], lambda b, n: n and not b)
            return [text[::-1] for text in backwards[::-1]]


def _joined(segments: list[tuple[str, bool]], joins: Callable[[bool, bool], bool]) -> list[str]:
    """Append a segment to the piece before it where `joins(whether that was a match, whether this is one)`."""
    pieces: list[list[str]] = []
    before = False
    for number, (text, matched) in enumerate(segments):
        if number and joins(before, matched):
            pieces[-1].append(text)
        else:
            pieces.append([text])
        before = matched
    return ["".join(parts) for parts in pieces]
