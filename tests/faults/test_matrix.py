"""Every fault of a provider, for every dialect of a client, streamed and not: what the client sees, and what the ledger keeps.

Before the first content a fault is not seen at all: the next target answers. After it the answer ends with exactly one
error, in the client's own form, and nothing comes twice. Nobody waits past a deadline, each call leaves one receipt that says
where its usage comes from, and the provider's key shows nowhere.
"""

import asyncio
import gc
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme
from tests.faults.client import Answer
from tests.faults.conftest import PATIENT, PROVIDER_KEY, Site, config, gateway_at, leaks, limits, model
from tests.faults.faults import FAULTS, HEAVY, ONE_BY_ONE, PLAYS, SPOKEN, Fault, say_error
from tests.faults.provider import Provider, provider
from tests.faults.replies import INPUT_TOKENS, OUTPUT_TOKENS, words

from penstock.receipt import Receipt

GRACE_S = 0.1
"""How much later than its deadline a call may end."""
AMPLE_MS, SHORT_MS = 15_000, 500
MANY = 20
AT_ONCE = 12

BAD_TEXT, GOOD_TEXT = "".join(words("bad")), "".join(words("good"))
SAID = "".join(words("bad")[:SPOKEN])


class Lane(NamedTuple):
    """A client's dialect, and those of the two targets behind its model."""

    client: str
    bad: str
    good: str
    stream: bool
    warm: bool = False
    """On connections that were used before, to us and to the provider: then a call is begun without a task."""

    @property
    def name(self) -> str:
        return "-".join(self[:3])

    def model(self, turn: int) -> str:
        return f"{self.name}-{self.stream}-{self.warm}-{turn}".lower()


LANES = [
    Lane(client, first, second, stream)
    for stream in (False, True)
    for client, first, second in (
        ("chat", "chat", "chat"),
        ("messages", "messages", "messages"),
        ("responses", "responses", "responses"),
        ("chat", "messages", "responses"),
        ("messages", "chat", "responses"),
        ("responses", "chat", "messages"),
    )
]
ONE_DIALECT = [lane for lane in LANES if lane.client == lane.bad]
WARM = [lane._replace(warm=True) for lane in ONE_DIALECT]


def models(lanes: list[Lane], times: int) -> str:
    """A model per call, with targets of its own, so that no call learns from another what its targets are worth."""
    text = ""
    for lane in lanes:
        for turn in range(times):
            name = lane.model(turn)
            bad, good = f"bad-{lane.bad}/{name}", f"good-{lane.good}/{name}"
            text += model(name, bad, good) + model(f"alone-{name}", bad).partition("[prices")[0]
    return text


@asynccontextmanager
async def site(
    folder: Path, bad: Provider, good: Provider, fault: str = "", *, url: str = "", times: int = 1
) -> AsyncIterator[Site]:
    where = url or f"http://127.0.0.1:{bad.port}"
    is_timed = fault in FAULTS and FAULTS[fault].is_timed
    lines = limits(connect_s=0.3) if url else PATIENT
    if is_timed:  # many calls take their time on a busy machine, and a slow one must not be taken for a silent one
        lines = limits(silence_s=0.3 if times == 1 else 1.0)
    text = config(where, f"http://127.0.0.1:{good.port}", more=models(LANES + WARM, times), lines=lines)
    async with gateway_at(folder, text, bad, good, keyed=True) as one:
        yield one


class Asked(NamedTuple):
    """A call that was made, and what came of it."""

    lane: Lane
    answer: Answer
    receipt: Receipt
    deadline_s: float


async def ask_all(
    one: Site, fault: str, lanes: list[Lane], *, prefix: str = "", times: int = 1, deadline_ms: int = AMPLE_MS
) -> list[Asked]:
    """Make a call in each lane, all at once, and find the receipt of each: there is one and no more."""
    one.stolen.seconds = 0.0
    lanes = sorted([lane for lane in lanes for _ in range(times)], key=lambda lane: not lane.warm)
    turns = [turn for _ in range(len(lanes) // times) for turn in range(times)]
    one.direct = 0
    calls = [
        one.ask(
            f"{prefix}{lane.model(turn)}",
            fault,
            dialect=lane.client,
            stream=lane.stream,
            warm=lane.warm,
            x_penstock_deadline_ms=str(deadline_ms),
        )
        for lane, turn in zip(lanes, turns, strict=True)
    ]
    width, alone = 1 if fault in ONE_BY_ONE else AT_ONCE, sum(lane.warm for lane in lanes)
    answers = [await call for call in calls[:alone]]
    answers += [
        answer
        for place in range(alone, len(calls), width)
        for answer in await asyncio.gather(*calls[place : place + width])
    ]
    # A new connection begins so as well where it sends the head of another one that lives.
    assert one.direct >= sum(lane.warm for lane in lanes), "a warm call was not begun without a task"
    for answer in answers:
        assert answer.call_id, f"it was no call: {answer.status} {answer.raw[:300]!r}"
    await one.quiet()
    receipts = {receipt.id: receipt for receipt in one.receipts()}
    assert len(receipts) == len(one.receipts()) == len(lanes)
    return [
        Asked(lane, answer, receipts[answer.call_id], deadline_ms / 1000)
        for lane, answer in zip(lanes, answers, strict=True)
    ]


def in_time(one: Site, asked: Asked) -> None:
    """Nobody waits past the deadline."""
    over_s = asked.answer.took_s - asked.deadline_s
    assert over_s <= GRACE_S + one.stolen.seconds, f"{asked.lane}: {over_s * 1000:.0f} ms after its deadline"


def accounted(asked: Asked) -> None:
    """The receipt says what was used, where that is known from, and what it costs."""
    receipt = asked.receipt
    assert receipt.dialect == asked.lane.client
    assert receipt.streamed is asked.lane.stream
    assert receipt.cost_nano_usd is not None
    for one in receipt.tries:
        if one.usage is not None:
            assert one.usage.source in {"provider", "counted", "estimated"}
            assert one.cost_status == ("exact" if one.usage.source == "provider" else "estimated")
        else:
            assert one.status != "ok"
            assert one.cost_nano_usd == 0
    sources = {one.usage.source for one in receipt.tries if one.usage is not None}
    assert receipt.cost_status == ("estimated" if sources - {"provider"} else "exact")
    guessed = sources - {"provider"}
    assert receipt.usage.source == (
        "none" if not sources else "provider" if not guessed else "estimated" if "estimated" in guessed else "counted"
    )
    used = [one.usage for one in receipt.tries if one.usage is not None]
    assert receipt.usage.input_tokens == sum(usage.input_tokens for usage in used), "every try is paid for"
    assert receipt.usage.output_tokens == sum(usage.output_tokens for usage in used)
    assert receipt.cost_nano_usd == sum(one.cost_nano_usd for one in receipt.tries)
    assert receipt.http_status == asked.answer.status or receipt.streamed
    assert min(receipt.usage.input_tokens, receipt.usage.output_tokens, receipt.cost_nano_usd) >= 0


def answered(asked: Asked, who: str, text: str) -> None:
    """The client has one whole answer and knows nothing of a fault."""
    lane, answer, receipt = asked.lane, asked.answer, asked.receipt
    assert (answer.status, answer.complete, answer.errors) == (200, True, []), (lane, answer.raw[:500])
    assert (answer.text, answer.ended) == (text, True), lane
    assert answer.header("x-penstock-target").startswith(f"{who}-{lane.good if who == 'good' else lane.bad}/")
    assert receipt.status == "ok"
    assert receipt.error is None
    assert receipt.target == answer.header("x-penstock-target")
    assert len(receipt.tries) == int(answer.header("x-penstock-tries"))
    accounted(asked)


def refused(asked: Asked, status: int, code: str) -> None:
    """The client has one error in its own form, with the right status."""
    lane, answer, receipt = asked.lane, asked.answer, asked.receipt
    assert (answer.status, answer.complete, answer.text) == (status, True, ""), (lane, answer.raw[:500])
    (error,) = answer.errors
    if lane.client != "messages":
        assert error["code"] == code or not code
    assert error["message"]
    assert receipt.status == "error"
    assert receipt.error
    assert receipt.error == code or not code
    accounted(asked)


def broken_off(asked: Asked, text: str | None, code: str) -> None:
    """The client has what was said, each word once, and then exactly one error in its own form, which is the end."""
    lane, answer, receipt = asked.lane, asked.answer, asked.receipt
    assert (answer.status, answer.complete, answer.ended) == (200, True, False), (lane, answer.raw[-500:])
    assert text is None or answer.text == text, lane
    (error,) = answer.errors
    assert error["message"]
    assert answer.after_error == 0
    assert answer.header("x-penstock-target").startswith(f"bad-{lane.bad}/")
    assert (receipt.status, len(receipt.tries)) == ("error", 1)
    assert receipt.error == code or not code
    assert receipt.usage.source in {"counted", "estimated"} or lane.bad == "messages"  # which counts at its beginning
    assert receipt.usage.output_tokens > 0
    accounted(asked)


def nothing_leaks(one: Site, asked: list[Asked], lines: list[str]) -> None:
    """Neither the provider's key nor the client's shows in a reply, in the ledger or in a log."""
    places = {f"the reply in {each.lane}": each.answer.raw + repr(each.answer.headers).encode() for each in asked}
    places |= {str(path): path.read_bytes() for path in one.folder.rglob("*") if path.is_file()}
    places["the log"] = "\n".join(lines).encode()
    places["the metrics"] = b"".join(repr(one).encode() for one in asked)
    for secret in (PROVIDER_KEY, one.key):
        for place, data in places.items():
            assert (form := leaks(secret, data)) is None, f"{place} shows a key ({form})"
    for call in (*one.bad.calls, *one.good.calls):
        assert leaks(one.key, call.head + call.body) is None, "a provider was sent the client's key"


def lanes_of(fault: Fault, *seen: str) -> list[Lane]:
    """The lanes in which a fault looks like one of these."""
    lanes = (ONE_DIALECT if fault.name in HEAVY else LANES) + WARM
    return [lane for lane in lanes if (fault.streamed if lane.stream else fault.whole) in seen]


def faults(*seen: str) -> list[str]:
    return [one.name for one in FAULTS.values() if {one.streamed, one.whole} & set(seen)]


# -- with another target behind it --


async def check_before(folder: Path, bad: Provider, good: Provider, name: str, lines: list[str], times: int) -> None:
    lanes = lanes_of(FAULTS[name], "before")
    async with site(folder, bad, good, name, times=times) as one:
        asked = await ask_all(one, name, lanes, times=times)
        for each in asked:
            answered(each, "good", GOOD_TEXT)
            in_time(one, each)
            assert len(each.receipt.tries) == 2
        assert bad.count == good.count == len(lanes) * times
        nothing_leaks(one, asked, lines)


@pytest.mark.parametrize("fault", faults("before"))
async def test_before_the_first_content_a_fault_is_not_seen(tmp_path, bad, good, logged, fault):
    await check_before(tmp_path, bad, good, fault, logged, 1)


async def check_after(folder: Path, bad: Provider, good: Provider, name: str, lines: list[str], times: int) -> None:
    fault = FAULTS[name]
    slow = fault.streamed == "slow after"
    async with site(folder, bad, good, name, times=times) as one:
        asked = await ask_all(
            one,
            name,
            lanes_of(fault, "after", "slow after"),
            times=times,
            deadline_ms=(SHORT_MS if times == 1 else 2 * SHORT_MS) if slow else AMPLE_MS,
        )
        for each in asked:
            broken_off(each, None if name == "stream_for_ever" else SAID, fault.error)
            in_time(one, each)
        assert good.count == 0
        assert bad.count == len(asked)
        nothing_leaks(one, asked, lines)


@pytest.mark.parametrize("fault", faults("after", "slow after"))
async def test_after_content_a_fault_ends_the_stream_with_one_error(tmp_path, bad, good, logged, fault):
    await check_after(tmp_path, bad, good, fault, logged, 1)


@pytest.mark.parametrize("fault", faults("slow"))
async def test_a_provider_that_never_falls_silent_is_ended_by_the_deadline(tmp_path, bad, good, logged, fault):
    """Alone; `test_what_only_trickles_is_given_up_for_the_next_target` says what becomes of it with another target."""
    async with site(tmp_path, bad, good, fault) as one:
        asked = await ask_all(one, fault, lanes_of(FAULTS[fault], "slow"), prefix="alone-", deadline_ms=SHORT_MS)
        for each in asked:
            refused(each, FAULTS[fault].status, FAULTS[fault].error)
            in_time(one, each)
        nothing_leaks(one, asked, logged)


@pytest.mark.parametrize("fault", faults("slow"))
async def test_what_only_trickles_is_given_up_for_the_next_target(tmp_path, bad, good, fault):
    async with site(tmp_path, bad, good, fault) as one:
        for each in await ask_all(one, fault, lanes_of(FAULTS[fault], "slow")):
            answered(each, "good", GOOD_TEXT)


@pytest.mark.parametrize("fault", faults("fine"))
async def test_what_is_only_odd_is_passed_on(tmp_path, bad, good, logged, fault):
    async with site(tmp_path, bad, good, fault) as one:
        asked = await ask_all(one, fault, lanes_of(FAULTS[fault], "fine"))
        for each in asked:
            answered(each, "bad", BAD_TEXT)
            usage = each.receipt.usage
            if fault == "no_usage":
                assert usage.source in {"counted", "estimated"}
                assert min(usage.input_tokens, usage.output_tokens) > 0
            else:
                assert (usage.source, usage.input_tokens, usage.output_tokens) == (
                    "provider",
                    INPUT_TOKENS,
                    OUTPUT_TOKENS,
                )
        assert good.count == 0
        nothing_leaks(one, asked, logged)


@pytest.mark.parametrize("fault", faults("either"))
async def test_what_makes_little_sense_still_ends_in_one_whole_answer(tmp_path, bad, good, logged, fault):
    async with site(tmp_path, bad, good, fault) as one:
        asked = await ask_all(one, fault, lanes_of(FAULTS[fault], "either"))
        for each in asked:
            by_bad = each.answer.header("x-penstock-target").startswith("bad-")
            answered(each, "bad" if by_bad else "good", BAD_TEXT if by_bad else GOOD_TEXT)
        nothing_leaks(one, asked, logged)


async def test_without_a_fault_the_first_target_answers(tmp_path, bad, good, logged):
    async with site(tmp_path, bad, good) as one:
        asked = await ask_all(one, "answer", LANES)
        for each in asked:
            answered(each, "bad", BAD_TEXT)
            lane = "verbatim" if each.lane.client == each.lane.bad else "translated"
            assert each.answer.header("x-penstock-lane") == each.receipt.lane == lane
        assert good.count == 0
        nothing_leaks(one, asked, logged)


@pytest.mark.parametrize("lanes", [WARM, ONE_DIALECT], ids=["without a task", "in a task"])
async def test_a_call_that_was_answered_leaves_nothing_to_the_collector(tmp_path, bad, good, lanes):
    """A circle of what belongs to one call would let garbage pile up until the collector stops everything."""
    names = {"InFlight", "LiveTry", "Meter", "Direct", "_Asked", "Prepared", "Reply", "WholeExchange", "Request"}
    names |= {"Flow", "StreamExchange", "Responder"}
    bad.pace_s = 0.002  # so that words come one by one
    async with site(tmp_path, bad, good) as one:
        gc.collect()
        gc.disable()
        try:
            await ask_all(one, "answer", lanes)
            await one.quiet()
            kinds = [type(each) for each in gc.get_objects()]
            assert [kind for kind in kinds if kind.__name__ in names and kind.__module__.startswith("penstock")] == []
        finally:
            gc.enable()


# -- with nothing behind it --


@pytest.mark.parametrize("fault", faults("before"))
async def test_a_fault_of_the_only_target_is_one_clear_error(tmp_path, bad, good, logged, fault):
    expected = FAULTS[fault]
    async with site(tmp_path, bad, good, fault) as one:
        asked = await ask_all(one, fault, lanes_of(expected, "before"), prefix="alone-")
        for each in asked:
            refused(each, each.answer.status if not expected.error else expected.status, expected.error)
            assert each.answer.status in {429, 502, 503, 504, 529}
            in_time(one, each)
        assert bad.count == len(asked)
        nothing_leaks(one, asked, logged)


async def test_the_error_of_the_only_target_names_it(tmp_path, bad, good):
    """Whoever reads it has to know where to look."""
    lane = next(lane for lane in LANES if lane.stream)
    async with site(tmp_path, bad, good) as one:
        unnamed = []
        for name in faults("before"):
            if FAULTS[name].streamed is None or FAULTS[name].is_timed or name in ONE_BY_ONE:
                continue
            answer = await one.ask(f"alone-{lane.model(0)}", name, stream=True)
            if "bad-chat/" not in answer.errors[0]["message"]:
                unnamed.append((name, answer.errors[0]["message"]))
    assert unnamed == []


@pytest.mark.parametrize("fault", [name for name in faults("before") if name.startswith("status_429")])
async def test_the_caller_is_told_how_long_a_provider_asked_to_wait(tmp_path, bad, good, fault):
    async with site(tmp_path, bad, good, fault) as one:
        for each in await ask_all(one, fault, ONE_DIALECT, prefix="alone-"):
            after = each.answer.header("retry-after")
            asked_30 = fault.endswith(("in_seconds", "at_a_date", "in_milliseconds"))
            assert not after or after.isdigit()
            assert not asked_30 or 28 <= int(after) <= 31
            assert not after or 1 <= int(after) <= 86_400


async def test_the_only_target_that_quotes_its_key_is_not_quoted(tmp_path, bad, good, logged):
    async with site(tmp_path, bad, good) as one:
        asked = []
        for fault in (name for name in FAULTS if "quotes_the_key" in name):
            before = len(one.receipts())
            found = [await one.ask("alone-chat-chat-chat-false-false-0", fault, dialect="chat", stream=True)]
            assert len(one.receipts()) == before + 1
            asked += [Asked(LANES[0], each, one.receipts()[-1], 1.0) for each in found]
        nothing_leaks(one, asked, logged)


# -- places that no connection reaches --


@contextmanager
def refused_port():
    """A port that is bound and refuses connections, since nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def dropped_syn():
    """A port whose accept queue is full, so that the kernel drops a SYN rather than refuse it."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def unknown_name():
    yield "http://nowhere.invalid"


@contextmanager
def silent_listener():
    """Somebody accepts, and says nothing, not even TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


PLACES = {
    "refused": (refused_port, "upstream_failed", 502),
    "syn_dropped": (dropped_syn, "upstream_timeout", 504),
    "unknown_name": (unknown_name, "", 0),  # which a resolver may also take its time to say
    "silent_tls": (silent_listener, "upstream_timeout", 504),
}


async def check_place(folder: Path, bad: Provider, good: Provider, lines: list[str], where: str) -> None:
    async with site(folder, bad, good, url=where) as one:
        asked = await ask_all(one, "answer", LANES)
        for each in asked:
            answered(each, "good", GOOD_TEXT)
            in_time(one, each)
            (failed, _) = each.receipt.tries
            assert failed.usage is None, "nobody was asked, so nothing was used"
        nothing_leaks(one, asked, lines)


async def check_place_alone(folder: Path, bad: Provider, good: Provider, where: str, code: str, status: int) -> None:
    async with site(folder, bad, good, url=where) as one:
        for each in await ask_all(one, "answer", ONE_DIALECT, prefix="alone-"):
            refused(each, status or each.answer.status, code)
            assert each.answer.status in {502, 504}
            assert (each.receipt.usage.source, each.receipt.cost_nano_usd) == ("none", 0)


@pytest.mark.parametrize("place", PLACES)
async def test_a_place_that_cannot_be_reached_is_passed_over(tmp_path, bad, good, logged, place):
    make, code, status = PLACES[place]
    if place == "syn_dropped" and sys.platform != "linux":
        pytest.skip("only Linux drops a SYN when the backlog is full")
    with make() as where:
        await check_place(tmp_path / "two", bad, good, logged, where)
        await check_place_alone(tmp_path / "one", bad, good, where, code, status)


PAST = datetime(2020, 1, 1, tzinfo=UTC)


def tls_of(kind: str, authority: trustme.CA) -> ssl.SSLContext | None:
    """The server's side of TLS that does not hold; None: no TLS at all."""
    if kind == "plain":
        return None
    issuer = trustme.CA() if kind == "untrusted" else authority
    name = "elsewhere.example" if kind == "wrong_host" else "127.0.0.1"
    after = {"not_after": PAST} if kind == "expired" else {}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert(name, **after).configure_cert(context)
    return context


@pytest.mark.parametrize("kind", ["untrusted", "wrong_host", "expired", "plain", "fine"])
async def test_tls_that_does_not_hold_is_passed_over(tmp_path, good, logged, kind):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with provider(PLAYS, tls=tls_of(kind, authority)) as bad:
        trusting = f'ca_file = "{tmp_path / "ca.pem"}"\n'
        url = f"https://127.0.0.1:{bad.port}"
        text = config(url, f"http://127.0.0.1:{good.port}", more=models(LANES, 1))
        text = text.replace('kind = "', f'{trusting}kind = "')
        async with gateway_at(tmp_path / "two", text, bad, good, keyed=True) as one:
            asked = await ask_all(one, "answer", LANES)
            for each in asked:
                answered(each, "bad" if kind == "fine" else "good", BAD_TEXT if kind == "fine" else GOOD_TEXT)
            assert bad.count == (len(LANES) if kind == "fine" else 0), "a request went where nobody is trusted"
            nothing_leaks(one, asked, logged)
        async with gateway_at(tmp_path / "one", text, bad, good, keyed=True) as one:
            if kind != "fine":
                for each in await ask_all(one, "answer", ONE_DIALECT, prefix="alone-"):
                    refused(each, 502, "upstream_failed")


# -- who tries again --


async def test_a_refused_request_is_not_tried_elsewhere(tmp_path, bad, good):
    """What the caller has to change is the caller's to hear."""

    async def status_400(peer, heard):
        await say_error(peer, heard, "400 Bad Request", message="max_tokens is too large")

    bad.plays = PLAYS | {"status_400": status_400}
    async with site(tmp_path, bad, good) as one:
        for each in await ask_all(one, "status_400", LANES):
            assert each.answer.status == 400
            assert "max_tokens is too large" in each.answer.errors[0]["message"]
            assert (each.receipt.error, each.receipt.error_origin) == ("upstream_rejected", "client")
        assert good.count == 0


@pytest.mark.soak
@pytest.mark.parametrize("fault", faults("before"))
async def test_many_times_before_the_first_content(tmp_path, bad, good, logged, fault):
    await check_before(tmp_path, bad, good, fault, logged, MANY)


@pytest.mark.soak
@pytest.mark.parametrize("fault", faults("after", "slow after"))
async def test_many_times_after_content(tmp_path, bad, good, logged, fault):
    await check_after(tmp_path, bad, good, fault, logged, MANY)


def test_there_are_enough_faults():
    assert len(FAULTS) + len(PLACES) + 4 >= 34
