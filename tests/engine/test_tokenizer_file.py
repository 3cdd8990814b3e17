import msgspec
import pytest

from penstock.engine.errors import BadModel
from penstock.engine.tokenizer_file import AddedToken, Bpe, Metaspace, Pattern, read, texts, write

LEAST = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}}


def written(**members: object) -> bytes:
    return msgspec.json.encode({**LEAST, **members})


def test_the_least_file_is_read_and_members_that_are_not_ours_are_left_out() -> None:
    found = read(written(truncation={"max_length": 3}, padding={"x": 1}, something_new=1))

    assert found.model.vocab == {"a": 0, "b": 1, "ab": 2}
    assert found.model.pairs() == [("a", "b")]
    assert msgspec.json.decode(write(found))["truncation"] is None
    assert read(write(found)) == found


def test_merges_are_read_in_the_old_and_in_the_new_form() -> None:
    assert Bpe({}, ["a b", ("c", "d")]).pairs() == [("a", "b"), ("c", "d")]
    with pytest.raises(BadModel, match="the merge 'a b c' is not two tokens"):
        Bpe({}, ["a b c"]).pairs()


def test_a_post_processor_is_kept_as_it_stands() -> None:
    found = read(written(post_processor={"type": "TemplateProcessing", "single": [1, 2]}))

    assert msgspec.json.decode(write(found))["post_processor"] == {"type": "TemplateProcessing", "single": [1, 2]}


def test_added_tokens_without_text_are_left_out() -> None:
    tokens = [{"id": 3, "content": ""}, {"id": 4, "content": "x", "special": True}]

    assert read(written(added_tokens=tokens)).added_tokens == (AddedToken(4, "x", special=True),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "cannot be used"),
        (b"[" * 100_000, "cannot be used"),
        (b"{}", "missing required field `model`"),
        (written(model={"type": "WordPiece", "vocab": {}, "merges": []}), r"'WordPiece' - at `\$.model.type`"),
        (written(pre_tokenizer={"type": "BertPreTokenizer"}), r"at `\$.pre_tokenizer.type`"),
        (written(normalizer={"type": "Replace", "pattern": {}, "content": ""}), "either String or Regex"),
        (written(model={**LEAST["model"], "dropout": 0.1}), "set it to null"),
        (written(model={**LEAST["model"], "end_of_word_suffix": "</w>"}), "model.end_of_word_suffix is not supported"),
        (written(model={**LEAST["model"], "continuing_subword_prefix": "##"}), "continuing_subword_prefix"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(text: bytes, message: str) -> None:
    with pytest.raises(BadModel, match=message):
        read(text)


def test_empty_prefixes_and_no_dropout_are_the_same_as_none() -> None:
    model = {**LEAST["model"], "dropout": 0.0, "end_of_word_suffix": "", "continuing_subword_prefix": ""}

    assert read(written(model=model)).model.dropout == 0.0


def test_a_file_of_the_time_before_models_had_a_type_is_read() -> None:
    assert read(written(model={"vocab": {"a": 0}, "merges": []})).model.vocab == {"a": 0}


def test_metaspace_says_in_two_ways_when_a_space_is_put_before() -> None:
    assert Metaspace(prepend_scheme="first").scheme == "first"
    assert Metaspace(add_prefix_space=False).scheme == "never"
    assert Metaspace(add_prefix_space=True).scheme == "always"
    assert Metaspace().scheme == "always"


def test_a_pattern_is_written_as_it_was_read() -> None:
    assert msgspec.json.encode(Pattern(string=" ")) == b'{"String":" "}'
    assert msgspec.json.encode(Pattern(regex="a")) == b'{"Regex":"a"}'


@pytest.mark.parametrize(
    ("vocab", "added", "message"),
    [
        ({"a": -1}, (), "has the id -1, which is out of range"),
        ({"a": 1 << 40}, (), "out of range"),
        ({"a": 0}, (AddedToken(1, "a"),), "'a' is the token 0 and the added token 1"),
    ],
)
def test_ids_that_cannot_be_are_refused(vocab: dict[str, int], added: tuple[AddedToken, ...], message: str) -> None:
    with pytest.raises(BadModel, match=message):
        texts(Bpe(vocab, []), added)


def test_texts_are_found_by_id_added_tokens_first() -> None:
    assert texts(Bpe({"a": 0, "b": 1}, []), (AddedToken(1, "B"), AddedToken(2, "c"))) == {0: "a", 1: "B", 2: "c"}
