"""One token, kept: when it is fetched, who waits, what a failure costs, and that nobody ever sees it."""

import asyncio
import gc
import threading
from collections.abc import Callable

import pytest

from penstock.errors import UpstreamAuth
from penstock.providers import tokens
from penstock.providers.tokens import AGAIN_S, EARLY_S, LATE_S, PAUSE_S, BearerToken, Token

LIFE_S = 3_600.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Service:
    """Gives token after token, or fails; `hold` keeps a fetch waiting in its thread."""

    def __init__(self, clock: Clock, life_s: float = LIFE_S) -> None:
        self.clock = clock
        self.life_s = life_s
        self.fetches = 0
        self.failing: Exception | None = None
        self.hold: threading.Event | None = None
        self.threads: set[int] = set()

    def __call__(self) -> Token:
        self.fetches += 1
        self.threads.add(threading.get_ident())
        count = self.fetches
        if self.hold is not None:
            assert self.hold.wait(10)
        if self.failing is not None:
            raise self.failing
        return Token(f"token-{count}", self.clock.now + self.life_s)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def settled(service: Service, fetches: int) -> None:
    """Wait until a fetch in the background is over, and see how many there were."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 5)
    await asyncio.sleep(0)
    assert service.fetches == fetches


async def test_a_token_that_lasts_is_fetched_once_and_off_the_loop(clock: Clock) -> None:
    service = Service(clock)
    bearer = BearerToken(service, clock)
    assert bearer.text == ""
    assert [(await bearer.token()).text for _ in range(3)] == ["token-1"] * 3
    assert service.fetches == 1
    assert threading.get_ident() not in service.threads
    assert bearer.text == "token-1"
    bearer.close()


async def test_the_token_stands_in_a_header_line_with_what_goes_with_it(clock: Clock) -> None:
    bearer = BearerToken(lambda: Token("abc", clock.now + 9, b"x-goog-user-project: p\r\n"), clock)
    assert await bearer.lines("/v1/x", b"{}") == b"authorization: Bearer abc\r\nx-goog-user-project: p\r\n"


async def test_calls_that_need_a_token_at_the_same_moment_wait_for_one_fetch(clock: Clock) -> None:
    service = Service(clock)
    service.hold = threading.Event()
    bearer = BearerToken(service, clock)
    waiting = [asyncio.ensure_future(bearer.token()) for _ in range(50)]
    await asyncio.sleep(0.01)
    assert service.fetches == 1
    waiting[0].cancel()  # one that leaves takes nobody with it
    service.hold.set()
    got = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(got[0], asyncio.CancelledError)
    assert {token.text for token in got[1:] if isinstance(token, Token)} == {"token-1"}
    assert service.fetches == 1


async def test_a_token_that_ends_soon_is_given_at_once_while_the_next_one_is_fetched(clock: Clock) -> None:
    service = Service(clock)
    bearer = BearerToken(service, clock)
    await bearer.token()
    clock.now += LIFE_S - EARLY_S - 1
    assert (await bearer.token()).text == "token-1"
    assert service.fetches == 1
    clock.now += 2
    service.hold = threading.Event()
    assert [(await bearer.token()).text for _ in range(5)] == ["token-1"] * 5  # nobody waits
    service.hold.set()
    await settled(service, 2)
    assert (await bearer.token()).text == "token-2"
    assert service.fetches == 2


async def test_a_token_that_ends_too_soon_to_arrive_is_waited_for(clock: Clock) -> None:
    service = Service(clock)
    bearer = BearerToken(service, clock)
    await bearer.token()
    clock.now += LIFE_S - LATE_S + 1
    assert (await bearer.token()).text == "token-2"


async def test_a_short_lived_token_is_renewed_at_half_its_life(clock: Clock) -> None:
    service = Service(clock, life_s=100.0)
    bearer = BearerToken(service, clock)
    await bearer.token()
    clock.now += 49
    await bearer.token()
    assert service.fetches == 1
    clock.now += 2
    await bearer.token()
    await settled(service, 2)


async def test_a_token_that_was_over_when_it_came_is_not_fetched_in_a_loop(clock: Clock) -> None:
    service = Service(clock, life_s=-5.0)
    bearer = BearerToken(service, clock)
    for count in (1, 2):
        assert (
            await bearer.token()
        ).text == f"token-{count}"  # what the service says is over may not be: clocks differ


async def test_a_failed_renewal_keeps_the_old_token_while_it_is_valid(clock: Clock) -> None:
    service = Service(clock)
    bearer = BearerToken(service, clock)
    await bearer.token()
    service.failing = UpstreamAuth("The token service is down.", hint="Wait.")
    clock.now += LIFE_S - EARLY_S + 1
    assert (await bearer.token()).text == "token-1"
    await settled(service, 2)
    clock.now += PAUSE_S - 1
    assert (await bearer.token()).text == "token-1"
    await settled(service, 2)  # not tried again at once
    clock.now += 2
    assert (await bearer.token()).text == "token-1"
    await settled(service, 3)
    clock.now += EARLY_S - LATE_S - PAUSE_S
    assert (await bearer.token()).text == "token-1"  # waited for a new one in vain
    assert service.fetches == 4
    assert (await bearer.token()).text == "token-1"  # and did not wait again
    clock.now += LATE_S + 1
    with pytest.raises(UpstreamAuth, match=r"The token service is down\. Wait\."):
        await bearer.token()
    service.failing = None
    clock.now += AGAIN_S
    assert (await bearer.token()).text.startswith("token-")


async def test_a_failure_is_told_to_all_and_the_service_is_left_alone_for_a_moment(clock: Clock) -> None:
    service = Service(clock)
    service.failing = UpstreamAuth("Refused.", hint="Mend it.")
    bearer = BearerToken(service, clock)
    told = await asyncio.gather(*(bearer.token() for _ in range(20)), return_exceptions=True)
    assert {(type(error), str(error)) for error in told} == {(UpstreamAuth, "Refused. Mend it.")}
    assert len({id(error) for error in told}) == 20, "one that is kept must not gather tracebacks"
    assert service.fetches == 1
    with pytest.raises(UpstreamAuth):
        await bearer.token()
    assert service.fetches == 1
    clock.now += AGAIN_S
    service.failing = None
    assert (await bearer.token()).text == "token-2"


async def test_a_fetch_that_takes_too_long_is_no_longer_waited_for(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "PATIENCE_S", 0.01)
    service = Service(clock)
    service.hold = threading.Event()
    bearer = BearerToken(service, clock)
    with pytest.raises(UpstreamAuth, match="took more than"):
        await bearer.token()
    service.hold.set()
    await settled(service, 1)
    assert (await bearer.token()).text == "token-1"


async def test_a_token_that_was_refused_is_forgotten(clock: Clock) -> None:
    bearer = BearerToken(Service(clock), clock)
    assert (await bearer.token()).text == "token-1"
    bearer.forget()
    assert bearer.text == ""
    assert (await bearer.token()).text == "token-2"


async def test_closing_lets_go_of_a_fetch(clock: Clock) -> None:
    service = Service(clock)
    service.hold = threading.Event()
    bearer = BearerToken(service, clock)
    waiting = asyncio.ensure_future(bearer.token())
    await asyncio.sleep(0.001)
    bearer.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    service.hold.set()


async def test_a_defect_of_a_fetch_reaches_whoever_waits_and_is_not_kept(clock: Clock) -> None:
    service = Service(clock)
    service.failing = ZeroDivisionError()
    bearer = BearerToken(service, clock)
    with pytest.raises(ZeroDivisionError):
        await bearer.token()
    service.failing = None
    assert (await bearer.token()).text == "token-2"
    gc.collect()


def test_a_fetch_of_a_loop_that_is_gone_is_begun_anew(clock: Clock) -> None:
    service = Service(clock)
    service.hold = threading.Event()
    bearer = BearerToken(service, clock)

    async def leave() -> None:
        waiting = asyncio.ensure_future(bearer.token())
        await asyncio.sleep(0.001)
        waiting.cancel()
        assert service.hold is not None
        service.hold.set()

    for run in (leave, leave):
        asyncio.run(run())
    service.hold = None
    assert asyncio.run(bearer.token()).text.startswith("token-")


@pytest.mark.parametrize("show", [repr, str, "{}".format])
def test_a_token_is_never_shown(show: Callable[[object], str]) -> None:
    token = Token("secret", 5.0, b"secret")
    assert show(token) == "Token(expires_at=5.0)"
    assert "secret" not in show((token, [token]))
