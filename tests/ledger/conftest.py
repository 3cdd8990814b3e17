"""What the tests of the ledger are made of: receipts, intents and the folder that they go to."""

import random
from itertools import count

import pytest

from penstock.ledger.ids import Ids
from penstock.ledger.ledger import Ledger, LedgerSettings
from penstock.ledger.records import Intent
from penstock.receipt import Attempt, Receipt, Usage

NOW_NS = 1_763_754_000_000_000_000  # 2025-11-21T19:40:00Z


class Maker:
    """Makes calls that differ in id and, by a nanosecond-exact clock of their own, in time."""

    def __init__(self):
        self.ids = Ids(random.Random(7))
        self.ticks = count()

    def now(self):
        return NOW_NS + next(self.ticks) * 1_000_000

    def receipt(self, started_ns=None, **changes):
        started_ns = self.now() if started_ns is None else started_ns
        usage = Usage(input_tokens=10, output_tokens=5, cached_input_tokens=4)
        attempt = Attempt("box/qwen", http_status=200, usage=usage, cost_nano_usd=1500, cost_status="exact")
        fields = {
            "id": self.ids.new(started_ns),
            "started_ns": started_ns,
            "dialect": "chat",
            "model": "fast",
            "status": "ok",
            "http_status": 200,
            "team": "web",
            "feature": "invoices",
            "target": "box/qwen",
            "finish_reason": "stop",
            "usage": usage,
            "cost_nano_usd": 1500,
            "cost_status": "exact",
            "ttft_us": 312,
            "total_us": 812_345,
            "lane": "verbatim",
            "config_hash": "c0ffee",
            "tries": (attempt,),
        }
        return Receipt(**{**fields, **changes})

    def intent(self, started_ns=None, **changes):
        started_ns = self.now() if started_ns is None else started_ns
        fields = {
            "id": self.ids.new(started_ns),
            "started_ns": started_ns,
            "dialect": "chat",
            "model": "fast",
            "team": "web",
            "feature": "invoices",
            "target": "box/qwen",
            "hold_nano_usd": 9000,
        }
        return Intent(**{**fields, **changes})


@pytest.fixture(scope="session")
def make():
    return Maker()


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def open_ledger(home):
    """Opens ledgers in `home`; what the test leaves open is closed at its end, without waiting."""
    opened = []

    def opening(**changes):
        opened.append(Ledger.open(home, now_ns=NOW_NS, settings=LedgerSettings(**changes)))
        return opened[-1]

    yield opening
    for ledger in opened:
        if not ledger._closed:
            ledger.close(wait_s=0)
