"""The tokenizer engine against the reference implementations, and slices against the whole."""

import re
import unicodedata
import warnings
from contextlib import suppress
from functools import cache
from random import Random
from time import perf_counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.tokens import vocabularies
from penstock.tokens.vocabularies import (
    KNOWN,
    SLICE_CHARS,
    Piece,
    Tally,
    find,
    from_gguf_file,
    from_json,
    give,
    vocabulary,
)
from tokens.texts import KINDS, LONG_S, adversarial, fuzz_text, near_prose

KNOWN_IDS = {
    "cl100k": [15339, 1917],
    "o200k": [24912, 2375],
    "o200k_harmony": [24912, 2375],
    "llama3": [15339, 1917],
    "qwen2": [14990, 1879],
    "mistral_v1": [6312, 28709, 1526],
    "gemma2": [17534, 2134],
    "gemma3": [23391, 1902],
}
"""Of "hello world"; those of Gemma and Llama 3 as Hugging Face's tokenizers give them."""


@cache
def openai_reference(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its own, on import
        import bpe_openai

    return bpe_openai.get_encoding(f"{name}_base")


@cache
def mistral_reference(version: str) -> Any:
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    if version != "mistral_v3":
        pytest.importorskip("sentencepiece", reason="mistral-common reads these files with sentencepiece")
    made = {
        "mistral_v1": MistralTokenizer.v1,
        "mistral_v2": MistralTokenizer.v2,
        "mistral_v3": lambda: MistralTokenizer.v3(is_tekken=True),
    }
    return made[version]().instruct_tokenizer.tokenizer


def differences(name: str, reference: Any, texts: int, seed: int) -> list[str]:
    rng, mine = Random(seed), vocabulary(name)
    tried = (fuzz_text(rng) for _ in range(texts))
    return [text for text in tried if mine.encode(text) != reference(text)]


@pytest.mark.parametrize("name", KNOWN_IDS)
def test_a_greeting_has_the_ids_that_everybody_knows(name):
    assert vocabulary(name).encode("hello world") == KNOWN_IDS[name]


@pytest.mark.parametrize("name", ["cl100k", "o200k"])
def test_the_openai_vocabularies_agree_with_the_reference(name):
    assert differences(name, openai_reference(name).encode_ordinary, 5_000, seed=3) == []


@pytest.mark.soak
@pytest.mark.parametrize("name", ["cl100k", "o200k"])
def test_the_openai_vocabularies_agree_with_the_reference_on_many_texts(name):
    assert differences(name, openai_reference(name).encode_ordinary, 20_000, seed=4) == []


@pytest.mark.parametrize("name", ["mistral_v1", "mistral_v2", "mistral_v3"])
def test_the_mistral_vocabularies_agree_with_the_reference(name):
    reference = mistral_reference(name)
    assert differences(name, lambda text: reference.encode(text, bos=False, eos=False), 5_000, seed=5) == []


@pytest.mark.soak
@pytest.mark.parametrize("name", ["mistral_v1", "mistral_v2", "mistral_v3"])
def test_the_mistral_vocabularies_agree_with_the_reference_on_many_texts(name):
    reference = mistral_reference(name)
    assert differences(name, lambda text: reference.encode(text, bos=False, eos=False), 20_000, seed=6) == []


@pytest.mark.parametrize(("name", "disagree"), [("cl100k", False), ("o200k", True)])
def test_a_contraction_with_a_long_s_is_counted_within_its_slack(name, disagree):
    """The known difference: o200k matches contractions without regard to case, and to Unicode U+017F is an s."""
    mine, reference = vocabulary(name), openai_reference(name)
    before, after = ("can", "A", "é", "字", "THE"), ("", "'VE", "'s", "'re", "don't", "s", "THE", "字", LONG_S, "ed")
    texts = [f"{word}{LONG_S}{one}{other}" for word in before for one in after for other in after]
    wrong = 0
    for text in texts:
        tally, true = mine.count(text), len(reference.encode_ordinary(text))
        assert abs(tally.n - true) <= tally.slack, text
        wrong += tally.n != true
    assert bool(wrong) == disagree


@pytest.mark.parametrize("name", KNOWN)
def test_the_pieces_of_a_text_are_the_text(name):
    rng, mine = Random(8), vocabulary(name)
    for _ in range(100):
        text = fuzz_text(rng)
        if KNOWN[name].nfc:
            text = unicodedata.normalize("NFC", text)
        pieces = mine.pieces(text)
        assert b"".join(piece.text for piece in pieces) == text.encode()
        assert [piece.id for piece in pieces] == mine.encode(text)
        assert mine.count(text).n == len(pieces)


@pytest.mark.parametrize("name", KNOWN)
def test_a_control_token_that_a_user_writes_is_ordinary_text(name):
    import splintr

    engine = splintr.Tokenizer.from_pretrained(KNOWN[name].engine)
    for spelled, token in engine.special_tokens().items():
        assert token not in vocabulary(name).encode(f"x{spelled}"), spelled


def test_a_text_counts_as_often_as_it_has_tokens():
    assert vocabulary("cl100k").count("") == Tally(0)
    assert vocabulary("cl100k").count("hello world") == Tally(2)
    assert vocabulary("cl100k").pieces("hello world") == [Piece(15339, b"hello"), Piece(1917, b" world")]


def test_qwen_counts_the_composed_form_and_the_others_what_is_written():
    decomposed = "e\u0301"
    assert vocabulary("qwen2").encode(decomposed) == vocabulary("qwen2").encode("\u00e9")
    assert vocabulary("cl100k").encode(decomposed) != vocabulary("cl100k").encode("\u00e9")


@pytest.mark.parametrize("name", KNOWN)
def test_a_lone_surrogate_counts_as_a_replacement_character(name):
    mine = vocabulary(name)
    assert mine.encode("a\ud800b\udc00") == mine.encode("a\ufffdb\ufffd")
    assert mine.encode("\ud83d\ude00") == mine.encode("😀")


def test_a_pair_of_surrogates_is_composed_like_the_character_that_it_is():
    pair = "\U0002f9b1".encode("utf-16-le").decode("utf-16-le", "surrogatepass")
    split = "".join(chr(unit) for unit in (0xD87E, 0xDDB1))
    assert vocabulary("qwen2").encode(split) == vocabulary("qwen2").encode(pair)


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "gemma4"])
def test_a_tag_is_one_token_to_gemma_also_where_a_user_writes_it(name):
    mine = vocabulary(name)
    assert [piece.text for piece in mine.pieces("a<table>b</td>")] == [b"a", b"<table>", b"b", b"</td>"]
    assert mine.count("<unused7>").n == 1
    assert mine.count("<start_of_turn>").n > 1
    assert mine.count("<tablet>").n > 1


def test_marks_that_an_older_unicode_does_not_order_leave_a_doubt():
    """U+09FE came with Unicode 11: Hugging Face's tokenizers leave it before a nukta, Python puts it behind."""
    assert vocabulary("qwen2").count("ক\u09fe\u09bc").slack > 0
    assert vocabulary("qwen2").count("ক\u09bc\u09fe").slack == 0
    assert vocabulary("qwen2").count("e\u0301").slack == 0


def test_an_unknown_vocabulary_is_named_with_the_known_ones():
    with pytest.raises(KeyError, match=r"no vocabulary 'p50k'.*cl100k.*qwen2"):
        vocabulary("p50k")


def test_a_vocabulary_is_loaded_once():
    assert vocabulary("llama2") is vocabulary("llama2")


# -- slices --


@pytest.fixture
def short_slices(monkeypatch):
    """Slices so short that every text has many of them."""
    monkeypatch.setattr(vocabularies, "SLICE_CHARS", 48)
    monkeypatch.setattr(vocabularies, "_REACH_CHARS", 40)


@pytest.mark.parametrize("name", KNOWN)
def test_the_sum_over_the_slices_is_the_whole_wherever_the_tally_says_so(name, short_slices):
    rng, mine = Random(9), vocabulary(name)
    sure = 0
    for _ in range(500):
        text = near_prose(rng, 30)
        tally, whole = mine.count(text), len(mine._ids(text))
        assert abs(tally.n - whole) <= tally.slack, text
        sure += not tally.slack and len(text) > 48
    assert sure > 100


@pytest.mark.parametrize("name", KNOWN)
def test_slices_change_neither_ids_nor_pieces_of_prose(name, short_slices):
    text = "It was the best of times, it was the worst of times; in 1859, at least.\nNobody knew: everybody guessed!"
    mine = vocabulary(name)
    assert mine.encode(text) == mine._ids(text)
    assert b"".join(piece.text for piece in mine.pieces(text)) == text.encode()
    assert mine.count(text) == Tally(len(mine._ids(text)))
    assert len(list(mine.count_steps(text))) > 2


@pytest.mark.parametrize("name", KNOWN)
def test_a_space_at_the_very_end_is_not_lost_between_slices(name, short_slices):
    mine = vocabulary(name)
    for letters in range(40, 60):
        text = "ab " * 8 + "x" * (letters - 24) + " "
        tally = mine.count(text)
        assert abs(tally.n - len(mine._ids(text))) <= tally.slack


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["cl100k", "o200k", "qwen2", "mistral_v1", "mistral_v3", "gemma3"])
def test_a_run_without_a_boundary_is_counted_within_its_slack(name, kind, monkeypatch):
    monkeypatch.setattr(vocabularies, "SLICE_CHARS", 1_000)
    monkeypatch.setattr(vocabularies, "_REACH_CHARS", 400)
    text, mine = adversarial(kind, 8_000), vocabulary(name)
    tally = mine.count(text)
    assert abs(tally.n - len(mine._ids(text))) <= tally.slack


@pytest.mark.parametrize("kind", KINDS)
def test_a_million_characters_of_anything_are_counted_in_short_steps(kind):
    text, mine = adversarial(kind, 1_000_000), vocabulary("o200k")
    began = perf_counter()
    steps = list(mine.count_steps(text))
    assert len(steps) >= len(text) // SLICE_CHARS
    assert sum(step.n for step in steps) > len(text) // 200
    assert perf_counter() - began < 5, "some hundred milliseconds are usual: something has become superlinear"


@pytest.mark.parametrize("name", [name for name, known in KNOWN.items() if "space" in known.cut])
def test_no_token_of_a_vocabulary_that_is_cut_at_spaces_holds_a_letter_and_then_a_space(name):
    import splintr

    engine = splintr.Tokenizer.from_pretrained(KNOWN[name].engine)
    tokens = map(engine.decode_token_bytes, range(splintr.base_vocab_size(KNOWN[name].engine)))
    letter_space = re.compile(rb"[A-Za-z\x80-\xff] ")
    assert [token for token in tokens if letter_space.search(token)] == []


def test_gemma_4_is_counted_with_the_tables_of_gemma_3_since_text_is_the_same_to_both():
    import splintr

    rng, own = Random(12), splintr.Tokenizer.from_pretrained("gemma4")
    texts = [fuzz_text(rng).replace("<s>", "") for _ in range(1_000)]  # a symbol, which the engine does not match
    assert [vocabulary("gemma4").encode(text) for text in texts] == [own.encode_ordinary(text) for text in texts]


# -- vocabularies of the user --


def tokenizer_json(**changes: Any) -> bytes:
    """A byte-level BPE with four merges that frames every prompt in <s> and </s>."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + at) for at, byte in enumerate(others)}
    tokens = ["<s>", "</s>", *(letters[byte] for byte in range(256)), "he", "ll", "hell", "hello"]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    frame = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    frame.append({"SpecialToken": {"id": "</s>", "type_id": 0}})
    content = {
        "version": "1.0",
        "added_tokens": [{"id": 0, "content": "<s>", **special}, {"id": 1, "content": "</s>", **special}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": frame,
            "pair": frame,
            "special_tokens": {
                name: {"id": name, "ids": [at], "tokens": [name]} for at, name in enumerate(("<s>", "</s>"))
            },
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {token: at for at, token in enumerate(tokens)},
            "merges": ["h e", "l l", "he ll", "hell o"],
        },
    }
    return msgspec.json.encode(content | changes)


def test_a_tokenizer_json_counts_text_without_the_frame_of_a_prompt():
    mine = from_json(tokenizer_json())
    assert mine.encode("") == []
    assert mine.encode("hello") == [261]
    assert mine.pieces("hello!") == [Piece(261, b"hello"), Piece(2 + ord("!"), b"!")]
    assert mine.count("<s>hello") == Tally(4), "a spelled control token is three characters"


def test_a_long_text_is_an_estimate_where_nothing_is_known_about_the_vocabulary():
    splits = {"type": "Split", "pattern": {"Regex": "[a-z]+| +"}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    unusual = tokenizer_json(pre_tokenizer={"type": "Sequence", "pretokenizers": [splits, level]})
    assert from_json(tokenizer_json()).count("hello " * 10_000) == Tally(20_000), "GPT-2's pattern ends a word there"
    tally = from_json(unusual).count("hello " * 10_000)
    assert tally.slack > 0
    assert abs(tally.n - 20_000) <= tally.slack


@pytest.mark.parametrize("content", [b"", b"{}", b"null", b"[" * 100_000, b'{"model": {"type": "BPE"}}', b"\xff"])
def test_what_is_no_tokenizer_json_is_refused(content):
    with pytest.raises(ValueError, match="cannot be used"):
        from_json(content)


@given(st.data())
def test_a_damaged_tokenizer_json_is_read_or_refused(data):
    content = bytearray(tokenizer_json())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ValueError):
        from_json(bytes(content)).encode("hello wörld")


def gguf_file(tmp_path, *, space_prefix: bool, symbol: bool = False) -> memoryview:
    """A vocabulary of six pieces, the last of which may be a symbol."""
    import gguf

    writer = gguf.GGUFWriter(str(tmp_path / "a.gguf"), "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "\u2581", "a", "b", "\u2581a", "<b>" if symbol else "ab"])
    writer.add_token_scores([0.0, -1.0, -2.0, -3.0, -4.0, -5.0])
    writer.add_token_types([2, 1, 1, 1, 1, 4 if symbol else 1])
    writer.add_add_space_prefix(space_prefix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return memoryview((tmp_path / "a.gguf").read_bytes())


@pytest.mark.parametrize(("space_prefix", "ids"), [(True, [4, 3, 4]), (False, [5, 4])])
def test_a_gguf_file_says_whether_a_space_stands_before_a_text(tmp_path, space_prefix, ids):
    assert from_gguf_file(gguf_file(tmp_path, space_prefix=space_prefix)).encode("ab a") == ids


def test_a_symbol_of_a_gguf_file_is_found_before_anything_is_merged(tmp_path):
    mine = from_gguf_file(gguf_file(tmp_path, space_prefix=False, symbol=True))
    assert mine.encode("a<b>b") == [2, 5, 3]
    assert mine.encode("<b>") == [5]


def test_a_vocabulary_of_the_user_has_a_name_from_when_it_is_given():
    assert find(None) is find("/a/tokenizer.json") is None
    mine = from_json(tokenizer_json())
    give("/a/tokenizer.json", mine)
    assert find("/a/tokenizer.json") is mine
    assert find("o200k") is vocabulary("o200k")


def test_what_the_engine_cuts_otherwise_is_a_doubt():
    pieces = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "max_input_chars_per_word": 100,
        "continuing_subword_prefix": "##",
    }
    words = tokenizer_json(
        model={**pieces, "vocab": {"[UNK]": 0, "a": 1, "##b": 2}},
        normalizer={"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True},
        pre_tokenizer={"type": "BertPreTokenizer"},
        decoder=None,
    )
    assert from_json(words).count("ab a") == Tally(3)
    assert from_json(words).count("ab \u0300\u0301").slack > 0


def test_it_is_told_whether_a_vocabulary_is_loaded():
    vocabulary.cache_clear()
    vocabularies._ready().discard("olmo2")
    assert not vocabularies.is_loaded("olmo2")
    vocabulary("olmo2")
    assert vocabularies.is_loaded("olmo2")
    assert not vocabularies.is_loaded("nobody's")
