"""Vocabularies of the user's own against the library that wrote them, and everything that is refused."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from penstock.tokens.gguf import GgufVocabulary
from penstock.tokens.own import SENTINEL, from_gguf, from_tokenizer_json, pattern_of
from penstock.tokens.vocabularies import from_json
from tokens.oracles import DEEPSEEK, LLAMA3, O200K, QWEN2
from tokens.test_exactness import well_formed
from tokens.texts import corpus, prose

Split, Sequence, Metaspace = pre_tokenizers.Split, pre_tokenizers.Sequence, pre_tokenizers.Metaspace
SPACE = "\u2581"


def level(**options: Any) -> pre_tokenizers.ByteLevel:
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False, **options})


def cut(*patterns: str) -> pre_tokenizers.PreTokenizer:
    return Sequence([*(Split(Regex(one), "isolated") for one in patterns), level(use_regex=False)])


def _texts() -> list[str]:
    rng = Random(1)
    return [prose(rng) + "\n" + well_formed(corpus(rng)) for _ in range(150)]


def bytes_of(pre: Any, normalizer: Any = None, **options: Any) -> Tokenizer:
    """A byte-level BPE."""
    made = Tokenizer(models.BPE(**options))
    made.pre_tokenizer = pre
    if normalizer is not None:
        made.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=1_500,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>", "</s>", "<|im_end|>"],
        show_progress=False,
    )
    made.train_from_iterator(_texts(), trainer)
    made.add_tokens([AddedToken("<table>", normalized=False), AddedToken("wörd", normalized=True)])
    return made


def pieces_of(normalizer: Any, pre: Any) -> Tokenizer:
    """A BPE as SentencePiece makes it, with byte fallback."""
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if normalizer is not None:
        made.normalizer = normalizer
    if pre is not None:
        made.pre_tokenizer = pre
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=1_500, special_tokens=special, max_token_length=16, show_progress=False)
    made.train_from_iterator(_texts(), trainer)
    content = json.loads(made.to_str())
    content["added_tokens"] = content["added_tokens"][:3]
    return Tokenizer.from_str(json.dumps(content))


def word_pieces() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(
        _texts(), trainers.WordPieceTrainer(vocab_size=1_500, special_tokens=special, show_progress=False)
    )
    return made


def unigram() -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    made.pre_tokenizer = Metaspace(SPACE, "always")
    trainer = trainers.UnigramTrainer(
        vocab_size=1_500, unk_token="<unk>", special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
    )
    made.train_from_iterator(_texts(), trainer)
    return made


SPACES = normalizers.Replace(" ", SPACE)
MADE: dict[str, tuple[Callable[[], Tokenizer], str]] = {
    "gpt-2": (lambda: bytes_of(level()), "word"),
    "gpt-2 with a space before": (lambda: bytes_of(level(add_prefix_space=True)), "nowhere"),
    "llama 3": (lambda: bytes_of(cut(LLAMA3), ignore_merges=True), "word"),
    "qwen": (lambda: bytes_of(cut(QWEN2), normalizers.NFC()), "word"),
    "o200k": (lambda: bytes_of(cut(O200K)), "word"),
    "deepseek": (lambda: bytes_of(cut(*DEEPSEEK)), "word"),
    "digits": (lambda: bytes_of(Sequence([pre_tokenizers.Digits(individual_digits=True), level()])), "word"),
    "lower case": (lambda: bytes_of(level(), normalizers.Lowercase()), "nowhere"),
    "an own pattern": (lambda: bytes_of(cut(r"\p{L}+| +")), "nowhere"),
    "llama 2": (lambda: pieces_of(normalizers.Sequence([normalizers.Prepend(SPACE), SPACES]), None), "nowhere"),
    "gemma": (lambda: pieces_of(SPACES, Split(" ", "merged_with_previous")), "nowhere"),
    "metaspace": (lambda: pieces_of(None, Metaspace(SPACE, "first", split=False)), "nowhere"),
    "metaspace, split": (lambda: pieces_of(None, Metaspace(SPACE, "always", split=True)), "nowhere"),
    "word pieces": (word_pieces, "nowhere"),
    "unigram": (unigram, "nowhere"),
}


def compare(name: str, texts: int, seed: int) -> list[str]:
    theirs = MADE[name][0]()
    theirs.encode_special_tokens = True
    mine, rng, differing, doubted = from_json(theirs.to_str().encode()), Random(seed), [], 0
    for _ in range(texts):
        text = corpus(rng)
        tally, true = mine.count(text), len(theirs.encode(well_formed(text), add_special_tokens=False).ids)
        if tally.n != true and abs(tally.n - true) <= tally.slack:
            doubted += 1
        elif tally.n != true:
            differing.append(text)
    print(
        f"{name}: compared {texts} with tokenizers, differing {len(differing)}, within a slack {doubted}, seed {seed}"
    )
    return differing


@pytest.mark.parametrize("name", MADE)
def test_a_tokenizer_json_counts_as_the_library_that_wrote_it(name):
    assert compare(name, 500, seed=6) == []


@pytest.mark.soak
@pytest.mark.parametrize("name", MADE)
def test_a_tokenizer_json_counts_as_the_library_that_wrote_it_on_many_texts(name):
    assert compare(name, 20_000, Random().randrange(1 << 32)) == []


@pytest.mark.parametrize("name", MADE)
def test_where_texts_may_be_cut_is_known_of_known_patterns(name):
    theirs, expected = MADE[name]
    assert from_tokenizer_json(theirs().to_str().encode()).cut == expected


# -- small files by hand --


def file(**changes: Any) -> bytes:
    model = {
        "type": "BPE",
        "vocab": {"a": 0, "b": 1, "ab": 2, SPACE: 3, f"{SPACE}a": 4},
        "merges": ["a b", f"{SPACE} a"],
    }
    return json.dumps({"version": "1.0", "model": model, **changes}).encode()


PREPEND = {"type": "Prepend", "prepend": SPACE}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}


@pytest.mark.parametrize(
    ("normalizer", "pre", "expected"),
    [
        ({"type": "Sequence", "normalizers": [PREPEND, REPLACE]}, None, "dropped space"),
        (REPLACE, None, "space"),
        (None, None, "nowhere"),
        (REPLACE, {"type": "Digits", "individual_digits": True}, "nowhere"),
    ],
)
def test_pieces_without_a_letter_before_a_space_may_be_cut_there(normalizer, pre, expected):
    assert from_tokenizer_json(file(normalizer=normalizer, pre_tokenizer=pre)).cut == expected


def model(**changes: Any) -> dict[str, Any]:
    return {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], **changes}}


def split(behavior: str, **pattern: str) -> dict[str, Any]:
    return {"pre_tokenizer": {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": False}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (model(type="WordLevel"), "its model is WordLevel, supported are BPE"),
        (model(type=""), "its model is of no type"),
        (model(dropout=0.1), "dropout"),
        (model(end_of_word_suffix="</w>"), "marks of a word's end"),
        (model(continuing_subword_prefix="@@"), "marks of a word's end"),
        (model(vocab={}), "vocabulary is empty"),
        (model(vocab={"a": "x"}), "Expected `int`"),
        ({"normalizer": {"type": "Precompiled"}}, "its normalizer is 'Precompiled', supported are NFC"),
        ({"pre_tokenizer": {"type": "UnicodeScripts"}}, "its pre_tokenizer is 'UnicodeScripts'"),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{}]}}, "a step in it has no type"),
        (split("Isolated", Regex="\\w+"), r"\(Isolated\) has \\w or"),
        (split("MergedWithNext", Regex="a"), r"\(MergedWithNext\)"),
        ({"normalizer": 7}, "a step in it has no type"),
        ({"added_tokens": [{"id": 1}]}, "content"),
    ],
)
def test_what_was_not_seen_to_be_exact_is_refused_by_its_name(changes, said):
    with pytest.raises(ValueError, match=said):
        from_json(file(**changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "bert"}, r"of the kind 'bert', supported are gpt2, llama"),
        ({"pre": "viking"}, r"pre-tokenizer is 'viking', supported are gpt-2"),
        ({"model": "llama"}, "no scores"),
    ],
)
def test_a_gguf_file_of_another_kind_is_refused_by_its_name(changes, said):
    made = {"model": "gpt2", "tokens": ("a",), "kinds": (1,), "pre": "gpt-2", **changes}
    with pytest.raises(ValueError, match=said):
        from_gguf(GgufVocabulary(**made))


def test_symbols_of_a_gguf_file_are_matched_as_they_stand_and_control_tokens_never():
    tokens = ("<unk>", "<s>", SPACE, "a", "<b>", "<", "s", ">", "<s", "s>")
    own = from_gguf(GgufVocabulary("llama", tokens, (2, 3, 1, 1, 4, 1, 1, 1, 1, 1), (0.0,) * 8 + (-1.0, -2.0)))
    assert own.cut == "dropped space"
    assert own.symbols == (("<b>", 4),)
    assert "<s>" not in own.pieces
    bare = from_gguf(GgufVocabulary("llama", tokens, (1,) * 10, (0.0,) * 10, space_prefix=False))
    assert (bare.cut, bare.prefix, len(bare.pieces), len(bare.scores)) == ("space", SENTINEL, 12, 12)
    assert from_gguf(GgufVocabulary("llama", (*tokens, f"a{SPACE}"), (1,) * 11, (0.0,) * 11)).cut == "nowhere"


@given(st.sets(st.text("ab<>", min_size=1, max_size=6), min_size=1, max_size=12), st.text("ab<>", max_size=30))
def test_the_longest_symbol_at_a_place_is_found(symbols, text):
    import re

    plain = "|".join(re.escape(one) for one in sorted(symbols, key=len, reverse=True))
    assert re.findall(pattern_of(symbols), text) == re.findall(plain, text)


@pytest.mark.parametrize(("pre", "expected"), [("qwen2", "word"), ("smollm", "word"), ("deepseek-v3", "word")])
def test_a_gguf_file_of_bytes_becomes_a_tokenizer_json(pre, expected):
    own = from_gguf(
        GgufVocabulary("gpt2", ("a", "b", "ab", "<t>", "<c>"), (1, 1, 1, 4, 3), merges=("a b", "odd"), pre=pre)
    )
    content = json.loads(own.tokenizer_json)
    assert own.cut == expected
    assert content["model"]["merges"] == [["a", "b"]]
    assert [token["content"] for token in content["added_tokens"]] == ["<t>"]
