"""What is printed: plain lines to a pipe, tables at a terminal, and never a control sequence or markup from outside."""

import io
import sys

import pytest

from penstock.cli import screen


@pytest.fixture
def shown_at_terminal(monkeypatch):
    """Print something with a terminal as the standard output; give what it showed."""

    def show(function, *arguments, **options):
        shown = io.StringIO()
        shown.isatty = lambda: True
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setattr(sys, "stdout", shown)
        function(*arguments, **options)
        return shown.getvalue()

    return show


EVIL = "\x1b]0;owned\x07[red]a[/blue]\tb\nc\x9b31m"


def test_rows_to_a_pipe_are_one_line_each_with_one_cell_per_tab(capsys):
    screen.print_table(("a", "b", "c"), [(1, None, "x"), (EVIL, "[bold]", "é")])

    lines = capsys.readouterr().out.split("\n")
    assert [line.split("\t") for line in lines] == [
        ["a", "b", "c"],
        ["1", "", "x"],
        ["\ufffd]0;owned\ufffd[red]a[/blue] b c\ufffd31m", "[bold]", "é"],
        [""],
    ]


def test_a_table_at_a_terminal_keeps_each_cell_in_one_piece_and_reads_no_markup(shown_at_terminal):
    shown = shown_at_terminal(screen.print_table, ("name", "n"), [("x" * 200, 5), (EVIL, None)], numbers=("n",))

    assert "x" * 200 + "  5" in shown
    assert "[red]a[/blue] b c" in shown
    assert "\x1b]0" not in shown
    assert "\x9b" not in shown
    assert shown.rstrip().endswith("-")


def test_a_line_for_people_has_its_style_at_a_terminal_only(shown_at_terminal):
    shown = shown_at_terminal(screen.say, ("penstock", "bold"), " serves [on] x")

    assert shown == "\x1b[1mpenstock\x1b[0m serves [on] x\n"


def test_a_line_to_a_pipe_is_plain(capsys):
    screen.say(("penstock", "bold"), " serves [on] ", "y" * 300)

    assert capsys.readouterr().out == "penstock serves [on] " + "y" * 300 + "\n"


def test_remarks_go_to_the_standard_error(capsys):
    screen.note("look [/here]", "dim")

    assert capsys.readouterr() == ("", "look [/here]\n")


def test_a_model_s_text_reaches_a_pipe_as_it_is(capsys):
    screen.write("\x1b[31mred\r\n\t")
    screen.write("\x07", sys.stderr)

    assert capsys.readouterr() == ("\x1b[31mred\r\n\t", "\x07")


def test_a_model_s_text_reaches_a_terminal_without_its_control_characters(shown_at_terminal):
    shown = shown_at_terminal(screen.write, "\x1b[31mred\n\tis [/b] 👩‍👩‍👧 \x9b \r")

    assert shown == "\ufffd[31mred\n\tis [/b] 👩‍👩‍👧 \ufffd \ufffd"


def test_documents_are_indented_or_on_one_line_and_decode_to_the_same(capsys):
    screen.print_json({"a": [1, "é"]})
    whole = capsys.readouterr().out
    screen.print_line({"a": [1, "é"]})
    line = capsys.readouterr().out

    assert whole == '{\n  "a": [\n    1,\n    "é"\n  ]\n}\n'
    assert line == '{"a":[1,"é"]}\n'


def test_a_row_is_one_line(capsys):
    screen.print_row((1, None, "a\tb\n"))

    assert capsys.readouterr().out == "1\t\ta b\n"


def test_money_is_an_amount_or_said_to_be_unknown():
    assert screen.money("0.0015") == "$0.0015"
    assert screen.money("-0.0015") == "-$0.0015"
    assert screen.money(None) == "unpriced"
