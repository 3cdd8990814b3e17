"""What a provider may be asked for, and how much of that is taken: calls at once, requests and tokens per minute.

A reload changes the limits and keeps what is taken. Pure: time is passed in. Place in the line: one per provider in `health.py`.
"""

from msgspec import Struct

from penstock.routing.held import HeldTime
from penstock.routing.rate import Rate


class HealthSettings(Struct, frozen=True):
    """What a provider may be asked for: calls at once, requests and tokens per minute, and when it counts as slow.

    `probe_s` is the interval at which an open breaker lets a probe through. With `slow_s` a first content that comes later
    is a failure, and so is an answer that streams too slowly to be read.
    """

    concurrency: int = 1000
    rpm: int | None = None
    tpm: int | None = None
    probe_s: float = 5.0
    slow_s: float | None = None


class Allowance:
    """What one provider may still be asked for, by all of its targets together.

    It `is_rated` where requests or tokens per minute are limited; it `is_plain` where it makes no difference how much an answer
    used nor how slowly it came, so that its end says no more than that it came; it `is_calm` where it is plain and not rated.
    `held` is how long a try holds its place.
    """

    __slots__ = (
        *("concurrency", "held", "in_flight", "is_calm", "is_plain", "is_rated"),
        *("probe_s", "requests", "slow_s", "tokens"),
    )

    def __init__(self, settings: HealthSettings, now: float) -> None:
        self.in_flight = 0
        self.held = HeldTime()
        self.requests: Rate | None = None
        self.tokens: Rate | None = None
        self.change(settings, now)

    def change(self, settings: HealthSettings, now: float) -> None:
        """Take over other settings; what is in flight and used stays so."""
        self.concurrency = settings.concurrency
        self.probe_s = settings.probe_s
        self.slow_s = settings.slow_s
        self.requests = _changed(self.requests, settings.rpm, now)
        self.tokens = _changed(self.tokens, settings.tpm, now)
        self.is_rated = not (self.requests is None and self.tokens is None)
        self.is_plain = settings.slow_s is None and self.tokens is None
        self.is_calm = self.is_plain and not self.is_rated

    def take(self, tokens: int) -> None:
        """Take one request and so many tokens of the rates, whether they are there or not."""
        if self.requests is not None:
            self.requests.take(1.0)
        if self.tokens is not None:
            self.tokens.take(tokens)

    def rate_wait_s(self, now: float) -> float:
        """Give the seconds until the rates allow one more; the tokens only have to be out of debt."""
        requests, tokens = self.requests, self.tokens
        wait_s = 0.0 if requests is None else requests.wait_s(now)
        return wait_s if tokens is None else max(wait_s, tokens.wait_s(now))


def _changed(rate: Rate | None, per_minute: int | None, now: float) -> Rate | None:
    if per_minute is None:
        return None
    if rate is None:
        return Rate(per_minute, now)
    rate.change(per_minute, now)
    return rate
