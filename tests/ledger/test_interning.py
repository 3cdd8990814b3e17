import pytest

from penstock.errors import Internal
from penstock.ledger import interning
from penstock.ledger.ids import id_bytes
from penstock.ledger.records import pack_receipt
from penstock.ledger.store import FILE, Store


@pytest.fixture
def opened(tmp_path):
    store = Store.open(tmp_path / FILE)
    yield store
    store.close()


def rows(*receipts):
    return [pack_receipt(receipt)[0] for receipt in receipts]


def counts(store):
    return [store._one("SELECT count(*) FROM " + name) for name in ("callers", "kinds", "calls")]  # noqa: S608 - ours


def test_what_calls_have_in_common_is_stored_once(opened, make):
    opened.add(rows(*(make.receipt(team=team, model=model) for team in "ab" for model in "xyz" for _ in range(5))))
    assert counts(opened) == [2, 3, 30]


def test_all_processes_use_the_same_numbers(opened, make, tmp_path):
    other = Store.open(tmp_path / FILE)
    receipts = [make.receipt(team=team) for team in "abcabc"]
    for place, receipt in enumerate(receipts):
        (opened, other)[place % 2].add(rows(receipt))
    assert counts(opened) == [3, 1, 6]
    assert [other.call(id_bytes(receipt.id)) for receipt in receipts] == receipts
    other.close()


def test_numbers_of_a_transaction_that_came_to_nothing_are_forgotten(opened, make):
    new = make.receipt(team="new", model="new")
    with pytest.raises(Internal):
        opened.add([*rows(new), (None, *rows(new)[0][1:])])
    assert counts(opened) == [0, 0, 0]
    opened.add(rows(new))
    assert opened.call(id_bytes(new.id)) == new


def test_calls_that_share_only_their_caller_or_only_their_kind_share_that_number(opened, make):
    opened.add(rows(*(make.receipt(team=team, model=model) for team, model in ("ax", "ay", "bx", "ax"))))
    found = opened._execute("SELECT caller, kind FROM calls ORDER BY id").fetchall()
    assert found == [(1, 1), (1, 2), (2, 1), (1, 1)]


def test_numbers_are_not_remembered_without_bound(opened, make, monkeypatch):
    monkeypatch.setattr(interning, "MOST", 3)
    receipts = [make.receipt(team=f"team-{number % 10}", model=f"model-{number}") for number in range(20)]
    opened.add(rows(*receipts))
    assert len(opened._interning._kinds) <= 3
    assert len(opened._interning._pairs) <= 3
    assert counts(opened) == [10, 20, 20]
    assert [opened.call(id_bytes(receipt.id)) for receipt in receipts] == receipts
