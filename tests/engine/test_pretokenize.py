"""The oracle is the `tokenizers` library: its normalizers and pre-tokenizers, one by one."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, normalizers, pre_tokenizers
from tokenizers.normalizers import Normalizer as TheirNormalizer
from tokenizers.pre_tokenizers import PreTokenizer as TheirPreTokenizer

from engine import kinds
from penstock.engine import pretokenize as module
from penstock.engine.errors import BadModel, EngineError
from penstock.engine.pretokenize import (
    GPT2_PATTERN,
    LLAMA3_PATTERN,
    PreTokenizing,
    byte_characters,
    compile_normalizer,
    compile_pattern,
    compile_regex,
)
from penstock.engine.tokenizer_file import (
    Behavior,
    Bpe,
    ByteLevel,
    Digits,
    Metaspace,
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    Normalizer,
    NormalizerSequence,
    Pattern,
    Prepend,
    PreTokenizer,
    PreTokenizerSequence,
    Replace,
    Split,
)

NOTHING = Bpe({}, [])
TEXTS = [*kinds.fuzz(400, seed=21), "", " ", "\u2581a", "aab  baa"]
BEHAVIORS: list[tuple[Behavior, str]] = [
    ("Removed", "removed"),
    ("Isolated", "isolated"),
    ("MergedWithPrevious", "merged_with_previous"),
    ("MergedWithNext", "merged_with_next"),
    ("Contiguous", "contiguous"),
]


def test_every_byte_has_the_character_that_the_library_gives_it() -> None:
    found = byte_characters()

    assert set(found) == set(pre_tokenizers.ByteLevel.alphabet())
    for code in (0x20, 0x41, 0xE9, 0x20AC, 0x1F600):
        theirs = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(chr(code))
        assert "".join(found[byte] for byte in chr(code).encode()) == theirs[0][0]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Nfc(), normalizers.NFC()),
        (Nfd(), normalizers.NFD()),
        (Nfkc(), normalizers.NFKC()),
        (Nfkd(), normalizers.NFKD()),
        (Prepend("\u2581"), normalizers.Prepend("\u2581")),
        (Replace(Pattern(string="a"), "xy"), normalizers.Replace("a", "xy")),
        (Replace(Pattern(regex=r"\s+"), r"\1"), normalizers.Replace(Regex(r"\s+"), r"\1")),
        (
            NormalizerSequence((Prepend("a"), Replace(Pattern(string="a"), "b"), Nfd())),
            normalizers.Sequence([normalizers.Prepend("a"), normalizers.Replace("a", "b"), normalizers.NFD()]),
        ),
    ],
)
def test_normalized_texts_are_those_of_the_library(ours: Normalizer, theirs: TheirNormalizer) -> None:
    normalize = compile_normalizer(ours)
    for text in TEXTS:
        assert normalize(text) == theirs.normalize_str(text), repr(text)


def test_without_a_normalizer_and_with_nothing_to_replace_a_text_stays() -> None:
    assert compile_normalizer(None)("e\u0301") == "e\u0301"
    assert compile_normalizer(Replace(Pattern(string=""), "x"))("ab") == "ab"


def words_of(part: PreTokenizer, text: str, *, first: bool = True) -> list[str]:
    return PreTokenizing(part, NOTHING).words(text, first=first)


@pytest.mark.parametrize("behavior", BEHAVIORS)
@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("pattern", [r"\s", r"\s+", "a|b", r"(a)(b)?", GPT2_PATTERN, LLAMA3_PATTERN, "[a-z]+"])
def test_splits_are_those_of_the_library(behavior: tuple[Behavior, str], pattern: str, *, invert: bool) -> None:
    theirs = pre_tokenizers.Split(Regex(pattern), behavior[1], invert=invert)
    ours = PreTokenizing(Split(Pattern(regex=pattern), behavior[0], invert), NOTHING)
    for text in TEXTS:
        expected = [piece for piece, _ in theirs.pre_tokenize_str(text) if piece]
        assert ours.words(text, first=True) == expected, repr(text)


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_a_text_as_a_pattern_is_taken_literally(behavior: tuple[Behavior, str]) -> None:
    theirs = pre_tokenizers.Split(".", behavior[1])
    for text in [*TEXTS, "a.b..c."]:
        expected = [piece for piece, _ in theirs.pre_tokenize_str(text) if piece]
        assert words_of(Split(Pattern(string="."), behavior[0]), text) == expected


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Digits(individual_digits=True), pre_tokenizers.Digits(individual_digits=True)),
        (Digits(), pre_tokenizers.Digits(individual_digits=False)),
        (Metaspace(prepend_scheme="always"), pre_tokenizers.Metaspace(prepend_scheme="always")),
        (Metaspace(prepend_scheme="first"), pre_tokenizers.Metaspace(prepend_scheme="first")),
        (Metaspace(prepend_scheme="never"), pre_tokenizers.Metaspace(prepend_scheme="never")),
        (Metaspace(prepend_scheme="first", split=False), pre_tokenizers.Metaspace(prepend_scheme="first", split=False)),
        (Metaspace(replacement="^"), pre_tokenizers.Metaspace(replacement="^")),
        (
            PreTokenizerSequence((Digits(), PreTokenizerSequence((Metaspace(prepend_scheme="first"),)))),
            pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.Metaspace(prepend_scheme="first")]),
        ),
    ],
)
def test_other_cuts_are_those_of_the_library(ours: PreTokenizer, theirs: TheirPreTokenizer) -> None:
    for text in TEXTS:
        expected = [piece for piece, _ in theirs.pre_tokenize_str(text) if piece]
        assert words_of(ours, text) == expected, repr(text)


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("use_regex", [False, True])
def test_words_in_bytes_are_cut_as_in_the_library(*, prefix: bool, use_regex: bool) -> None:
    theirs = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=use_regex)
    ours = PreTokenizing(ByteLevel(add_prefix_space=prefix, use_regex=use_regex), NOTHING)
    characters = byte_characters()
    assert ours.byte_level
    for text in filter(None, TEXTS):
        words = ours.words(text, first=True)
        expected = [piece for piece, _ in theirs.pre_tokenize_str(text)]
        assert ["".join(characters[byte] for byte in word.encode()) for word in words] == expected, repr(text)


def test_only_the_first_section_of_a_text_gets_a_mark_where_the_scheme_says_first() -> None:
    assert words_of(Metaspace(prepend_scheme="first"), "a b") == ["\u2581a", "\u2581b"]
    assert words_of(Metaspace(prepend_scheme="first"), "a b", first=False) == ["a", "\u2581b"]


MARK = "\u2581"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Bpe({MARK: 0, "a": 1}, [(MARK, "a"), (MARK, MARK)]), ["a", MARK + "a", MARK * 2]),
        (Bpe({MARK: 0, "a": 1}, [("a", MARK)]), [f"a{MARK}a{MARK}{MARK}"]),
        (Bpe({"a": 1}, []), [f"a{MARK}a{MARK}{MARK}"]),
        (Bpe({MARK: 0}, [], ignore_merges=True), [f"a{MARK}a{MARK}{MARK}"]),
    ],
)  # fmt: skip
def test_a_text_is_cut_before_its_space_marks_only_where_no_merge_can_cross(model: Bpe, expected: list[str]) -> None:
    assert PreTokenizing(None, model).words(f"a{MARK}a{MARK}{MARK}", first=True) == expected


def test_white_space_is_what_unicode_calls_so() -> None:
    assert compile_regex(r"\s").fullmatch("\u0085")
    assert not compile_regex(r"\s").fullmatch("\x1c"), "Python's own expressions and str.isspace would say yes"


@settings(deadline=None)
@given(st.text())
def test_cuts_lose_nothing(text: str) -> None:
    if not any(0xD800 <= ord(character) <= 0xDFFF for character in text):
        assert "".join(words_of(Split(Pattern(regex=LLAMA3_PATTERN), "Isolated"), text)) == text


def test_white_space_and_contractions_mean_the_same_in_both_engines_for_every_letter() -> None:
    """Of the other classes, only what the Unicode tables of one side do not know yet may differ."""
    characters = [chr(code) for code in range(0x20000) if not 0xD800 <= code <= 0xDFFF]
    text = "".join(characters)
    cased = [*characters[:0x3000], *characters[0xF000:0xF800], "\u017f", "\uff33"]
    like_letters = [c for c in cased if not {*c.lower(), *c.upper(), *c.casefold()}.isdisjoint("stremvldSTREMVLD")]
    assert "\u017f" in like_letters
    contractions = "".join(f"'{character}|" for character in like_letters)
    for pattern, probe in ((r"\s", text), (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", contractions)):
        theirs = pre_tokenizers.Split(Regex(pattern), "removed").pre_tokenize_str(probe)
        assert "".join(piece for piece, _ in theirs) == compile_pattern(Pattern(regex=pattern)).sub("", probe)
    for pattern in (r"\p{L}", r"\p{N}"):
        theirs = pre_tokenizers.Split(Regex(pattern), "removed").pre_tokenize_str(text)
        differ = set("".join(piece for piece, _ in theirs)) ^ set(compile_pattern(Pattern(regex=pattern)).sub("", text))
        old = {character for character in differ if unicodedata.ucd_3_2_0.category(character) != "Cn"}
        assert not old, sorted(old)[:5]
        assert len(differ) < 20_000


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Split(Pattern(regex="("), "Isolated"), "the pattern '\\(' cannot be used"),
        (Metaspace(replacement="ab"), "must be one character"),
        (PreTokenizerSequence((ByteLevel(), Digits())), "ByteLevel must be the last"),
    ],
)
def test_what_cannot_be_done_is_refused(part: PreTokenizer, message: str) -> None:
    with pytest.raises(BadModel, match=message):
        PreTokenizing(part, NOTHING)


@pytest.mark.parametrize("pattern", ["(?:a|aa)+$", "(a|aa)+$"])
def test_a_pattern_that_takes_for_ever_is_stopped(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATTERN_S", 0.02)

    with pytest.raises(EngineError, match="took more than"):
        words_of(Split(Pattern(regex=pattern), "Isolated"), "a" * 60 + "b")


def test_a_sequence_is_never_added_as_a_part() -> None:
    with pytest.raises(AssertionError, match="those are flat by now"):
        PreTokenizing(None, NOTHING)._add(PreTokenizerSequence(()))
