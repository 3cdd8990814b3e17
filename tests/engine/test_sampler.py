"""Draws are counted and compared with the distribution that the definition gives, computed here in another way."""

import math
import time
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from penstock.engine.errors import EngineError
from penstock.engine.sampler import COLDEST, Sampler, Sampling, Seen, seeded

DRAWS = 20_000
VOCABULARY = 24
PROMPT = (1, 2, 2, 7)
OUTPUT = (3, 3, 3, 2, 9)


def some_logits(seed: int = 0, size: int = VOCABULARY, scale: float = 2.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(size=size) * scale).astype(np.float32)


def seen_tokens(size: int = VOCABULARY) -> Seen:
    seen = Seen(PROMPT, size)
    for token in OUTPUT:
        seen.add(token)
    return seen


def adjusted(logits: NDArray[np.float32], sampling: Sampling) -> list[float]:
    """Penalties, then bias, token by token."""
    found = []
    for token, logit in enumerate(map(float, logits)):
        penalty = sampling.repetition_penalty if token in PROMPT + OUTPUT else 1.0
        penalised = logit / penalty if logit > 0 else logit * penalty
        penalised -= sampling.presence_penalty * (token in OUTPUT) + sampling.frequency_penalty * OUTPUT.count(token)
        found.append(penalised + sum(bias for biased, bias in sampling.logit_bias if biased == token))
    return found


def softmax(logits: Mapping[int, float]) -> dict[int, float]:
    best = max(logits.values())
    weights = {token: math.exp(logit - best) for token, logit in logits.items()}
    total = math.fsum(weights.values())
    return {token: weight / total for token, weight in weights.items()}


def exact(logits: NDArray[np.float32], sampling: Sampling) -> dict[int, float]:
    """The distribution as the definition gives it: plain Python, one step after the other, on sorted lists."""
    changed = dict(enumerate(adjusted(logits, sampling)))
    if sampling.temperature == 0:
        return {min(changed, key=lambda token: (-changed[token], token)): 1.0}
    left = softmax({token: logit / sampling.temperature for token, logit in changed.items()})
    ranked = sorted(left, key=lambda token: (-left[token], token))
    if sampling.top_k:
        ranked = ranked[: sampling.top_k]
    if sampling.top_p < 1:
        whole = math.fsum(left[token] for token in ranked)
        reached = 0.0
        for number, token in enumerate(ranked, 1):
            reached += left[token] / whole
            if reached >= sampling.top_p:
                ranked = ranked[:number]
                break
    if sampling.min_p:
        ranked = [token for token in ranked if left[token] >= sampling.min_p * left[ranked[0]]]
    whole = math.fsum(left[token] for token in ranked)
    return {token: left[token] / whole for token in ranked}


def chi_square_limit(freedom: int) -> float:
    """The value that chance exceeds once in 100,000 times (Wilson and Hilferty, 1931)."""
    return float(freedom * (1 - 2 / (9 * freedom) + 4.265 * math.sqrt(2 / (9 * freedom))) ** 3)


SETTINGS = {
    "as it is": Sampling(),
    "cold": Sampling(temperature=0.5),
    "hot": Sampling(temperature=1.7),
    "zero": Sampling(temperature=0),
    "top-k": Sampling(top_k=5),
    "top-k of one": Sampling(top_k=1),
    "top-k of more than there are": Sampling(top_k=1000),
    "top-p": Sampling(top_p=0.8),
    "a small top-p": Sampling(top_p=0.01),
    "no top-p": Sampling(top_p=0),
    "min-p": Sampling(min_p=0.1),
    "min-p of one": Sampling(min_p=1),
    "repetition penalty": Sampling(repetition_penalty=1.5),
    "repetition reward": Sampling(repetition_penalty=0.7),
    "presence penalty": Sampling(presence_penalty=1.2),
    "frequency penalty": Sampling(frequency_penalty=0.6),
    "frequency reward": Sampling(frequency_penalty=-0.6),
    "bias": Sampling(logit_bias=((0, 3.0), (5, -100.0), (0, -1.0), (VOCABULARY + 5, 50.0))),
    "cold top-k and top-p": Sampling(temperature=0.8, top_k=8, top_p=0.9),
    "everything": Sampling(
        temperature=1.3,
        top_k=12,
        top_p=0.92,
        min_p=0.04,
        repetition_penalty=1.2,
        presence_penalty=0.4,
        frequency_penalty=0.3,
        logit_bias=((4, 2.0), (11, -1.5)),
    ),
}


@pytest.mark.parametrize("sampling", [pytest.param(value, id=name) for name, value in SETTINGS.items()])
def test_draws_follow_the_exact_distribution(sampling: Sampling) -> None:
    logits = some_logits()
    expected = exact(logits, sampling)
    sampler, seen = Sampler(sampling, seeded(7, 0)), seen_tokens()
    counts = np.bincount([sampler.draw(logits, seen).id for _ in range(DRAWS)], minlength=VOCABULARY)

    assert {token for token in range(VOCABULARY) if counts[token]} <= expected.keys()
    statistic = sum((counts[token] - DRAWS * part) ** 2 / (DRAWS * part) for token, part in expected.items())
    assert statistic <= chi_square_limit(max(1, len(expected) - 1)), (statistic, expected)


@pytest.mark.parametrize("sampling", [pytest.param(value, id=name) for name, value in SETTINGS.items()])
def test_the_candidates_add_up_and_are_what_is_drawn_from(sampling: Sampling) -> None:
    for seed in range(20):
        logits = some_logits(seed)
        before = logits.copy()
        expected, changed = exact(logits, sampling), adjusted(logits, sampling)
        raw = softmax(dict(enumerate(changed)))
        sampler = Sampler(sampling, seeded(7, 0))
        found = sampler.explain(logits, seen_tokens(), n=VOCABULARY)

        assert sorted(candidate.id for candidate in found) == list(range(VOCABULARY))
        assert [c.logit for c in found] == sorted((c.logit for c in found), reverse=True)
        for total in (c.probability for c in found), (c.tempered for c in found), (c.final for c in found):
            assert math.fsum(total) == pytest.approx(1, abs=1e-5)
        for candidate in found:
            assert candidate.logit == pytest.approx(changed[candidate.id], rel=1e-5, abs=1e-4)
            assert candidate.probability == pytest.approx(raw[candidate.id], rel=1e-3, abs=1e-9)
            assert candidate.final == pytest.approx(expected.get(candidate.id, 0), rel=1e-3, abs=1e-9)
            assert (candidate.dropped_by is None) == (candidate.id in expected)
        drawn = sampler.draw(logits, seen_tokens())
        one = next(candidate for candidate in found if candidate.id == drawn.id)
        assert one.final > 0
        assert drawn.logprob == pytest.approx(math.log(one.probability), abs=1e-4)
        assert (logits == before).all(), "the model's logits are left as they are"


def test_each_candidate_names_the_step_that_dropped_it() -> None:
    logits = np.log(np.array([0.4, 0.3, 0.15, 0.1, 0.05], dtype=np.float32))
    found = Sampler(Sampling(top_k=4, top_p=0.85, min_p=0.5), seeded(1, 0)).explain(logits, n=5)

    assert [candidate.dropped_by for candidate in found] == [None, None, "min_p", "top_p", "top_k"]
    cold = Sampler(Sampling(temperature=0), seeded(1, 0)).explain(logits, n=3)
    assert [candidate.dropped_by for candidate in cold] == [None, "temperature", "temperature"]
    assert [candidate.final for candidate in cold] == [1, 0, 0]
    assert Sampler(Sampling(), seeded(1, 0)).explain(logits, n=0) == ()


def test_the_steps_come_in_the_order_that_is_written_down() -> None:
    """Each case would give another set of tokens if two neighbouring steps changed places."""
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1], dtype=np.float32))

    def kept(sampling: Sampling, seen: Seen | None = None) -> set[int]:
        return {c.id for c in Sampler(sampling, seeded(1, 0)).explain(logits, seen, n=4) if c.dropped_by is None}

    # Bias after penalties: the penalty halves a negative logit's distance before the bias lifts it, not afterwards.
    seen = Seen((3,), 4)
    one = Sampler(Sampling(repetition_penalty=2.0, logit_bias=((3, 2.0),)), seeded(1, 0)).explain(logits, seen, n=4)
    assert next(c.logit for c in one if c.id == 3) == pytest.approx(2 * math.log(0.1) + 2, rel=1e-5)
    # Temperature before top-p: hot, the best two no longer reach 0.65, as they do at temperature 1.
    assert kept(Sampling(top_p=0.65)) == {0, 1}
    assert kept(Sampling(top_p=0.65, temperature=4)) == {0, 1, 2}
    # Top-k before top-p: of three tokens the best two are 0.78, of all only 0.7.
    assert kept(Sampling(top_k=3, top_p=0.75)) == {0, 1}
    assert kept(Sampling(top_p=0.75)) == {0, 1, 2}
    # Temperature before min-p: cold, the second is below 0.6 of the best.
    assert kept(Sampling(min_p=0.6)) == {0, 1}
    assert kept(Sampling(min_p=0.6, temperature=0.5)) == {0}


def test_at_temperature_zero_the_best_token_is_taken_and_the_lowest_id_wins_a_tie() -> None:
    logits = np.array([1, 5, 5, 5, 2], dtype=np.float32)

    for temperature in (0, COLDEST / 2):
        assert Sampler(Sampling(temperature=temperature), seeded(3, 0)).draw(logits).id == 1
    assert Sampler(Sampling(temperature=0, logit_bias=((4, 4.0),)), seeded(3, 0)).draw(logits).id == 4


def test_the_first_ids_win_where_top_k_or_top_p_must_choose_among_equals() -> None:
    equal = np.zeros(10, dtype=np.float32)

    for sampling in (Sampling(top_k=3), Sampling(top_p=0.3)):
        found = Sampler(sampling, seeded(1, 0)).explain(equal, n=10)
        assert [candidate.id for candidate in found if candidate.dropped_by is None] == [0, 1, 2]


@pytest.mark.parametrize("sampling", [Sampling(temperature=3, top_k=1), Sampling(temperature=3, top_p=0)])
def test_one_token_left_is_the_best_one_also_where_probabilities_round_to_the_same(sampling: Sampling) -> None:
    logits = np.array([0, 1e-9, 3e-9, 2e-9], dtype=np.float32)

    assert Sampler(sampling, seeded(1, 0)).draw(logits).id == 2


def test_the_same_seed_draws_the_same_tokens_and_another_seed_others() -> None:
    logits = some_logits(scale=0.5)

    def draws(seed: int | None, entropy: int = 1) -> list[int]:
        sampler = Sampler(Sampling(seed=seed), seeded(seed, entropy))
        return [sampler.draw(logits).id for _ in range(50)]

    assert draws(5) == draws(5, entropy=99)
    assert draws(None, 5) == draws(None, 5)
    assert len({tuple(draws(*pair)) for pair in ((5,), (-5,), (6,), (0,), (None, 5), (None, 6), (1 << 80,))}) == 7


def test_reported_log_probabilities_are_the_models_own_after_penalties_and_bias() -> None:
    logits = some_logits(3)
    sampling = Sampling(temperature=0.3, top_k=2, logit_bias=((5, 4.0),), presence_penalty=1.0, top_logprobs=4)
    raw = softmax(dict(enumerate(adjusted(logits, sampling))))
    drawn = Sampler(sampling, seeded(1, 0)).draw(logits, seen_tokens())

    assert drawn.logprob == pytest.approx(math.log(raw[drawn.id]), abs=1e-5)
    assert [token for token, _ in drawn.top] == sorted(raw, key=lambda token: -raw[token])[:4]
    for token, logprob in drawn.top:
        assert logprob == pytest.approx(math.log(raw[token]), abs=1e-5)
    assert Sampler(Sampling(top_logprobs=0), seeded(1, 0)).draw(logits).top == ()
    assert len(Sampler(Sampling(top_logprobs=20), seeded(1, 0)).draw(logits[:3]).top) == 3


def test_penalties_need_what_was_seen_and_count_only_what_it_says() -> None:
    logits = some_logits()
    penalised = Sampling(temperature=0, frequency_penalty=2.0)

    assert Sampler(penalised, seeded(1, 0)).draw(logits).id == int(logits.argmax())
    assert Sampler(penalised, seeded(1, 0)).draw(logits, Seen((), VOCABULARY)).id == int(logits.argmax())
    often = Seen((), VOCABULARY)
    for _ in range(50):
        often.add(int(logits.argmax()))
    assert Sampler(penalised, seeded(1, 0)).draw(logits, often).id != int(logits.argmax())


def test_tokens_that_weigh_nothing_are_never_drawn() -> None:
    logits = np.full(50, -np.inf, dtype=np.float32)
    logits[[7, 20]] = 0
    sampler = Sampler(Sampling(), seeded(1, 0))

    assert {sampler.draw(logits).id for _ in range(200)} == {7, 20}
    tiny = Sampler(Sampling(temperature=2e-5), seeded(1, 0))
    assert {tiny.draw(some_logits()).id for _ in range(50)} == {int(some_logits().argmax())}


class Uniform:
    """A generator that always gives the same number."""

    def __init__(self, number: float) -> None:
        self._number = number

    def random(self) -> float:
        return self._number


@pytest.mark.parametrize(("number", "token"), [(0.0, 1), (0.4999, 1), (0.5, 2), (1 - 2**-53, 2), (1.0, 2)])
def test_the_ends_of_the_uniform_number_choose_tokens_that_have_a_chance(number: float, token: int) -> None:
    logits = np.array([-np.inf, 0, 0, -np.inf], dtype=np.float32)

    assert Sampler(Sampling(), Uniform(number)).draw(logits).id == token  # type: ignore[arg-type]


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(broken: float) -> None:
    logits = some_logits()
    logits[3] = broken

    with np.errstate(invalid="ignore"), pytest.raises(EngineError, match="logits that are no numbers"):
        Sampler(Sampling(), seeded(1, 0)).draw(logits)


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("temperature", -0.1, "temperature is -0.1, but must be 0 or more"),
        ("temperature", math.inf, "temperature is inf"),
        ("temperature", math.nan, "temperature is nan"),
        ("top_k", -1, "top_k is -1, but must be 0 or more"),
        ("top_p", 1.1, "top_p is 1.1, but must be from 0 to 1"),
        ("min_p", -1, "min_p is -1"),
        ("repetition_penalty", 0, "repetition_penalty is 0, but must be more than 0"),
        ("presence_penalty", 2.5, "presence_penalty is 2.5, but must be from -2 to 2"),
        ("frequency_penalty", math.nan, "frequency_penalty is nan"),
        ("logit_bias", ((-1, 0.0),), "a token id of logit_bias is -1"),
        ("logit_bias", ((1, 101.0),), "logit_bias of token 1 is 101.0, but must be from -100 to 100"),
        ("top_logprobs", 21, "top_logprobs is 21, but must be from 0 to 20"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(member: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**{member: value})  # type: ignore[arg-type]


def test_a_bias_for_a_token_that_the_model_lacks_can_be_found_beforehand() -> None:
    sampling = Sampling(logit_bias=((5, 1.0),))
    sampling.check_vocabulary(6)

    with pytest.raises(ValueError, match="must be below 5, the size of the vocabulary"):
        sampling.check_vocabulary(5)


@settings(deadline=None)
@given(
    st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=60),
    st.builds(
        Sampling,
        temperature=st.floats(0.1, 3),
        top_k=st.integers(0, 70),
        top_p=st.floats(0, 1),
        min_p=st.floats(0, 1),
    ),
)
def test_whatever_the_settings_what_is_kept_adds_up_and_something_is_kept(
    values: list[float], sampling: Sampling
) -> None:
    logits = np.array(values, dtype=np.float32)
    sampler = Sampler(sampling, seeded(1, 0))
    found = sampler.explain(logits, n=len(values))
    kept = {candidate.id for candidate in found if candidate.dropped_by is None}

    assert math.fsum(candidate.final for candidate in found) == pytest.approx(1, abs=1e-5)
    assert sampler.draw(logits).id in kept
    assert int(logits.argmax()) in kept
    assert all((candidate.final == 0) for candidate in found if candidate.id not in kept)


@pytest.mark.parametrize(("size", "limit_us"), [(4_096, 30), (128_256, 2_000)])
def test_a_draw_is_quick(size: int, limit_us: float) -> None:
    """Ten times the time that it takes where nothing else runs."""
    logits = some_logits(1, size)
    sampler = Sampler(Sampling(temperature=0.7, top_p=0.9), seeded(1, 0))
    spent = []
    for _ in range(20):
        start = time.perf_counter()
        sampler.draw(logits)
        spent.append(time.perf_counter() - start)

    assert min(spent) * 1e6 < 10 * limit_us
