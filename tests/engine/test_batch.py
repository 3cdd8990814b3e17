"""Several requests at once: each gets what it would get alone, and nobody waits long for anybody."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.random_models import LLAMA, MISTRAL, QWEN2, write_folder

from penstock.engine.batch import Batch
from penstock.engine.errors import EngineError, Full, WindowExceeded
from penstock.engine.folder import load
from penstock.engine.generate import PIECE, generate
from penstock.engine.sampler import Sampling, seeded

GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    files = {"llama": (LLAMA, "F32"), "mistral": (MISTRAL, "F16"), "qwen2": (QWEN2, "BF16")}
    return {name: load(write_folder(folder / name, file, dtype=dtype)) for name, (file, dtype) in files.items()}


@pytest.fixture
def model(models):
    return models["llama"]


def prompt(length, seed=0):
    return np.random.default_rng(seed).integers(4, 288, length).tolist()


def add(batch, length=9, *, max_tokens=10, sampling=GREEDY, seed=0, **more):
    return batch.add(prompt(length, seed), sampling, max_tokens=max_tokens, rng=seeded(seed, 0), **more)


def run(batch):
    """Step until everybody is answered: ticket to tokens."""
    found = {}
    while batch.active:
        for ticket, token in batch.step():
            found.setdefault(ticket, []).append(token)
    return found


REQUESTS = st.fixed_dictionaries(
    {
        "length": st.integers(1, 3 * PIECE + 2),
        "max_tokens": st.integers(1, 24),
        "sampling": st.sampled_from(
            [
                GREEDY,
                Sampling(),
                Sampling(temperature=0.6, top_p=0.8, top_logprobs=3),
                Sampling(top_k=9, presence_penalty=1.5),
            ]
        ),
        "seed": st.integers(0, 99),
        "stop": st.sampled_from([(), ("th",), ("a", " ")]),
    }
)


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(["llama", "mistral", "qwen2"]),
    requests=st.lists(REQUESTS, min_size=1, max_size=9),
    data=st.data(),
)
def test_same_seed_same_text_alone_or_in_a_batch_whatever_the_others_do(models, name, requests, data):
    """Requests come at any step, are read in pieces, end and are cancelled; log probabilities are equal to the last bit."""
    model, batch = models[name], Batch(models[name], slots=4)
    waiting, tickets, found, cancelled = list(enumerate(requests)), {}, {}, set()
    while waiting or batch.active:
        if waiting and batch.active < 4 and (not batch.active or data.draw(st.booleans(), label="one comes")):
            number, request = waiting.pop()
            tickets[add(batch, **request)] = number
        for ticket, token in batch.step():
            found.setdefault(tickets[ticket], []).append(token)
        if tickets and data.draw(st.integers(0, 19), label="one is cancelled if 0") == 0:
            ticket = data.draw(st.sampled_from(sorted(tickets)), label="which")
            batch.cancel(ticket)
            cancelled.add(tickets[ticket])
    for number, request in enumerate(requests):
        alone = generate(
            model,
            prompt(request["length"], request["seed"]),
            request["sampling"],
            max_tokens=request["max_tokens"],
            stop=request["stop"],
            rng=seeded(request["seed"], 0),
        )
        want, got = list(alone), found.get(number, [])
        assert got == (want[: len(got)] if number in cancelled else want)


def test_tokens_carry_the_ticket_of_their_request_and_an_ended_one_leaves(model):
    batch = Batch(model, slots=3)
    short, long = add(batch, max_tokens=2), add(batch, max_tokens=5, seed=1)
    found = run(batch)

    assert short != long
    assert {ticket: len(tokens) for ticket, tokens in found.items()} == {short: 2, long: 5}
    assert {ticket: tokens[-1].finish for ticket, tokens in found.items()} == {short: "length", long: "length"}
    assert batch.active == 0
    assert batch.step() == []


def test_a_full_batch_takes_nobody_until_somebody_has_left(model):
    batch = Batch(model, slots=2)
    first = add(batch)
    add(batch)
    with pytest.raises(Full, match="All 2 slots are taken"):
        add(batch)
    assert batch.active == 2

    batch.cancel(first)
    third = add(batch)
    assert batch.active == 2
    assert third not in {first, None}


def test_cancelling_ends_a_request_at_once_and_nobody_else(model):
    batch = Batch(model, slots=3)
    tickets = [add(batch, seed=seed) for seed in range(3)]
    for _ in range(4):
        batch.step()
    batch.cancel(tickets[1])
    batch.cancel(tickets[1])
    batch.cancel(10**6)

    assert set(run(batch)) == {tickets[0], tickets[2]}


def test_a_request_can_be_cancelled_while_its_prompt_is_read(model):
    batch = Batch(model, slots=3)
    ticket = add(batch, 3 * PIECE)
    batch.step()
    batch.cancel(ticket)

    assert batch.active == 0
    assert batch.step() == []


def test_a_long_prompt_is_read_piece_by_piece_while_others_go_on(model):
    batch = Batch(model, slots=2)
    talking = add(
        batch, 5, max_tokens=30, sampling=Sampling(temperature=0, logit_bias=((1, -100.0), (2, -100.0), (3, -100.0)))
    )
    batch.step()
    coming = add(batch, 5 * PIECE)
    steps = [[ticket for ticket, _ in batch.step()] for _ in range(6)]

    assert steps == [[talking]] * 4 + [[talking, coming]] * 2


def test_short_prompts_do_not_wait_for_long_ones_nor_long_ones_for_ever(model):
    batch = Batch(model, slots=4)
    long = add(batch, 6 * PIECE, max_tokens=1)
    first_tokens = {}
    for step in range(40):
        if batch.active < 4 and long not in first_tokens:
            add(batch, 5, max_tokens=1, seed=step)
        for ticket, _ in batch.step():
            first_tokens.setdefault(ticket, step)
        if long in first_tokens:
            break

    assert first_tokens[long] <= 12, "every second piece is that of the oldest request"
    assert min(first_tokens.values()) <= 1


def test_the_window_of_a_batch_bounds_prompt_and_reply(model):
    batch = Batch(model, slots=1, window=20)
    with pytest.raises(WindowExceeded) as caught:
        add(batch, 20)
    assert (caught.value.prompt_tokens, caught.value.window) == (20, 20)

    (tokens,) = run_one(batch, 15)
    assert [token.finish for token in tokens] == [None] * 4 + ["length"]


def run_one(batch, length):
    add(
        batch,
        length,
        max_tokens=100,
        sampling=Sampling(temperature=0, logit_bias=((1, -100.0), (2, -100.0), (3, -100.0))),
    )
    return run(batch).values()


def test_a_window_is_never_larger_than_the_models(model):
    assert [Batch(model, slots=1).window, Batch(model, slots=1, window=10**6).window] == [512, 512]


@pytest.mark.parametrize("settings", [{"slots": 0}, {"slots": 1, "window": 1}])
def test_a_batch_for_nobody_is_refused(model, settings):
    with pytest.raises(ValueError, match="at least 1 slot and a window of at least 2"):
        Batch(model, **settings)


def test_a_request_that_makes_no_sense_takes_no_slot(model):
    batch = Batch(model, slots=1)
    with pytest.raises(EngineError, match="token ids"):
        batch.add([999], GREEDY, max_tokens=1, rng=seeded(1, 0))
    with pytest.raises(ValueError, match="logit_bias"):
        batch.add([9], Sampling(logit_bias=((999, 1.0),)), max_tokens=1, rng=seeded(1, 0))

    assert batch.active == 0


def test_steps_can_be_explained_for_one_and_not_for_another(model):
    batch = Batch(model, slots=2)
    explained, plain = add(batch, explain=4), add(batch)
    found = run(batch)

    assert {len(token.candidates) for token in found[explained]} == {4}
    assert {len(token.candidates) for token in found[plain]} == {0}
    assert [token.id for token in found[explained]] == [token.id for token in found[plain]]


def test_memory_follows_what_is_used_not_what_was_asked_for(model):
    batch = Batch(model, slots=8)
    for seed in range(8):
        add(batch, 5, max_tokens=500, seed=seed)
    for _ in range(8):
        batch.step()

    assert {request.cache.capacity for request in batch._requests.values()} == {64}
