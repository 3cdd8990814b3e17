"""The examples of the documentation do what they say, on a real server and in real processes."""

from pathlib import Path

import pytest

from examples import blocks, follow, matches

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["http.md", "library.md"])
def test_every_example_of_a_page_does_what_it_says(page, tmp_path):
    assert {block.language for block in blocks(DOCS / page)} & {"console", "python"}
    assert follow(DOCS / page, tmp_path) == []


def test_an_example_that_prints_something_else_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        '# Page\n\n```console\n$ echo a\nb\n$ echo c\nc\n$ make nothing\n```\n\n```python\nprint("d")\n```\n\n```text\ne\n```\n'
    )

    wrong = follow(page, tmp_path)

    assert [text.partition("\n")[0] for text in wrong] == [
        "line 3: expected",
        "line 3: there is no `make nothing`",
        "line 11: expected",
    ]


def test_dots_stand_for_anything_and_nothing_else_does():
    assert matches("a 1 b\nc", "a ... b\nc\n")
    assert matches("a\n\nb", "a...b")
    assert not matches("a 1 b", "a 2 b")
    assert not matches("a b c", "a b")
    assert not matches("axb", "a.b")
