"""The error tree."""

import re

import pytest

from penstock import errors
from penstock.errors import ConfigError, Mistake, PenstockError


def leaves():
    found, todo = [], [PenstockError]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        if kind.__module__ == "penstock.errors":
            found.append(kind)
    return found


def test_the_drawing_of_the_tree_tells_every_code_and_status():
    drawn = dict(re.findall(r"── (\w+) +(?:\d\d\d|4xx|-) +(\w+)", errors.__doc__))
    statuses = dict(re.findall(r"── (\w+) +(\d\d\d)", errors.__doc__))
    for kind in leaves():
        if kind.__name__ in drawn:
            assert drawn[kind.__name__] == kind.code
        if kind.__name__ in statuses:
            assert int(statuses[kind.__name__]) == kind.default_status
    undrawn = {kind.__name__ for kind in leaves()} - drawn.keys()
    assert undrawn == {"PenstockError", "CallerError", "LimitError", "UpstreamError", "Inexpressible"}


def test_codes_are_unique_among_the_drawn():
    drawn = re.findall(r"── \w+ +(?:\d\d\d|4xx|-) +(\w+)", errors.__doc__)
    assert len(drawn) == len(set(drawn))


def test_the_text_is_the_message_and_what_to_do():
    error = errors.UnknownModel("There is no model 'x'.", hint="Did you mean: y?", param="model")
    assert str(error) == "There is no model 'x'. Did you mean: y?"
    assert error.status == 404
    assert str(errors.Internal("Oops.")) == "Oops."


def test_a_status_may_be_narrowed():
    assert errors.UpstreamOverloaded("busy", status=529).status == 529


@pytest.mark.parametrize(
    ("kind", "then"),
    [
        ("UpstreamRejected", "stop"),
        ("UpstreamAuth", "next"),
        ("UpstreamFailed", "retry"),
        ("DeadlineExceeded", "stop"),
        ("UpstreamInvalid", "model"),
    ],
)
def test_each_failure_says_what_the_line_does_then(kind, then):
    assert getattr(errors, kind).then == then


def test_a_configurations_mistakes_come_together():
    one = Mistake("server.port", "is not a number.", 3, "Write port = 8420.")
    error = ConfigError("penstock.toml", (one, Mistake("teams", "is empty.")))
    assert str(error) == (
        "penstock.toml has 2 mistakes:\n  line 3, server.port: is not a number. Write port = 8420.\n  teams: is empty."
    )
    assert "1 mistake:" in str(ConfigError("x", (one,)))
