"""The scripted provider on a loop whose clock jumps: what comes when, and how silence, deadlines and callers end it."""

import asyncio
import tomllib
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumping import jump
from penstock.call import Call, Content, Image, Message, OutputFormat, Sampling, Text, ToolResult
from penstock.config import load
from penstock.errors import (
    ConfigError,
    DeadlineExceeded,
    PenstockError,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamMissing,
    UpstreamRateLimited,
    UpstreamTimeout,
)
from penstock.plugins import PROVIDERS, find
from penstock.providers.scripted import ScriptedProvider, last_user_text
from penstock.receipt import Usage
from penstock.reply import Ended, Failed, Started, TextDelta, fold
from penstock.settings import ProviderSettings
from penstock.target import Target

TARGET = Target("fake/m", "fake", "m", "")


def ask(prompt="Hello", *, stream=True, sampling=Sampling(), **content):  # noqa: B008 - frozen
    whole = Content((Message("user", (Text(prompt),)),), **content)
    return Call("", "m", sampling, lambda: whole, stream=stream)


@pytest.fixture
def provider(tmp_path):
    def provider(text, **settings):
        (tmp_path / "replies.toml").write_text(text)
        return ScriptedProvider(ProviderSettings(name="fake", kind="", path=tmp_path / "replies.toml", **settings))

    return provider


async def play(provider, call=None, deadline_s=100.0):
    """Send a call and read all of it: (seconds since sending, events) per chunk, then the error if there was one."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    got = []
    try:
        exchange = await provider.send(call or ask(), TARGET, start + deadline_s)
        while (chunk := await exchange.read()) is not None:
            assert chunk.raw is None
            got.append((round(loop.time() - start, 6), chunk.events))
    except PenstockError as error:
        got.append((round(loop.time() - start, 6), error))
    return got


def test_a_stream_comes_piece_by_piece_at_its_pace(provider):
    got = jump(play(provider("ttft_ms = 300\nchunk_ms = 100\n[[rules]]\ntext = 'One two three'")))

    assert got[0] == (0.3, (Started("scripted-1", "m"),))
    assert got[1:4] == [(0.3, (TextDelta("One "),)), (0.4, (TextDelta("two "),)), (0.5, (TextDelta("three"),))]
    assert got[4][0] == 0.5
    assert got[4][1][-1] == Ended()
    assert len(got) == 5


def test_a_slow_reader_finds_the_rest_waiting(provider):
    async def slow():
        loop = asyncio.get_running_loop()
        start = loop.time()
        exchange = await made.send(ask(), TARGET, start + 100)
        await asyncio.sleep(50)
        while await exchange.read() is not None:
            pass
        return loop.time() - start

    made = provider("chunk_ms = 1000\n[[rules]]\ntext = 'One two three'")
    assert jump(slow()) == 50


def test_a_reply_that_is_not_streamed_is_one_chunk_after_all_of_its_time(provider):
    got = jump(
        play(provider("ttft_ms = 300\nchunk_ms = 100\n[[rules]]\ntext = 'One two three'"), ask("a b", stream=False))
    )

    ((at_s, events),) = got
    reply = fold(events)
    assert at_s == 0.5
    assert (reply.choices[0].text, reply.usage, reply.ended) == ("One two three", Usage(2, 3), True)


def test_an_exchange_says_how_it_answers(provider):
    async def send():
        return await made.send(call, TARGET, asyncio.get_running_loop().time() + 1)

    made = provider("[[rules]]\ntext = ''")
    call = ask()
    exchange = jump(send())
    assert (exchange.lane, exchange.status, exchange.headers, exchange.dropped) == ("translated", 200, (), ())

    call = ask(sampling=Sampling(n=2, logprobs=True), output=OutputFormat("json"))
    assert jump(send()).dropped == ("n", "logprobs", "response_format")
    call = ask(sampling=Sampling(n=1), output=OutputFormat("text"))
    assert jump(send()).dropped == ()


def test_each_call_takes_the_next_turn(provider):
    async def three():
        return [fold([e for _, events in await play(made) for e in events]).choices[0].text for _ in range(3)]

    made = provider("[[rules]]\ntimes = 1\ntext = '{n} a'\n[[rules]]\ntext = '{n} {prompt}'")
    assert jump(three()) == ["1 a", "1 Hello", "2 Hello"]


def test_the_same_seed_gives_the_same_course(tmp_path):
    async def course():
        made = ScriptedProvider(settings)
        return [await play(made) for _ in range(30)]

    (tmp_path / "r.toml").write_text(
        "seed = 5\nchunk_ms = 7\n[[rules]]\nprobability = 0.4\ntext = 'a b'\nafter_chunks = 1\nfault = 'truncate'\n"
        "[[rules]]\ntext = 'c'\n"
    )
    settings = ProviderSettings(name="fake", kind="", path=tmp_path / "r.toml")
    one, other = jump(course()), jump(course())

    assert [[at_s for at_s, _ in play] for play in one] == [[at_s for at_s, _ in play] for play in other]
    assert 5 < sum(isinstance(play[-1][1][0], Failed) for play in one) < 25


# -- faults --


@pytest.mark.parametrize("stream", [True, False])
def test_a_fault_before_the_reply_comes_from_send(provider, stream):
    async def send():
        await made.send(ask(stream=stream), TARGET, asyncio.get_running_loop().time() + 100)

    made = provider("ttft_ms = 20\n[[rules]]\nstatus = 429\nretry_after_s = 3\n")
    with pytest.raises(UpstreamRateLimited) as caught:
        jump(send())
    assert caught.value.retry_after_s == 3


def test_a_reset_within_a_stream_comes_after_what_was_read(provider):
    got = jump(play(provider("chunk_ms = 10\n[[rules]]\ntext = 'a b c'\nfault = 'reset'\nafter_chunks = 2")))

    assert [events for _, events in got[:3]] == [
        *((Started("scripted-1", "m"),), (TextDelta("a "),), (TextDelta("b "),)),
    ]
    assert isinstance(got[3][1], UpstreamFailed)


def test_an_error_event_within_a_stream_is_the_last(provider):
    got = jump(play(provider("[[rules]]\ntext = 'a b'\nfault = 'error'\nafter_chunks = 1")))

    assert isinstance(got[-1][1][0], Failed)
    assert not any(isinstance(event, Ended) for _, events in got for event in events)


@pytest.mark.parametrize(
    ("fault", "error"),
    [("reset", UpstreamFailed), ("error", UpstreamFailed), ("truncate", UpstreamGarbled), ("garble", UpstreamGarbled)],
)
def test_a_fault_within_a_reply_that_is_not_streamed_fails_all_of_it(provider, fault, error):
    ((_, raised),) = jump(
        play(provider(f"[[rules]]\ntext = 'a b'\nfault = '{fault}'\nafter_chunks = 1"), ask(stream=False))
    )

    assert type(raised) is error


def test_a_cut_reply_has_no_end_mark_and_no_usage(provider):
    got = jump(play(provider("[[rules]]\ntext = 'a b'\nfault = 'truncate'\nafter_chunks = 9")))
    reply = fold(event for _, events in got for event in events)

    assert (reply.ended, reply.usage, reply.choices[0].text) == (False, None, "a b")
    assert isinstance(reply.error, UpstreamGarbled)


def test_nothing_comes_after_an_error(provider):
    async def read_on():
        exchange = await made.send(ask(), TARGET, asyncio.get_running_loop().time() + 100)
        await exchange.read()
        with pytest.raises(UpstreamFailed):
            await exchange.read()
        return await exchange.read()

    made = provider("[[rules]]\ntext = 'a'\nfault = 'reset'\nafter_chunks = 0")
    assert jump(read_on()) is None


def test_nothing_comes_after_a_limit(provider):
    async def read_on():
        exchange = await made.send(ask(), TARGET, asyncio.get_running_loop().time() + 100)
        await exchange.read()
        await exchange.read()
        with pytest.raises(UpstreamTimeout):
            await exchange.read()
        return await exchange.read()

    made = provider("chunk_ms = 4000\n[[rules]]\ntext = 'a b c'", idle_s=3.0)
    assert jump(read_on()) is None


def test_a_call_that_no_rule_serves_may_go_elsewhere(provider):
    ((_, error),) = jump(play(provider("[[rules]]\nequals = 'x'\ntext = 'a'")))

    assert isinstance(error, UpstreamMissing)
    assert "'m'" in str(error)
    assert "replies.toml" in str(error)


# -- limits --


@pytest.mark.parametrize("stream", [True, False])
def test_silence_before_the_reply_ends_at_the_first_byte_limit(provider, stream):
    made = provider("[[rules]]\nfault = 'stall'", first_byte_s=7.0)
    ((at_s, error),) = jump(play(made, ask(stream=stream)))

    assert (type(error), at_s) == (UpstreamTimeout, 7.0)


def test_a_slow_beginning_ends_at_the_first_byte_limit(provider):
    ((at_s, error),) = jump(play(provider("ttft_ms = 8000\n[[rules]]\ntext = 'a'", first_byte_s=7.0)))

    assert (type(error), at_s) == (UpstreamTimeout, 7.0)


def test_a_slow_whole_reply_ends_at_the_first_byte_limit(provider):
    made = provider("chunk_ms = 3000\n[[rules]]\ntext = 'a b c d'", first_byte_s=7.0)
    ((at_s, error),) = jump(play(made, ask(stream=False)))

    assert (type(error), at_s) == (UpstreamTimeout, 7.0)


def test_silence_within_a_stream_ends_at_the_idle_limit(provider):
    made = provider("ttft_ms = 1000\n[[rules]]\ntext = 'a b'\nfault = 'stall'\nafter_chunks = 1", idle_s=3.0)
    got = jump(play(made))

    assert (type(got[-1][1]), got[-1][0]) == (UpstreamTimeout, 4.0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("after", ["", "text = 'a b c'\nafter_chunks = 1", "text = 'a b c'\nafter_chunks = 0"])
def test_only_the_deadline_ends_what_is_neither_silent_nor_says_anything(provider, after, stream):
    made = provider(f"[[rules]]\nfault = 'drip'\n{after}", first_byte_s=5.0, idle_s=5.0)
    at_s, error = jump(play(made, ask(stream=stream), deadline_s=50.0))[-1]

    assert (at_s, type(error)) == (50.0, DeadlineExceeded)


@pytest.mark.parametrize(("pause_ms", "ended"), [(4000, Ended), (6000, UpstreamTimeout)])
def test_a_pause_longer_than_the_idle_limit_ends_a_stream(provider, pause_ms, ended):
    made = provider(f"[[rules]]\nfault = 'pause'\npause_ms = {pause_ms}\ntext = 'a b'\nafter_chunks = 1", idle_s=5.0)
    at_s, last = jump(play(made))[-1]

    assert at_s == min(pause_ms / 1000, 5.0)
    assert type(last if isinstance(last, PenstockError) else last[-1]) is ended


def test_an_endless_stream_goes_on_to_the_deadline_and_one_in_one_piece_to_the_first_byte_limit(provider):
    made = provider("[[rules]]\nfault = 'endless'\ntext = 'a b '\nchunk_ms = 1000", first_byte_s=5.0)
    *said, (at_s, error) = jump(play(made, deadline_s=10.5))
    assert (at_s, type(error), len(said)) == (10.5, DeadlineExceeded, 12)

    ((at_s, error),) = jump(play(made, ask(stream=False), deadline_s=100.0))
    assert (at_s, type(error)) == (5.0, UpstreamTimeout)


@pytest.mark.parametrize("stream", [False, True])
def test_a_rule_serves_only_while_others_are_under_way(provider, stream):
    """Under way is a call from its sending until it is read to its end, closed, refused or given up."""

    async def course():
        made = provider("[[rules]]\nbusy_above = 2\nstatus = 429\n[[rules]]\nttft_ms = 100\ntext = 'a'")
        seen = []
        for _ in range(3):
            playing = [asyncio.ensure_future(play(made, ask(stream=stream))) for _ in range(4)]
            await asyncio.sleep(0.01)
            seen.append(made._busy)
            playing[0].cancel()
            got = await asyncio.gather(*playing, return_exceptions=True)
            seen.append([type(one[-1][1]) if isinstance(one[-1][1], Exception) else "ok" for one in got[1:]])
        exchange = await made.send(ask(stream=stream), TARGET, asyncio.get_running_loop().time() + 1)
        held = made._busy
        exchange.close()
        exchange.close()
        return seen, held, made._busy

    seen, held, left = jump(course())
    assert seen == [2, ["ok", UpstreamRateLimited, UpstreamRateLimited]] * 3
    assert (held, left) == (1, 0)


def test_a_drip_never_reaches_the_idle_limit_but_the_deadline(provider):
    made = provider("chunk_ms = 2900\n[[rules]]\ntext = 'a b c d e f g h i j k l'", idle_s=3.0)
    got = jump(play(made, deadline_s=10.0))

    assert (type(got[-1][1]), got[-1][0]) == (DeadlineExceeded, 10.0)
    assert len(got) == 6


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("script", ["fault = 'stall'", "text = 'a'\nttft_ms = 9000", "text = 'a b'\nchunk_ms = 9000"])
def test_the_deadline_holds_to_the_moment(provider, script, stream):
    got = jump(play(provider(f"[[rules]]\n{script}"), ask(stream=stream), deadline_s=5.0))

    assert (type(got[-1][1]), got[-1][0]) == (DeadlineExceeded, 5.0)


def test_a_deadline_that_has_passed_holds_at_once(provider):
    got = jump(play(provider("ttft_ms = 1\n[[rules]]\ntext = 'a'"), deadline_s=-1.0))

    assert (type(got[-1][1]), got[-1][0]) == (DeadlineExceeded, 0.0)


@given(
    st.integers(0, 50),
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 60),
    st.booleans(),
    st.sampled_from(["", "fault = 'stall'\nafter_chunks = 2", "fault = 'stall'"]),
)
def test_nothing_ever_outlasts_its_limits(tmp_path_factory, ttft, first_byte, idle, deadline, stream, fault):
    path = tmp_path_factory.mktemp("script") / "r.toml"
    path.write_text(f"ttft_ms = {ttft * 1000}\nchunk_ms = 7000\n[[rules]]\ntext = 'a b c d'\n{fault}\n")
    settings = ProviderSettings("fake", "", path=path, first_byte_s=float(first_byte), idle_s=float(idle))

    got = jump(play(ScriptedProvider(settings), ask(stream=stream), deadline_s=float(deadline)))

    assert got[-1][0] <= deadline
    for (before, _), (after, _) in pairwise(got):
        assert after - before <= idle
    assert got[0][0] <= first_byte
    assert isinstance(got[-1][1], UpstreamTimeout | DeadlineExceeded) or isinstance(got[-1][1][-1], Ended)


# -- leaving --


def test_a_caller_who_leaves_is_let_go_at_once(provider):
    async def leave(call):
        sending = asyncio.ensure_future(play(made, call))
        await asyncio.sleep(1)
        sending.cancel()
        start = asyncio.get_running_loop().time()
        with pytest.raises(asyncio.CancelledError):
            await sending
        return asyncio.get_running_loop().time() - start

    made = provider("[[rules]]\nequals = 'late'\ntext = 'a b'\nchunk_ms = 9000\n[[rules]]\nttft_ms = 9000\ntext = 'a'")
    for call in (ask(), ask("late"), ask(stream=False)):
        assert jump(leave(call)) == 0


def test_a_closed_exchange_gives_nothing_more_and_closes_again(provider):
    async def close():
        exchange = await made.send(ask(), TARGET, asyncio.get_running_loop().time() + 100)
        exchange.close()
        exchange.close()
        return await exchange.read()

    made = provider("[[rules]]\ntext = 'a'")
    assert jump(close()) is None


def test_an_unpaced_stream_lets_others_run(provider):
    async def beside():
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        running = asyncio.ensure_future(other())
        await play(made)
        running.cancel()
        return turns

    made = provider(f"[[rules]]\ntext = '{'a ' * 50}'")
    assert jump(beside()) > 50


def test_a_provider_closes(provider):
    made = provider("[[rules]]\ntext = 'a'")

    assert jump(made.close()) is None
    assert jump(made.close()) is None


# -- what was asked --


def test_the_last_text_of_the_user_counts():
    content = Content(
        (
            Message("user", (Text("first"),)),
            Message("user", (Text("a"), Image(url="http://x"), Text("b"))),
            Message("assistant", (Text("c"),)),
            Message("tool", (ToolResult("1", (Text("d"),)),)),
        )
    )

    assert last_user_text(content) == "a\nb"
    assert last_user_text(Content((Message("system", (Text("a"),)),))) == ""
    assert last_user_text(Content(())) == ""


def test_all_words_of_a_prompt_are_counted(provider):
    content = Content(
        (
            Message("system", (Text("one two"),)),
            Message("user", (Text("three"), Image(url="x"))),
            Message("tool", (ToolResult("1", (Text("four five"), Image(url="y"))),)),
        )
    )
    call = Call("", "m", Sampling(), lambda: content)
    ((_, events),) = jump(play(provider("[[rules]]\ntext = 'a'"), call))

    assert fold(events).usage.input_tokens == 5


# -- files --


def test_a_script_with_mistakes_is_refused_with_all_of_them(provider, tmp_path):
    with pytest.raises(ConfigError) as caught:
        provider("sede = 1\n[[rules]]\n")

    assert caught.value.source == str(tmp_path / "replies.toml")
    assert len(caught.value.mistakes) == 2


def test_a_script_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"providers\.fake\.path: cannot be read: No such file"):
        ScriptedProvider(ProviderSettings(name="fake", kind="", path=tmp_path / "nope.toml"))


def test_it_comes_in_through_the_door_of_plugins():
    assert find(PROVIDERS, "scripted") is ScriptedProvider


# -- the demonstration --


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("empty"))
        (settings,) = load(None, {}).providers
    return settings


def answer(settings, prompt, **call):
    got = jump(play(ScriptedProvider(settings), ask(prompt, **call)))
    return got, fold(event for _, events in got for event in events)


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("Hi!", "penstock"),
        ("What is penstock?", "gateway"),
        ("How do I connect a real model?", "OPENAI_API_KEY"),
        ("What does this cost?", "receipt"),
        ("Is it going to rain?", "Is it going to rain?"),
        ("", "scripted demonstration"),
    ],
)
def test_the_demonstration_answers_and_says_what_it_is(demonstration, prompt, word):
    got, reply = answer(demonstration, prompt)
    said = reply.choices[0].text

    assert word in said
    assert "script" in said
    assert (reply.ended, reply.choices[0].finish) == (True, "stop")
    assert reply.usage == Usage(len(prompt.split()), len(said.split()))
    assert got[0][0] == 0.03
    assert got[-1][0] == pytest.approx(0.03 + len(said.split()) / 150, abs=0.02)


def test_the_demonstration_shows_a_configuration_that_is_one(demonstration, tmp_path):
    said = answer(demonstration, "How do I connect a real model?")[1].choices[0].text
    text = "\n".join(line[4:] for line in said.splitlines() if line.startswith("    "))
    (tmp_path / "penstock.toml").write_text(text)

    assert load(str(tmp_path / "penstock.toml"), {"OPENAI_API_KEY": "a-key"}).model("fast")


def test_the_demonstration_has_an_answer_for_every_question_that_it_suggests(demonstration):
    script = tomllib.loads(files("penstock").joinpath("providers", "demo.toml").read_text())
    default = script["rules"][-1]["text"]

    for question in ("What is penstock?", "How do I connect a real model?"):
        assert any(f'"{question}"' in rule["text"] for rule in script["rules"])
        assert not answer(demonstration, question)[1].choices[0].text.startswith(default[:10])


def test_the_demonstration_is_packaged_beside_its_provider():
    assert Path(str(files("penstock").joinpath("providers", "demo.toml"))).is_file()
