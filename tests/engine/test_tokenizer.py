"""The oracle is the `tokenizers` library: its own files, its own ids, its own texts."""

import random
import time

import pytest
from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Oracle

from engine import kinds
from penstock.engine import tokenizer as module
from penstock.engine.errors import BadModel, EngineError
from penstock.engine.pretokenize import LLAMA3_PATTERN
from penstock.engine.tokenizer import Tokenizer, train

SPECIAL = ("<|end|>", "<s>")
MAIN = ("gpt2", "llama3", "qwen2", "sentencepiece", "qwen2 with added tokens", "sentencepiece with added tokens")
"""The kinds of models in use; the others are variations of them, and get fewer texts."""


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    return train(kinds.corpus(), 900, SPECIAL)


@pytest.mark.parametrize("kind", kinds.NAMES)
def test_ids_and_texts_are_those_of_the_tokenizers_library(kind: str) -> None:
    oracle = kinds.make(kind)
    found = Tokenizer.from_json(oracle.to_str().encode())
    ids_seen = 0
    for number, text in enumerate(kinds.fuzz(10_000 if kind in MAIN else 2_000, seed=11)):
        special = number % 2 == 0
        oracle.encode_special_tokens = not special
        expected = oracle.encode(text, add_special_tokens=False).ids
        ids_seen += len(expected)

        assert found.encode(text, special=special) == expected, repr(text)
        assert found.decode(expected, special=True) == oracle.decode(expected, skip_special_tokens=False)
        assert found.decode(expected) == oracle.decode(expected, skip_special_tokens=True)
    assert ids_seen > (100_000 if kind in MAIN else 20_000)


@pytest.mark.parametrize("kind", kinds.NAMES)
def test_any_ids_decode_as_in_the_tokenizers_library(kind: str) -> None:
    oracle = kinds.make(kind)
    found = Tokenizer.from_json(oracle.to_str().encode())
    rng = random.Random(5)
    for _ in range(1_000):
        ids = [rng.randrange(found.size + 3) for _ in range(rng.randrange(12))]

        assert found.decode(ids, special=True) == oracle.decode(ids, skip_special_tokens=False)
        assert found.decode(ids) == oracle.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("kind", kinds.NAMES)
def test_what_is_written_is_read_alike_here_and_by_the_library(kind: str) -> None:
    oracle = kinds.make(kind)
    found = Tokenizer.from_json(oracle.to_str().encode())
    again, theirs = Tokenizer.from_json(found.to_json()), Oracle.from_str(found.to_json().decode())
    for text in kinds.fuzz(300, seed=12):
        ids = found.encode(text, special=True)

        assert again.encode(text, special=True) == ids
        assert theirs.encode(text, add_special_tokens=False).ids == ids
        assert theirs.decode(ids) == found.decode(ids)
    assert theirs.get_vocab_size() == oracle.get_vocab_size()


def test_a_trained_tokenizer_gives_the_ids_of_the_library(ours: Tokenizer) -> None:
    oracle = Oracle.from_str(ours.to_json().decode())
    for number, text in enumerate(kinds.fuzz(10_000, seed=13)):
        special = number % 2 == 0
        oracle.encode_special_tokens = not special
        ids = ours.encode(text, special=special)

        assert ids == oracle.encode(text).ids, repr(text)
        assert ours.decode(ids, special=True) == text == oracle.decode(ids, skip_special_tokens=False)


def test_training_learns_the_vocabulary_that_the_library_learns(ours: Tokenizer) -> None:
    oracle = Oracle(models.BPE())
    oracle.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    oracle.train_from_iterator(
        kinds.corpus(),
        trainers.BpeTrainer(
            vocab_size=900, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
        ),
    )

    assert Oracle.from_str(ours.to_json().decode()).get_vocab() == oracle.get_vocab()
    assert ours.size == 900


def test_training_depends_on_the_texts_and_not_on_their_order(ours: Tokenizer) -> None:
    texts = kinds.corpus()
    random.Random(1).shuffle(texts)

    assert train(texts, 900, SPECIAL).to_json() == ours.to_json()


@pytest.mark.parametrize(("size", "special"), [(255, ()), (256, ("<s>",))])
def test_a_vocabulary_too_small_is_refused(size: int, special: tuple[str, ...]) -> None:
    with pytest.raises(EngineError, match=f"do not fit into a vocabulary of {size} tokens"):
        train(["a"], size, special)


@pytest.mark.parametrize("special", [("<s>", "<s>"), ("",), ("a",), ("\u0120",)])
def test_control_tokens_that_cannot_be_told_apart_are_refused(special: tuple[str, ...]) -> None:
    with pytest.raises(EngineError, match="choose texts like"):
        train(["a"], 300, special)


def test_text_that_spells_a_control_token_never_becomes_it() -> None:
    found = train(["_pad the _pad the"] * 50, 300, ("_pad", "the"))

    assert not found.special_ids.intersection(found.encode("_pad the the"))
    assert found.encode("_pad the", special=True)[0] == 0


def test_training_on_too_little_text_gives_a_smaller_vocabulary() -> None:
    assert train(["abab"], 500, ("<s>",)).size == 259


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a" * 200_000, id="a letter"),
        pytest.param(" " * 200_000, id="spaces"),
        pytest.param(" " * 200_000 + "x", id="spaces before a letter"),
        pytest.param("\n" * 50_000, id="line ends"),
        pytest.param("".join(random.Random(3).choices("ABCDEFabcdef0123+/", k=200_000)), id="base64"),
        pytest.param("".join(random.Random(3).choices("abcdefghij", k=200_000)), id="one long word"),
        pytest.param("the" * 70_000, id="a merged word"),
        pytest.param("\u00e9\u6c34" * 50_000, id="other scripts"),
        pytest.param("<" * 100_000, id="beginnings of control tokens"),
        pytest.param("'" * 100_000, id="apostrophes"),
    ],
)
@pytest.mark.parametrize("name", ["gpt2", "qwen2", "sentencepiece"])
def test_hard_texts_take_no_quadratic_time(name: str, text: str) -> None:
    oracle = kinds.make(name)
    found = Tokenizer.from_json(oracle.to_str().encode())
    start = time.process_time()
    ids = found.encode(text, special=True)
    spent_s = time.process_time() - start

    assert ids == oracle.encode(text, add_special_tokens=False).ids
    assert spent_s < 10, "n log n takes under a second where nothing else runs; n squared takes minutes"


def test_control_tokens_in_a_users_text_are_text(ours: Tokenizer) -> None:
    ids = ours.encode("say <|end|> now")

    assert not ours.special_ids.intersection(ids)
    assert ours.decode(ids) == "say <|end|> now"
    assert ours.special["<|end|>"] in ours.encode("say <|end|> now", special=True)
    assert dict(ours.special) == {"<|end|>": 0, "<s>": 1}


def test_control_tokens_are_left_out_of_a_decoded_text_unless_asked_for(ours: Tokenizer) -> None:
    ids = ours.encode("a<|end|>b<s>", special=True)

    assert ours.decode(ids) == "ab"
    assert ours.decode(ids, special=True) == "a<|end|>b<s>"


def test_a_lone_surrogate_counts_as_the_replacement_character(ours: Tokenizer) -> None:
    assert ours.encode("a\ud800b") == ours.encode("a\ufffdb")
    assert train(["\udfff"], 300).decode(ours.encode("")) == ""


def test_bytes_that_are_no_text_become_replacement_characters(ours: Tokenizer) -> None:
    ids = ours.encode("\u6c34")
    broken = b"".join(ours.token_bytes(token) for token in ids)[:-1]

    assert ours.decode([ours.encode("a")[0]]) == "a"
    assert broken.decode(errors="replace") == "\ufffd"
    assert ours.decode([ours.size, ours.size + 7]) == ""


def test_the_bytes_of_tokens_are_the_text(ours: Tokenizer) -> None:
    for text in kinds.fuzz(300, seed=14):
        assert b"".join(map(ours.token_bytes, ours.encode(text))) == text.encode()
    assert ours.token_bytes(ours.special["<s>"]) == b"<s>"
    assert ours.token_bytes(ours.size) == b""


def test_a_full_memory_of_words_is_emptied_and_long_words_are_not_kept(
    ours: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = Tokenizer.from_json(ours.to_json())
    monkeypatch.setattr(module, "REMEMBERED_WORDS", 10)
    for text in kinds.fuzz(50, seed=15):
        assert fresh.encode(text) == ours.encode(text)
        assert fresh.encode(text) == ours.encode(text)
    assert len(fresh._memory) <= 10

    fresh.encode("q" * 1_000)
    assert max(map(len, fresh._memory)) <= module.REMEMBERED_CHARACTERS


def test_prose_is_encoded_at_a_megabyte_a_second(ours: Tokenizer) -> None:
    text = "".join(kinds.corpus()) * 5
    ours.encode(text)
    start = time.process_time()
    ours.encode(text)

    assert len(text) / (time.process_time() - start) > 1_000_000


def test_an_empty_vocabulary_is_refused() -> None:
    with pytest.raises(BadModel, match="the vocabulary is empty"):
        Tokenizer.from_json(b'{"model": {"type": "BPE", "vocab": {}, "merges": []}, "decoder": {"type": "ByteLevel"}}')
