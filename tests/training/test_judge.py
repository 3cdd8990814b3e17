"""The judge of penstock-mini: what it takes for right, and that its questions are held out from the training text."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest
from training.judge import Answer, Question, right

from training import judge

TRAINING = Path(judge.__file__).parent
QUESTION = Question("port", "Which port?", accept=(r"\b8420\b",), reject=("9000",))

NEAR_TRIPLES = 0.6
NEAR_WORDS = 0.7
"""From here on two questions are near copies: shared word triples, and words in common."""


@pytest.fixture(scope="module")
def scripts():
    """The scripts of `training/` that import each other by their bare names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TRAINING)
        yield importlib.import_module


@pytest.fixture(scope="module")
def overlap(scripts) -> ModuleType:
    return scripts("overlap")


@pytest.fixture(scope="module")
def writer(scripts):
    return scripts("compose").Writer.open(7)


def said(writer) -> dict[str, list[str]]:
    """Every answer of the training text by what it answers."""
    answers = {fact.id: list(fact.say) for fact in writer.facts.values()}
    return answers | {name: list(say) for name, (_, say) in writer.talks.items()}


def test_an_answer_with_the_fact_is_right_whatever_its_case_and_lines():
    assert right(QUESTION, Answer("On port\n8420.", ended=True))
    assert right(Question("x", "?", ("A.B",)), Answer("a\nb", ended=True))


@pytest.mark.parametrize(
    "answer",
    [
        Answer("On port 8421.", ended=True),
        Answer("On port 84200.", ended=True),
        Answer("On port 8420 or 9000.", ended=True),
        Answer("On port 8420 and", ended=False),
        Answer("", ended=True),
    ],
    ids=["another fact", "a longer number", "a wrong fact beside it", "did not end", "nothing"],
)
def test_an_answer_without_the_fact_or_without_an_end_is_wrong(answer):
    assert not right(QUESTION, answer)


def test_every_pattern_has_to_be_found():
    both = Question("x", "?", ("one", "two"))

    assert right(both, Answer("one, two", ended=True))
    assert not right(both, Answer("one", ended=True))


@pytest.mark.parametrize("accept", ["[]", "['.*']", "['x?']"])
def test_a_question_that_nothing_could_fail_is_refused(tmp_path, accept):
    file = tmp_path / "questions.toml"
    file.write_text(f'[[question]]\nfact = "x"\nask = "?"\naccept = {accept}\n', encoding="utf-8")

    with pytest.raises(ValueError, match="accepts even an empty answer"):
        judge.read(file)


def test_there_are_at_least_a_hundred_different_questions(overlap):
    questions = judge.read()

    assert len({overlap.normal(question.ask) for question in questions}) == len(questions) >= 100


@pytest.mark.parametrize("file", ["questions.toml", "dev.toml"])
def test_each_question_accepts_the_answers_of_its_fact_and_hardly_any_other(writer, file):
    answers = said(writer)
    everything = {say for lines in answers.values() for say in lines}
    for question in judge.read(TRAINING / file):
        taken = {say for say in everything if right(question, Answer(say, ended=True))}
        assert taken.issuperset(answers[question.fact]), question
        assert len(taken) <= 8, (question, taken)


def test_no_held_out_question_is_a_near_copy_of_one_in_the_corpus(writer, overlap):
    near = overlap.nearest([question.ask for question in judge.read()], overlap.written(writer))

    assert len(near) >= 100
    assert not [one for one in near if one.triples >= NEAR_TRIPLES or one.words >= NEAR_WORDS]


def test_no_held_out_question_stands_in_the_text_that_is_written_from_the_corpus(scripts, overlap):
    asked = {overlap.normal(question.ask) for question in judge.read()}
    conversations = overlap.varied(scripts("compose").Writer.open(9), 4000)

    assert not [text for text in conversations if overlap.normal(text) in asked]


def test_nearness_sees_a_copy_and_a_near_copy(overlap):
    training = ["Which port does penstock use?", "what is a token"]
    copy, near, other = overlap.nearest(
        ["which PORT does penstock use", "so which port does penstock use now", "how tall is a tree"], training
    )

    assert (copy.triples, copy.words) == (1.0, 1.0)
    assert near.triples >= NEAR_TRIPLES
    assert max(other.triples, other.words) < NEAR_TRIPLES
