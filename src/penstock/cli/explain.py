"""`penstock ask --explain`: how each token of an answer was drawn, from the candidates that an embedded model tells."""

from collections.abc import Iterator

from msgspec import Struct
from msgspec.json import decode

from penstock.cli.screen import note, print_table
from penstock.reply import Reply

CANDIDATES = 8
"""Told for each step; beyond them there is little to see."""


class Candidate(Struct, frozen=True):
    """A token as each step of sampling saw it: its logit, its probability before and after temperature, and in the end.

    `dropped_by` names the step that left it out: temperature (0 takes the best one), top_k, top_p or min_p.
    """

    id: int
    token: str
    logit: float
    probability: float
    tempered: float
    dropped_by: str | None
    final: float


class Step(Struct, frozen=True):
    """One token that was drawn, and from what."""

    id: int
    token: str
    candidates: tuple[Candidate, ...]


def steps_of(reply: Reply) -> list[Step]:
    """Give the steps of a reply's first choice; none where its model tells none."""
    foreign = reply.choices[0].foreign if reply.choices else ()
    return [decode(one.json, type=Step) for one in foreign if (one.dialect, one.name) == ("engine", "candidates")]


def print_steps(steps: list[Step], target: str) -> None:
    """Print the candidates of every step, the drawn one marked; or say why there are none."""
    if not steps:
        note(f"{target} does not tell how it drew its tokens: only embedded models do.")
        return
    columns = ("step", "token", "drawn", "logit", "probability", "after temperature", "dropped by", "drawn with")
    print_table(columns, _rows(steps), numbers=("step", "logit", "probability", "after temperature", "drawn with"))


def _rows(steps: list[Step]) -> Iterator[tuple[object, ...]]:
    for number, step in enumerate(steps, 1):
        for place, one in enumerate(step.candidates):
            yield (
                number if place == 0 else "",
                repr(one.token),
                "*" if one.id == step.id else "",
                f"{one.logit:.2f}",
                f"{one.probability:.4f}",
                f"{one.tempered:.4f}",
                one.dropped_by or "",
                f"{one.final:.4f}" if one.final else "",
            )
        if all(one.id != step.id for one in step.candidates):
            yield ("", repr(step.token), "*", "", "", "", "", "")
