"""A call without a task: begun only where nothing stands in its way, and however it goes on it ends as any other does."""

import asyncio

import pytest
from msgspec import structs
from tests.test_gateway import (
    CONFIG,
    WEB,
    WHOLE,
    FullDisk,
    Played,
    PlayedExchange,
    ask,
    jumping,
    world,
)

from penstock import closing
from penstock.call import Caller, Who
from penstock.calls_alike import Standing
from penstock.errors import (
    SHUTDOWN,
    DeadlineExceeded,
    Internal,
    PenstockError,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamTimeout,
)
from penstock.outbox import Outbox
from penstock.plugins import UNSENT
from penstock.receipt import Settled, Usage
from penstock.reply import Chunk, Told

CALL = ask("solo", stream=False)
CALL_BEHIND = ask("fast", stream=False)
EMPTY: tuple[()] = ()
ALIKE = (
    *(
        "dialect",
        "model",
        "status",
        "http_status",
        "streamed",
        "key_id",
        "team",
        "feature",
        "user",
        "session",
        "target",
    ),
    *("error", "error_origin", "finish_reason", "usage", "cost_nano_usd", "cost_status", "lane", "cache", "dropped"),
    *("config_hash", "cache_saved_nano_usd", "routing_saved_nano_usd"),
)


class Exchange(PlayedExchange):
    """A reply that is there."""

    def take(self):
        piece = self.pieces.pop(0) if self.pieces else None
        if isinstance(piece, BaseException):
            raise piece
        return piece


class Ready(Played):
    """A provider that a call can be sent to at once; the test says when, and what, it answers."""

    def __init__(self, *replies, free=True):
        super().__init__(*replies)
        self.free = free
        self.sent = []

    def prepare(self, call, target):
        if not self.free:
            return None
        self.sent.append(Sent(self, call, target))
        return self.sent[-1]


class Sent(PlayedExchange):
    leaves = True
    by_outbox = False

    def __init__(self, provider, call, target):
        super().__init__((), "chat")
        self.provider, self.call, self.target = provider, call, target
        self.told = self.whole = self.instead = self.abandoned = None

    def tell(self):
        if isinstance(self.told, BaseException):
            raise self.told
        return self.told

    def leave(self, deadline, waiter):
        self.deadline, self.waiter = deadline, waiter
        self.provider.before()
        return self.leaves

    def answer(self):
        return None if self.whole is None else Exchange(self.whole, "chat")

    async def arrived(self, deadline):
        if isinstance(self.instead, BaseException):
            raise self.instead
        if self.instead is not None:
            return PlayedExchange(self.instead, "chat")
        return (
            Exchange(self.whole, "chat")
            if self.whole is not None
            else await self.provider.send(self.call, self.target, self.deadline)
        )

    def abandon(self, why):
        self.abandoned = why

    def come(self, whole=None, instead=None, told=None):
        """Have something come of it."""
        self.whole, self.instead, self.told = whole, instead, told
        self.waiter.set_result(False)


class Asker:
    """Whoever began a call, and what it heard."""

    def __init__(self, one, call=CALL, who=WEB, standing=None):
        self.one = one
        self.answers, self.handed, self.direct = [], [], None
        self.call, self.who, self.standing = call, who, standing or Standing(Caller())

    def begin(self, call=None, who=None, standing=None):
        self.call, self.who, self.standing = call or self.call, who or self.who, standing or self.standing
        self.one.gateway.direct([self])
        return self.direct

    def begun(self, call):
        self.direct = call
        self.one.taken.append(call.flight.id)

    def answered(self, call, exchange, body, settled):
        Outbox.of(asyncio.get_running_loop()).commit()  # as whoever writes an answer does
        assert settled.receipt in self.one.journalled(), "it was given out before its receipt was kept"
        self.answers.append((call, exchange, body, settled))

    def handed_over(self, call):
        self.handed.append(call)
        if call is not None and self.direct is None:
            self.begun(call)

    async def finish(self):
        """Go on with what was handed over; its chunks, or what was raised."""
        (direct,) = self.handed
        try:
            flow = await self.one.gateway.go_on(direct)
        except PenstockError as error:
            return error
        chunks = []
        while (chunk := await flow.next()) is not None:
            chunks.append(chunk)
        flow.close()
        return flow.opening, chunks


def alike(receipt):
    return {name: getattr(receipt, name) for name in ALIKE}


TOLD = Told(b"whole", "id-1", "one-2025", "stop", 9, 2, "fp")
"""The same as `WHOLE`, in one value."""


@pytest.mark.parametrize("told", [None, TOLD], ids=["read", "told"])
@jumping
async def test_a_whole_answer_is_given_out_at_once_and_leaves_the_receipt_of_any_other_call(tmp_path, told):
    provider = Ready(WHOLE, WHOLE)
    async with world(tmp_path, a=provider) as one:
        opening, (chunk,), _ = await one.take(CALL)
        asker = Asker(one)
        direct = asker.begin()
        assert one.held()[0] > 0
        assert len(one.open_intents()) == 1, "the provider is asked after the intent is kept"
        provider.sent[0].come(WHOLE, told=told)
        ((call, exchange, body, settled),) = asker.answers
        assert call is direct
        assert body == chunk.raw
        assert (exchange.lane, exchange.status, exchange.headers) == (opening.lane, opening.status, opening.headers)
        assert isinstance(settled, Settled)
        first, second = one.receipts()
        assert alike(first) == alike(second)
        times = {"started_us": 0, "ttft_us": None, "total_us": 0}
        assert structs.replace(first.tries[0], **times) == structs.replace(second.tries[0], **times)
        assert second.ttft_us == second.tries[0].ttft_us is not None
        assert direct.done()
        provider.sent[0].waiter.set_result(False)  # once more changes nothing
        assert len(asker.answers) == 1
        assert asker.handed == []
        one.check()


COMPARED = CONFIG + '[models.dear]\ntargets = ["a/one"]\nbaseline = "b/two"\n'


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("solo", structs.replace(TOLD, detailed=Usage(9, 2, 4, reasoning_tokens=1))),
        ("solo", structs.replace(TOLD, detailed=Usage(9, 2, audio_input_tokens=3))),  # for which a row has no place
        ("solo", structs.replace(TOLD, fingerprint="")),
        ("solo", structs.replace(TOLD, service_tier="flex")),
        ("dear", TOLD),  # saved something by where it went
    ],
)
@jumping
async def test_whatever_is_told_leaves_the_receipt_that_its_events_leave(tmp_path, model, told):
    provider, call = Ready((Chunk(told.events, b"whole"),)), ask(model, stream=False)
    async with world(tmp_path, config=COMPARED, a=provider) as one:
        await one.take(call)
        asker = Asker(one)
        asker.begin(call)
        provider.sent[0].come(told=told)
        ((_, _, body, settled),) = asker.answers
        first, second = one.receipts()
        assert body == b"whole"
        assert settled.receipt == second
        assert alike(first) == alike(second)
        assert first.tries[0].usage == second.tries[0].usage
        assert (first.routing_saved_nano_usd != 0) is (model == "dear")
        one.check()


@jumping
async def test_what_calls_of_one_caller_have_in_common_is_remembered_for_no_other_and_no_other_answer(tmp_path):
    """Each of many calls in turn, by two callers to two models, leaves what itself was answered."""
    provider, callers = Ready(), (WEB, Who(team="web", feature="chat", key_id="key_9"))
    differing = ({}, {"model": "other"}, {"finish": "length"}, {"fingerprint": None}, {"service_tier": "flex"})
    async with world(tmp_path, config=COMPARED, a=provider) as one:
        standings = {}
        for _ in range(2):
            for change in differing:
                for who in callers:
                    for model in ("solo", "fast"):
                        told, asker = structs.replace(TOLD, **change), Asker(one)
                        standing = standings.setdefault((who.key_id, model), Standing(Caller()))
                        direct = asker.begin(ask(model, stream=False), who, standing)
                        provider.sent[-1].come(told=told)
                        receipt, row = one.receipts()[-1], one.receipts()[-1].tries[0]
                        assert receipt.id == direct.flight.id
                        assert (receipt.key_id, receipt.feature, receipt.model) == (who.key_id, who.feature, model)
                        said = (row.response_model, receipt.finish_reason, row.fingerprint, row.service_tier)
                        assert said == (told.model, told.finish, told.fingerprint, told.service_tier)
                        assert row.target == provider.sent[-1].target.id
        assert len(one.gateway._accounts._alike.nearer) == len(differing) * len(standings)
        one.check()


GOES_ON = CONFIG.replace("[models.solo]\n", "[models.solo]\ncontinue = true\n")


@pytest.mark.parametrize(("config", "begins"), [(CONFIG, True), (GOES_ON, False)], ids=["plain", "continue"])
@jumping
async def test_a_stream_is_begun_without_a_task_unless_another_target_may_go_on_with_it(tmp_path, config, begins):
    assert GOES_ON != CONFIG
    provider, standing = Ready(), Standing(Caller())
    async with world(tmp_path, config=config, a=provider) as one:
        for _ in range(2):  # the second time it is remembered
            whole = Asker(one)
            assert whole.begin(CALL, WEB, standing) is not None
            provider.sent[-1].come(WHOLE)
            asker = Asker(one)
            assert (asker.begin(structs.replace(CALL, stream=True), WEB, standing) is not None) is begins
            if begins:
                assert [intent.streamed for intent in one.open_intents()] == [True]
                provider.sent[-1].come(instead=WHOLE)
                _, chunks = await asker.finish()
                assert [chunk.raw for chunk in chunks] == [b"whole"]
        assert {receipt.streamed for receipt in one.receipts()} == ({False, True} if begins else {False})
        one.check()


SHARED = CONFIG + '[models.kept]\ntargets = ["a/one"]\ncache_s = 60\n[models.old]\ntargets = ["a/one"]\nstale_s = 60\n'


@pytest.mark.parametrize(
    ("model", "who", "free"),
    [
        ("solo", WEB, False),  # no connection
        ("kept", WEB, True),  # may be answered from the cache
        ("old", WEB, True),
        ("small", WEB, True),  # whose window may be too small
        ("solo", Who(team="web", feature="dear"), True),  # whose budget is far too small
        ("free", WEB, True),  # of a provider that cannot be asked this way
    ],
)
@jumping
async def test_what_has_to_wait_or_be_looked_at_is_not_begun_and_leaves_nothing(tmp_path, model, who, free):
    provider = Ready(free=free)
    async with world(tmp_path, config=SHARED, a=provider, gratis=Played()) as one:
        call = ask(model, "Hi there" * (4000 if model == "small" else 1), stream=False)
        assert Asker(one).begin(call, who) is None
        assert one.intents() == []
        one.check()


@jumping
async def test_a_team_whose_room_is_taken_has_the_next_call_wait_in_the_line(tmp_path):
    provider = Ready()
    async with world(tmp_path, a=provider) as one:
        first, second = Asker(one), Asker(one)
        single = Who(team="single")
        begun = first.begin(who=single)
        assert second.begin(who=single) is None
        assert one.inside()["single"] == 1
        provider.sent[0].come(WHOLE)
        assert begun.over
        assert one.inside()["single"] == 0
        one.check()


@jumping
async def test_a_target_that_is_left_alone_is_not_begun_with(tmp_path):
    provider = Ready(*[UpstreamFailed("a/one: down")] * 5)
    async with world(tmp_path, a=provider) as one:
        for _ in range(5):
            await one.take(CALL)
        assert Asker(one).begin() is None
        one.check()


@jumping
async def test_where_the_journal_takes_no_more_nothing_is_sent_and_nothing_stays_held(tmp_path):
    provider, disk = Ready(), FullDisk()
    async with world(tmp_path, disk=disk.disk, a=provider) as one:
        disk.full, asker = True, Asker(one)
        assert asker.begin() is None
        assert asker.handed == [None], "a task meets it again"
        assert not hasattr(provider.sent[0], "waiter")
        disk.full = False
        one.check()


@pytest.mark.parametrize("error", [UpstreamFailed("a/one: down", status=500), UpstreamGarbled("a/one: nonsense")])
@jumping
async def test_what_fails_goes_on_at_the_next_target_as_in_any_other_call(tmp_path, error):
    provider, other = Ready(), Played(WHOLE)
    async with world(tmp_path, a=provider, b=other) as one:
        asker = Asker(one)
        asker.begin(CALL_BEHIND)
        provider.sent[0].come(instead=error)
        assert asker.answers == []
        opening, chunks = await asker.finish()
        assert (opening.target, opening.tries) == ("b/two", 2)
        assert chunks[-1].receipt == one.receipt
        assert [(one_try.status, one_try.target) for one_try in one.receipt.tries] == [
            ("error", "a/one"),
            ("ok", "b/two"),
        ]
        one.check()


@jumping
async def test_an_answer_that_makes_no_sense_is_read_again_by_the_line(tmp_path):
    provider, other = Ready(), Played(WHOLE)
    async with world(tmp_path, a=provider, b=other) as one:
        asker = Asker(one)
        asker.begin(CALL_BEHIND)
        provider.sent[0].come((UpstreamGarbled("a/one: nonsense"),))
        opening, _ = await asker.finish()
        assert opening.target == "b/two"
        one.check()


@jumping
async def test_a_stream_that_nobody_asked_for_is_for_the_line(tmp_path):
    provider = Ready()
    async with world(tmp_path, a=provider) as one:
        asker = Asker(one)
        asker.begin()
        provider.sent[0].come(instead=(WHOLE[0],))
        opening, chunks = await asker.finish()
        assert opening.target == "a/one"
        assert chunks[-1].receipt == one.receipt
        one.check()


@jumping
async def test_the_only_targets_error_is_raised_with_the_calls_number(tmp_path):
    provider = Ready()
    async with world(tmp_path, a=provider) as one:
        asker = Asker(one)
        asker.begin()
        provider.sent[0].come(instead=UpstreamFailed("a/one: down", status=500))
        error = await asker.finish()
        assert isinstance(error, UpstreamFailed)
        assert (error.call_id, one.receipt.status, one.receipt.error) == (one.receipt.id, "error", error.code)
        one.check()


@jumping
async def test_a_request_that_could_not_leave_after_all_is_sent_by_the_line(tmp_path, monkeypatch):
    monkeypatch.setattr(Sent, "leaves", False)
    provider = Ready(WHOLE)
    async with world(tmp_path, a=provider) as one:
        asker = Asker(one)
        asker.begin()
        opening, _ = await asker.finish()
        assert (opening.target, opening.tries) == ("a/one", 1)
        one.check()


@pytest.mark.parametrize(("by_outbox", "leaves"), [(False, True), (True, True), (True, False)])
@jumping
async def test_an_intent_waits_only_for_a_request_that_the_outbox_has(tmp_path, monkeypatch, by_outbox, leaves):
    monkeypatch.setattr(Sent, "by_outbox", by_outbox)
    provider = Ready(WHOLE, WHOLE, WHOLE)
    async with world(tmp_path, a=provider) as one:
        one.gateway.ledger.gather(Outbox.of(asyncio.get_running_loop()))
        first, second = Asker(one), Asker(one)
        first.begin()
        written = []
        provider.before = lambda: written.append(len(one.intents()))
        monkeypatch.setattr(Sent, "leaves", leaves)
        second.begin()
        assert written == [1 if by_outbox else 2], "with the first one under way, that of the second may wait"
        assert len(one.intents()) == (1 if by_outbox and leaves else 2)
        await asyncio.sleep(0)
        assert len(one.intents()) == 2
        for asker, sent in zip((first, second), provider.sent, strict=True):
            if sent is provider.sent[0] or leaves:
                sent.come(WHOLE)
                await asyncio.sleep(0)
            if asker.handed:
                await asker.finish()
        one.check()


@pytest.mark.parametrize("targets", ["solo", "fast"])
@jumping
async def test_a_deadline_that_passes_is_the_deadlines_and_a_silence_before_it_the_targets(tmp_path, targets):
    """With another target behind it a provider gets the time that it may take to its first content, and no more."""
    provider, other = Ready(), Played(WHOLE)
    config = CONFIG.replace("retries = 0", "retries = 0\nfirst_byte_s = 2\nidle_s = 3", 1)
    async with world(tmp_path, config=config, a=provider, b=other) as one:
        asker, now = Asker(one), asyncio.get_running_loop().time()
        asker.begin(ask(targets, stream=False))
        until = provider.sent[0].deadline
        assert until == pytest.approx(now + (5 if targets == "fast" else one.config.server.deadline_s), abs=0.1)
        await asyncio.sleep(until - now)
        provider.sent[0].come(instead=DeadlineExceeded("a/one had not finished"))
        came = await asker.finish()
        if targets == "fast":
            assert came[0].target == "b/two"
            assert one.receipt.tries[0].error == UpstreamTimeout.code
        else:
            assert isinstance(came, DeadlineExceeded)
        one.check()


@pytest.mark.parametrize("unsent", [False, True])
@pytest.mark.parametrize("why", [EMPTY, (SHUTDOWN,)])
@pytest.mark.parametrize("handed", [False, True])
@jumping
async def test_a_call_that_is_given_up_is_settled_once_whenever_that_is(tmp_path, unsent, why, handed):
    provider = Ready()
    async with world(tmp_path, a=provider) as one:
        asker = Asker(one)
        direct = asker.begin()
        if handed:
            provider.sent[0].come(instead=UpstreamFailed("a/one: down"))
        direct.abandon(asyncio.CancelledError(*why, *((UNSENT,) if unsent else ())))
        assert provider.sent[0].abandoned is not None
        assert one.receipt.status == "cancelled"
        assert one.receipt.error == ("overloaded" if why else "client_closed")
        assert (one.receipt.cost_nano_usd == 0) is unsent
        direct.abandon(asyncio.CancelledError())
        provider.sent[0].waiter.set_result(False)
        assert asker.answers == []
        one.check()


@jumping
async def test_a_call_is_given_up_whatever_is_raised_for_one_that_was_answered_before(tmp_path, monkeypatch):
    provider = Ready()
    async with world(tmp_path, a=provider) as one:
        first, second = Asker(one), Asker(one)
        one.gateway.direct([first, second])
        provider.sent[0].come(told=TOLD)
        settle = one.gateway.settle_told

        def settle_and_fail(answered):
            settle(answered)
            raise ZeroDivisionError

        monkeypatch.setattr(one.gateway, "settle_told", settle_and_fail)
        with pytest.raises(ZeroDivisionError):
            second.direct.abandon(asyncio.CancelledError())
        assert [receipt.status for receipt in one.receipts()] == ["ok", "cancelled"]
        assert len(first.answers) == 1
        one.check()


@pytest.mark.parametrize("telling", [False, True])
@jumping
async def test_a_defect_is_logged_and_settled_and_says_no_more_than_that(tmp_path, telling, caplog):
    provider = Ready()
    async with world(tmp_path, a=provider) as one:
        asker, defect = Asker(one), ZeroDivisionError("secret")
        asker.begin()
        provider.sent[0].come((defect,), told=defect if telling else None)
        error = await asker.finish()
        assert isinstance(error, Internal)
        assert "secret" not in error.message
        assert "failed" in caplog.text
        assert one.receipt.status == "error"
        one.check()


@jumping
async def test_an_answer_that_cannot_be_settled_is_not_given_out(tmp_path, monkeypatch):
    provider = Ready()
    async with world(tmp_path, a=provider) as one:
        asker = Asker(one)
        direct = asker.begin()
        monkeypatch.setattr(closing, "ordinary", broken)
        provider.sent[0].come(WHOLE, told=TOLD)
        live = direct.flight.tries[0]
        assert (live.told, live.exchange, live.closed) == (None, None, False)
        assert isinstance(await asker.finish(), Internal)
        assert asker.answers == []
        one.check()


@jumping
async def test_a_try_that_had_ended_otherwise_is_not_written_down_as_an_answer(tmp_path):
    provider = Ready()
    async with world(tmp_path, a=provider) as one:
        direct = Asker(one).begin()
        direct.flight.tries[0].end("cancelled", asyncio.get_running_loop().time())
        provider.sent[0].come(told=TOLD)
        assert [each.status for each in one.receipt.tries] == ["cancelled"]
        one.check()


def broken(*_):
    raise ZeroDivisionError("secret")
