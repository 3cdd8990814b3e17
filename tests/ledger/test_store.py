import msgspec
import pytest

from ledger.test_schema import wide
from penstock.errors import Internal
from penstock.ledger import sql
from penstock.ledger.ids import id_bytes
from penstock.ledger.records import pack_receipt
from penstock.ledger.rollups import NAMES
from penstock.ledger.store import FILE, Filter, Span, Store
from penstock.receipt import Attempt, Usage

EVER = Span(0, 2**62)


@pytest.fixture
def path(tmp_path):
    return tmp_path / FILE


@pytest.fixture
def opened(path):
    store = Store.open(path)
    yield store
    store.close()


def row(receipt):
    return pack_receipt(receipt)[0]


# -- receipts --


def test_a_receipt_is_found_by_its_id_whole(opened, make):
    usage = Usage(input_tokens=3, output_tokens=2, cache_write_tokens=9, source="counted")
    receipt = make.receipt(
        dropped=("seed",),
        tries=(Attempt("a/b", status="error", retry_after_ms=5), Attempt("c/d", "retry", usage=usage)),
    )
    assert opened.add([row(receipt)]) == 1
    assert opened.call(id_bytes(receipt.id)) == receipt
    assert opened.call(bytes(16)) is None


def test_a_call_is_there_once_however_often_it_is_added_and_the_first_stays(opened, make):
    receipt = make.receipt()
    other = make.receipt(id=receipt.id, status="interrupted", cost_nano_usd=9)
    assert opened.add([row(receipt), row(make.receipt()), row(other)]) == 2
    assert opened.add([row(other), row(receipt)]) == 0
    assert opened.call(id_bytes(receipt.id)) == receipt


def test_a_batch_is_added_whole_or_not_at_all(opened, make):
    good, bad = row(make.receipt()), (None, *row(make.receipt())[1:])
    with pytest.raises(Internal):
        opened.add([good, bad])
    assert opened.calls(Filter(EVER), 10) == []
    assert opened.add([good]) == 1


@pytest.mark.parametrize("calls", [1, sql.TOGETHER - 1, sql.TOGETHER, sql.TOGETHER + 1, 3 * sql.TOGETHER + 5])
def test_calls_that_one_statement_adds_are_the_same_as_those_added_one_by_one(opened, make, tmp_path, calls):
    receipts = [make.receipt(status=("ok", "error")[number % 3 == 0], user=f"u{number}") for number in range(calls)]
    known = [make.receipt(id=one.id, cost_nano_usd=9) for one in receipts[::5]]
    batch = [row(one) for one in (*receipts, *receipts[::7])]
    (tmp_path / "single").mkdir()
    single = Store.open(tmp_path / "single" / FILE)
    for one in known:
        assert opened.add([row(one)]) == single.add([row(one)]) == 1
    assert opened.add(batch) == sum(single.add([one]) for one in batch) == calls - len(known)
    kept = opened.calls(Filter(EVER), 1000)
    assert kept == single.calls(Filter(EVER), 1000)
    assert len(kept) == calls
    single.close()


def test_of_many_that_are_added_together_none_is_there_if_one_cannot_be(opened, make):
    rows = [row(make.receipt()) for _ in range(2 * sql.TOGETHER)]
    bad = (*rows[-1][:-1], None)
    for place in (0, sql.TOGETHER, len(rows)):
        with pytest.raises(Internal):
            opened.add([*rows[:place], bad, *rows[place:-1]])
        assert opened.calls(Filter(EVER), 10) == []
    assert opened.add(rows) == len(rows)


def test_calls_are_listed_newest_first_as_far_as_asked(opened, make):
    receipts = [make.receipt() for _ in range(5)]
    opened.add([row(each) for each in receipts])
    assert opened.calls(Filter(EVER), 3) == receipts[:1:-1]
    after = Filter(EVER, after=id_bytes(receipts[2].id))
    assert opened.calls(after, 10) == receipts[:2:-1]


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        *(("team", "team"), ("feature", "feature"), ("model", "model"), ("user", "user")),
        *(("key_id", "key"), ("target", "target"), ("status", "status")),
    ],
)
def test_calls_are_filtered_by(opened, make, field, asked):
    value = "error" if field == "status" else "this"
    wanted = make.receipt(**{field: value})
    opened.add([row(each) for each in (make.receipt(), wanted, make.receipt(team=None))])
    assert opened.calls(Filter(EVER, **{asked: value}), 10) == [wanted]
    assert opened.calls(Filter(EVER, **{asked: "';--"}), 10) == []


def test_a_span_includes_its_start_and_excludes_its_end_to_the_nanosecond(opened, make):
    start = make.now()
    receipts = [make.receipt(started_ns=start + step) for step in (-1, 0, 5, 6)]
    opened.add([row(each) for each in receipts])
    assert opened.calls(Filter(Span(start, start + 6)), 10) == receipts[2:0:-1]
    assert sum(each.calls for each in opened.sums(Span(start, start + 6), ())) == 2
    assert sum(each.calls for each in opened.sums(Span(-5, 2**80), ())) == 4


def test_sums_are_by_what_is_asked_and_by_nothing_else(opened, make):
    receipts = [make.receipt(team=team, feature=feature) for team in ("a", "b", None) for feature in ("x", "y")]
    opened.add([row(each) for each in receipts])
    (all_of_it,) = opened.sums(EVER, ())
    assert (all_of_it.calls, all_of_it.cost_nano_usd, all_of_it.quarter) == (6, 9000, 0)
    assert {each.team: each.calls for each in opened.sums(EVER, ("team",))} == {"a": 2, "b": 2, None: 2}
    assert len(opened.sums(EVER, ("team", "feature"))) == 6
    assert {type(getattr(all_of_it, name)) for name in all_of_it.__struct_fields__[6:] if name != "prompt"} == {int}


@pytest.mark.parametrize("name", [*NAMES, "time"])
def test_sums_by_one_dimension_are_those_by_several_put_together(opened, make, name):
    fields = ("feature", "model", "team", "user", "key_id", "target", "prompt")
    for value in "ab":
        opened.add([row(make.receipt(make.now() + 10**13 * ord(value), **dict.fromkeys(fields, value)))] * 2)
    opened.add([row(make.receipt(cost_nano_usd=None, cost_status="unpriced"))])
    alone = {str(each): each for each in opened.sums(EVER, (name,))}
    other = "model" if name == "team" else "team"
    for each in opened.sums(EVER, (name, other)):
        values = msgspec.structs.replace(each, **{other: None})
        assert alone.pop(str(values)) == values
    assert alone == {}


def test_calls_without_a_price_are_counted_and_add_nothing(opened, make):
    opened.add(
        [
            row(make.receipt(cost_nano_usd=None, cost_status="unpriced")),
            row(make.receipt(cost_nano_usd=5, cost_status="estimated")),
            row(make.receipt(cost_nano_usd=7, cost_status="exact")),
            row(make.receipt(cost_nano_usd=0, cost_status="free")),
        ]
    )
    (found,) = opened.sums(EVER, ())
    assert (found.calls, found.cost_nano_usd, found.unpriced, found.estimated, found.exact) == (4, 12, 1, 1, 1)
    opened.add([row(make.receipt(team="poor", cost_nano_usd=None, cost_status="unpriced"))])
    assert {each.team: each.cost_nano_usd for each in opened.sums(EVER, ("team",))}["poor"] == 0


def test_the_largest_figures_can_be_summed(opened, make):
    huge = Usage(*([2**63] * 10))
    opened.add([row(make.receipt(usage=huge, cost_nano_usd=2**80)) for _ in range(500)])
    (found,) = opened.sums(EVER, ())
    assert found.cost_nano_usd == found.input_tokens == 500 * (2**53 - 1)


# -- keys --


def test_keys_are_added_replaced_and_revoked_and_every_change_is_told(opened):
    before = opened.keys_version()
    opened.add_key(("key_1", b"h1", "web", None, "", False, 5, *[None] * 7))
    opened.add_key(("key_2", b"h2", "web", None, "", False, 6, *[None] * 7), instead_of="key_1", until_ns=50)
    assert opened.revoke_key("key_2", 70)
    assert opened.revoke_key("key_2", 90)
    assert not opened.revoke_key("key_3", 70)
    assert [(each[0], each[7], each[8]) for each in opened.key_rows()] == [("key_1", 50, None), ("key_2", None, 70)]
    assert opened.keys_version() > before


def test_a_key_that_expires_sooner_than_its_grace_keeps_its_end(opened):
    opened.add_key(("key_1", b"h1", None, None, "", False, 5, 30, *[None] * 6))
    opened.add_key(("key_2", b"h2", None, None, "", False, 6, *[None] * 7), instead_of="key_1", until_ns=50)
    assert opened.key_rows()[0][7] == 30


def test_a_ledger_from_before_keys_had_limits_keeps_its_keys_and_calls(path, monkeypatch, make):
    receipt = make.receipt()
    with monkeypatch.context() as patch:
        patch.setattr(sql, "MIGRATIONS", sql.MIGRATIONS[:1])
        former = Store.open(path)
        values = wide(receipt)
        former._execute(
            f"INSERT INTO calls ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",  # noqa: S608 - ours
            [*values.values()],
        )
        former._execute("INSERT INTO keys VALUES ('key_1', x'01', 'web', NULL, 'ci', 0, 5, NULL, NULL)")
        assert former._one(sql.VERSION_OF) == 1
        former.close()
    opened = Store.open(path)
    assert opened._one(sql.VERSION_OF) == len(sql.MIGRATIONS) > 1
    old = ("key_1", b"\x01", "web", None, "ci", 0, 5, *[None] * 7)
    assert opened.key_rows() == [old]
    assert opened.call(id_bytes(receipt.id)) == receipt
    new = ("key_2", b"h2", None, None, "", 0, 6, None, None, 60, 1000, 2, 5, None)
    opened.add_key(new, instead_of="key_1", until_ns=9)
    assert opened.key_rows() == [(*old[:7], 9, *old[8:]), new]
    opened.close()


def test_a_process_that_knows_fewer_columns_of_keys_goes_on(opened):
    opened.add_key(("key_1", b"h1", "web", None, "", 0, 5, None, None, 60, *[None] * 4))
    opened._execute("ALTER TABLE keys ADD COLUMN later TEXT")
    opened.add_key(("key_2", b"h2", "web", None, "", 0, 6, *[None] * 7))
    assert [each[0] for each in opened.key_rows()] == ["key_1", "key_2"]


def test_another_connections_changes_are_noticed(opened, path, make):
    before = opened.data_version()
    assert opened.data_version() == before
    other = Store.open(path)
    other.add([row(make.receipt())])
    other.close()
    assert opened.data_version() != before
