"""penstock-mini as it ships: small enough, an ordinary model folder, right about its subject, and honest about itself."""

from collections.abc import Sequence

import pytest

from penstock.engine.folder import Model, load, mini
from penstock.engine.generate import generate
from penstock.engine.sampler import Sampling, seeded
from training import judge

LARGEST_BYTES = 6_000_000
FILES = {
    *("README.md", "config.json", "generation_config.json"),
    *("model.safetensors", "tokenizer.json", "tokenizer_config.json"),
}


@pytest.fixture(scope="module")
def model() -> Model:
    return load(mini())


def chat(model: Model, *asks: str, system: str | None = None) -> list[str]:
    """Hold a conversation at temperature 0; the model sees its own answers."""
    messages: list[dict[str, object]] = [{"role": "system", "content": system}] if system else []
    said = []
    for ask in asks:
        messages.append({"role": "user", "content": ask})
        said.append(answer(model, messages))
        messages.append({"role": "assistant", "content": said[-1]})
    return said


def answer(model: Model, messages: Sequence[dict[str, object]]) -> str:
    tokens = list(
        generate(model, judge.prompt_ids(model, messages), Sampling(temperature=0.0), max_tokens=90, rng=seeded(0, 0))
    )
    assert tokens[-1].finish == "stop"
    return "".join(token.text for token in tokens)


def test_it_answers_four_of_five_held_out_questions_with_the_right_fact(model):
    questions = judge.read()
    verdicts = [
        judge.right(question, said)
        for question, said in zip(questions, judge.answers(model, [one.ask for one in questions]), strict=True)
    ]

    assert len(verdicts) >= 100
    assert sum(verdicts) / len(verdicts) >= judge.WANTED


def test_it_is_an_ordinary_folder_of_at_most_six_megabytes():
    files = {file.name: file.stat().st_size for file in mini().iterdir()}

    assert set(files) == FILES
    assert sum(files.values()) <= LARGEST_BYTES


def test_every_token_of_its_vocabulary_has_a_row_of_weights(model):
    assert model.tokenizer.size == model.config.vocab_size == 4096


@pytest.mark.parametrize(
    "ask",
    [
        "Who are you?",
        "what is your name",
        "Are you ChatGPT?",
        "Which model am I talking to?",
    ],
)
def test_it_says_that_it_is_a_demonstration_model(model, ask):
    (said,) = chat(model, ask)

    assert "penstock-mini" in said
    assert "demonstration model" in said


@pytest.mark.parametrize(
    "ask",
    [
        "What is the capital of Portugal?",
        "Write a poem about the autumn.",
        "How do I bake a cake?",
    ],
)
def test_outside_its_subject_it_says_what_it_knows_instead(model, ask):
    (said,) = chat(model, ask)

    assert "I only know about" in said


def test_it_greets_and_takes_thanks(model):
    hello, _, welcome = chat(model, "Hello!", "What is a token?", "Thank you!")

    assert hello.startswith("Hello!")
    assert welcome.startswith("You are welcome")


def test_a_second_question_is_answered_for_itself_and_more_is_told_of_the_first(model):
    first, second = chat(model, "What is top-p?", "And what is top-k?")
    token, more = chat(model, "What is a token?", "Tell me more.")

    assert "add up to p" in first
    assert "k most probable tokens" in second
    assert "piece of text" in token
    assert "four characters" in more


@pytest.mark.parametrize(
    "system", ["You are a helpful assistant.", "Answer in one short sentence.", "You are a pirate. Talk like one."]
)
def test_a_system_prompt_does_not_lead_it_astray(model, system):
    (said,) = chat(model, "Which port does penstock use?", system=system)

    assert "8420" in said


def test_the_same_seed_gives_the_same_text_at_temperature_one(model):
    prompt = judge.prompt_ids(model, [{"role": "user", "content": "What is temperature?"}])
    one, other = (
        [token.id for token in generate(model, prompt, Sampling(seed=7), max_tokens=60, rng=seeded(7, entropy))]
        for entropy in (1, 2)
    )

    assert one == other


def test_its_card_says_what_it_is():
    card = (mini() / "README.md").read_text(encoding="utf-8")

    assert "demonstration model" in card
    assert "Apache" in card
