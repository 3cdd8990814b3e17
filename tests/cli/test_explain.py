"""How each token was drawn, told as a table and as values."""

from msgspec.json import encode

from penstock.cli.explain import Candidate, Step, print_steps, steps_of
from penstock.reply import Choice, ForeignDelta, Reply

BEST = Candidate(3, " the", 2.5, 0.7, 0.9, None, 1.0)
NEXT = Candidate(4, " a", 1.0, 0.2, 0.1, "top_k", 0.0)


def reply(*steps):
    told = tuple(ForeignDelta("engine", "candidates", encode(step)) for step in steps)
    return Reply(choices=(Choice(foreign=(*told, ForeignDelta("chat", "annotations", b"[]"))),))


def test_the_steps_of_an_answer_are_read_from_its_model():
    step = Step(3, " the", (BEST, NEXT))
    assert steps_of(reply(step)) == [step]
    assert steps_of(Reply()) == []


def test_a_table_marks_what_was_drawn_and_says_who_dropped_the_rest(capsys):
    print_steps([Step(3, " the", (BEST, NEXT)), Step(9, "\n", (BEST,))], "local/mini")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("\t")[:3] == ["step", "token", "drawn"]
    assert lines[1].split("\t") == ["1", "' the'", "*", "2.50", "0.7000", "0.9000", "", "1.0000"]
    assert lines[2].split("\t") == ["", "' a'", "", "1.00", "0.2000", "0.1000", "top_k", ""]
    assert lines[4].split("\t")[:3] == ["", "'\\n'", "*"], "drawn from beyond the candidates that are told"


def test_a_model_that_tells_nothing_is_named(capsys):
    print_steps([], "openai/gpt-4o")
    assert "openai/gpt-4o does not tell how it drew its tokens" in capsys.readouterr().err
