"""Every way in which a stream can end, with what its receipt says, as the table of docs/money.md has it.

Tokens are worked out by hand: the vocabulary of the model takes `bad-0 ` as `bad`, `-`, `0` and a blank that belongs to the
next word, where there is one. A provider of the dialect `messages` says at the beginning already what went in, and a number
for what came out.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.conftest import KINDS, PATIENT, Site
from tests.faults.faults import LAST, chunk, ok, respond, spoken
from tests.faults.provider import Heard, Peer
from tests.faults.replies import INPUT_TOKENS, OUTPUT_TOKENS, WORDS, stream

from money.clients import UPSTREAM, ask, leave, request

PAGE = Path(__file__).parents[2] / "docs" / "money.md"
TABLE = re.compile(r"(<!-- endings -->\n).*?(<!-- end of endings -->)", re.DOTALL)
IN, OUT = 1_000, 2_000  # nano-dollars a token

Try = tuple[int | None, int]
"""Tokens in and out that a try is billed for; None: as the prompt is estimated."""
Run = Callable[["Calls"], Awaitable[None]]


class Ending(NamedTuple):
    """One way. `error` is the receipt's code, "*" whatever the provider's word came to; `reported` says that a provider which
    counts from the beginning has said something before the end."""

    name: str
    run: Run
    status: str
    error: str | None
    source: str
    cost_status: str
    tries: tuple[Try, ...]
    reported: bool = False

    def billed(self, upstream: str) -> "Ending":
        """The same behind a provider of some dialect."""
        if not (self.reported and upstream == "messages"):
            return self
        ((_, out), *rest) = self.tries
        tries = ((INPUT_TOKENS, OUTPUT_TOKENS + out), *rest)
        return self._replace(tries=tries) if out else self._replace(tries=tries, source="provider", cost_status="exact")


class Calls:
    """What one way needs: where to call, as whom, and in which dialect. Its receipt is found by the session."""

    def __init__(self, site: Site, dialect: str, session: str) -> None:
        self.site, self.dialect, self.session = site, dialect, session
        self.port = site.server.port
        self.prompt = ""

    def request(self, model: str, play: str, session: str = "", feature: str = "f", **headers: str) -> bytes:
        """A call of some model, whose route is that of the dialect, that meets some play at the bad provider."""
        named = {"x_penstock_session": session or self.session, "x_penstock_feature": feature} | headers
        named["authorization"] = f"Bearer {self.site.key}"
        route = f"{UPSTREAM.get(self.dialect, 'chat')}-{model or self.session}"
        self.prompt = f"fault={play} {self.session}"
        return request(self.dialect, route, self.prompt, **named)

    async def whole(self, model: str, play: str, *, errors: int, odd: bool = False, **more: str) -> None:
        """Call, and read a stream to its end, which has so many errors; an odd one would not pass its SDK."""
        answer = await ask(self.port, self.dialect, self.request(model, play, **more))
        assert answer.complete
        assert odd or answer.errors == errors, (play, answer.body[-300:])

    async def refused(self, model: str, play: str, **more: str) -> None:
        """Call, and get an error instead of a stream."""
        answer = await ask(self.port, self.dialect, self.request(model, play, **more))
        assert answer.status in {502, 504}, answer.body[-300:]


def finished(play: str, model: str = "", *, errors: int = 0, **more: Any) -> Run:
    """A call whose stream comes to its end, with the word of what was wrong if something was."""
    return lambda calls: calls.whole(model, play, errors=errors, **more)


def never_begun(play: str, model: str = "", **more: str) -> Run:
    """A call that ends before its answer begins."""
    return lambda calls: calls.refused(model, play, **more)


def left(play: str, after: bytes, model: str = "") -> Run:
    """A call that its client leaves."""

    async def run(calls: Calls) -> None:
        data = calls.request(model, play)

        def heard() -> bool:
            return any(calls.prompt.encode() in one.body for one in calls.site.bad.calls)

        await leave(calls.port, data, after, heard)

    return run


async def replayed(calls: Calls) -> None:
    """The same request twice, with the same key."""
    data = calls.request("", "answer", idempotency_key=f"k-{calls.dialect}")
    first, second = [await ask(calls.port, calls.dialect, data) for _ in range(2)]
    assert (first.errors, first.call_id, first.body) == (0, second.call_id, second.body)


async def cached(calls: Calls) -> None:
    """The same call twice, of a model whose answers are kept."""
    await calls.whole("kept", "answer", session="leader", errors=0)
    await calls.whole("kept", "answer", errors=0)


async def followed(calls: Calls) -> None:
    """The same call twice, the second while the first is being answered."""
    leader = asyncio.create_task(calls.whole("kept", "slowly", session="leader", errors=0))
    await asyncio.sleep(0.05)
    await calls.whole("kept", "slowly", errors=0)
    await leader


async def stale(calls: Calls) -> None:
    """A call that nobody can answer, of which an old answer is kept."""
    calls.site.bad.otherwise = "answer"
    await calls.whole("old", "by_turns", session="leader", errors=0)
    await calls.whole("old", "by_turns", errors=0, x_penstock_cache="refresh")


# -- what the provider does --


async def slowly(peer: Peer, heard: Heard) -> None:
    """Answer in a fifth of a second."""
    await peer.pause(0.2)
    await respond(peer, heard)


async def by_turns(peer: Peer, heard: Heard) -> None:
    """Answer the first such call of a dialect, and no other."""
    asked = [one for one in peer.provider.calls if one.fault == "by_turns" and one.dialect == heard.dialect]
    if sum(one.body == heard.body for one in asked) > 1:
        await peer.provider.plays["status_500"](peer, heard)
    else:
        await respond(peer, heard)


async def talks(peer: Peer, heard: Heard) -> None:
    """Go on far beyond what was asked for."""
    parts = stream(heard.dialect, "bad")
    await peer.send(ok(heard) + chunk(parts.start))
    number = 4
    for _ in range(2000):
        word = parts.words[0].replace(b'"sequence_number":4', b'"sequence_number":%d' % number)
        number += 1
        await peer.send(chunk(word))
        await peer.pause(0.001)
    await peer.send(chunk(parts.finish) + chunk(parts.end) + LAST)


async def slow_end(peer: Peer, heard: Heard) -> None:
    """Say two words, and the rest a while later."""
    parts = await spoken(peer, heard)
    await peer.pause(0.15)
    await peer.send(b"".join(map(chunk, (*parts.words[2:], parts.finish, parts.end))) + LAST)


PLAYS = {"slowly": slowly, "by_turns": by_turns, "talks": talks, "slow_end": slow_end}

# -- the table --

SPOKEN = 2 * 3 + 1  # tokens of two words
EVERYTHING = WORDS * 3 + 1
ANSWERED: Try = (INPUT_TOKENS, OUTPUT_TOKENS)
CUT: tuple[Try, ...] = ((None, SPOKEN),)
ASKED: tuple[Try, ...] = ((None, 0),)
SOON = "700"
"""Milliseconds of a deadline."""

ENDINGS = (
    Ending("finished, usage reported", finished("answer"), "ok", None, "provider", "exact", (ANSWERED,)),
    Ending(
        "finished, no usage reported",
        finished("no_usage", odd=True),
        "ok",
        None,
        "counted",
        "estimated",
        ((None, EVERYTHING),),
    ),
    Ending(
        "cut by the provider: closed",
        *(finished("close_after_content", errors=1), "error", "upstream_garbled", "counted", "estimated", CUT, True),
    ),
    Ending(
        "cut by the provider: reset",
        *(finished("reset_after_content", errors=1), "error", "upstream_failed", "counted", "estimated", CUT, True),
    ),
    Ending(
        "cut by the provider: garbage",
        *(
            finished("malformed_event_after_content", errors=1),
            "error",
            "upstream_garbled",
            "counted",
            "estimated",
            CUT,
        ),
        reported=True,
    ),
    Ending(
        "cut by the provider: an error event",
        *(finished("error_event_after_content", errors=1), "error", "*", "counted", "estimated", CUT, True),
    ),
    Ending(
        "left by the client before the first event",
        *(left("stall_before_head", b""), "cancelled", "client_closed", "counted", "estimated", ASKED),
    ),
    Ending(
        "left by the client after the first event",
        *(left("stall_after_content", b"bad-1"), "cancelled", "client_closed", "counted", "estimated", CUT, True),
    ),
    Ending(
        'left by the client and read on (`on_disconnect = "drain"`)',
        *(left("slow_end", b"bad-1", "drained"), "cancelled", "client_closed", "provider", "exact", (ANSWERED,)),
    ),
    Ending(
        "deadline before the first event",
        never_begun("stall_before_head", x_penstock_deadline_ms=SOON),
        *("error", "deadline_exceeded", "counted", "estimated", ASKED),
    ),
    Ending(
        "deadline after the first event",
        finished("stall_after_content", errors=1, x_penstock_deadline_ms=SOON),
        *("error", "deadline_exceeded", "counted", "estimated", CUT, True),
    ),
    Ending(
        "silence of the provider before the first event",
        *(never_begun("stall_before_head", "hasty0"), "error", "upstream_timeout", "counted", "estimated", ASKED),
    ),
    Ending(
        "silence of the provider after the first event",
        *(
            finished("stall_after_content", "hasty1", errors=1),
            "error",
            "upstream_timeout",
            "counted",
            "estimated",
            CUT,
        ),
        reported=True,
    ),
    Ending(
        "refused by the provider",
        *(never_begun("status_500"), "error", "upstream_failed", "none", "exact", ((0, 0),)),
    ),
    Ending(
        "not reached",
        *(never_begun("answer", "nowhere"), "error", "upstream_failed", "none", "exact", ((0, 0),)),
    ),
    Ending(
        "no budget has room for more",
        finished("talks", errors=1, feature="tight"),
        *("error", "budget_exhausted", "counted", "estimated", ((None, -1),), True),
    ),
    Ending(
        "shut down while it was answered",
        finished("stall_after_content", errors=1),
        *("cancelled", "overloaded", "counted", "estimated", CUT, True),
    ),
    Ending(
        "gone on with by another target",
        finished("close_after_content", "continued"),
        *("ok", None, "counted", "estimated", (*CUT, ANSWERED), True),
    ),
    Ending(
        "answered by the next target",
        finished("close_before_content", "fallback"),
        *("ok", None, "counted", "estimated", (*ASKED, ANSWERED), True),
    ),
    Ending(
        "answered by the fixed text (`static`)",
        *(finished("status_500", "fixed"), "degraded", None, "none", "exact", ((0, 0),)),
    ),
    Ending("answered from the cache", cached, "ok", None, "none", "free", ()),
    Ending("answered by an old answer of the cache (`stale_s`)", stale, "degraded", None, "none", "exact", ((0, 0),)),
    Ending("answered together with an equal call", followed, "ok", None, "none", "free", ()),
    Ending("sent again with its `idempotency-key`", replayed, "ok", None, "provider", "exact", (ANSWERED,)),
)
KILLED = ("the gateway's process died", "interrupted", "interrupted", "none", "estimated")

_SOURCES = {
    "provider": "the provider's",
    "counted": "reported, then counted",
    "none": "none",
}


def table() -> str:
    """The table of docs/money.md."""
    rows = ["| ending | status | error | usage | cost | `cost_status` |", "|---|---|---|---|---|---|"]
    for one in ENDINGS:
        cost = "0" if not any(out or into != 0 for into, out in one.tries) else "by the usage"
        code = "the provider's" if one.error == "*" else f"`{one.error}`" if one.error else ""
        cost = cost if len(one.tries) < 2 else "the sum of both tries"
        rows.append(f"| {one.name} | `{one.status}` | {code} | {_SOURCES[one.source]} | {cost} | `{one.cost_status}` |")
    name, status, code, _, cost_status = KILLED
    rows.append(f"| {name} | `{status}` | `{code}` | unknown | what was held for it at first | `{cost_status}` |")
    return "\n".join(rows)


def written(text: str) -> str:
    """The page with the table as it is now."""
    return TABLE.sub(lambda found: f"{found[1]}{table()}\n{found[2]}", text)


def page(bad_url: str, good_url: str) -> str:
    """The configuration: a route of its own for each way, so that none is thought the worse of for what another one did."""
    text = """[server]
drain_s = 1
[teams.t]
budget_usd = { day = 1000 }
[features.f]
budget_usd = { day = 500, month = 1000 }
[features.tight]
budget_usd = { day = 0.003 }
"""
    hasty = PATIENT.replace("first_byte_s = 10", "first_byte_s = 0.6").replace("idle_s = 10", "idle_s = 0.6")
    for dialect, (kind, prefix) in KINDS.items():
        routes: dict[str, tuple[str, str]] = {f"s{number}": (PATIENT, "") for number in range(len(ENDINGS))}
        routes |= {
            **{f"hasty{number}": (hasty, "") for number in range(2)},
            "drained": (PATIENT + 'on_disconnect = "drain"\n', ""),
            "nowhere": (PATIENT, ""),
            "kept": (PATIENT, "cache_s = 60\n"),
            "old": (PATIENT, "stale_s = 600\n"),
            "fixed": (PATIENT, 'static = "Later."\n'),
            "continued": (PATIENT, "continue = true\n"),
            "fallback": (PATIENT, ""),
            "good": (PATIENT, ""),
        }
        for name, (lines, more) in routes.items():
            url = good_url if name == "good" else "http://127.0.0.1:9" if name == "nowhere" else bad_url
            text += (
                f'[providers.{name}-{dialect}]\nkind = "{kind}"\nbase_url = "{url}{prefix}"\ndialect = "{dialect}"\n'
            )
            text += f'api_key = "env:FAULT_KEY"\n{lines}[prices."{name}-{dialect}/gpt-4o"]\ninput = 1\noutput = 2\n'
            others = f', "good-{dialect}/gpt-4o"' if name in {"continued", "fallback"} else ""
            text += f'[models."{dialect}-{name}"]\ntargets = ["{name}-{dialect}/gpt-4o"{others}]\n{more}'
    return text


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
