"""Where commands take text from: an argument, a file, the standard input; and what is no text."""

import io
import sys

import pytest

from penstock.cli.options import read_text
from penstock.errors import InvalidRequest


@pytest.fixture
def stdin(monkeypatch):
    """Let the standard input be these bytes, of a terminal or not."""

    def become(data, *, terminal=False):
        stream = io.TextIOWrapper(io.BytesIO(data))
        stream.isatty = lambda: terminal
        monkeypatch.setattr(sys, "stdin", stream)

    return become


def test_a_given_text_is_taken_as_it_stands():
    assert read_text("Grüße\n") == "Grüße\n"
    assert read_text("") == ""


@pytest.mark.parametrize("given", ["-", None])
def test_the_standard_input_is_read_for_a_dash_or_nothing(stdin, given):
    stdin("Grüße\r\n".encode())

    assert read_text(given) == "Grüße\r\n"


def test_a_dash_reads_a_terminal_and_nothing_asks_for_a_text_there(stdin):
    stdin(b"typed", terminal=True)

    assert read_text("-") == "typed"
    with pytest.raises(InvalidRequest, match="Give a text"):
        read_text(None)


def test_a_file_is_read_whole(tmp_path):
    (tmp_path / "a.txt").write_bytes("é\n".encode())

    assert read_text(None, tmp_path / "a.txt") == "é\n"


def test_a_text_and_a_file_at_once_are_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="not both"):
        read_text("a", tmp_path / "a.txt")


def test_a_file_that_is_not_there_or_is_a_folder_is_said_to_be_so(tmp_path):
    with pytest.raises(InvalidRequest, match=r"a\.txt cannot be read: No such file"):
        read_text(None, tmp_path / "a.txt")
    with pytest.raises(InvalidRequest, match="cannot be read: Is a directory"):
        read_text(None, tmp_path)


def test_what_is_no_text_is_refused_with_the_place(tmp_path, stdin):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    stdin(b"caf\xe9")

    with pytest.raises(InvalidRequest, match=r"a\.png is not UTF-8 text: byte 0x89 at offset 0"):
        read_text(None, tmp_path / "a.png")
    with pytest.raises(InvalidRequest, match="The standard input is not UTF-8 text: byte 0xe9 at offset 3"):
        read_text("-")
    with pytest.raises(InvalidRequest, match="The argument is not UTF-8 text"):
        read_text("caf\udce9")  # what Python makes of such an argument
