"""The form of a script and the choice of its rules."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import ConfigError
from penstock.providers.script import Rota, Rule, Script, Tokens, ToolCall, read_script


def mistakes(text):
    with pytest.raises(ConfigError) as caught:
        read_script("replies.toml", text.encode())
    assert caught.value.source == "replies.toml"
    return [str(mistake) for mistake in caught.value.mistakes]


def served(script, calls, seed=0):
    """The texts of the rules that serve the calls, and the numbers of their uses."""
    rota = Rota(read_script("x", script.encode()), Random(seed))
    chosen = [rota.choose(*(call if isinstance(call, tuple) else ("m", call))) for call in calls]
    return [None if one is None else f"{one[0].text}{one[1]}" for one in chosen]


# -- the form --


def test_a_script_is_read_whole():
    script = read_script(
        "x",
        b"""
        seed = 7
        [[rules]]
        model = "m"
        equals = ["a", "b"]
        contains = "c"
        starts_with = "d"
        ends_with = "e"
        times = 2
        every = 3
        probability = 0.5
        text = ["x", "y"]
        reasoning = "r"
        refusal = "s"
        tool_calls = [{ name = "t", arguments = { city = "Paris", n = 1.50, ok = true } }, { name = "u", arguments = "{" }]
        finish = "length"
        usage = { input_tokens = 1, output_tokens = 2, reasoning_tokens = 1 }
        ttft_ms = 1
        tokens_per_s = 2
        chunk = 4
        fault = "error"
        status = 529
        retry_after_s = 1.5
        message = "no"
        after_chunks = 1
        """,
    )

    assert script.seed == 7
    assert script.rules == (
        Rule(
            model="m",
            equals=("a", "b"),
            contains="c",
            starts_with="d",
            ends_with="e",
            times=2,
            every=3,
            probability=0.5,
            text=("x", "y"),
            reasoning="r",
            refusal="s",
            tool_calls=(ToolCall("t", '{"city":"Paris","n":1.50,"ok":true}'), ToolCall("u", "{")),
            finish="length",
            usage=Tokens(1, 2, reasoning_tokens=1),
            ttft_ms=1.0,
            tokens_per_s=2.0,
            chunk=4,
            fault="error",
            status=529,
            retry_after_s=1.5,
            message="no",
            after_chunks=1,
        ),
    )


def test_rules_take_what_they_do_not_say_from_the_script():
    script = read_script(
        "x",
        b"""
        ttft_ms = 10
        tokens_per_s = 100
        chunk = "character"
        usage = "none"
        [[rules]]
        text = "a"
        [[rules]]
        text = "b"
        ttft_ms = 0
        chunk_ms = 5
        chunk = 2
        usage = "words"
        """,
    )

    taken, own = script.rules
    assert (taken.ttft_ms, taken.tokens_per_s, taken.chunk_ms, taken.chunk, taken.usage) == (
        *(10.0, 100.0, None),
        *("character", "none"),
    )
    assert (own.ttft_ms, own.tokens_per_s, own.chunk_ms, own.chunk, own.usage) == (0.0, None, 5.0, 2, "words")


def test_a_script_has_calm_defaults():
    (rule,) = read_script("x", b"[[rules]]\ntext = ''\n").rules

    assert (rule.ttft_ms, rule.tokens_per_s, rule.chunk_ms, rule.chunk, rule.usage) == (
        0.0,
        None,
        None,
        "word",
        "words",
    )
    assert Script().seed == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "(top level): there is no rule."),
        ("rules = []", "(top level): there is no rule."),
        ("[[rules]]", "line 1, rules[0]: says neither what to answer nor how to fail."),
        ("[[rules]]\ntext = []", "line 2, rules[0].text: is an empty list."),
        ("[[rules]]\nstatus = 500\nfault = 'reset'", "line 2, rules[0].status: means nothing for the fault reset."),
        ("[[rules]]\nstatus = 500\ntext = 'a'", "line 2, rules[0].status: leaves no room for an answer."),
        ("[[rules]]\nstatus = 200", "line 2, rules[0].status: is out of range"),
        ("[[rules]]\ntext = 'a'\nretry_after_s = 1", "line 3, rules[0].retry_after_s: goes with a status."),
        ("[[rules]]\ntext = 'a'\nmessage = 'b'", "line 3, rules[0].message: goes with a fault or a status."),
        ("[[rules]]\ntext = 'a'\nafter_chunks = 1", "line 3, rules[0].after_chunks: goes with a fault"),
        ("[[rules]]\nfault = 'refuse'\nafter_chunks = 0", "line 3, rules[0].after_chunks: goes with a fault"),
        ("[[rules]]\nfault = 'reset'\nafter_chunks = 1", "line 3, rules[0].after_chunks: needs an answer"),
        ("[[rules]]\ntext = 'a'\nevery = 2\ntimes = 2", "line 3, rules[0].every: must be more than `times`."),
        ("[[rules]]\ntext = 'a'\nchunk_ms = 1\ntokens_per_s = 1", "line 3, rules[0].chunk_ms: and `tokens_per_s`"),
        ("chunk_ms = 1\ntokens_per_s = 1\n[[rules]]\ntext = 'a'", "line 1, chunk_ms: and `tokens_per_s`"),
        (
            "[[rules]]\nfault = 'resett'",
            'line 2, rules[0].fault: must be "drip" or "empty" or "endless" or "error" or ',
        ),
        ("[[rules]]\nfault = 'pause'\ntext = 'a'", "rules[0].pause_ms: and the fault pause go together."),
        ("[[rules]]\npause_ms = 5\ntext = 'a'", "line 2, rules[0].pause_ms: and the fault pause go together."),
        ("[[rules]]\nfault = 'pause'\npause_ms = 5", "line 2, rules[0].fault: pause needs something to say."),
        ("[[rules]]\nfault = 'endless'\nreasoning = 'a'", "line 2, rules[0].fault: endless needs something to say."),
        ("[[rules]]\nfault = 'empty'\ntext = 'a'\nafter_chunks = 1", "rules[0].after_chunks: goes with a fault"),
        ("[[rules]]\nbusy_above = -1\ntext = 'a'", "line 2, rules[0].busy_above: is out of range"),
        ("[[rules]]\ntool_calls = [{ name = 'a', arguments = 3 }]", "arguments: must be a table or text."),
        ("[[rules]]\ntool_calls = [{}]", "rules[0].tool_calls[0]: `name` is missing."),
        ("[[rules]]\ntext = 'a'\nusage = 'some'", 'usage: must be "none" or "words".'),
        ("[[rules]]\ntext = 'a'\nchunk = 0", "chunk: is out of range"),
        ("[[rules]]\ntext = 'a'\nregex = '(a+)+'", "regex: unknown key."),
    ],
)
def test_a_mistake_is_told_with_its_place(text, says):
    (told,) = mistakes(text)

    assert says in told


def test_all_mistakes_are_told_at_once():
    told = mistakes("seed = -1\n[[rules]]\ntexxt = 'a'\n[[rules]]\ntext = 'a'\nstatus = 400\n[[rules]]\n")

    assert [one.split(":")[0] for one in told] == [
        *("line 1, seed", "line 3, rules[0].texxt", "line 6, rules[1].status", "line 7, rules[2]"),
    ]


# -- the choice --


def test_the_first_rule_that_matches_serves():
    script = """
        [[rules]]
        model = "other"
        text = "model"
        [[rules]]
        equals = "Ping"
        text = "equals"
        [[rules]]
        starts_with = ["now", "then"]
        ends_with = "!"
        text = "both"
        [[rules]]
        contains = ["STRASSE", "road"]
        text = "contains"
        [[rules]]
        text = "rest"
    """

    assert served(
        script,
        [
            *(
                ("other", "ping"),
                " pInG\n",
                "ping pong",
                "then go!",
                "now go",
                "go!",
                "Hauptstraße 1",
                "",
                ("third", "x"),
            ),
        ],
    ) == ["model1", "equals1", "rest1", "both1", "rest2", "rest3", "contains1", "rest4", "rest5"]


def test_no_rule_may_be_left():
    assert served("[[rules]]\nequals = 'a'\ntimes = 1\ntext = 'a'", ["a", "a", "b"]) == ["a1", None, None]


def test_a_rule_serves_so_many_times_and_then_the_next():
    script = "[[rules]]\ntimes = 2\ntext = 'a'\n[[rules]]\ntimes = 1\ntext = 'b'\n[[rules]]\ntext = 'c'"

    assert served(script, "12345") == ["a1", "a2", "b1", "c1", "c2"]


def test_a_rule_serves_some_of_every_so_many():
    script = "[[rules]]\nevery = 3\ntext = 'a'\n[[rules]]\nevery = 3\ntimes = 2\ntext = 'b'\n[[rules]]\ntext = 'c'"

    assert served(script, "123456789") == ["a1", "b1", "b2", "a2", "c1", "b3", "a3", "b4", "c2"]


def test_a_rule_may_wait_for_others_to_be_under_way():
    script = read_script("x", b"[[rules]]\nbusy_above = 2\ntimes = 1\nstatus = 429\n[[rules]]\ntext = 'a'")
    rota = Rota(script, Random(0))

    statuses = [rota.choose("m", "hi", busy)[0].status for busy in (0, 1, 2, 3)]
    assert statuses == [None, None, 429, None]  # where it does not serve it has no turn


def test_calls_that_do_not_match_take_no_turn():
    script = "[[rules]]\nequals = 'x'\nevery = 2\ntext = 'a'\n[[rules]]\ntext = 'b'"

    assert served(script, ["x", "y", "y", "x", "x"]) == ["a1", "b1", "b2", "b3", "a2"]


@given(st.integers(0, 2**63 - 1))
def test_the_same_seed_rolls_the_same_dice(seed):
    script = "[[rules]]\nprobability = 0.3\ntext = 'a'\n[[rules]]\ntext = 'b'"

    assert served(script, "x" * 50, seed) == served(script, "x" * 50, seed)


def test_dice_fall_as_often_as_they_are_said_to():
    script = "[[rules]]\nprobability = 0.3\ntext = 'a'\n[[rules]]\ntext = 'b'"
    often = sum(one.startswith("a") for one in served(script, "x" * 5000, 11))

    assert 1350 < often < 1650
    assert served(script, "xxxxxxxxxx", 1) != served(script, "xxxxxxxxxx", 2)


def test_certain_and_impossible_dice_are_just_that():
    script = "[[rules]]\nprobability = 0\ntext = 'a'\n[[rules]]\nprobability = 1\ntext = 'b'"

    assert {one[0] for one in served(script, "x" * 100)} == {"b"}


def test_dice_that_fall_badly_take_no_turn():
    script = "[[rules]]\nprobability = 0.5\ntimes = 2\ntext = 'a'\n[[rules]]\ntext = 'b'"

    assert [one for one in served(script, "x" * 100) if one.startswith("a")] == ["a1", "a2"]
