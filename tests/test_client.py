"""The library: both twins on a real line with scripted providers, and what threads, tasks, forks and exits do to it."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from contextlib import aclosing, closing

import pytest

from penstock import AsyncGateway, ConfigError, Finished, Gateway, Message, PenstockError, Text, TextDelta
from penstock.client import Closed
from penstock.config import load
from penstock.errors import InvalidRequest, UnknownModel, UpstreamFailed, UpstreamRejected
from penstock.ledger.ledger import Ledger
from penstock.ledger.store import Filter, Span

SCRIPT = """
rules = [
    { contains = "down", fault = "refuse" },
    { contains = "reject", status = 400, message = "That is not allowed." },
    { contains = "break", text = "This is cut off here", fault = "reset", after_chunks = 2 },
    { contains = "slow", text = "one two three four five six seven eight nine ten", chunk_ms = 300 },
    { contains = "never", text = "never", ttft_ms = 50000 },
    { contains = "system?", text = "{n}" },
    { text = "You said: {prompt}" },
]
"""
CONFIG = """
[providers.fake]
kind = "scripted"
path = "replies.toml"
retries = 0
[models.fast]
targets = ["fake/m"]
[models.other]
targets = ["fake/o"]
[prices."fake/m"]
input = 1
output = 2
[teams.web]
models = ["fast"]
"""


@pytest.fixture(autouse=True)
def folder(tmp_home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "replies.toml").write_text(SCRIPT)
    (tmp_path / "penstock.toml").write_text(CONFIG)
    return tmp_path


def receipts():
    """Every receipt in the ledger, oldest first."""
    now_ns = time.time_ns()
    ledger = Ledger.open(load().home, now_ns=now_ns)
    try:
        return ledger.store.calls(Filter(Span(0, now_ns + 10**9)), 1000)[::-1]
    finally:
        ledger.close()


def statuses():
    return [receipt.status for receipt in receipts()]


class Twin:
    """`Gateway` with the names of `AsyncGateway`, so that both take the same tests."""

    def __init__(self, *arguments):
        self._gateway = Gateway(*arguments)

    async def ask(self, *arguments, **options):
        return self._gateway.ask(*arguments, **options)

    async def plan(self, *arguments, **options):
        return self._gateway.plan(*arguments, **options)

    async def stream(self, *arguments, **options):
        with closing(self._gateway.stream(*arguments, **options)) as events:
            for event in events:
                yield event

    async def chunks(self, *arguments, **options):
        with closing(self._gateway.chunks(*arguments, **options)) as chunks:
            for chunk in chunks:
                yield chunk

    @property
    def config(self):
        return self._gateway.config

    async def close(self):
        self._gateway.close()

    async def __aenter__(self):
        self._gateway.__enter__()
        return self

    async def __aexit__(self, *error):
        self._gateway.__exit__(*error)


both = pytest.mark.parametrize("kind", [AsyncGateway, Twin], ids=["async", "sync"])


# -- what both do --


@both
async def test_an_answer_has_its_text_its_usage_its_cost_and_its_receipt(kind):
    async with kind() as gateway:
        answer = await gateway.ask("Hi", model="fast", feature="demo")

    assert answer.text == "You said: Hi"
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.source) == (1, 3, "provider")
    assert answer.cost_usd == "0.000007"
    assert (answer.receipt.feature, answer.receipt.target, answer.receipt.streamed) == ("demo", "fake/m", False)
    assert answer.reply.choices[0].finish == "stop"
    assert receipts() == [answer.receipt]


@both
async def test_a_cost_that_nobody_knows_is_none(kind):
    async with kind() as gateway:
        assert (await gateway.ask("Hi", model="other")).cost_usd is None


@both
async def test_a_stream_gives_events_as_they_come(kind):
    async with kind() as gateway:
        events = [event async for event in gateway.stream("a b c")]

    assert [event.text for event in events if isinstance(event, TextDelta)] == ["You ", "said: ", "a ", "b ", "c"]
    assert Finished("stop", "stop") in events
    assert [(one.status, one.streamed) for one in receipts()] == [("ok", True)]


@both
async def test_the_last_chunk_and_only_that_has_the_receipt(kind):
    async with kind() as gateway:
        chunks = [chunk async for chunk in gateway.chunks("a b c")]

    assert [chunk.receipt is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    assert receipts() == [chunks[-1].receipt]


@both
async def test_a_plan_calls_nobody(kind):
    async with kind() as gateway:
        plan = await gateway.plan("Hi", max_tokens=10)

    assert (plan.model, plan.steps[0].target) == ("fast", "fake/m")
    assert receipts() == []


@both
async def test_without_a_model_the_first_of_the_configuration_answers(kind):
    async with kind() as gateway:
        assert (await gateway.ask("Hi")).receipt.model == "fast"


@both
async def test_messages_may_be_values_or_dictionaries(kind):
    prompt = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        Message("user", (Text("Go on"),)),
    ]
    async with kind() as gateway:
        answer = await gateway.ask(prompt, system="Be brief.")

    assert answer.text == "You said: Go on"
    assert answer.usage.input_tokens == 6


@both
async def test_options_reach_the_model_and_the_receipt(kind):
    async with kind() as gateway:
        answer = await gateway.ask("a b c", max_tokens=2, team="web", session="s1", user="ann@example.com")

    receipt = answer.receipt
    assert (answer.text, receipt.finish_reason) == ("You said:", "length")
    assert (receipt.team, receipt.session) == ("web", "s1")
    assert receipt.user
    assert "ann" not in receipt.user


@both
async def test_what_a_team_may_not_use_is_refused(kind):
    async with kind() as gateway:
        with pytest.raises(PenstockError, match="Team 'web' may not use model 'other'"):
            await gateway.ask("Hi", model="other", team="web")


@both
@pytest.mark.parametrize(
    ("prompt", "options", "error"),
    [
        ("down", {}, UpstreamFailed),
        ("reject", {}, UpstreamRejected),
        ("break", {}, UpstreamFailed),
        ("Hi", {"model": "nope"}, UnknownModel),
    ],
)
async def test_an_error_is_raised_and_names_its_receipt(kind, prompt, options, error):
    async with kind() as gateway:
        with pytest.raises(error) as whole:
            await gateway.ask(prompt, **options)
        with pytest.raises(error) as streamed:
            async for _ in gateway.stream(prompt, **options):
                pass

    assert [whole.value.call_id, streamed.value.call_id] == [receipt.id for receipt in receipts()]


@both
async def test_what_came_before_a_break_is_given_and_then_the_error(kind):
    text = []

    async def listen():
        async for event in gateway.stream("break"):
            text.append(getattr(event, "text", ""))  # noqa: PERF401 - it ends in an error

    async with kind() as gateway:
        with pytest.raises(UpstreamFailed):
            await listen()

    assert "".join(text) == "This is "


@both
async def test_a_break_among_chunks_is_an_event(kind):
    async with kind() as gateway:
        chunks = [chunk async for chunk in gateway.chunks("break")]

    assert type(chunks[-1].events[-1]).__name__ == "Failed"
    assert chunks[-1].receipt.status == "error"


@both
async def test_what_cannot_be_asked_is_refused_without_a_receipt(kind):
    async with kind() as gateway:
        for bad in ({"max_tokens": 0}, {"model": 5}):
            with pytest.raises(InvalidRequest):
                await gateway.ask("Hi", **bad)
        with pytest.raises(InvalidRequest):
            async for _ in gateway.stream([]):
                pass
        with pytest.raises(TypeError, match="no option 'temprature'"):
            await gateway.ask("Hi", temprature=1)

    assert receipts() == []


@both
async def test_a_deadline_holds(kind):
    async with kind() as gateway:
        with pytest.raises(PenstockError) as refused:
            await gateway.ask("never", deadline_s=0.05)

    assert refused.value.status == 504


@both
async def test_whoever_looks_away_beyond_the_deadline_gets_an_error_and_is_not_cancelled(kind):
    seen = []

    async def listen():
        async for event in gateway.stream("slow", deadline_s=0.1):
            seen.append(event)
            await asyncio.sleep(0.2)

    async with kind() as gateway:
        with pytest.raises(PenstockError) as refused:
            await listen()

    assert seen
    assert refused.value.code == "deadline_exceeded"
    assert [receipt.error for receipt in receipts()] == ["deadline_exceeded"]


@both
async def test_a_closed_gateway_says_so(kind):
    gateway = kind()
    await gateway.ask("Hi")
    await gateway.close()
    await gateway.close()

    for use in (gateway.ask("Hi"), gateway.plan("Hi"), anext(gateway.stream("Hi")), anext(gateway.chunks("Hi"))):
        with pytest.raises(RuntimeError, match="This gateway is closed"):
            await use


@both
async def test_a_gateway_that_was_never_used_leaves_nothing_behind(kind, tmp_home):
    before = threading.active_count()
    async with kind():
        pass

    assert not tmp_home.exists()
    assert threading.active_count() == before


@both
async def test_a_configuration_may_be_named_and_its_mistakes_are_raised(kind, folder):
    (folder / "other.toml").write_text(CONFIG.replace("fast", "quick"))
    async with kind(folder / "other.toml") as gateway:
        assert gateway.config.source == str(folder / "other.toml")
        assert (await gateway.ask("Hi")).receipt.model == "quick"
    with pytest.raises(ConfigError):
        kind("nowhere.toml")


# -- the asynchronous one --


async def test_leaving_an_asynchronous_stream_cancels_the_call_at_once():
    async with AsyncGateway() as gateway:
        async with aclosing(gateway.stream("slow")) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    break
        assert gateway._line.in_flight == 0

    assert statuses() == ["cancelled"]


async def test_leaving_a_loop_without_closing_it_cancels_the_call_soon():
    async with AsyncGateway() as gateway:
        async for event in gateway.stream("slow"):
            if isinstance(event, TextDelta):
                break
        for _ in range(20):
            await asyncio.sleep(0)
        assert gateway._line.in_flight == 0

    assert statuses() == ["cancelled"]


async def test_cancelling_a_task_cancels_its_call():
    async with AsyncGateway() as gateway:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(gateway.ask("never"), 0.05)
        assert (await gateway.ask("Hi")).text

    assert statuses() == ["cancelled", "ok"]


async def test_tasks_call_at_once():
    async with AsyncGateway() as gateway:
        answers = await asyncio.gather(*(gateway.ask(f"n{n}") for n in range(50)))

    assert [answer.text for answer in answers] == [f"You said: n{n}" for n in range(50)]
    assert len({answer.receipt.id for answer in answers}) == 50


async def test_closing_ends_calls_that_wait_and_calls_that_are_looked_at():
    gateway = AsyncGateway()
    waiting = asyncio.ensure_future(gateway.ask("never"))
    looked_at = gateway.stream("slow")
    await anext(looked_at)
    await asyncio.sleep(0.02)
    await gateway.close()

    with pytest.raises(Closed, match="closed during this call"):
        await waiting
    assert not waiting.cancelled()
    with pytest.raises(Closed, match="closed during this call"):
        async for _ in looked_at:  # what had come already, and then no more
            pass
    assert statuses() == ["cancelled", "cancelled"]


async def test_a_task_that_is_cancelled_while_the_gateway_closes_is_cancelled():
    gateway = AsyncGateway()
    waiting = asyncio.ensure_future(gateway.ask("never"))
    await asyncio.sleep(0.02)
    waiting.cancel()
    await gateway.close()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_closing_within_the_loop_over_a_stream_ends_it():
    gateway = AsyncGateway()

    async def listen():
        async for event in gateway.stream("slow"):
            if isinstance(event, TextDelta):
                await gateway.close()

    with pytest.raises(Closed, match="closed during this call"):
        await listen()

    assert statuses() == ["cancelled"]


def test_an_asynchronous_gateway_belongs_to_one_loop():
    gateway = AsyncGateway()

    async def first():
        await gateway.ask("Hi")

    async def second():
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            await gateway.ask("Hi")
        await gateway.close()

    asyncio.run(first())
    asyncio.run(second())


# -- the synchronous one --


def test_leaving_a_stream_cancels_the_call_at_once():
    with Gateway() as gateway:
        for event in gateway.stream("slow"):
            if isinstance(event, TextDelta):
                break
        assert gateway._gateway._line.in_flight == 0

        events = gateway.stream("slow")
        next(events)
        events.close()
        assert gateway._gateway._line.in_flight == 0

    assert statuses() == ["cancelled", "cancelled"]


def test_closing_ends_a_plan_that_still_counts():
    gateway = Gateway()
    gateway.plan("Hi")
    ends = []

    async def endless(*_arguments):
        await asyncio.sleep(30)

    gateway._gateway._line.foresee = endless

    def wait():
        try:
            gateway.plan("Hi")
        except Closed as error:
            ends.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    gateway.close()
    thread.join(5)

    assert ends == ["The gateway was closed during this call."]


def test_a_stream_that_nobody_looks_at_makes_no_call():
    with Gateway() as gateway:
        gateway.ask("Hi")
        gateway.stream("Hi")

    assert len(receipts()) == 1


def test_threads_call_at_once():
    texts = []

    def work(number):
        for turn in range(10):
            prompt = f"{number} {turn}"
            streamed = "".join(e.text for e in gateway.stream(prompt) if isinstance(e, TextDelta))
            texts.append((gateway.ask(prompt).text, streamed, f"You said: {prompt}"))

    with Gateway() as gateway:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(texts) == 80
    assert all(asked == streamed == expected for asked, streamed, expected in texts)
    assert statuses() == ["ok"] * 160


def test_closing_ends_the_calls_of_other_threads():
    gateway, ends = Gateway(), []

    def wait(use):
        try:
            use()
        except RuntimeError as error:
            ends.append(type(error))

    threads = [
        threading.Thread(target=wait, args=(lambda: gateway.ask("never"),)),
        threading.Thread(target=wait, args=(lambda: list(gateway.stream("slow")),)),
    ]
    for thread in threads:
        thread.start()
    while gateway._gateway._line is None or gateway._gateway._line.in_flight < 2:
        time.sleep(0.005)
    gateway.close()
    for thread in threads:
        thread.join(5)

    assert ends == [Closed, Closed]
    assert statuses() == ["cancelled", "cancelled"]


def test_a_stream_that_is_half_read_when_the_gateway_closes_ends_in_an_error():
    gateway = Gateway()
    events = gateway.stream("slow")
    next(events)
    gateway.close()

    with pytest.raises(Closed):
        list(events)
    assert statuses() == ["cancelled"]


def test_closing_leaves_no_thread():
    before = set(threading.enumerate())
    with Gateway() as gateway:
        gateway.ask("Hi")
        assert {thread.name for thread in set(threading.enumerate()) - before} >= {"penstock"}
        assert all(thread.daemon for thread in set(threading.enumerate()) - before)

    assert set(threading.enumerate()) == before


def test_a_gateway_that_is_forgotten_closes_itself():
    before = set(threading.enumerate())
    gateway = Gateway()
    gateway.ask("Hi")
    gone = weakref.ref(gateway)
    del gateway
    gc.collect()

    assert gone() is None
    assert set(threading.enumerate()) == before
    assert statuses() == ["ok"]


def test_a_gateway_that_its_own_thread_forgets_ends_without_waiting_for_itself():
    gateway = Gateway()
    events = gateway.stream("slow")
    next(events)
    thread, forget = gateway._thread._thread, gateway._thread._loop.call_soon_threadsafe
    held = [gateway, events]
    del gateway, events
    forget(held.clear)
    thread.join(5)

    assert not thread.is_alive()
    assert statuses() == ["cancelled"]


def test_what_goes_wrong_while_closing_is_raised(monkeypatch):
    async def fail(gateway):
        await close(gateway)
        raise OSError("no space")

    close = AsyncGateway.close
    gateway = Gateway()
    gateway.ask("Hi")
    monkeypatch.setattr(AsyncGateway, "close", fail)
    monkeypatch.setattr(threading, "excepthook", lambda _arguments: None)
    with pytest.raises(OSError, match="no space"):
        gateway.close()
    assert not gateway._thread._thread.is_alive()


def test_a_gateway_that_cannot_begin_says_so_each_time(folder, monkeypatch):
    monkeypatch.setenv("PENSTOCK_HOME", str(folder / "penstock.toml" / "home"))
    with Gateway() as gateway:
        for _ in range(2):
            with pytest.raises(PenstockError, match="cannot be made"):
                gateway.ask("Hi")


# -- processes --

PRELUDE = """
import os, signal, sys, threading
from penstock import Gateway, PenstockError
gateway = Gateway()
"""


def run(script):
    """Run a script with every warning an error; give its exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE + script],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_program_may_end_without_closing_and_in_the_middle_of_a_stream():
    code, out, err = run("""
print(gateway.ask("Hi").text)
events = gateway.stream("slow")
next(events)
""")

    assert (code, out, err) == (0, "You said: Hi\n", "")
    assert statuses() == ["ok", "cancelled"]


def test_a_program_that_other_threads_call_in_may_end():
    code, _, err = run("""
def call():
    try:
        gateway.ask("never")
    except RuntimeError:
        pass
threading.Thread(target=call, daemon=True).start()
while gateway._gateway._line is None or not gateway._gateway._line.in_flight:
    pass
""")

    assert (code, err) == (0, "")
    assert statuses() == ["cancelled"]


def test_an_interrupt_ends_the_call_and_the_gateway_lives_on():
    code, out, err = run("""
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    gateway.ask("never")
except KeyboardInterrupt:
    print("interrupted")
print(gateway.ask("Hi").text)
""")

    assert (code, out, err) == (0, "interrupted\nYou said: Hi\n", "")
    assert statuses() == ["cancelled", "ok"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_gateway_that_was_used_before_a_fork_says_so_in_the_child():
    code, out, _ = run("""
gateway.ask("Hi")
if os.fork() == 0:
    try:
        gateway.ask("Hi")
    except RuntimeError as error:
        print("child:", error, flush=True)
    sys.exit(0)
os.wait()
print("parent:", gateway.ask("Hi").text)
""")

    assert code == 0
    assert "child: This gateway was used before the process forked" in out
    assert "parent: You said: Hi" in out


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_gateway_that_was_only_made_before_a_fork_works_on_both_sides():
    code, out, err = run("""
if os.fork() == 0:
    print("child:", gateway.ask("Hi").text, flush=True)
    sys.exit(0)
os.wait()
print("parent:", gateway.ask("Hi").text)
""")

    assert (code, out, err) == (0, "child: You said: Hi\nparent: You said: Hi\n", "")
    assert statuses() == ["ok", "ok"]


async def test_without_a_model_of_ones_own_one_has_to_be_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "home"))
    (tmp_path / "bare.toml").write_text('[providers.fake]\nkind = "scripted"\n')
    async with AsyncGateway(tmp_path / "bare.toml") as gateway:
        with pytest.raises(InvalidRequest, match="model has to be a name"):
            await gateway.ask("Hi")
        assert (await gateway.ask("Hi", model="fake/demo")).receipt.target == "fake/demo"
