import msgspec
import pytest

from ledger.journalling import append
from penstock.ledger.journal import Disk, Journal
from penstock.ledger.reading import CORRUPT, read, read_all, segments_of, writers
from penstock.ledger.records import (
    HEAD,
    INTENT,
    RECEIPT,
    SCHEMA,
    Head,
    frame,
    pack_head,
    pack_intent,
    pack_receipt,
    seeds_of,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "018f-7.000001.log"


def write(path, *records):
    path.write_bytes(b"".join(frame(kind, payload, seeds_of(path.name)) for kind, payload in records))


def test_a_segment_is_read_in_pieces_from_wherever_one_stopped(path, make):
    intents = [make.intent() for _ in range(5)]
    write(path, (HEAD, pack_head()), *((INTENT, pack_intent(intent)) for intent in intents))
    first = read(path, limit=3)
    assert first.values == intents[:2]
    assert read(path, first.end).values == intents[2:]
    assert read(path, path.stat().st_size).values == []


def test_a_segment_larger_than_a_piece_is_read_whole(path, make):
    row, payload = pack_receipt(make.receipt())
    write(path, (HEAD, pack_head()), *[(RECEIPT, payload)] * 2000)
    readings = list(read_all(path))
    assert len(readings) > 2
    assert [value for reading in readings for value in reading.values] == [row] * 2000
    assert readings[-1].end == path.stat().st_size


def test_a_record_larger_than_a_piece_is_read_all_the_same(path, make):
    intent = make.intent()
    write(path, (INTENT, b"\x91" + b"\xc4\x05" + b"x" * 600_000), (INTENT, pack_intent(intent)))
    (reading,) = [reading for reading in read_all(path) if reading.values]
    assert reading.values == [intent]
    assert reading.corrupt == 1, "the large one makes no sense"


def test_the_form_of_the_head_holds_for_every_piece(path, make):
    form = Head(intent=("model", "id", "started_ns", "dialect"))
    intents = [make.intent() for _ in range(6000)]
    payloads = [msgspec.msgpack.encode([i.model, i.id, i.started_ns, i.dialect]) for i in intents]
    write(path, (HEAD, msgspec.msgpack.encode(form)), *((INTENT, payload) for payload in payloads))
    readings = list(read_all(path))
    assert len(readings) > 2
    assert [value.id for reading in readings for value in reading.values] == [intent.id for intent in intents]


def test_a_segment_of_a_later_version_is_left_alone(path, make):
    head = msgspec.msgpack.encode(Head(schema=SCHEMA + 1))
    write(path, (HEAD, head), (INTENT, pack_intent(make.intent())))
    (reading,) = read_all(path)
    assert (reading.newer, reading.values) == (True, [])


def test_broken_heads_and_records_without_sense_are_counted(path, make):
    intent = make.intent()
    write(path, (HEAD, b"\xc1"), (INTENT, b"\xc1"), (INTENT, pack_intent(intent)), (RECEIPT, b"\x90"))
    reading = read(path)
    assert (reading.values, reading.corrupt) == ([intent], 3)


def test_an_empty_segment_has_nothing_and_a_missing_one_is_an_error(path):
    path.touch()
    assert [reading.values for reading in read_all(path)] == [[]]
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read(path)


def test_a_segment_kept_as_corrupt_can_still_be_read(path, make):
    write(path, (INTENT, pack_intent(make.intent())))
    kept = path.rename(path.with_name(path.name + CORRUPT))
    assert len(read(kept).values) == 1


def test_writers_are_known_by_their_locks_and_by_their_segments(tmp_path, make):
    assert writers(tmp_path) == []
    journal = Journal(tmp_path, "018f-9", disk=Disk(), power=False, segment_bytes=300)
    for _ in range(9):
        append(journal, INTENT, pack_intent(make.intent()))
    (tmp_path / "018e-5.000003.log").touch()
    (tmp_path / "018e-6.000003.log.corrupt").touch()
    (tmp_path / "notes.txt").touch()
    assert writers(tmp_path) == ["018e-5", "018f-9"]
    assert segments_of(tmp_path, "018f-9") == [segment.path for segment in journal.segments]
    journal.close(delete=True)
    assert writers(tmp_path) == ["018e-5"]
