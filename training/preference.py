"""Pairs for the preference stage, and the log-probabilities that it compares.

A rejected answer is one that the model itself wrote and that lacks the fact; or the answer to a neighbouring fact; or
the right answer that does not end and rambles on into another fact.
"""

from collections.abc import Sequence
from itertools import zip_longest

import torch
from compose import Fact, Turn, Writer
from data import IGNORED, Encoder, Pair, Sample, padded
from model import Mini
from torch import Tensor
from torch.nn import functional

LONGEST = 48
OWN_SHARE = 0.5
"""For so many questions the model answers by itself; that is slow, since nothing is cached here."""


def pairs(model: Mini, encoder: Encoder, writer: Writer, count: int) -> list[Pair]:
    """Make pairs for so many questions: what the model has wrong by itself, the rest in equal parts wrong and rambling."""
    asked = []
    for _ in range(count):
        fact = writer.rng.choice(list(writer.facts.values()))
        before: list[Turn] = [writer.turn(None)] if writer.chance(0.2) else []
        asked.append((fact, encoder.prompt(before, writer.ask(fact))))
    written = answers(model, encoder, [prompt for _, prompt in asked[: int(count * OWN_SHARE)]], writer)
    made = []
    for (fact, prompt), own in zip_longest(asked, written):
        say = writer.say(fact)
        if own and not fact.right(encoder.tokenizer.decode(own)):
            rejected = own
        elif writer.chance(0.5):
            rejected = encoder.answer(writer.say(neighbour(writer, fact)))
        else:
            rejected = encoder.answer(f"{say} {writer.say(neighbour(writer, fact))}")
        made.append(Pair(prompt, encoder.answer(say), rejected))
    writer.rng.shuffle(made)
    return made


def neighbour(writer: Writer, fact: Fact) -> Fact:
    """Give another fact of the same topic, with another answer."""
    return writer.rng.choice(
        [one for one in writer.facts.values() if one.topic == fact.topic and one.group != fact.group]
    )


@torch.no_grad()
def answers(model: Mini, encoder: Encoder, prompts: Sequence[tuple[int, ...]], writer: Writer) -> list[tuple[int, ...]]:
    """Let the model answer at temperature 1; prompts of one length go together, so nothing is padded."""
    chance = torch.Generator().manual_seed(writer.rng.randrange(2**31))
    written: list[tuple[int, ...]] = [()] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
    while order:
        length = len(prompts[order[0]])
        group = [at for at in order[:64] if len(prompts[at]) == length]
        order = order[len(group) :]
        ids = torch.tensor([prompts[at] for at in group])
        ended = torch.zeros(len(group), dtype=torch.bool)
        for _ in range(LONGEST):
            with torch.autocast("cpu", torch.bfloat16):
                logits = model.logits(model.hidden(ids)[:, -1])
            drawn = torch.multinomial(logits.float().softmax(-1), 1, generator=chance)
            ids = torch.cat((ids, drawn), dim=1)
            ended |= drawn[:, 0] == encoder.close
            if ended.all():
                break
        for at, row in zip(group, ids[:, length:].tolist(), strict=True):
            end = row.index(encoder.close) + 1 if encoder.close in row else len(row)
            written[at] = tuple(row[:end])
    return written


def logprobs(model: Mini, group: Sequence[Pair], pad: int) -> tuple[Tensor, Tensor]:
    """Give the log-probability of each chosen and each rejected answer: two tensors of (pairs,)."""
    samples = [
        Sample((*pair.prompt, *answer), (False,) * len(pair.prompt) + (True,) * len(answer))
        for answers_ in zip(*((pair.chosen, pair.rejected) for pair in group), strict=True)
        for pair, answer in zip(group, answers_, strict=True)
    ]
    ids, targets = padded(samples, pad)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.logits(model.hidden(ids))
    losses = functional.cross_entropy(logits.float().transpose(1, 2), targets, ignore_index=IGNORED, reduction="none")
    totals = -losses.sum(dim=1)
    return totals[: len(group)], totals[len(group) :]
