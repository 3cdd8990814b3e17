import os
import sys
from subprocess import PIPE, Popen

import msgspec
import pytest

from ledger.journalling import append
from ledger.test_schema import wide
from penstock.ledger import recovery
from penstock.ledger.ids import id_bytes
from penstock.ledger.journal import Disk, Journal
from penstock.ledger.reading import CORRUPT, read_all, segments_of
from penstock.ledger.records import HEAD, INTENT, RECEIPT, SCHEMA, Head, pack_intent, pack_receipt
from penstock.ledger.recovery import Recovery, interrupted, recover
from penstock.ledger.store import FILE, Filter, Span, Store
from penstock.receipt import Attempt, Usage

EVER = Span(0, 2**62)


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / FILE)
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "journal"
    made.mkdir()
    return made


def die(folder, values, writer="018f-7", segment_bytes=1 << 20):
    """Write intents and receipts as a process that dies right after."""
    journal = Journal(folder, writer, disk=Disk(), power=False, segment_bytes=segment_bytes)
    for value in values:
        if hasattr(value, "hold_nano_usd"):
            append(journal, INTENT, pack_intent(value))
        else:
            append(journal, RECEIPT, pack_receipt(value)[1])
    journal.close(delete=False)


def begun(receipt, **changes):
    """The intent of a receipt."""
    from penstock.ledger.records import Intent

    same = {name: getattr(receipt, name) for name in Intent.__struct_fields__ if hasattr(receipt, name)}
    return Intent(**{**same, "hold_nano_usd": 9000, **changes})


def test_receipts_of_the_dead_are_added_and_their_journal_goes(folder, store, make):
    receipts = [make.receipt() for _ in range(3)]
    die(folder, [value for receipt in receipts for value in (begun(receipt), receipt)])
    assert recover(folder, store) == Recovery(journals=1, added=3)
    assert store.calls(Filter(EVER), 10) == receipts[::-1]
    assert list(folder.iterdir()) == []
    assert recover(folder, store) == Recovery()


def test_what_the_store_knows_already_is_not_added_again(folder, store, make):
    receipt, other = make.receipt(), make.receipt()
    store.add([pack_receipt(receipt)[0]])
    die(folder, [begun(receipt), begun(other), receipt, other])
    assert recover(folder, store) == Recovery(journals=1, added=1)


def test_a_call_that_died_costs_its_ceiling_as_an_estimate(folder, store, make):
    intent = make.intent(streamed=True, key_id="key_1", user="u", session="s", config_hash="c0ffee")
    die(folder, [intent])
    assert recover(folder, store) == Recovery(journals=1, added=1, interrupted=1)
    receipt = store.call(id_bytes(intent.id))
    assert receipt == interrupted(intent)
    assert (receipt.status, receipt.error, receipt.error_origin) == ("interrupted", "interrupted", "gateway")
    assert (receipt.cost_nano_usd, receipt.cost_status) == (9000, "estimated")
    assert receipt.usage == Usage(source="none")
    assert (receipt.key_id, receipt.team, receipt.feature) == ("key_1", "web", "invoices")
    assert (receipt.user, receipt.session, receipt.streamed, receipt.config_hash) == ("u", "s", True, "c0ffee")
    assert sum(attempt.cost_nano_usd for attempt in receipt.tries) == receipt.cost_nano_usd
    assert [attempt.target for attempt in receipt.tries] == ["box/qwen"]


@pytest.mark.parametrize(("hold", "status"), [(None, "unpriced"), (0, "free"), (5, "estimated")])
def test_a_call_that_died_is_priced_as_its_hold_was(make, hold, status):
    receipt = interrupted(make.intent(hold_nano_usd=hold))
    assert (receipt.cost_nano_usd, receipt.cost_status) == (hold, status)
    assert receipt.tries == (
        Attempt("box/qwen", status="interrupted", error="interrupted", cost_nano_usd=hold, cost_status=status),
    )
    assert interrupted(make.intent(target=None)).tries == ()


def test_a_call_whose_receipt_is_in_the_store_but_not_in_the_journal_was_not_interrupted(folder, store, make):
    receipt = make.receipt()
    store.add([pack_receipt(receipt)[0]])
    die(folder, [begun(receipt)])
    assert recover(folder, store) == Recovery(journals=1)
    assert store.calls(Filter(EVER), 10) == [receipt]


def test_an_intent_and_its_receipt_may_stand_in_different_segments(folder, store, make):
    receipts = [make.receipt() for _ in range(30)]
    die(folder, [*map(begun, receipts), *receipts], segment_bytes=1000)
    assert len(segments_of(folder, "018f-7")) > 5
    assert recover(folder, store) == Recovery(journals=1, added=30)
    assert {call.status for call in store.calls(Filter(EVER), 100)} == {"ok"}


def test_more_receipts_than_fit_into_one_transaction_are_all_added(folder, store, make, monkeypatch):
    monkeypatch.setattr(recovery, "_BATCH", 7)
    die(folder, [make.receipt() for _ in range(21)] + [make.intent() for _ in range(15)])
    assert recover(folder, store) == Recovery(journals=1, added=36, interrupted=15)


def test_the_living_are_left_alone_and_so_is_the_own_journal(folder, store, make):
    living = Journal(folder, "018f-8", disk=Disk(), power=False, segment_bytes=1 << 20)
    append(living, INTENT, pack_intent(make.intent()))
    die(folder, [make.intent()], writer="018f-9")
    assert recover(folder, store, own="018f-9") == Recovery()
    assert recover(folder, store) == Recovery(journals=1, added=1, interrupted=1)
    living.close(delete=False)
    assert recover(folder, store) == Recovery(journals=1, added=1, interrupted=1)


def test_a_lock_without_a_journal_is_cleared_away(folder, store):
    die(folder, [])
    (folder / "018f-7.lock").touch()
    assert recover(folder, store) == Recovery()
    assert list(folder.iterdir()) == []


def test_a_segment_without_its_lock_is_recovered_all_the_same(folder, store, make):
    die(folder, [make.receipt()])
    (folder / "018f-7.lock").unlink()
    assert recover(folder, store) == Recovery(journals=1, added=1)


def test_a_torn_end_is_told_and_costs_only_what_was_torn(folder, store, make):
    first, second = make.receipt(), make.receipt()
    die(folder, [first, second])
    (segment,) = segments_of(folder, "018f-7")
    os.truncate(segment, segment.stat().st_size - 5)
    assert recover(folder, store) == Recovery(journals=1, added=1, torn=1)
    assert list(folder.iterdir()) == []


def test_a_corrupt_place_is_counted_skipped_and_kept_for_inspection(folder, store, make):
    receipts = [make.receipt() for _ in range(3)]
    die(folder, [value for receipt in receipts for value in (begun(receipt), receipt)])
    (segment,) = segments_of(folder, "018f-7")
    content = bytearray(segment.read_bytes())
    content[content.index(id_bytes(receipts[1].id))] ^= 1
    segment.write_bytes(content)
    assert recover(folder, store) == Recovery(journals=1, added=3, interrupted=1, corrupt=1)
    assert store.call(id_bytes(receipts[1].id)).status == "interrupted", "what it cost is unknown, so its ceiling"
    (kept,) = folder.iterdir()
    assert kept.name.endswith(CORRUPT)
    assert len([value for reading in read_all(kept) for value in reading.values]) == 5
    assert recover(folder, store) == Recovery()


def test_a_journal_of_a_later_version_stays_and_nothing_is_guessed_about_it(folder, store, make, monkeypatch):
    monkeypatch.setattr("penstock.ledger.journal.pack_head", lambda: msgspec.msgpack.encode(Head(schema=SCHEMA + 1)))
    die(folder, [make.intent()])
    monkeypatch.undo()
    assert recover(folder, store) == Recovery(journals=1, newer=1)
    assert store.calls(Filter(EVER), 10) == []
    assert len(list(folder.iterdir())) == 2


def test_a_journal_from_when_calls_were_wide_is_read_by_the_names_in_its_head(folder, store, make, monkeypatch):
    usage = Usage(input_tokens=10, output_tokens=5, cache_write_tokens=3)
    receipts = [make.receipt(usage=usage, dropped=("seed",)), make.receipt(tries=(), prompt="greet@3", ttft_us=None)]
    names = tuple(wide(receipts[0]))
    with monkeypatch.context() as patch:
        form = msgspec.msgpack.encode(Head(receipt=names))
        patch.setattr("penstock.ledger.journal.pack_head", lambda: form)
        journal = Journal(folder, "018f-7", disk=Disk(), power=False, segment_bytes=1 << 20)
        for receipt in receipts:
            append(journal, RECEIPT, msgspec.msgpack.encode([*wide(receipt).values()]))
        journal.close(delete=False)
    assert recover(folder, store) == Recovery(journals=1, added=2)
    assert store.calls(Filter(EVER), 10) == receipts[::-1]
    assert {each.prompt: each.calls for each in store.sums(EVER, ("prompt",))} == {None: 1, "greet@3": 1}


def test_a_journal_stays_until_what_it_says_is_safe(folder, store, make, monkeypatch):
    die(folder, [make.receipt()])
    monkeypatch.setattr(recovery, "checkpoint", lambda _: False)
    assert recover(folder, store) == Recovery(journals=1, added=1)
    monkeypatch.undo()
    assert recover(folder, store) == Recovery(journals=1)
    assert list(folder.iterdir()) == []


def test_recoveries_add_up():
    assert Recovery(1, 2, 3, 4, 5, 6) + Recovery(1, 1, 1, 1, 1, 1) == Recovery(2, 3, 4, 5, 6, 7)


RECOVERING = """
import sys
from pathlib import Path
from penstock.ledger.recovery import recover
from penstock.ledger.store import Store
home = Path(sys.argv[1])
store = Store.open(home / "ledger.db")
sys.stdin.readline()
print(recover(home / "journal", store).added)
"""


def test_processes_that_recover_at_once_double_nothing_and_lose_nothing(folder, store, tmp_path, make):
    for writer in range(6):
        settled = [make.receipt() for _ in range(40)]
        die(folder, [*map(begun, settled), *settled, *(make.intent() for _ in range(10))], writer=f"018f-{writer}")
    command = [sys.executable, "-c", RECOVERING, str(tmp_path)]
    children = [Popen(command, stdin=PIPE, stdout=PIPE, text=True) for _ in range(4)]
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    added = [int(child.communicate(timeout=30)[0]) for child in children]
    assert sum(added) == 300
    recover(folder, store)
    (total,) = store.sums(EVER, ())
    assert (total.calls, total.cost_nano_usd) == (300, 6 * (40 * 1500 + 10 * 9000))
    assert list(folder.iterdir()) == []


def test_a_head_record_says_what_follows(folder, make):
    die(folder, [make.intent()])
    (segment,) = segments_of(folder, "018f-7")
    assert segment.read_bytes()[2] == HEAD
