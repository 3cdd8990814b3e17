#!/usr/bin/env python3
"""Judges penstock-mini: asks every held-out question at temperature 0 through penstock's own engine and looks for the fact.

    python training/judge.py                                   the figure, and every miss
    python training/judge.py --questions training/dev.toml     the questions that the recipe was tuned on
    python training/judge.py --model training/out/sft          another model folder, such as the one before the last stage

An answer is right if it ends by itself, is short, holds every pattern of `accept` and none of `reject`. The corpus is
never read here: what is right is said by the file of questions alone.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.engine.batch import Batch
from penstock.engine.folder import Model, load, mini
from penstock.engine.sampler import Sampling, seeded

HERE = Path(__file__).parent
QUESTIONS = HERE / "questions.toml"
LONGEST = 90
"""Tokens that an answer may have: the longest right one has about 60, so a longer one rambles."""
WANTED = 0.8
SLOTS = 16


@dataclass(frozen=True)
class Question:
    """A question, the fact that it asks for, and what tells a right answer: patterns that it holds, and ones that it does not."""

    fact: str
    ask: str
    accept: tuple[str, ...]
    reject: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What the model said. `ended` is False if it was still writing at the limit."""

    text: str
    ended: bool


def read(path: Path = QUESTIONS) -> tuple[Question, ...]:
    """Read a file of questions. A question that nothing could fail is a mistake of the file."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["question"]
    questions = tuple(
        Question(entry["fact"], entry["ask"], tuple(entry["accept"]), tuple(entry.get("reject", ())))
        for entry in entries
    )
    for question in questions:
        if not question.accept or right(question, Answer("", ended=True)):
            raise ValueError(f"{question.ask!r} accepts even an empty answer: give it a pattern of its fact.")
    return questions


def right(question: Question, answer: Answer) -> bool:
    """Tell whether an answer holds the fact that was asked for."""
    return (
        answer.ended
        and all(found(pattern, answer.text) for pattern in question.accept)
        and not any(found(pattern, answer.text) for pattern in question.reject)
    )


def found(pattern: str, text: str) -> bool:
    """Tell whether a pattern stands in a text, whatever the case and the lines."""
    return re.search(pattern, text, re.IGNORECASE | re.DOTALL) is not None


def answers(model: Model, asked: Sequence[str]) -> Iterator[Answer]:
    """Ask everything at temperature 0, several at a time, and give the answers in order."""
    batch = Batch(model, slots=SLOTS)
    waiting = list(range(len(asked)))[::-1]
    texts, ended, tickets = [""] * len(asked), [False] * len(asked), dict[int, int]()
    while waiting or batch.active:
        while waiting and batch.active < SLOTS:
            at = waiting.pop()
            prompt = prompt_ids(model, [{"role": "user", "content": asked[at]}])
            ticket = batch.add(prompt, Sampling(temperature=0.0), max_tokens=LONGEST, rng=seeded(0, 0))
            tickets[ticket] = at
        for ticket, token in batch.step():
            texts[tickets[ticket]] += token.text
            ended[tickets[ticket]] = token.finish == "stop"
    yield from (Answer(text, end) for text, end in zip(texts, ended, strict=True))


def prompt_ids(model: Model, messages: Sequence[dict[str, object]]) -> list[int]:
    """Encode a conversation as the model was taught to read it."""
    assert model.template is not None, "penstock-mini has a chat template"
    return model.tokenizer.encode(model.template.render(messages), special=True)


def main() -> int:
    """Print the figure and every miss; 1 if fewer than four of five answers are right."""
    parser = argparse.ArgumentParser(description="Judge penstock-mini.")
    parser.add_argument("--questions", type=Path, default=QUESTIONS)
    parser.add_argument("--model", type=Path, default=mini())
    parser.add_argument("--all", action="store_true", help="print the right answers too")
    arguments = parser.parse_args()
    questions = read(arguments.questions)
    verdicts = []
    for question, answer in zip(questions, answers(load(arguments.model), [one.ask for one in questions]), strict=True):
        verdicts.append(right(question, answer))
        if arguments.all or not verdicts[-1]:
            mark = "right" if verdicts[-1] else "WRONG"
            print(
                f"{mark}  {question.fact}: {question.ask}\n       {answer.text}{'' if answer.ended else ' ... (did not end)'}"
            )
    share = sum(verdicts) / len(verdicts)
    print(f"{sum(verdicts)} of {len(verdicts)} questions answered with the right fact: {share:.1%}")
    return 0 if share >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
