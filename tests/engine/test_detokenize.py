"""That the texts are those of the `tokenizers` library is shown in test_tokenizer.py, for random ids too."""

import pytest
from tokenizers import decoders

from penstock.engine.detokenize import Detokenizing
from penstock.engine.errors import BadModel
from penstock.engine.tokenizer_file import (
    ByteFallback,
    ByteLevel,
    Decoder,
    DecoderSequence,
    Fuse,
    Pattern,
    Replace,
    Strip,
)

SPACES = Replace(Pattern(string="\u2581"), " ")
LLAMA2 = DecoderSequence((SPACES, ByteFallback(), Fuse(), Strip(" ", 1, 0)))


def test_characters_are_read_back_as_the_bytes_they_stand_for() -> None:
    found = Detokenizing(ByteLevel())

    assert found.token_bytes("\u0120a\u00c3") == b" a\xc3"
    assert found.token_bytes("two words") == b"two words"
    assert found.text(["\u00c3", "\u00a9", "\u00c3", "a"]) == "\u00e9\ufffda"
    assert found.stripped == 0


def test_marks_become_spaces_and_the_first_one_goes() -> None:
    found = Detokenizing(LLAMA2)

    assert found.token_bytes("\u2581a\u2581") == b" a "
    assert found.token_bytes("<0xE6>") == b"\xe6"
    assert found.text(["\u2581\u2581a", "\u2581b"]) == " a b"
    assert found.text([]) == ""
    assert found.stripped == 1


def test_bytes_are_joined_to_characters_and_a_wrong_run_loses_every_byte() -> None:
    found = Detokenizing(LLAMA2)
    theirs = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )

    for tokens in (
        ["<0xC3>", "<0xA9>"],
        ["<0xC3>", "a"],
        ["<0xC3>", "<0xA9>", "<0xC3>", "a", "<0xC3>"],
        ["<0xZZ>", "<0x4>", "<0x041>", "0x41>", "<0x20>"],
        ["\u2581", "\u2581\u2581"],
    ):
        assert found.text(tokens) == theirs.decode(tokens), tokens


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (None, "there is no decoder"),
        (DecoderSequence(()), "there is no decoder"),
        (DecoderSequence((ByteLevel(), Fuse())), "is not supported here"),
        (DecoderSequence((Strip(" ", 1, 0), SPACES)), "is not supported here"),
        (Replace(Pattern(regex="a"), "b"), "is not supported here"),
        (Strip("x", 1, 0), "is not supported here"),
        (Strip(" ", 1, 1), "is not supported here"),
    ],
)
def test_other_decoders_are_refused(decoder: Decoder | None, message: str) -> None:
    with pytest.raises(BadModel, match=message):
        Detokenizing(decoder)
