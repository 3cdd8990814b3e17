"""Receipts like those of a busy company, made from a seed: 5 features, 20 teams, 200 keys, 10,000 users, 3 models.

Calls begin over a span of days, more of them by day than by night, last about a second and a half, and are given in the
order in which they end, as a gateway settles them. Each comes with its intent. A session has five calls on average; with
`retried` that share of the calls has a first try that failed before the one that answered.
"""

import heapq
import random
import uuid
from collections.abc import Iterator

from penstock.ledger.ids import Ids
from penstock.ledger.records import Intent
from penstock.receipt import Attempt, Receipt, Usage

SEED = 20_261_122
NS = 1_000_000_000
DAY_NS = 86_400 * NS
FEATURES = ("invoices", "search", "support", "summaries", "assistant")
MODELS = (
    ("fast", "openai/gpt-4o-mini-2024-07-18", "gpt-4o-mini-2024-07-18", 150, 600),
    ("smart", "openai/gpt-5-2025-08-07", "gpt-5-2025-08-07", 1250, 10_000),
    ("cheap", "box/qwen2.5-7b-instruct", "qwen2.5-7b-instruct", 20, 60),
)
OTHER = "azure/gpt-4o-mini-2024-07-18"
TEAMS = tuple(f"team-{number:02}" for number in range(20))
USERS = tuple(f"user-{number:05}@example.com" for number in range(10_000))
PROMPTS = (None, None, "greet@3", "greet@4", "extract@12", "summarise@7")
BY_HOUR = (2, 1, 1, 1, 1, 2, 3, 5, 8, 10, 11, 11, 10, 11, 11, 10, 9, 8, 6, 5, 4, 4, 3, 3)
HASH = "5b1e0c7f9a3d"


class Traffic:
    """Calls that begin within `span_ns` before `until_ns`."""

    def __init__(self, calls: int, until_ns: int, span_ns: int, retried: float = 0.0) -> None:
        self._calls = calls
        self._until_ns = until_ns
        self._span_ns = span_ns
        self._retried = retried
        self._rng = random.Random(SEED)
        self._ids = Ids(random.Random(SEED))
        keys = [f"key_{self._rng.getrandbits(48):012x}" for _ in range(200)]
        self._keys = [(key, TEAMS[number % len(TEAMS)]) for number, key in enumerate(keys)]
        self._lengths = [int(self._rng.lognormvariate(6.5, 1.0)) + 1 for _ in range(4096)]
        self._answers = [int(self._rng.lognormvariate(5.0, 0.9)) + 1 for _ in range(4096)]
        self._times_us = [int(self._rng.lognormvariate(14.0, 0.6)) for _ in range(4096)]
        self._sessions = [self._session() for _ in range(256)]

    def _session(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def moments(self) -> Iterator[int]:
        """When calls begin: evenly within an hour, by the hour of the day over a span of days."""
        if self._span_ns < DAY_NS:
            step = self._span_ns / self._calls
            yield from (self._until_ns - self._span_ns + int(step * number) for number in range(self._calls))
            return
        start, hours = self._until_ns - self._span_ns, self._span_ns // (3600 * NS)
        first = start // (3600 * NS)
        weights = [BY_HOUR[(first + hour) % 24] for hour in range(hours)]
        done, so_far, total = 0, 0, sum(weights)
        for hour, weight in enumerate(weights):
            so_far += weight
            count = self._calls * so_far // total - done
            done += count
            for number in range(count):
                yield start + hour * 3600 * NS + number * 3600 * NS // count

    def __iter__(self) -> Iterator[tuple[Intent, Receipt]]:
        """Give each call's intent and receipt, in the order in which the calls end."""
        running: list[tuple[int, str, Intent, Receipt]] = []
        for started_ns in self.moments():
            while running and running[0][0] <= started_ns:
                _, _, intent, receipt = heapq.heappop(running)
                yield intent, receipt
            intent, receipt = self._call(started_ns)
            heapq.heappush(running, (started_ns + receipt.total_us * 1000, receipt.id, intent, receipt))
        while running:
            _, _, intent, receipt = heapq.heappop(running)
            yield intent, receipt

    def _call(self, started_ns: int) -> tuple[Intent, Receipt]:
        draw = self._rng.getrandbits(96)
        model, target, named, into, out = MODELS[(0, 0, 0, 1, 2)[draw % 5]]
        key, team = self._keys[(draw >> 8) % 200]
        feature, prompt = FEATURES[(draw >> 16) % 5], PROMPTS[(draw >> 24) % 6]
        user, total = USERS[(draw >> 32) % 10_000], self._times_us[(draw >> 48) % 4096]
        place = (draw >> 60) % 256
        if (draw >> 68) % 5 == 0:
            self._sessions[place] = self._session()
        session = self._sessions[place]
        tokens, answer = self._lengths[(draw >> 72) % 4096], self._answers[(draw >> 84) % 4096]
        cached = tokens // 128 * 64 if draw >> 90 & 1 else 0
        usage, cost = Usage(tokens, answer, cached), tokens * into + answer * out
        streamed, call_id = bool(draw >> 91 & 1), self._ids.new(started_ns)
        first_us = min(self._times_us[(draw >> 40) % 4096] // 4, total)
        answered = Attempt(
            *(target, "first", "ok", 200, None, None, 180, first_us - 60, total - 240, usage, cost, "exact"),
            *("2025-08-07", f"chatcmpl-{draw:024x}{answer:04x}Q", named, "fp_44709d6fcb", None),
        )
        tries: tuple[Attempt, ...] = (answered,)
        if self._retried and self._rng.random() < self._retried:
            failed = Attempt(
                OTHER, "first", "error", 503, "upstream_overloaded", None, 150, None, 2100, None, 0, "free"
            )
            tries = (failed, Attempt(target, "fallback", "ok", 200, None, None, 2400, *_after(answered)))
        finish = ("stop", "stop", "stop", "tool_calls", "length")[(draw >> 80) % 5]
        receipt = Receipt(
            *(call_id, started_ns, "chat", model, "ok", 200, streamed, key, team, feature, user, session, target),
            *(None, None, finish, usage, cost, "exact", first_us, total, "verbatim", "none", prompt, (), HASH, tries),
            routing_saved_nano_usd=tokens * 150 + answer * 600 - cost if model == "cheap" else 0,
        )
        names = (key, team, feature, user, session, target)
        return Intent(call_id, started_ns, "chat", model, streamed, *names, cost * 3, HASH), receipt


def _after(answered: Attempt) -> tuple[object, ...]:
    """Give what a try says from the time of its first content on."""
    return tuple(getattr(answered, name) for name in Attempt.__struct_fields__[7:])
