"""Continuous batching: several requests share each pass through the weights, and come and go at any step.

Reading the weights from memory is what a step costs, so eight requests in one step cost little more than one. A request
that comes is read piece by piece between the steps of the others, at most one piece per step, so that nobody waits long
for somebody else's prompt. What a request is answered never depends on the others: see `linear.py` for the arithmetic;
its draws come from a generator of its own, and the pieces of its prompt are cut by its own length only.

Not for several threads at once: whoever owns a batch calls one method after the other. Knows no queue and no time.
"""

from collections.abc import Sequence

import numpy as np

from penstock.engine.cache import Cache
from penstock.engine.errors import Full
from penstock.engine.folder import Model
from penstock.engine.generate import PIECE, Floats, Limits, Output, Token, read_piece
from penstock.engine.sampler import Sampler, Sampling


class _Request:
    """One request in the batch: being read while `last` is None, then answered."""

    __slots__ = ("cache", "last", "output", "ticket")

    def __init__(self, ticket: int, output: Output, cache: Cache) -> None:
        self.ticket = ticket
        self.output = output
        self.cache = cache
        self.last: int | None = None

    @property
    def pieces_left(self) -> int:
        return -(-(len(self.output.prompt) - self.cache.length) // PIECE)

    def take(self, logits: Floats) -> Token:
        """Go one token further by the scores of what comes next."""
        output = self.output
        candidates = output.candidates(logits)
        token = output.append(output.sample(logits), candidates)
        self.last = token.id
        return token


class Batch:
    """At most `slots` requests, each in a window of its own of at most `window` tokens (the model's, if not said)."""

    __slots__ = ("_model", "_next_ticket", "_oldest_first", "_requests", "slots", "window")

    def __init__(self, model: Model, *, slots: int, window: int | None = None) -> None:
        """Make an empty batch; ValueError for no slots, or a window that holds no prompt and reply."""
        if slots < 1 or (window is not None and window < 2):
            raise ValueError("A batch needs at least 1 slot and a window of at least 2 tokens.")
        self._model = model
        self._requests: dict[int, _Request] = {}
        self._next_ticket = 1
        self._oldest_first = False
        self.slots = slots
        self.window = model.window if window is None else min(window, model.window)

    @property
    def active(self) -> int:
        """How many requests are in the batch."""
        return len(self._requests)

    def add(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        max_tokens: int,
        stop: tuple[str, ...] = (),
        rng: np.random.Generator,
        explain: int = 0,
    ) -> int:
        """Take a request in; give the ticket that its tokens carry. Computes nothing yet.

        Raises Full without a free slot; WindowExceeded, EngineError and ValueError as `generate` does.
        """
        if len(self._requests) >= self.slots:
            raise Full(f"All {self.slots} slots are taken: wait until a request has ended.")
        model = self._model
        sampling.check_vocabulary(model.config.vocab_size)
        output = Output(model, prompt, Sampler(sampling, rng), Limits(max_tokens, stop, explain), self.window)
        ticket = self._next_ticket
        self._next_ticket += 1
        self._requests[ticket] = _Request(ticket, output, model.transformer.cache(output.most_tokens))
        return ticket

    def step(self) -> list[tuple[int, Token]]:
        """Go one token further with every request that is being answered, and read one piece of a new prompt.

        Gives the tokens with their tickets; a request whose token says how it finished is no longer in the batch. Raises
        EngineError where the model computes no numbers; the batch is of no use then.
        """
        answered = [request for request in self._requests.values() if request.last is not None]
        reading = self._next_to_read()
        tokens = []
        if answered:
            ids = [request.last for request in answered if request.last is not None]
            logits = self._model.transformer.decode(ids, [request.cache for request in answered])
            tokens = [(request.ticket, request.take(row)) for request, row in zip(answered, logits, strict=True)]
        if reading is not None:
            row = read_piece(self._model.transformer, reading.output.prompt, reading.cache)
            if row is not None:
                tokens.append((reading.ticket, reading.take(row)))
        for ticket, token in tokens:
            if token.finish:
                del self._requests[ticket]
        return tokens

    def cancel(self, ticket: int) -> None:
        """Take a request out between two steps and free its memory; nothing happens if it has ended already."""
        self._requests.pop(ticket, None)

    def _next_to_read(self) -> _Request | None:
        """Choose whose prompt goes on: in turn the one with the fewest pieces left, and the one that came first.

        So short prompts need not wait for long ones, and long ones get half of the pieces however many short ones come.
        """
        waiting = [request for request in self._requests.values() if request.last is None]
        if not waiting:
            return None
        self._oldest_first = not self._oldest_first
        return min(waiting, key=lambda request: 0 if self._oldest_first else request.pieces_left)
