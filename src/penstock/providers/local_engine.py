"""The embedded model with its batch, as the worker's thread uses it: orders in, the events of each token out.

Every method runs in that thread. What the engine refuses comes out as an error of the line. Place in the line: `local.py`
loads it with the first call, and NumPy with it.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from secrets import randbits, token_hex
from typing import TypeVar

from msgspec import Struct
from msgspec.json import encode

from penstock.engine.batch import Batch
from penstock.engine.errors import BadModel, EngineError, Full, WindowExceeded
from penstock.engine.folder import Model, load, mini
from penstock.engine.generate import Token
from penstock.engine.sampler import Sampling, seeded
from penstock.engine.threads import limit_blas_threads
from penstock.errors import ContextOverflow, InvalidRequest, PenstockError, UpstreamFailed
from penstock.providers.local_prompt import Order, Piece, token_bias
from penstock.reply import Event, Finished, ForeignDelta, Logprob, LogprobsDelta, TextDelta

T = TypeVar("T")

TOKEN_CHARACTERS = 256
"""No token of any vocabulary that is known stands for more; a prompt beyond it need not be read to be refused."""

SHORTEN = "Shorten the prompt, or begin a new conversation."

UNBOUNDED = 1_000_000_000
"""More tokens than any window holds: the window is the bound."""


class _Shown(Struct, frozen=True):
    """A candidate of one step, as `penstock ask --explain` tells it."""

    id: int
    token: str
    logit: float
    probability: float
    tempered: float
    dropped_by: str | None
    final: float


class _Explained(Struct, frozen=True):
    """One step: what was drawn, and from what."""

    id: int
    token: str
    candidates: tuple[_Shown, ...]


class LocalEngine:
    """One model; `folder` None is penstock-mini, which takes the most probable token where no temperature is asked for."""

    def __init__(self, folder: Path | None, slots: int, window: int | None, threads: int) -> None:
        """Load the model. Raises UpstreamFailed, which says what is wrong with the folder."""
        limit_blas_threads(threads)
        try:
            self._model: Model = load(mini() if folder is None else folder)
        except BadModel as error:
            raise UpstreamFailed(f"The local model cannot be loaded: {error}") from error
        self._steady = folder is None
        self._batch = Batch(self._model, slots=slots, window=window)
        self._orders: dict[int, tuple[Order, int, int]] = {}  # by ticket: with its choice and the length of its prompt

    @property
    def free(self) -> int:
        """How many choices may still be taken in. An empty batch takes any call, since waiting would not help one too large."""
        return self._batch.slots - self._batch.active if self._batch.active else UNBOUNDED

    def prompt(self, order: Order) -> list[int]:
        """Give the prompt's tokens. Raises InvalidRequest where the template refuses the messages.

        What is surely too long raises ContextOverflow unread, since every other call would wait for its reading.
        Only the template may write control tokens: what looks like one in a message is kept apart while the template works,
        and read as plain text.
        """
        model, template = self._model, self._model.template
        characters = sum(len(message["content"]) for message in order.messages)
        if characters > self._batch.window * TOKEN_CHARACTERS:
            raise ContextOverflow(
                f"The prompt has {characters} characters, more than a context window of {self._batch.window} tokens holds.",
                hint=SHORTEN,
                param="messages",
            )
        if template is None:
            return model.tokenizer.encode("\n".join(message["content"] for message in order.messages))
        said = "".join(message["content"] for message in order.messages)
        controls = [text for text in model.tokenizer.special if text in said]
        if not controls:
            rendered = _allowed(lambda: template.render(order.messages))
            return model.tokenizer.encode(rendered, special=True)
        mark = f"\ue000{token_hex(8)}\ue001"
        pattern = re.compile("|".join(sorted(map(re.escape, controls), key=len, reverse=True)))
        kept = pattern.findall("\0".join(message["content"] for message in order.messages))
        masked = [message | {"content": pattern.sub(mark, message["content"])} for message in order.messages]
        pieces = _allowed(lambda: template.render(masked)).split(mark)
        if len(pieces) != len(kept) + 1:
            raise InvalidRequest(
                "A message holds the text of a control token, which this model's template moves about."
            )
        tokens = model.tokenizer.encode(pieces[0], special=True)
        for text, piece in zip(kept, pieces[1:], strict=True):
            tokens += model.tokenizer.encode(text) + model.tokenizer.encode(piece, special=True)
        return tokens

    def begin(self, order: Order) -> Sequence[int]:
        """Take a call in; a ticket for each choice. Raises ContextOverflow or InvalidRequest."""
        prompt = self.prompt(order)
        sampling = _allowed(lambda: self._sampling(order))
        asked = order.call.sampling
        tickets: list[int] = []
        try:
            for number in range(order.choices):
                seed = None if asked.seed is None else asked.seed + number
                ticket = self._batch.add(
                    prompt,
                    sampling,
                    max_tokens=asked.max_tokens or UNBOUNDED,
                    stop=asked.stop,
                    rng=seeded(seed, randbits(64)),
                    explain=order.explain,
                )
                tickets.append(ticket)
                self._orders[ticket] = (order, number, len(prompt))
        except ValueError as error:  # an EngineError is one
            for ticket in tickets:
                self.cancel(ticket)
            raise self._refused(error) from None
        return tickets

    def step(self) -> Sequence[tuple[int, Piece, bool]]:
        """Go one token further with all. Raises UpstreamFailed where the model computes no numbers."""
        try:
            tokens = self._batch.step()
        except EngineError as error:
            raise UpstreamFailed(f"The local model failed: {error}") from error
        return [(ticket, self._piece(ticket, token), token.finish is not None) for ticket, token in tokens]

    def cancel(self, ticket: int) -> None:
        """Take a choice out."""
        self._batch.cancel(ticket)
        self._orders.pop(ticket, None)

    def _sampling(self, order: Order) -> Sampling:
        asked = order.call.sampling
        temperature = asked.temperature
        if temperature is None:
            temperature = 0.0 if self._steady else 1.0
        return Sampling(
            temperature=temperature,
            top_k=max(0, asked.top_k or 0),
            top_p=1.0 if asked.top_p is None else asked.top_p,
            min_p=asked.min_p or 0.0,
            seed=asked.seed,
            presence_penalty=asked.presence_penalty or 0.0,
            frequency_penalty=asked.frequency_penalty or 0.0,
            logit_bias=token_bias(order.call),
            top_logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
        )

    def _refused(self, error: ValueError) -> PenstockError:
        if isinstance(error, WindowExceeded):
            return ContextOverflow(str(error), hint=SHORTEN, param="messages")
        if isinstance(error, Full):
            return InvalidRequest(f"This model gives at most {self._batch.slots} choices of an answer.", param="n")
        return InvalidRequest(f"The local model cannot take this: {error}")

    def _piece(self, ticket: int, token: Token) -> Piece:
        order, choice, prompt_tokens = self._orders[ticket]
        events: list[Event] = []
        if token.text:
            events.append(TextDelta(token.text, choice))
        if order.call.sampling.logprobs and token.id not in self._model.eos_ids:
            events.append(LogprobsDelta((self._logprob(token),), choice=choice))
        if token.candidates:
            events.append(ForeignDelta("engine", "candidates", encode(self._explained(token)), choice))
        if token.finish is not None:
            del self._orders[ticket]
            events.append(Finished(token.finish, token.finish, choice))
        return Piece(tuple(events), prompt_tokens)

    def _logprob(self, token: Token) -> Logprob:
        drawn = token.drawn
        return self._alternative(drawn.id, drawn.logprob, tuple(self._alternative(*one) for one in drawn.top))

    def _alternative(self, token_id: int, logprob: float, top: tuple[Logprob, ...] = ()) -> Logprob:
        said = self._model.tokenizer.token_bytes(token_id)
        return Logprob(said.decode("utf-8", "replace"), float(logprob), tuple(said), top)

    def _explained(self, token: Token) -> _Explained:
        shown = [
            _Shown(one.id, self._text(one.id), one.logit, one.probability, one.tempered, one.dropped_by, one.final)
            for one in token.candidates
        ]
        return _Explained(token.id, self._text(token.id), tuple(shown))

    def _text(self, token_id: int) -> str:
        return self._model.tokenizer.token_bytes(token_id).decode("utf-8", "replace")


def _allowed(make: Callable[[], T]) -> T:
    """Do what the engine may refuse, as InvalidRequest."""
    try:
        return make()
    except ValueError as error:
        raise InvalidRequest(f"The local model cannot take this: {error}") from None
