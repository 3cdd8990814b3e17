"""That the ids are those of the `tokenizers` library is shown in test_tokenizer.py, with every combination of flags."""

import unicodedata

from penstock.engine.added import AddedTokens
from penstock.engine.tokenizer_file import AddedToken


def cut(text: str, *tokens: AddedToken, special: bool = True) -> list[str | int]:
    found = AddedTokens(tokens, lambda part: unicodedata.normalize("NFC", part))
    return [section for section, _ in found.cut(text, special=special)]


def test_without_added_tokens_a_text_is_one_normalized_section() -> None:
    assert cut("ae\u0301") == ["a\u00e9"]


def test_the_longest_token_wins_and_the_sections_between_are_normalized() -> None:
    tokens = (AddedToken(1, "<a>", normalized=False), AddedToken(2, "<a>>", normalized=False))

    assert cut("e\u0301<a>>x<a><a>", *tokens) == ["\u00e9", 2, "x", 1, 1]


def test_control_tokens_are_found_only_where_the_text_may_hold_them() -> None:
    tokens = (AddedToken(1, "<a>", special=True, normalized=False), AddedToken(2, "<b>", normalized=False))

    assert cut("<a><b>", *tokens) == [1, 2]
    assert cut("<a><b>", *tokens, special=False) == ["<a>", 2]


def test_tokens_of_normalized_text_are_found_in_it_and_the_others_in_the_text_as_it_came() -> None:
    composed = AddedToken(1, "\u00e9", normalized=False), AddedToken(2, "e\u0301", normalized=True)

    assert cut("\u00e9", *composed) == [1]
    assert cut("e\u0301", *composed) == [2]


def test_a_single_word_is_not_found_inside_a_word() -> None:
    token = AddedToken(1, "ab", single_word=True, normalized=False)

    assert cut("ab", token) == [1]
    assert cut(" ab.", token) == [" ", 1, "."]
    for text in ("xab", "abx", "_ab", "ab1", "ab\u0301", "\u6c34ab", "ab\u200d"):
        assert cut(text, token) == [unicodedata.normalize("NFC", text)]


def test_white_space_beside_a_token_is_taken_along_where_it_says_so() -> None:
    left, right = AddedToken(1, "<l>", lstrip=True), AddedToken(2, "<r>", rstrip=True)

    assert cut("a \n\u3000<l> b", left) == ["a", 1, " b"]
    assert cut("a <r> \t b", right) == ["a ", 2, "b"]
    assert cut("<r>  <l>", left, right) == [2, 1]
    assert cut("  <l><r>  ", left, right) == [1, 2]


def test_only_the_section_that_begins_the_text_is_called_the_first() -> None:
    found = AddedTokens((AddedToken(1, "<a>", normalized=False), AddedToken(2, "b")), lambda part: part)

    assert list(found.cut("xbx<a>y", special=True)) == [("x", True), (2, False), ("x", False), (1, False), ("y", False)]
    assert list(found.cut("<a>y", special=True)) == [(1, True), ("y", False)]
