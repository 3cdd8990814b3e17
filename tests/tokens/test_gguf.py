"""The head of a GGUF file, written by the gguf package, whole and damaged."""

from contextlib import suppress
from struct import pack

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.tokens.gguf import GgufVocabulary, is_gguf, read_vocabulary
from penstock.tokens.vocabularies import from_gguf_file

TOKENS = ["<unk>", "\u2581", "a", "b", "\u2581a", "ab"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A file with one value of every kind before the vocabulary, and a tensor behind it."""
    path = tmp_path_factory.mktemp("gguf") / "a.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    for number, add in enumerate(("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")):
        getattr(writer, f"add_{add}")(f"test.{add}", number)
    writer.add_float32("test.float", 0.5)
    writer.add_float64("test.double", 0.25)
    writer.add_bool("test.bool", True)
    writer.add_array("test.texts", ["one", "zwei\u00e4"])
    writer.add_array("test.numbers", [1, 2, 3])
    writer.add_tokenizer_model("llama")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([0.0, -1.0, -2.0, -3.0, -4.0, -5.0])
    writer.add_token_types([2, 1, 1, 1, 1, 1])
    writer.add_add_space_prefix(False)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path.read_bytes()


def test_the_vocabulary_is_read_and_all_else_passed_over(written):
    found = read_vocabulary(memoryview(written))
    assert found == GgufVocabulary(
        "llama",
        tuple(TOKENS),
        (2, 1, 1, 1, 1, 1),
        (0.0, -1.0, -2.0, -3.0, -4.0, -5.0),
        (),
        "default",
        space_prefix=False,
    )
    mine = from_gguf_file(memoryview(written))
    assert mine.encode("ab a") == [5, 4]
    assert [piece.text for piece in mine.pieces("ab a")] == [b"ab", b" a"]


def test_a_gguf_file_is_known_by_its_first_bytes():
    assert is_gguf(b"GGUF\x03")
    assert not is_gguf(b"{\n")


def text(value: str) -> bytes:
    return pack("<Q", len(value)) + value.encode()


def head(*pairs: bytes, version: int = 3, count: int | None = None) -> memoryview:
    return memoryview(b"GGUF" + pack("<IQQ", version, 0, len(pairs) if count is None else count) + b"".join(pairs))


MODEL = text("tokenizer.ggml.model") + pack("<I", 8) + text("gpt2")
LIST = text("tokenizer.ggml.tokens") + pack("<IIQ", 9, 8, 2) + text("a") + text("b")


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (memoryview(b"{}  "), "does not begin with GGUF"),
        (memoryview(b"GGUF\x03"), "cut short"),
        (head(version=1), "version 1 is not known"),
        (head(count=1), "cut short"),
        (head(MODEL), "has no vocabulary"),
        (head(LIST), "has no vocabulary"),
        (head(MODEL, text("tokenizer.ggml.tokens") + pack("<IIQ", 9, 8, 0)), "has no vocabulary"),
        (head(MODEL, LIST, text("tokenizer.ggml.scores") + pack("<IIQf", 9, 6, 1, 0.0)), "as many kinds or scores"),
        (head(MODEL, LIST, text("tokenizer.ggml.scores") + pack("<IIQ", 9, 6, 9)), "beyond its end"),
        (head(text("a") + pack("<IIQ", 9, 9, 1)), "arrays in it"),
        (head(text("a") + pack("<IIQ", 9, 8, 1 << 40)), "too long"),
        (head(text("a") + pack("<I", 77)), "of the kind 77"),
        (head(pack("<Q", 1 << 60)), "beyond its end"),
    ],
)
def test_what_is_damaged_is_refused(file, said):
    with pytest.raises(ValueError, match=said):
        read_vocabulary(file)


@given(st.data())
def test_a_damaged_file_is_read_or_refused(written, data):
    content = bytearray(written[: data.draw(st.integers(0, len(written)))])
    for _ in range(data.draw(st.integers(0, 4)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ValueError):
        from_gguf_file(memoryview(bytes(content))).encode("ab a")
