from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.errors import InvalidRequest, NotFound
from penstock.ledger import rolling
from penstock.ledger.periods import bounds, from_ns, iso, to_ns, zone_of
from penstock.ledger.records import pack_receipt
from penstock.ledger.reports import DIMENSIONS, calls, dimensions, show, spend
from penstock.ledger.rolling import Rolling
from penstock.ledger.store import FILE, Filter, Span, Store
from penstock.receipt import Attempt, Usage

ZONES = (
    *("UTC", "Asia/Kolkata", "Australia/Lord_Howe", "Europe/Berlin"),
    *("America/New_York", "America/St_Johns", "Asia/Kathmandu", "Pacific/Chatham", "America/Havana"),
)
HOUR = 3_600_000_000_000
MINUTE = HOUR // 60
EVER = Span(0, 2**62)


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / FILE)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def one_store(tmp_path_factory):
    """One for all examples of a property: making a database waits for the disk."""
    opened = Store.open(tmp_path_factory.mktemp("sums") / FILE)
    yield opened
    opened.close()


def add(store, *receipts):
    store.add([pack_receipt(receipt)[0] for receipt in receipts])


def at(text):
    return to_ns(datetime.fromisoformat(text))


def written(value):
    """What a script reads."""
    return msgspec.json.decode(msgspec.json.encode(value))


def report(store, by="", span=EVER, zone="UTC"):
    return written(spend(store, span, dimensions(by), zone_of(zone)))


# -- spend --


def test_spend_has_the_shape_that_scripts_rely_on(store, make):
    start = at("2026-10-24T00:00:00+02:00")
    add(
        store,
        make.receipt(start, feature="invoices", cost_nano_usd=1_500_000),
        make.receipt(start + 5, feature=None, cost_nano_usd=37_500),
    )
    saved = {"cache_saved_usd": "0", "routing_saved_usd": "0"}
    numbers = {"calls": 1, "input_tokens": 10, "cached_input_tokens": 4, "output_tokens": 5, **saved}
    assert report(store, "feature,model", Span(start, start + 24 * HOUR), "Europe/Berlin") == {
        "since": "2026-10-24T00:00:00+02:00",
        "until": "2026-10-25T00:00:00+02:00",
        "zone": "Europe/Berlin",
        "by": ["feature", "model"],
        "rows": [{"feature": "invoices", "model": "fast", **numbers, "cost_usd": "0.0015", "cost_status": "exact"}],
        "unattributed": {**numbers, "cost_usd": "0.0000375", "cost_status": "exact"},
        "total": {
            "calls": 2,
            "input_tokens": 20,
            "cached_input_tokens": 8,
            "output_tokens": 10,
            "cost_usd": "0.0015375",
            "cost_status": "exact",
            **saved,
        },
    }


def test_without_dimensions_there_is_one_part_the_total(store, make):
    add(store, make.receipt(), make.receipt(team=None, target=None))
    found = report(store)
    assert found["rows"] == [found["total"]]
    assert found["unattributed"]["calls"] == 0


def test_nothing_costs_exactly_nothing(store):
    zero = {"calls": 0, "input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0}
    for row in (report(store, "team")["total"], report(store, "team")["unattributed"]):
        assert row == {
            **zero,
            "cost_usd": "0",
            "cost_status": "exact",
            "cache_saved_usd": "0",
            "routing_saved_usd": "0",
        }


def test_the_dearest_part_comes_first(store, make):
    for team, cost in (("a", 5), ("b", 50), ("c", 7), ("d", 7)):
        add(store, make.receipt(team=team, cost_nano_usd=cost))
    assert [row["team"] for row in report(store, "team")["rows"]] == ["b", "c", "d", "a"]


@pytest.mark.parametrize(
    ("statuses", "worst"),
    [
        (["free"], "free"),
        (["free", "exact"], "exact"),
        (["exact", "estimated", "free"], "estimated"),
        (["estimated", "unpriced", "exact"], "unpriced"),
    ],
)
def test_the_status_of_a_part_is_the_worst_of_its_calls(store, make, statuses, worst):
    for status in statuses:
        add(store, make.receipt(cost_status=status, cost_nano_usd=None if status == "unpriced" else 3))
    assert report(store, "team")["rows"][0]["cost_status"] == worst


def test_calls_without_a_price_are_counted_and_never_shown_as_costing_nothing(store, make):
    unpriced = {"cost_nano_usd": None, "cost_status": "unpriced"}
    add(store, make.receipt(team="a", **unpriced), make.receipt(team="b", **unpriced), make.receipt(team="b"))
    priced, unknown = report(store, "team")["rows"]
    assert (priced["cost_usd"], priced["cost_status"], priced["unpriced_calls"]) == ("0.0000015", "unpriced", 1)
    assert (unknown["cost_usd"], unknown["cost_status"], unknown["unpriced_calls"]) == (None, "unpriced", 1)
    assert report(store)["total"]["unpriced_calls"] == 2


@pytest.mark.parametrize("name", ["feature", "model", "team", "user", "key", "target", "prompt"])
def test_spend_by(store, make, name):
    field = "key_id" if name == "key" else name
    add(store, make.receipt(**{field: "this"}), make.receipt(**{field: "that"}), make.receipt(**{field: "this"}))
    assert {row[name]: row["calls"] for row in report(store, name)["rows"]} == {"this": 2, "that": 1}


def test_hours_and_days_come_in_order_of_time_through_the_end_of_daylight_saving(store, make):
    midnight = at("2026-10-25T00:00:00+02:00")
    for minutes in range(0, 25 * 60, 20):
        add(store, make.receipt(midnight + minutes * MINUTE))
    zone = "Europe/Berlin"
    (day,) = report(store, "day", zone=zone)["rows"]
    assert (day["day"], day["calls"]) == ("2026-10-25", 75)
    hours = report(store, "hour", zone=zone)["rows"]
    assert len(hours) == 25
    assert [row["hour"] for row in hours[1:5]] == [
        *("2026-10-25T01:00+02:00", "2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00")
    ]
    assert {row["calls"] for row in hours} == {3}
    assert len(report(store, "day", zone="UTC")["rows"]) == 2


def test_the_day_that_loses_half_an_hour_has_its_calls_and_no_others(store, make):
    """Lord Howe goes from 02:00 to 02:30 on 2026-10-04."""
    midnight = at("2026-10-04T00:00:00+10:30")
    add(store, *(make.receipt(midnight + half * HOUR // 2) for half in range(-1, 48)))
    rows = report(store, "day", zone="Australia/Lord_Howe")["rows"]
    assert [(row["day"], row["calls"]) for row in rows] == [("2026-10-03", 1), ("2026-10-04", 47), ("2026-10-05", 1)]


DST = [
    at("2026-03-29T01:00+00:00"),
    at("2026-10-25T01:00+00:00"),
    at("2026-04-04T15:00+00:00"),
    at("2026-10-03T15:30+00:00"),
    at("2026-03-08T07:00+00:00"),
    at("2026-11-01T06:00+00:00"),
    at("2026-03-08T05:00+00:00"),
]
ENDS = [
    at("2026-01-31T23:00+00:00"),
    at("2028-02-29T18:30+00:00"),
    at("2026-12-31T13:00+00:00"),
    at("2026-05-01T00:00+00:00"),
]
moments = st.builds(
    lambda around, off: around + off,
    st.sampled_from(DST + ENDS),
    st.integers(-30 * HOUR, 30 * HOUR) | st.integers(-2, 2) | st.integers(-8, 8).map(lambda n: n * HOUR // 2),
)
names = st.sampled_from(["a", "b", None])
spendings = st.lists(
    st.tuples(
        moments,
        st.fixed_dictionaries(
            {
                "team": names,
                "feature": names,
                "user": names,
                "key_id": names,
                "target": names,
                "prompt": names,
                "model": st.sampled_from(["m", "n"]),
                "cost": st.none() | st.integers(0, 10**13),
                "status": st.sampled_from(["exact", "estimated"]),
                "tokens": st.integers(0, 10**9),
                "cache_saved": st.sampled_from([0, 5]),
                "routing_saved": st.integers(-(10**12), 10**12),
            }
        ),
    ),
    max_size=25,
)


def nano(text):
    """Money, read back from its text without rounding; nothing where there is none."""
    if text is None:
        return 0
    assert isinstance(text, str)
    sign, text = (-1, text[1:]) if text[0] == "-" else (1, text)
    whole, _, rest = text.partition(".")
    return sign * (int(whole) * 10**9 + int(rest.ljust(9, "0")))


def cost(row):
    return nano(row["cost_usd"])


def made(make, started_ns, one):
    fields = {name: one[name] for name in ("team", "feature", "user", "key_id", "target", "prompt", "model")}
    cost, status = one["cost"], "unpriced" if one["cost"] is None else one["status"]
    usage = Usage(input_tokens=one["tokens"], cached_input_tokens=one["tokens"] // 2, output_tokens=3)
    saved = {"cache_saved_nano_usd": one["cache_saved"], "routing_saved_nano_usd": one["routing_saved"]}
    return make.receipt(started_ns, **fields, **saved, cost_nano_usd=cost, cost_status=status, usage=usage)


@pytest.fixture
def all_pays(monkeypatch):
    """Sums are kept however few calls there are."""
    monkeypatch.setattr(rolling, "LEAST", {1: 1, 96: 1})
    monkeypatch.setattr(rolling, "PAYS", {1: 1, 96: 1})


def roll_up(store, now_ns=None):
    """Make the sums that are to be made, as the thread beside the ledger does."""
    maker = Rolling.open(store.path)
    done = maker.roll(at("2029-01-01T00:00+00:00") if now_ns is None else now_ns)
    maker.close()
    return done


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.tuples(spendings, spendings, st.booleans()),
    st.lists(st.sampled_from(DIMENSIONS), unique=True, max_size=4),
    st.sampled_from(ZONES),
    st.tuples(moments, moments).map(sorted),
)
def test_parts_and_the_unattributed_add_up_to_the_total_in_every_zone(
    all_pays, one_store, make, entries, by, zone, ends
):
    """Whether sums are kept of all of the calls, of some, or of none; some come once sums were made."""
    store = one_store
    store._execute("DELETE FROM calls")
    before, late = ([made(make, *entry) for entry in part] for part in entries[:2])
    if entries[2]:
        add(store, *before)
        roll_up(store)
        add(store, *late, *before[:3])  # which are there already
    else:
        add(store, *before, *late)
    receipts = [*before, *late]
    span = Span(*ends)
    check(report(store, ",".join(by), span, zone), receipts, span, by, zone)
    roll_up(store)
    check(report(store, ",".join(by), span, zone), receipts, span, by, zone)
    check(report(store, ",".join(by), EVER, zone), receipts, EVER, by, zone)


def check(found, receipts, span, by, zone):
    """A report against the receipts, summed up by hand."""
    inside = [receipt for receipt in receipts if span.since_ns <= receipt.started_ns < span.until_ns]
    parts = [*found["rows"], found["unattributed"]]
    for name, total in (
        ("cost_usd", sum(each.cost_nano_usd or 0 for each in inside)),
        ("cache_saved_usd", sum(each.cache_saved_nano_usd for each in inside)),
        ("routing_saved_usd", sum(each.routing_saved_nano_usd for each in inside)),
    ):
        assert sum(nano(part[name]) for part in parts) == nano(found["total"][name]) == total
    for name, count in (
        ("calls", len(inside)),
        ("input_tokens", sum(each.usage.input_tokens for each in inside)),
        ("cached_input_tokens", sum(each.usage.cached_input_tokens for each in inside)),
        ("output_tokens", 3 * len(inside)),
    ):
        assert sum(part[name] for part in parts) == found["total"][name] == count
    assert sum(part.get("unpriced_calls", 0) for part in parts) == sum(each.cost_nano_usd is None for each in inside)

    def place(receipt):
        local = from_ns(receipt.started_ns, zone_of(zone))
        own = {
            "key": receipt.key_id,
            "day": local.date().isoformat(),
            "hour": local.replace(minute=0, second=0, microsecond=0).isoformat(timespec="minutes"),
        }
        return tuple(own[name] if name in own else getattr(receipt, name) for name in by)

    expected, costs, worst = Counter(), Counter(), {}
    for each in inside:
        expected[place(each)] += 1
        costs[place(each)] += each.cost_nano_usd or 0
        worst.setdefault(place(each), []).append(each.cost_status)
    unattributed = sum(count for values, count in expected.items() if None in values)
    assert found["unattributed"]["calls"] == unattributed
    assert {tuple(row[name] for name in by): (row["calls"], cost(row)) for row in found["rows"]} == {
        values: (count, costs[values]) for values, count in expected.items() if None not in values
    }
    for row in found["rows"]:
        statuses = worst[tuple(row[name] for name in by)] if inside else ["exact"]
        assert row["cost_status"] == max(statuses, key=("exact", "estimated", "unpriced").index)


edges = st.sampled_from(DST + ENDS)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(moments, st.none() | st.integers(0, 10**13)), max_size=25),
    st.sampled_from(ZONES),
    edges,
    st.sampled_from(["day", "month"]),
    st.booleans(),
)
def test_the_days_and_months_of_a_zone_meet_without_gap_or_overlap(one_store, make, entries, zone, around, window, by):
    store = one_store
    store._execute("DELETE FROM calls")
    made = [
        make.receipt(started_ns, cost_nano_usd=cost, cost_status="unpriced" if cost is None else "exact")
        for started_ns, cost in entries
    ]
    add(store, *made)
    spans = [Span(*bounds(window, around, zone_of(zone)))]
    for _ in range(2):
        spans.insert(0, Span(*bounds(window, spans[0].since_ns - 1, zone_of(zone))))
        spans.append(Span(*bounds(window, spans[-1].until_ns, zone_of(zone))))
    for before, after in pairwise(spans):
        assert before.until_ns == after.since_ns

    whole = Span(spans[0].since_ns, spans[-1].until_ns)
    dimension = "day" if by else "hour"
    parts = [report(store, dimension, span, zone) for span in spans]
    total = report(store, dimension, whole, zone)
    assert sum(cost(part["total"]) for part in parts) == cost(total["total"])
    assert sum(part["total"]["calls"] for part in parts) == total["total"]["calls"]
    rows = [row for part in parts for row in part["rows"]]
    assert sum(map(cost, rows)) == sum(map(cost, total["rows"])) == cost(total["total"])
    if window == "day" and by:
        assert all(len(part["rows"]) <= 1 for part in parts)
        assert rows == total["rows"]


def test_spend_by_prompt_tells_each_version(store, make):
    add(store, make.receipt(prompt="greet@3"), make.receipt(prompt="greet@4"), make.receipt(prompt="greet@3"))
    add(store, make.receipt())
    found = report(store, "prompt")
    assert {row["prompt"]: row["calls"] for row in found["rows"]} == {"greet@3": 2, "greet@4": 1}
    assert found["unattributed"]["calls"] == 1


def test_sums_over_neighbouring_spans_add_up_to_the_sum_over_both(store, make):
    start = at("2026-10-24T00:00:00+00:00")
    add(store, *(make.receipt(start + n * 7 * MINUTE) for n in range(400)))
    days = [Span(start + n * 24 * HOUR, start + (n + 1) * 24 * HOUR) for n in range(2)]
    both = report(store, span=Span(start, start + 48 * HOUR))["total"]
    assert sum(cost(report(store, span=day)["total"]) for day in days) == cost(both)
    assert both["calls"] == 400


def test_dimensions_are_read_in_their_order_and_once():
    assert dimensions(" feature, model,feature") == ("feature", "model")
    assert dimensions("") == ()
    with pytest.raises(InvalidRequest, match="by 'colour'") as caught:
        dimensions("feature,colour")
    assert "feature, model, team" in caught.value.hint


# -- receipts --


def test_a_receipt_has_the_shape_that_scripts_rely_on(store, make):
    usage = Usage(input_tokens=10, output_tokens=5, cached_input_tokens=4, reasoning_tokens=2)
    failed = Attempt("openai/gpt", status="error", http_status=503, error="upstream_overloaded", total_us=1500)
    answered = Attempt(
        "box/qwen", "fallback", ttft_us=250, total_us=2500, usage=usage, cost_nano_usd=1500, cost_status="exact"
    )
    answered = msgspec.structs.replace(answered, service_tier="flex")
    started = at("2026-10-25T02:30:00.123+01:00")
    receipt = make.receipt(
        started,
        tries=(failed, answered),
        usage=usage,
        ttft_us=312,
        total_us=812_345,
        key_id="key_1",
        cache_saved_nano_usd=7,
        routing_saved_nano_usd=-1_500_000_000,
    )
    add(store, receipt)
    tokens = {"input_tokens": 10, "cached_input_tokens": 4, "output_tokens": 5, "reasoning_tokens": 2}
    expected = {
        "id": receipt.id,
        "started_at": "2026-10-25T01:30:00.123Z",
        "team": "web",
        "feature": "invoices",
        "model": "fast",
        "target": "box/qwen",
        "status": "ok",
        "http_status": 200,
        "finish_reason": "stop",
        "streamed": False,
        "usage": {**tokens, "source": "provider"},
        "cost_usd": "0.0000015",
        "cost_status": "exact",
        "ttft_ms": 0.312,
        "total_ms": 812.345,
        "tries": [
            {
                "target": "openai/gpt",
                "kind": "first",
                "status": "error",
                "http_status": 503,
                "error": "upstream_overloaded",
                "usage": None,
                "cost_usd": None,
                "cost_status": "free",
                "ttft_ms": None,
                "total_ms": 1.5,
                "service_tier": None,
            },
            {
                "target": "box/qwen",
                "kind": "fallback",
                "status": "ok",
                "http_status": None,
                "error": None,
                "usage": {**tokens, "source": "provider"},
                "cost_usd": "0.0000015",
                "cost_status": "exact",
                "ttft_ms": 0.25,
                "total_ms": 2.5,
                "service_tier": "flex",
            },
        ],
        "prompt": None,
        "lane": "verbatim",
        "cache": "none",
        "dialect": "chat",
        "key": "key_1",
        "user": None,
        "session": None,
        "error": None,
        "error_origin": None,
        "dropped": [],
        "cache_saved_usd": "0.000000007",
        "routing_saved_usd": "-1.5",
    }
    assert written(show(store, receipt.id)) == expected
    assert written(calls(store, Filter(EVER))) == {"calls": [expected]}


def test_receipts_come_newest_first_and_no_more_than_asked(store, make):
    receipts = [make.receipt() for _ in range(30)]
    add(store, *receipts)
    assert [each.id for each in calls(store, Filter(EVER), 3).calls] == [each.id for each in receipts[:-4:-1]]
    assert len(calls(store, Filter(EVER)).calls) == 20


def test_an_unpriced_receipt_has_no_cost_and_a_missing_time_stays_missing(store, make):
    add(store, make.receipt(cost_nano_usd=None, cost_status="unpriced", ttft_us=None))
    (found,) = calls(store, Filter(EVER)).calls
    assert (found.cost_usd, found.cost_status, found.ttft_ms) == (None, "unpriced", None)


def test_a_receipt_that_is_not_there_is_told(store, make):
    with pytest.raises(NotFound, match="There is no call") as caught:
        show(store, make.receipt().id)
    assert "in progress" in caught.value.hint
    with pytest.raises(NotFound, match="is not a call id"):
        show(store, "'; DROP TABLE calls; --")


def test_no_float_comes_near_money(store, make):
    add(store, make.receipt(cost_nano_usd=2**53 - 1), make.receipt(cost_nano_usd=2**53 - 1))
    assert report(store)["total"]["cost_usd"] == "18014398.509481982"
    (sums,) = store.sums(EVER, ())
    assert type(sums.cost_nano_usd) is int
    assert iso(at("2026-01-01T00:00:00+00:00"), None) == datetime(2026, 1, 1, tzinfo=UTC).strftime("%FT%T.000Z")
