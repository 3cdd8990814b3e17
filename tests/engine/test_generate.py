"""The inference loop: what it yields, and when it ends."""

import numpy as np
import pytest
from tests.engine.random_models import LLAMA, random_tensors, write_folder

from penstock.engine.errors import EngineError, WindowExceeded
from penstock.engine.folder import load
from penstock.engine.generate import PIECE, Limits, Output, generate, inference_loop, read_prompt
from penstock.engine.sampler import Sampler, Sampling, seeded

GREEDY = Sampling(temperature=0)
PROMPT = [2, 88, 86, 72, 85, 202, 262, 275, 3]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that never draws a stop token by itself: their rows of the (not tied) head are zero."""
    file = LLAMA | {"tie_word_embeddings": False}
    tensors = random_tensors(file)
    tensors["lm_head.weight"][:4] = 0
    return load(write_folder(tmp_path_factory.mktemp("model"), file, tensors=tensors))


def run(model, prompt=PROMPT, sampling=GREEDY, *, max_tokens=20, stop=(), seed=1):
    return list(generate(model, prompt, sampling, max_tokens=max_tokens, stop=stop, rng=seeded(seed, 0)))


def ids(tokens):
    return [token.id for token in tokens]


def text(tokens):
    return "".join(token.text for token in tokens)


def by_whole_prompts(model, prompt, count):
    """Greedy tokens without a cache: the whole sequence is read anew for each."""
    prompt = list(prompt)
    for _ in range(count):
        hidden = model.transformer.read(prompt, model.transformer.cache(len(prompt)))
        prompt.append(int(model.transformer.logits(hidden[-1:])[0].argmax()))
    return prompt[-count:]


@pytest.mark.parametrize("length", [1, 9, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
def test_each_token_follows_from_all_before_it(model, length):
    prompt = np.random.default_rng(length).integers(4, 288, length).tolist()

    assert ids(run(model, prompt)) == by_whole_prompts(model, prompt, 20)


def test_the_limit_ends_it_and_the_text_is_that_of_the_tokens(model):
    tokens = run(model, max_tokens=33)

    assert [token.finish for token in tokens] == [None] * 32 + ["length"]
    assert text(tokens) == model.tokenizer.decode(ids(tokens))


def test_a_stop_token_ends_it_and_shows_no_text(model):
    free = ids(run(model))
    biased = Sampling(temperature=0, logit_bias=((3, 100.0),))
    tokens = run(model, sampling=biased)

    assert [(token.id, token.text, token.finish) for token in tokens] == [(3, "", "stop")]
    assert not {1, 2, 3} & set(free)


def test_half_a_character_before_a_stop_token_goes_out_as_a_replacement(model):
    """0xE2 begins a character of three bytes; then the model stops."""
    (half,) = [one for one in range(288) if model.tokenizer.token_bytes(one) == b"\xe2"]
    output = Output(model, PROMPT, Sampler(GREEDY, seeded(1, 0)), Limits(5), model.window)
    towards = np.zeros((2, 288), np.float32)
    towards[0, half] = towards[1, 1] = 1
    tokens = [output.append(output.sample(row)) for row in towards]

    assert [(token.text, token.finish) for token in tokens] == [("", None), ("\ufffd", "stop")]


def test_a_stop_string_ends_it_before_its_own_text_wherever_tokens_are_cut(model):
    whole = text(run(model, max_tokens=40))
    for length in (1, 2, 5):
        stop = whole[17 : 17 + length]
        tokens = run(model, max_tokens=40, stop=(stop, "never in there"))

        assert tokens[-1].finish == "stop"
        assert text(tokens) == whole[: whole.index(stop)]
        assert all(stop not in token.text for token in tokens)


def test_what_only_might_have_become_a_stop_string_goes_out_at_the_end(model):
    whole = text(run(model, max_tokens=12))
    tokens = run(model, max_tokens=12, stop=(whole[-2:] + "never",))

    assert text(tokens) == whole
    assert tokens[-1].finish == "length"


def test_a_stop_string_that_completes_with_the_replacement_of_half_a_character_is_found(model):
    (half,) = [one for one in range(288) if model.tokenizer.token_bytes(one) == b"\xe2"]
    towards = np.zeros(288, np.float32)
    towards[half] = 1
    output = Output(model, PROMPT, Sampler(GREEDY, seeded(1, 0)), Limits(1, ("\ufffd",)), model.window)

    assert output.append(output.sample(towards)).text == ""


def test_the_windows_end_ends_it(model):
    prompt = np.random.default_rng(3).integers(4, 288, model.window - 3).tolist()
    tokens = run(model, prompt, max_tokens=100)

    assert [token.finish for token in tokens] == [None, None, "length"]


@pytest.mark.parametrize("length", [512, 700])
def test_a_prompt_that_leaves_no_room_is_refused_before_anything_is_computed(model, length):
    with pytest.raises(WindowExceeded) as caught:
        generate(model, [5] * length, GREEDY, max_tokens=1, rng=seeded(1, 0))

    assert (caught.value.prompt_tokens, caught.value.window) == (length, 512)


@pytest.mark.parametrize("prompt", [[], [288], [-1], [5, 10**9]])
def test_what_is_no_prompt_of_this_model_is_refused(model, prompt):
    with pytest.raises(EngineError, match="token ids from 0 to 287"):
        run(model, prompt)


def test_limits_that_make_no_sense_are_refused(model):
    with pytest.raises(EngineError, match="max_tokens must be at least 1"):
        run(model, max_tokens=0)
    with pytest.raises(EngineError, match="explain at least 0"):
        Output(model, PROMPT, Sampler(GREEDY, seeded(1, 0)), Limits(1, explain=-1), 512)
    with pytest.raises(ValueError, match="logit_bias"):
        run(model, sampling=Sampling(logit_bias=((288, 1.0),)))
    with pytest.raises(ValueError, match="stop string is empty"):
        run(model, stop=("",))


def test_the_same_seed_gives_the_same_text_and_another_seed_another(model):
    one, again, other = (run(model, sampling=Sampling(), seed=seed) for seed in (4, 4, 5))

    assert one == again
    assert text(one) != text(other)


def test_penalties_look_at_prompt_and_output(model):
    free = ids(run(model, max_tokens=60))
    tokens = ids(run(model, sampling=Sampling(temperature=0, presence_penalty=2, frequency_penalty=2), max_tokens=60))
    unlike_the_prompt = ids(run(model, [free[0]] * 9, Sampling(temperature=0, repetition_penalty=1e6), max_tokens=60))

    assert len(set(tokens)) > len(set(free))
    assert len({free[0], *unlike_the_prompt}) == 61, "neither the prompt nor itself is ever repeated"


def test_closing_it_ends_it_within_the_token(model, monkeypatch):
    steps = []
    decode = type(model.transformer).decode
    monkeypatch.setattr(type(model.transformer), "decode", lambda *given: steps.append(1) or decode(*given))
    tokens = generate(model, PROMPT, GREEDY, max_tokens=100, rng=seeded(1, 0))
    for _ in range(3):
        next(tokens)
    tokens.close()

    assert len(steps) == 2
    assert list(tokens) == []


def test_every_step_can_be_explained_and_that_changes_nothing(model):
    sampling = Sampling(temperature=0.7, top_k=3)
    plain = run(model, sampling=sampling, max_tokens=10)
    output = Output(model, PROMPT, Sampler(sampling, seeded(1, 0)), Limits(10, explain=5), model.window)
    explained = list(inference_loop(model.transformer, output))

    assert ids(explained) == ids(plain)
    assert [token.candidates for token in plain] == [()] * 10
    for token in explained:
        assert len(token.candidates) == 5
        assert [one.dropped_by for one in token.candidates] == [None] * 3 + ["top_k"] * 2
        assert token.id in [one.id for one in token.candidates if one.final > 0]
        assert sum(one.final for one in token.candidates) == pytest.approx(1)


def test_log_probabilities_are_those_of_the_forward_pass(model):
    tokens = run(model, sampling=Sampling(temperature=0, top_logprobs=2), max_tokens=3)
    logits = read_prompt(model.transformer, PROMPT, model.transformer.cache(20)).astype(float)
    logprobs = logits - np.log(np.exp(logits).sum())

    assert tokens[0].drawn.logprob == pytest.approx(logprobs.max(), abs=1e-5)
    assert [one for one, _ in tokens[0].drawn.top] == np.argsort(-logits)[:2].tolist()


def test_weights_that_compute_no_numbers_are_told(tmp_path):
    tensors = random_tensors(LLAMA)
    tensors["model.norm.weight"][0] = np.nan
    broken = load(write_folder(tmp_path, LLAMA, tensors=tensors))

    with pytest.raises(EngineError, match="no numbers"):
        run(broken)
