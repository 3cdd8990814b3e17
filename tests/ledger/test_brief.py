"""A brief row and the wide one that it stands for are the same for the journal, the store and whoever reads them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.ledger import interning, sql
from penstock.ledger.brief import common_of, is_brief, packed, receipt, values_of, wide
from penstock.ledger.ids import id_bytes
from penstock.ledger.records import Head, pack_receipts, unpack_receipt
from penstock.ledger.rows import COMMON, receipt_of, row_of
from penstock.ledger.store import FILE, Filter, Span, Store
from penstock.receipt import Usage

EVER = Span(0, 2**62)


def brief_of(row, known=None):
    """The brief row that stands for a wide one; `known` has what they have in common."""
    values = row[COMMON]
    common = common_of(values) if known is None else known.setdefault(values, common_of(values))
    return (*row[: COMMON.start], common, *row[COMMON.stop :])


texts = st.sampled_from(["", "a", "é👋", "x" * 40, "y" * 300])


@settings(deadline=None)
@given(st.lists(st.tuples(texts, texts, st.booleans(), st.none() | st.integers(0, 2**53 - 1)), max_size=8))
def test_it_is_packed_as_the_wide_one_and_read_as_it(make, calls):
    receipts = [
        make.receipt(team=team or None, session=session or None, streamed=streamed, cost_nano_usd=cost, tries=())
        for team, session, streamed, cost in calls
    ]
    rows = [row_of(one) for one in receipts]
    brief = [brief_of(row) for row in rows]
    assert packed(brief) == packed(rows)
    mixed = [brief[at] if at % 2 else rows[at] for at in range(len(rows))]
    assert pack_receipts(mixed) == packed(rows)
    assert [unpack_receipt(payload, Head()) for payload in packed(brief)] == rows
    assert [wide(row) for row in brief] == [wide(row) for row in rows] == rows
    assert [receipt(row) for row in brief] == [receipt_of(row) for row in rows] == receipts
    assert all(map(is_brief, brief))
    assert not any(map(is_brief, rows))


def test_what_is_common_is_all_but_what_is_the_calls_own(make):
    row = row_of(make.receipt())
    assert values_of(common_of(row[COMMON])) == row[COMMON]
    assert common_of(("\ud800", *row[COMMON][1:])) is None, "no journal can have that"


def test_a_monstrous_one_is_clipped_and_becomes_a_wide_one(make):
    rows = [row_of(make.receipt(session=session)) for session in ("a", "s" * 100_000, "\ud800", "b")]
    brief = [brief_of(row) for row in rows]
    payloads, clipped = pack_receipts(brief), pack_receipts(rows)
    assert payloads == clipped
    assert [wide(row) for row in brief] == rows
    assert [len(row.session) for row in map(receipt, brief)] == [1, 256, 1, 1]


def test_the_store_has_the_same_calls_of_both(make, tmp_path):
    receipts = [make.receipt(team=f"team-{number % 3}", model=f"m{number % 5}") for number in range(100)]
    rows, known = [row_of(one) for one in receipts], {}
    store = Store.open(tmp_path / FILE)
    store.add(rows[:10])
    store.add([brief_of(row, known) for row in rows[5:60]])
    store.add([brief_of(row) if at % 3 else row for at, row in enumerate(rows)])
    assert store.calls(Filter(EVER), 1000) == receipts[::-1]
    assert [store._one("SELECT count(*) FROM " + name) for name in ("callers", "kinds")] == [3, 5]  # noqa: S608 - ours
    store.close()


def ordinary(make, **other):
    """A receipt with all figures, and nothing that most calls lack."""
    usage = Usage(input_tokens=11, output_tokens=5, cached_input_tokens=3, reasoning_tokens=2)
    figures = {"usage": usage, "cost_nano_usd": 7, "ttft_us": 20, "total_us": 30, "user": None, "session": None}
    return make.receipt(tries=(), **{**figures, **other})


def plain_rows(make, known, calls):
    receipts = [ordinary(make, team=f"team-{number % 3}", total_us=number) for number in range(calls)]
    rows = [brief_of(row_of(one), known) for one in receipts]
    return [(*row[:14], number, number + 1, number + 2, f"r{number}", "", "") for number, row in enumerate(rows)]


def table(store):
    return store._execute("SELECT * FROM calls ORDER BY id").fetchall()


def test_plain_calls_are_added_by_a_shorter_statement_and_stand_there_as_others(make, tmp_path):
    known = {}
    first, *rest = (plain_rows(make, known, sql.TOGETHER) for _ in range(3))
    store, single = Store.open(tmp_path / FILE), Store.open(tmp_path / "single.db")
    assert store.add(first) == sql.TOGETHER
    assert [store._interning.together(rows)[0] for rows in rest] == [sql.ADD_PLAIN_CALLS] * 2
    assert store.add([*rest[0], *rest[1][:3], *rest[0][3:]]) == sql.TOGETHER + 3
    for row in (*first, *rest[0], *rest[1][:3]):
        assert single.add([wide(row)]) == 1
    assert table(store) == table(single)
    store.close()
    single.close()


UNUSUAL = {3: "u", 4: "s", 12: 1, 13: -1, 18: "[]", 19: '{"dropped":["seed"]}'}


@pytest.mark.parametrize("place", [*UNUSUAL, "wide", "new"])
def test_one_that_is_not_plain_has_them_all_added_in_full(make, tmp_path, place):
    known = {}
    first, rows = (plain_rows(make, known, sql.TOGETHER) for _ in range(2))
    odd = rows[5]
    if place == "wide":
        odd = wide(odd)
    elif place == "new":
        odd = (*odd[:2], common_of(values_of(odd[2])), *odd[3:])
    else:
        odd = (*odd[:place], UNUSUAL[place], *odd[place + 1 :])
    rows[5] = odd
    store, single = Store.open(tmp_path / FILE), Store.open(tmp_path / "single.db")
    store.add(first)
    assert store._interning.together(rows)[0] == sql.ADD_CALLS
    assert store.add(rows) == sql.TOGETHER
    for row in (*first, *rows):
        single.add([wide(row)])
    assert table(store) == table(single)
    store.close()
    single.close()


def test_numbers_of_what_is_common_are_remembered_within_bounds_and_forgotten_with_a_transaction(
    make, tmp_path, monkeypatch
):
    monkeypatch.setattr(interning, "MOST_ALIKE", 4)
    store = Store.open(tmp_path / FILE)
    receipts = [make.receipt(team=f"team-{number % 7}") for number in range(50)]
    known = {}
    for one in receipts:
        store.add([brief_of(row_of(one), known)])
        assert len(store._interning._alike) == len(store._interning._seen) <= 4
    assert [store.call(id_bytes(one.id)) for one in receipts] == receipts
    store._interning.forget()
    assert not store._interning._alike
    assert not store._interning._seen
    store.close()
