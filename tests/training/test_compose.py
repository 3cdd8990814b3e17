"""The training text of penstock-mini: complete, repeatable, varied, and true to its facts."""

import importlib
import re
from itertools import pairwise
from pathlib import Path

import pytest

from training import judge

TRAINING = Path(judge.__file__).parent


@pytest.fixture(scope="module")
def compose():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TRAINING)
        yield importlib.import_module("compose")


@pytest.fixture
def writer(compose):
    return compose.Writer.open(3)


def test_there_are_at_least_a_hundred_facts_with_several_questions_and_an_answer_each(writer):
    assert len(writer.facts) >= 120
    for fact in writer.facts.values():
        assert len(fact.ask) + len(fact.term) >= 8, fact.id
        assert fact.say, fact.id


def test_every_answer_holds_what_its_fact_must_hold(writer):
    assert [(fact.id, say) for fact in writer.facts.values() for say in fact.say if not fact.right(say)] == []


def test_an_answer_of_another_fact_is_seldom_taken_for_right(writer):
    facts = list(writer.facts.values())
    others = [(one, other) for one in facts for other in facts if one.group != other.group]
    taken = [(one.id, other.id) for one, other in others if one.right(other.say[0])]

    assert len(taken) <= len(facts) / 2


def test_facts_that_are_told_together_have_one_answer_and_no_fact_tells_itself_again(writer):
    for fact in writer.facts.values():
        assert fact.say == writer.facts[fact.group].say, fact.id
        assert fact.more is None or writer.facts[fact.more].group != fact.group, fact.id


def test_what_tells_more_is_a_fact_too(writer):
    assert {fact.more for fact in writer.facts.values() if fact.more} <= set(writer.facts)


def test_no_question_of_the_corpus_asks_for_two_facts(writer):
    seen: dict[str, str] = {}
    for fact in writer.facts.values():
        for ask in fact.ask:
            assert seen.setdefault(ask.lower(), fact.id) == fact.id, ask


def test_the_same_seed_writes_the_same_text(compose):
    one, other, third = (compose.Writer.open(seed) for seed in (5, 5, 6))
    text = [one.document(), *one.conversations(50)]

    assert text == [other.document(), *other.conversations(50)]
    assert text != [third.document(), *third.conversations(50)]


def test_a_question_is_written_in_many_ways(writer):
    fact = writer.facts["port"]

    assert len({writer.ask(fact) for _ in range(300)}) > 150


def test_conversations_have_one_or_more_turns_and_sometimes_a_system_prompt(writer):
    written = list(writer.conversations(300))

    assert {len(one.turns) for one in written} >= {1, 2, 3}
    assert 0.1 < sum(one.system is not None for one in written) / len(written) < 0.5


def test_tell_me_more_follows_only_a_fact_that_has_more(writer):
    follows = set(writer.phrases["more_frames"])
    for conversation in writer.conversations(500):
        for before, turn in pairwise(conversation.turns):
            if turn.ask in follows:
                assert before.fact is not None
                assert writer.facts[before.fact.more] is turn.fact


def test_no_slot_is_left_open(writer):
    texts = [turn.ask + turn.say for one in writer.conversations(500) for turn in one.turns]

    assert [text for text in texts if re.search(r"\{(a|b|country|city|thing|number)\}", text)] == []


@pytest.mark.parametrize(
    ("question", "indirect"),
    [
        ("what is a token", "what a token is"),
        ("how do I start penstock", "how to start penstock"),
        ("can I use it", "whether can I use it"),
        ("default port", "default port"),
    ],
)
def test_a_question_becomes_an_indirect_one_where_its_form_allows_it(compose, question, indirect):
    assert compose.indirect(question) == indirect
