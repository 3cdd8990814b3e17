#!/usr/bin/env python3
"""Measures how near the held-out questions are to the training text: none may be in it, nor be a near copy of a part of it.

    python training/overlap.py      the nearest training question of each held-out one, nearest first

Two measures over normalised words: the share of a question's word triples that one training question holds, and the
share of words that the two have in common (Jaccard). 1.0 in either is a copy.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import judge
from compose import Writer, without_article


@dataclass(frozen=True)
class Nearness:
    """How near a question is to the training question that is nearest to it."""

    triples: float
    words: float
    ask: str
    nearest: str


def normal(text: str) -> tuple[str, ...]:
    """Give the words of a text in small letters, without marks."""
    return tuple(re.findall(r"[a-z0-9]+", text.lower().replace("'", "")))


def triples(words: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    """Give all runs of three words; a shorter text is one run."""
    if len(words) < 3:
        return frozenset((words,))
    return frozenset(words[at : at + 3] for at in range(len(words) - 2))


def written(writer: Writer) -> Iterator[str]:
    """Give every question that stands in the corpus before it is varied, terms in all their frames, and the prose."""
    for fact in writer.facts.values():
        yield from fact.ask
        for frame in (*writer.phrases["term_frames"], *writer.phrases["follow_frames"]):
            yield from (frame.format(a=term, b=without_article(term)) for term in fact.term)
    yield from writer.phrases["more_frames"]
    for hear, _ in writer.talks.values():
        for line in hear:
            slot = re.search(r"\{(\w+)\}", line)
            yield from [line.replace(slot[0], word) for word in writer.fill[slot[1]]] if slot else [line]


def varied(writer: Writer, conversations: int) -> Iterator[str]:
    """Give the questions of so many conversations as the model is trained on them."""
    for conversation in writer.conversations(conversations):
        yield from (turn.ask for turn in conversation.turns)


def nearest(questions: Iterable[str], training: Iterable[str]) -> list[Nearness]:
    """Compare every question with every text of the training, nearest first."""
    known = {normal(text): text for text in training}
    holders: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    by_word: dict[str, set[tuple[str, ...]]] = {}
    for words in known:
        for triple in triples(words):
            holders.setdefault(triple, set()).add(words)
        for word in words:
            by_word.setdefault(word, set()).add(words)
    found = [_nearest_one(question, known, holders, by_word) for question in questions]
    return sorted(found, key=lambda one: -max(one.triples, one.words))


def _nearest_one(
    question: str,
    known: dict[tuple[str, ...], str],
    holders: dict[tuple[str, ...], set[tuple[str, ...]]],
    by_word: dict[str, set[tuple[str, ...]]],
) -> Nearness:
    words = normal(question)
    own, own_words = triples(words), set(words)
    shared: dict[tuple[str, ...], int] = {}
    for triple in own:
        for other in holders.get(triple, ()):
            shared[other] = shared.get(other, 0) + 1
    rare = sorted(own_words, key=lambda word: len(by_word.get(word, ())))[: len(own_words) // 2 + 1]
    near = {other for word in rare for other in by_word.get(word, ())}
    best = max(near, key=lambda other: len(own_words & set(other)) / len(own_words | set(other)), default=())
    most = max(shared, key=lambda other: shared[other], default=())
    jaccard = len(own_words & set(best)) / max(1, len(own_words | set(best)))
    run = shared.get(most, 0) / len(own)
    return Nearness(run, jaccard, question, known.get(best if jaccard > run else most, ""))


def main() -> None:
    """Print the nearest training question of each held-out one."""
    asked = [question.ask for question in judge.read()]
    writer = Writer.open(0)
    for one in nearest(asked, written(writer)):
        print(f"{one.triples:.2f} {one.words:.2f}  {one.ask}  ~  {one.nearest}")


if __name__ == "__main__":
    main()
