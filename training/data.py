"""Text to tensors: trains the tokenizer, encodes documents and conversations, and makes batches of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random

import torch
from compose import Conversation, Turn, Writer
from torch import Tensor

from penstock.engine import tokenizer as bpe
from penstock.engine.tokenizer import Tokenizer

END, OPEN, CLOSE = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (END, OPEN, CLOSE)
TEMPLATE = (
    "{%- for message in messages %}"
    "{%- set role = 'system' if message['role'] == 'developer' else message['role'] %}"
    "{{- '<|im_start|>' + role + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
BEGINNING = 4
"""Tokens of an answer that a drill learns."""
IGNORED = -100
"""A target that does not count, as PyTorch's cross entropy has it."""


@dataclass(frozen=True)
class Sample:
    """Token ids, and which of them the model itself is to write."""

    ids: tuple[int, ...]
    own: tuple[bool, ...]
    starts: tuple[tuple[int, str], ...] = ()
    """Where each answer is about to begin, and what it is about."""


@dataclass(frozen=True)
class Pair:
    """One prompt with the answer that is right and one that is not."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]


def train_tokenizer(writer: Writer, size: int, conversations: int, documents: int) -> Tokenizer:
    """Learn a vocabulary from the training text."""
    texts = [writer.document() for _ in range(documents)]
    for conversation in writer.conversations(conversations):
        texts += [text for turn in conversation.turns for text in (turn.ask, turn.say)]
    return bpe.train(texts, size, SPECIAL)


class Encoder:
    """Encodes text with the marks of the chat template around it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.end, self.open, self.close = (tokenizer.special[name] for name in SPECIAL)
        self.line = tokenizer.encode("\n")

    def head(self, role: str) -> list[int]:
        """Encode what stands before a message."""
        return [self.open, *self.tokenizer.encode(f"{role}\n")]

    def message(self, role: str, text: str) -> list[int]:
        """Encode one message with its marks."""
        return [self.open, *self.tokenizer.encode(f"{role}\n{text}"), self.close, *self.line]

    def prompt(self, asks: Sequence[Turn], ask: str, system: str | None = None) -> tuple[int, ...]:
        """Encode a conversation up to where the model has to answer."""
        ids = self.message("system", system) if system else []
        for turn in asks:
            ids += [*self.message("user", turn.ask), *self.message("assistant", turn.say)]
        return (*ids, *self.message("user", ask), *self.head("assistant"))

    def answer(self, text: str) -> tuple[int, ...]:
        """Encode an answer with the mark that ends it."""
        return (*self.tokenizer.encode(text), self.close)

    def conversation(self, conversation: Conversation) -> Sample:
        """Encode a conversation; only the answers are the model's own."""
        ids = self.message("system", conversation.system) if conversation.system else []
        own = [False] * len(ids)
        starts = []
        for turn in conversation.turns:
            before = [*self.message("user", turn.ask), *self.head("assistant")]
            answer = self.answer(turn.say)[: BEGINNING if conversation.drill else None]
            after = [] if conversation.drill else self.line
            starts.append((len(ids) + len(before) - 1, turn.topic))
            ids += [*before, *answer, *after]
            own += [False] * len(before) + [True] * len(answer) + [False] * len(after)
        return Sample(tuple(ids), tuple(own), tuple(starts))


def blocks(encoder: Encoder, writer: Writer, length: int, rows: int) -> Iterator[Tensor]:
    """Give batches of running text, half documents and half conversations: (rows, length + 1), for ever."""
    stream: list[int] = []
    need = rows * length + 1
    while True:
        while len(stream) < need:
            if writer.chance(0.5):
                stream += [*encoder.tokenizer.encode(writer.document()), encoder.end]
            else:
                for conversation in writer.conversations(8):
                    stream += [*encoder.conversation(conversation).ids, encoder.end]
        part = torch.tensor(stream[:need])
        yield torch.stack([part[row * length : (row + 1) * length + 1] for row in range(rows)])
        stream = stream[need - 1 :]


def batches(
    encoder: Encoder, conversations: Iterable[Conversation], tokens: int, rng: Random
) -> Iterator[list[Sample]]:
    """Give batches of conversations of similar length, in random order, each with at most so many tokens, padding included."""
    source = iter(conversations)
    while chunk := [encoder.conversation(one) for one in islice(source, 4096)]:
        chunk.sort(key=lambda sample: len(sample.ids))
        ready: list[list[Sample]] = [[]]
        for sample in chunk:
            if ready[-1] and (len(ready[-1]) + 1) * len(sample.ids) > tokens:
                ready.append([])
            ready[-1].append(sample)
        rng.shuffle(ready)
        yield from ready


def padded(samples: Sequence[Sample], pad: int) -> tuple[Tensor, Tensor]:
    """Give inputs and targets, both (rows, time). What is not the model's own is no target."""
    longest = max(len(sample.ids) for sample in samples)
    ids = torch.full((len(samples), longest), pad)
    targets = torch.full((len(samples), longest), IGNORED)
    for row, sample in enumerate(samples):
        ids[row, : len(sample.ids)] = torch.tensor(sample.ids)
        own = torch.tensor(sample.own)
        targets[row, : len(sample.ids)][own] = torch.tensor(sample.ids)[own]
    return ids[:, :-1], targets[:, 1:]
