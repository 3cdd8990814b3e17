"""From logits to the next token.

The fourth step of the inference loop. The order of the steps is fixed, since another order is another distribution:

1. penalties: repetition (over prompt and output), then presence and frequency (over the output);
2. logit bias. What stands now is the model's distribution, and the log probabilities that are reported are its own;
3. temperature; 0 takes the most probable token and ends here, the lowest id winning a tie;
4. top-k: the k most probable tokens;
5. top-p, of what top-k left: the fewest tokens whose probabilities, renormalised, reach p;
6. min-p: tokens at least min-p times as probable as the best one;
7. the rest renormalised, and one token drawn with one uniform number.

Nothing here knows a model or a text. Chance arrives as a generator, one for each request, so that what else is computed
beside a request never changes its draws.
"""

from collections.abc import Container, Sequence
from math import isfinite
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from penstock.engine.errors import EngineError

Floats = NDArray[np.float32]
Ids = NDArray[np.intp]
Stage = tuple[Ids | None, Floats]
Dropped = Literal["temperature", "top_k", "top_p", "min_p"]

COLDEST = 1e-5
"""Temperatures below this are 0: nothing but the best token has a chance there, and 32-bit numbers no room."""

MOST_TOP_LOGPROBS = 20


class Sampling(Struct, frozen=True):
    """How tokens are drawn. The defaults draw from the model's own distribution.

    temperature         0 or more; 0 always takes the most probable token
    top_k               the number of tokens left; 0 leaves all
    top_p               0 to 1; 1 leaves all, and at least one token is always left
    min_p               0 to 1; 0 leaves all
    seed                the same seed, prompt and settings give the same text; None leaves it to chance
    repetition_penalty  more than 0; above 1 makes tokens of prompt and output less probable (Keskar et al., CTRL, 2019)
    presence_penalty    -2 to 2, taken once from the logit of a token that is in the output
    frequency_penalty   -2 to 2, taken from it once for each time
    logit_bias          pairs of a token id and a number from -100 to 100 that is added to its logit
    top_logprobs        how many alternatives are reported with each token, 0 to 20; None reports none

    Raises `ValueError`, which names the member, its value and the values it may have.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    top_logprobs: int | None = None

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, "0 or more", ok=self.temperature >= 0)
        _check("top_k", self.top_k, "0 or more", ok=self.top_k >= 0)
        _check("top_p", self.top_p, "from 0 to 1", ok=0 <= self.top_p <= 1)
        _check("min_p", self.min_p, "from 0 to 1", ok=0 <= self.min_p <= 1)
        _check("repetition_penalty", self.repetition_penalty, "more than 0", ok=self.repetition_penalty > 0)
        for name in ("presence_penalty", "frequency_penalty"):
            _check(name, getattr(self, name), "from -2 to 2", ok=-2 <= getattr(self, name) <= 2)
        for token, bias in self.logit_bias:
            _check("a token id of logit_bias", token, "0 or more", ok=token >= 0)
            _check(f"logit_bias of token {token}", bias, "from -100 to 100", ok=-100 <= bias <= 100)
        if self.top_logprobs is not None:
            within = 0 <= self.top_logprobs <= MOST_TOP_LOGPROBS
            _check("top_logprobs", self.top_logprobs, f"from 0 to {MOST_TOP_LOGPROBS}", ok=within)

    def check_vocabulary(self, size: int) -> None:
        """Raise `ValueError` where the bias names a token that a vocabulary of `size` tokens does not have."""
        for token, _ in self.logit_bias:
            _check("a token id of logit_bias", token, f"below {size}, the size of the vocabulary", ok=token < size)


class Drawn(Struct, frozen=True):
    """The token that was drawn.

    logprob     its natural log probability in the model's distribution (after penalties and bias, before temperature)
    top         the most probable tokens of that distribution with theirs, the best first, as many as were asked for
    """

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Candidate(Struct, frozen=True):
    """A token as each step saw it.

    logit           after penalties and bias
    probability     the softmax of the logits
    tempered        after temperature
    dropped_by      the step that left it out, or None
    final           the probability it is drawn with
    """

    id: int
    logit: float
    probability: float
    tempered: float
    dropped_by: Dropped | None
    final: float


class Seen:
    """Which tokens the prompt holds, and how often each token was put out: what the penalties look at."""

    __slots__ = ("generated", "present")

    def __init__(self, prompt: Sequence[int], vocabulary: int) -> None:
        """Take the prompt's ids and the number of logits of the model; no id may be beyond it."""
        self.present: NDArray[np.bool_] = np.zeros(vocabulary, dtype=np.bool_)
        self.present[np.asarray(prompt, dtype=np.intp)] = True
        self.generated: dict[int, int] = {}

    def add(self, id: int) -> None:  # noqa: A002  # the field's word for it
        """Count a token that was put out."""
        self.present[id] = True
        self.generated[id] = self.generated.get(id, 0) + 1


class Sampler:
    """Draws the tokens of one request."""

    __slots__ = ("_bias", "_biased", "_rng", "_sampling")

    def __init__(self, sampling: Sampling, rng: np.random.Generator) -> None:
        """Take the request's settings and a generator of its own."""
        self._sampling = sampling
        self._rng = rng
        bias: dict[int, float] = {}
        for token, value in sampling.logit_bias:
            bias[token] = bias.get(token, 0.0) + value
        self._biased: Ids = np.array(list(bias), dtype=np.intp)
        self._bias: Floats = np.array(list(bias.values()), dtype=np.float32)

    def draw(self, logits: Floats, seen: Seen | None = None) -> Drawn:
        """Draw the next token from the logits of all tokens, which are left as they are.

        seen    what the penalties look at; not needed where there are none

        Raises `EngineError` where the logits are no numbers.
        """
        sampling = self._sampling
        logits = self._adjusted(logits, seen)
        best = int(logits.argmax())
        shifted = logits - logits[best]
        weights = np.exp(shifted)
        total = float(weights.sum(dtype=np.float64))
        if not isfinite(total):
            raise EngineError("the model computed logits that are no numbers: its weights are damaged or do not fit it")
        log_total = float(np.log(total))
        if sampling.temperature < COLDEST:
            drawn = best
        else:
            if sampling.temperature != 1.0:
                weights = _tempered(shifted, sampling.temperature)
            ids, left = self._stages(logits, weights)[-1]
            drawn = self._pick(ids, left)
        top: tuple[tuple[int, float], ...] = ()
        if sampling.top_logprobs:
            top = tuple((int(i), float(shifted[i]) - log_total) for i in _best(logits, sampling.top_logprobs))
        return Drawn(drawn, float(shifted[drawn]) - log_total, top)

    def explain(self, logits: Floats, seen: Seen | None = None, *, n: int) -> tuple[Candidate, ...]:
        """Show the `n` most probable tokens as each step sees them, the best first. Draws nothing."""
        logits = self._adjusted(logits, seen)
        shifted = logits - logits.max()
        raw = np.exp(shifted)
        cold = self._sampling.temperature < COLDEST
        if cold:
            tempered = np.zeros_like(raw)
            tempered[int(logits.argmax())] = 1
        else:
            tempered = _tempered(shifted, self._sampling.temperature)
        stages = self._stages(logits, tempered)
        kept = [range(tempered.size) if ids is None else frozenset(ids.tolist()) for ids, _ in stages]
        final_total = stages[-1][1].sum(dtype=np.float64)
        raw_total, tempered_total = raw.sum(dtype=np.float64), tempered.sum(dtype=np.float64)
        return tuple(
            Candidate(
                id=token,
                logit=float(logits[token]),
                probability=float(raw[token] / raw_total),
                tempered=float(tempered[token] / tempered_total),
                dropped_by=_dropped_by(token, kept) if tempered[token] or not cold else "temperature",
                final=float(tempered[token] / final_total) if token in kept[-1] else 0.0,
            )
            for token in map(int, _best(logits, n))
        )

    def _adjusted(self, logits: Floats, seen: Seen | None) -> Floats:
        """Give the logits after penalties and bias; a new array where anything changed."""
        sampling = self._sampling
        penalised = seen is not None and (
            sampling.repetition_penalty != 1.0 or sampling.presence_penalty or sampling.frequency_penalty
        )
        if not penalised and not self._biased.size:
            return logits
        logits = logits.astype(np.float32, copy=True)
        if penalised and seen is not None:
            if sampling.repetition_penalty != 1.0:
                ids = seen.present.nonzero()[0]
                values = logits[ids]
                penalty = np.float32(sampling.repetition_penalty)
                logits[ids] = np.where(values > 0, values / penalty, values * penalty)
            if (sampling.presence_penalty or sampling.frequency_penalty) and seen.generated:
                ids = np.fromiter(seen.generated.keys(), np.intp, len(seen.generated))
                counts = np.fromiter(seen.generated.values(), np.float32, len(seen.generated))
                logits[ids] -= np.float32(sampling.presence_penalty) + np.float32(sampling.frequency_penalty) * counts
        within = self._biased < logits.size
        logits[self._biased[within]] += self._bias[within]
        return logits

    def _stages(self, logits: Floats, weights: Floats) -> list[Stage]:
        """Give what top-k, then top-p, then min-p leaves: the ids, rising (None: all), and their weights.

        Weights may be equal where logits are not, so the logits decide then: top-k 1 and top-p 0 take the best token.
        """
        sampling = self._sampling
        ids: Ids | None = None
        stages: list[Stage] = []
        if 0 < sampling.top_k < weights.size:
            ids = _largest(logits, sampling.top_k)
            logits, weights = logits[ids], weights[ids]
        stages.append((ids, weights))
        if sampling.top_p < 1.0:
            left = _nucleus(logits, weights, sampling.top_p)
            ids, weights = left if ids is None else ids[left], weights[left]
        stages.append((ids, weights))
        if sampling.min_p:
            left = (weights >= sampling.min_p * float(weights.max())).nonzero()[0]
            ids, weights = left if ids is None else ids[left], weights[left]
        stages.append((ids, weights))
        return stages

    def _pick(self, ids: Ids | None, weights: Floats) -> int:
        """Draw one token by its weight, with one uniform number from the generator; never one that weighs nothing."""
        sums = weights.cumsum(dtype=np.float64)
        at = int(sums.searchsorted(self._rng.random() * sums[-1], side="right"))
        if at == sums.size:  # the product was rounded up to the whole sum
            at = int(sums.searchsorted(sums[-1], side="left"))
        return at if ids is None else int(ids[at])


def seeded(seed: int | None, entropy: int) -> np.random.Generator:
    """Give the generator of one request: by its seed, else by `entropy`, fresh chance that the caller brings.

    Seeds may be negative, as the wire formats allow. A seed and the same number as entropy give different generators.
    """
    if seed is None:
        return np.random.Generator(np.random.PCG64((0, abs(entropy))))
    return np.random.Generator(np.random.PCG64((1 if seed >= 0 else 2, abs(seed))))


def _tempered(shifted: Floats, temperature: float) -> Floats:
    """Give weights in proportion to the probabilities at a temperature; `shifted` are logits with their maximum at 0."""
    with np.errstate(over="ignore"):  # what falls below the least number weighs nothing
        weights: Floats = np.exp(shifted / np.float32(temperature))
    return weights


def _largest(values: Floats, n: int) -> Ids:
    """Give the places of the `n` largest values, rising; of equal values the first ones."""
    least = np.partition(values, values.size - n)[values.size - n]
    chosen = values > least
    chosen[(values == least).nonzero()[0][: n - int(np.count_nonzero(chosen))]] = True
    ids: Ids = chosen.nonzero()[0]
    return ids


def _nucleus(logits: Floats, weights: Floats, p: float) -> Ids:
    """Give the places of the fewest largest weights whose sum reaches the part `p` of all, rising.

    Weights below (1 - p) / n of the sum are less than the part 1 - p together, so they are not sorted.
    """
    total = float(weights.sum(dtype=np.float64))
    ordered = np.sort(weights[weights >= (1.0 - p) * total / weights.size])[::-1]
    reached = int(ordered.cumsum(dtype=np.float64).searchsorted(p * total, side="left")) + 1
    n = min(reached, ordered.size)
    chosen = weights > ordered[n - 1]
    equal, room = (weights == ordered[n - 1]).nonzero()[0], n - int(np.count_nonzero(chosen))
    chosen[equal if equal.size == room else equal[_largest(logits[equal], room)]] = True
    ids: Ids = chosen.nonzero()[0]
    return ids


def _best(logits: Floats, n: int) -> Ids:
    """Give the `n` tokens with the largest logits, the largest first, of equal ones the lowest id."""
    if n < 1:
        return np.empty(0, dtype=np.intp)
    ids = _largest(logits, min(n, logits.size))
    return ids[np.argsort(-logits[ids], kind="stable")]


def _dropped_by(token: int, kept: Sequence[Container[int]]) -> Dropped | None:
    """Give the first of the three steps that did not keep a token."""
    names: tuple[Dropped, ...] = ("top_k", "top_p", "min_p")
    return next((name for name, left in zip(names, kept, strict=True) if token not in left), None)


def _check(name: str, value: float, allowed: str, *, ok: bool) -> None:
    if not (ok and isfinite(value)):
        raise ValueError(f"{name} is {value}, but must be {allowed}")
