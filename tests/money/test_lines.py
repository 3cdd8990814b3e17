"""Whole calls on the real line: the receipt says what the hand says, its tries add up to it, and so does the report."""

from contextlib import closing

import pytest

from money.shapes import by_hand, in_nano, read, rounded
from penstock import Gateway, PenstockError
from penstock.document import write_value
from penstock.ledger import reports
from penstock.ledger.ledger import Ledger
from penstock.ledger.periods import NS_PER_S, zone_of
from penstock.ledger.store import Filter, Span
from penstock.receipt import Usage
from penstock.target import Price, Rates, Target, cost

LINES = read()["lines"]
FIRST = Rates(2_500_000_000, 10_000_000_000, 1_250_000_000, 3_000_000_000)
THEN = Rates(3_000_000_000, 15_000_000_000)
PRICES = {"first/m": FIRST, "then/m": THEN}
EVER = Span(0, 4_000_000_000 * NS_PER_S)


def config(line):
    targets = ["first/m", *(["then/m"] if "then" in line else [])]
    text = ""
    for name in ("first", "then"):
        text += f'[providers.{name}]\nkind = "scripted"\npath = "{name}.toml"\nretries = {line.get("retries", 0)}\n'
        if line.get("free"):
            text += "free = true\n"
        if not line.get("unpriced") and not line.get("free"):
            rates = PRICES[f"{name}/m"]
            text += f'[prices."{name}/m"]\n'
            for rate in ("input", "output", "cached_input", "cache_write"):
                nano = getattr(rates, rate)
                text += "" if nano is None else f"{rate} = {nano / 10**9}\n"
    text += f"[models.fast]\ntargets = {targets}\n"
    return text + ('static = "Later."\n' if line.get("fixed") else "")


@pytest.fixture
def receipt(tmp_home, tmp_path, monkeypatch):
    """Make the call; give its receipt and what the report says of it."""

    def made(line):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "penstock.toml").write_text(config(line))
        for name in ("first", "then"):
            rules = line.get(name, [{"text": "never asked"}])
            (tmp_path / f"{name}.toml").write_text(f"rules = {write_value(rules)}\n")
        with Gateway() as gateway:
            _call(gateway, line)
        ledger = Ledger.open(tmp_home, now_ns=10**18)
        try:
            (one,) = ledger.store.calls(Filter(EVER), 10)
            return one, reports.spend(ledger.store, EVER, ("model",), zone_of("UTC"))
        finally:
            ledger.close()

    return made


def _call(gateway, line):
    try:
        if not line.get("stream"):
            gateway.ask("Hello there", model="fast")
            return
        with closing(gateway.stream("Hello there", model="fast")) as events:
            for event in events:
                if line.get("leave") and getattr(event, "text", ""):
                    return
    except PenstockError:
        pass


@pytest.mark.parametrize("line", LINES, ids=lambda line: line["name"])
def test_a_call_costs_what_the_hand_says(receipt, line):
    one, report = receipt(line)

    assert one.cost_status == line["status"]
    if "usd" in line:
        assert one.cost_nano_usd == in_nano(line["usd"])
    if "sum" in line:
        assert one.cost_nano_usd == rounded(by_hand(line["sum"]))
    if line["status"] == "unpriced":
        assert one.cost_nano_usd is None
        assert report.total.cost_usd is None
        return
    assert one.cost_nano_usd == sum(attempt.cost_nano_usd for attempt in one.tries)
    assert in_nano(report.total.cost_usd) == in_nano(report.rows[0].cost_usd) == one.cost_nano_usd


@pytest.mark.parametrize(
    "line", [line for line in LINES if line["status"] == "estimated"], ids=lambda line: line["name"]
)
def test_what_nobody_told_is_counted_and_priced_like_all_else(receipt, line):
    one, _ = receipt(line)

    for attempt in one.tries:
        usage = attempt.usage
        assert usage.source in {"counted", "estimated"}
        assert usage.output_tokens >= 1
        rates = PRICES[attempt.target]
        where = Target(attempt.target, "", "m", "", prices=(Price("1970-01-01", rates),))
        assert attempt.cost_nano_usd == cost(usage, where, "2026-11-21").nano_usd
        assert attempt.cost_nano_usd == rounded(
            by_hand(f"{usage.input_tokens} x {rates.input / 10**9} + {usage.output_tokens} x {rates.output / 10**9}")
        )
    if line.get("leave"):
        assert one.status == "cancelled"
        assert one.usage.output_tokens < 500


def test_several_tries_that_are_paid_for_add_up_each_rounded_by_itself():
    half = Target("p/m", "p", "m", "chat", prices=(Price("2026-01-01", Rates(500_000, 0)),))
    each = [cost(Usage(1, 0), half, "2026-11-21").nano_usd for _ in range(3)]

    assert each == [1, 1, 1]
    assert cost(Usage(3, 0), half, "2026-11-21").nano_usd == 2
