"""The inference loop: forward pass, softmax, sample, append, until a stop.

This is what every model does for every answer. `generate` runs it for one prompt; `batch.py` runs the same steps for
several at once and gives each the same tokens. What is around the loop (encoding the prompt, the chat template, waiting,
threads, time) is the caller's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penstock.engine.cache import Cache
from penstock.engine.errors import EngineError, WindowExceeded
from penstock.engine.folder import Model
from penstock.engine.sampler import Candidate, Drawn, Sampler, Sampling, Seen
from penstock.engine.stopping import StopText, StreamDecoder
from penstock.engine.transformer import Transformer

Floats = NDArray[np.float32]

PIECE = 64
"""Tokens of a prompt that are read at once. Measured: takes as long as five or six steps, at half the top speed."""


@dataclass(frozen=True, slots=True)
class Token:
    """One step of a generation.

    text        what may go out now: whole characters, and nothing that may become a stop string
    finish      "stop" at a stop token or a stop string, "length" at the limit or the window's end; else None
    candidates  the best tokens as each step of sampling saw them, where that was asked for
    """

    id: int
    text: str
    drawn: Drawn
    finish: Literal["stop", "length"] | None
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """When a generation ends, beside the model's own stop tokens; and how many candidates each step shows."""

    max_tokens: int
    stop: tuple[str, ...] = ()
    explain: int = 0


class Output:
    """What one request has been answered so far: draws its tokens, makes text of them, and knows when to stop."""

    __slots__ = ("_decoder", "_eos_ids", "_explain", "_left", "_sampler", "_seen", "_stop", "max_tokens", "prompt")

    def __init__(self, model: Model, prompt: Sequence[int], sampler: Sampler, limits: Limits, window: int) -> None:
        """Begin with nothing; WindowExceeded for a prompt without room for a reply, EngineError for one of another model."""
        vocab_size = model.config.vocab_size
        if not prompt or min(prompt) < 0 or max(prompt) >= vocab_size:
            raise EngineError(f"A prompt is one or more token ids from 0 to {vocab_size - 1}.")
        if len(prompt) >= window:
            raise WindowExceeded(len(prompt), window)
        if limits.max_tokens < 1 or limits.explain < 0:
            raise EngineError("max_tokens must be at least 1, and explain at least 0.")
        self.prompt = tuple(prompt)
        self.max_tokens = min(limits.max_tokens, window - len(prompt))
        self._left = self.max_tokens
        self._explain = limits.explain
        self._eos_ids = model.eos_ids
        self._sampler = sampler
        self._seen = Seen(prompt, vocab_size)
        self._decoder = StreamDecoder(model.tokenizer)
        self._stop = StopText(limits.stop)

    @property
    def most_tokens(self) -> int:
        """How long the sequence can become, prompt included."""
        return len(self.prompt) + self.max_tokens

    def candidates(self, logits: Floats) -> tuple[Candidate, ...]:
        """Show how each step of sampling sees the best tokens, if that was asked for; draws nothing."""
        return self._sampler.explain(logits, self._seen, n=self._explain) if self._explain else ()

    def sample(self, logits: Floats) -> Drawn:
        """Turn scores into probabilities and draw the next token."""
        return self._sampler.draw(logits, self._seen)

    def append(self, drawn: Drawn, candidates: tuple[Candidate, ...] = ()) -> Token:
        """Add a token to the output: which text may go out with it, and whether it was the last."""
        self._left -= 1
        self._seen.add(drawn.id)
        if drawn.id in self._eos_ids:
            return Token(drawn.id, self._rest(""), drawn, "stop", candidates)
        text, stopped = self._stop.push(self._decoder.push(drawn.id))
        if stopped:
            return Token(drawn.id, text, drawn, "stop", candidates)
        if not self._left:
            return Token(drawn.id, self._rest(text), drawn, "length", candidates)
        return Token(drawn.id, text, drawn, None, candidates)

    def _rest(self, text: str) -> str:
        """Give the text with what was held back, since nothing more comes."""
        tail, stopped = self._stop.push(self._decoder.flush())
        return text + tail if stopped else text + tail + self._stop.flush()


def generate(
    model: Model,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    max_tokens: int,
    stop: tuple[str, ...] = (),
    rng: np.random.Generator,
) -> Iterator[Token]:
    """Answer a prompt token by token, until a stop token, a stop string, `max_tokens`, or the end of the window.

    Closing the iterator cancels it. Raises WindowExceeded and EngineError as `Output` says, ValueError for settings that
    the vocabulary does not allow, all before the first token.
    """
    sampling.check_vocabulary(model.config.vocab_size)
    output = Output(model, prompt, Sampler(sampling, rng), Limits(max_tokens, stop), model.window)
    return inference_loop(model.transformer, output)


def inference_loop(transformer: Transformer, output: Output) -> Iterator[Token]:
    """Run THE loop: what happens on every call of every language model.

    The prompt has been encoded: text became token ids.
    """
    cache = transformer.cache(output.most_tokens)
    logits = read_prompt(transformer, output.prompt, cache)  # forward pass: a score for each token of the vocabulary
    while True:
        candidates = output.candidates(logits)
        drawn = output.sample(logits)  # softmax: scores become probabilities; sample: one token is drawn by them
        token = output.append(drawn, candidates)  # append: it is a part of the text now
        yield token
        if token.finish:  # until a stop
            return
        logits = transformer.decode([token.id], [cache])[0]  # forward pass again, one token further


def read_prompt(transformer: Transformer, prompt: Sequence[int], cache: Cache) -> Floats:
    """Read a whole prompt, in the pieces in which a batch reads it too; give the scores of what comes next."""
    while True:
        logits = read_piece(transformer, prompt, cache)
        if logits is not None:
            return logits


def read_piece(transformer: Transformer, prompt: Sequence[int], cache: Cache) -> Floats | None:
    """Read the next piece of a prompt behind what its cache holds; after the last one give the scores of what comes next."""
    hidden = transformer.read(prompt[cache.length : cache.length + PIECE], cache)
    return transformer.logits(hidden[-1:])[0] if cache.length == len(prompt) else None
