"""The page on tokens says what the code does."""

from tokens.page import BLOCK, PAGE, TABLES, written


def test_the_tables_of_the_page_are_those_of_the_code():
    text = PAGE.read_text(encoding="utf-8")
    assert {block[2] for block in BLOCK.finditer(text)} == set(TABLES)
    assert text == written(text), "run python tests/tokens/page.py"
