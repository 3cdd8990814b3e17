import struct
import zlib
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.ledger import records
from penstock.ledger.ids import id_text
from penstock.ledger.records import (
    HEAD,
    INTENT,
    MAX_PAYLOAD,
    RECEIPT,
    SCHEMA,
    BriefIntent,
    Head,
    Intent,
    Unreadable,
    frame,
    in_common,
    pack_head,
    pack_intent,
    pack_intents,
    pack_receipt,
    pack_receipts,
    parse,
    seeds_of,
    unpack_head,
    unpack_intent,
    unpack_receipt,
)
from penstock.ledger.rows import ABSENT, COLUMNS, receipt_of, row_of
from penstock.receipt import Usage

SEEDS = seeds_of("018f-1.000001.log")
made = st.lists(st.tuples(st.sampled_from([HEAD, INTENT, RECEIPT]), st.binary(max_size=40)), max_size=8)


def written(entries):
    return b"".join(frame(kind, payload, SEEDS) for kind, payload in entries)


@settings(deadline=None)
@given(made)
def test_records_are_read_as_they_were_written(entries):
    data = written(entries)
    assert parse(data, SEEDS, whole=True) == records.Parsed(entries, len(data), 0)


@settings(deadline=None)
@given(made, st.integers(0, 400))
def test_a_torn_tail_takes_nothing_but_the_record_that_it_tore(entries, cut):
    data = written(entries)[:cut]
    parsed = parse(data, SEEDS, whole=True)
    assert parsed.records == entries[: len(parsed.records)]
    assert parsed.corrupt == 0
    assert len(written(entries[: len(parsed.records) + 1])) > len(data) or len(parsed.records) == len(entries)
    assert parsed.end == len(written(parsed.records))


@settings(deadline=None)
@given(made.filter(bool), st.data())
def test_one_broken_byte_takes_one_record_and_is_counted_unless_it_is_the_last(entries, data):
    whole = bytearray(written(entries))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    ends = [len(written(entries[: n + 1])) for n in range(len(entries))]
    broken = next(n for n, end in enumerate(ends) if place < end)
    parsed = parse(bytes(whole), SEEDS, whole=True)
    assert parsed.records == entries[:broken] + entries[broken + 1 :]
    assert parsed.corrupt == (1 if broken < len(entries) - 1 else 0)


@settings(deadline=None)
@given(made, st.integers(1, 60))
def test_records_are_the_same_in_whatever_pieces_a_file_is_read(entries, size):
    data, at, seen, piece = written(entries), 0, [], size
    while at < len(data):
        whole = at + piece >= len(data)
        parsed = parse(data[at : at + piece], SEEDS, whole=whole)
        assert parsed.corrupt == 0
        seen += parsed.records
        at += parsed.end
        piece = piece if parsed.end else piece * 2
    assert seen == entries


def test_reading_stops_at_its_limit():
    data = written([(INTENT, b"a"), (INTENT, b"b"), (INTENT, b"c")])
    parsed = parse(data, SEEDS, whole=True, limit=2)
    assert [payload for _, payload in parsed.records] == [b"a", b"b"]
    assert parse(data[parsed.end :], SEEDS, whole=True).records == [(INTENT, b"c")]


def test_text_that_looks_like_a_record_is_none_even_when_all_around_it_is_broken():
    """A caller chooses texts that stand in a payload; only the file's name makes a checksum right."""
    forged = frame(RECEIPT, b"mine", seeds_of("another.000001.log"))
    data = frame(INTENT, b"x" * 20 + forged + b"y" * 20, SEEDS)
    broken = bytes([data[0] ^ 1]) + data[1:]
    assert parse(broken, SEEDS, whole=True).records == []
    assert parse(broken + frame(INTENT, b"after", SEEDS), SEEDS, whole=True).records == [(INTENT, b"after")]


def test_a_length_beyond_the_bound_is_corrupt_and_not_waited_for():
    claim = struct.pack("<2sBII", b"\xa7P", INTENT, MAX_PAYLOAD + 1, 0)
    data = claim + frame(INTENT, b"after", SEEDS)
    parsed = parse(data, SEEDS, whole=False)
    assert (parsed.records, parsed.corrupt) == ([(INTENT, b"after")], 1)


def test_the_kind_of_a_record_is_part_of_its_checksum():
    data = bytearray(frame(INTENT, b"x", SEEDS))
    data[2] = RECEIPT
    assert parse(bytes(data), SEEDS, whole=True).records == []
    assert SEEDS[INTENT] == zlib.crc32(b"\1", zlib.crc32(b"018f-1.000001.log"))


# -- payloads --


def test_intents_and_receipts_survive_being_payloads(make):
    intent, receipt = make.intent(session="s"), make.receipt()
    assert unpack_intent(pack_intent(intent), Head()) == intent
    row, payload = pack_receipt(receipt)
    assert unpack_receipt(payload, Head()) == row
    assert receipt_of(row) == receipt


@pytest.mark.parametrize("session", ["s" * 100_000, "\ud800", "\ud800" * 50_000])
def test_monstrous_intents_and_receipts_are_clipped_before_they_are_written(make, session):
    payload = pack_intent(make.intent(session=session))
    assert len(payload) < 2048
    assert len(unpack_intent(payload, Head()).session) <= 256
    row, payload = pack_receipt(make.receipt(session=session))
    assert len(payload) < 2048
    assert unpack_receipt(payload, Head()) == row
    assert len(receipt_of(row).session) <= 256


def test_numbers_beyond_64_bits_do_not_keep_a_record_from_being_written(make):
    assert unpack_intent(pack_intent(make.intent(hold_nano_usd=2**70)), Head()).hold_nano_usd == 2**53 - 1
    row, _ = pack_receipt(make.receipt(total_us=2**70, usage=Usage(cache_write_tokens=2**70)))
    assert (receipt_of(row).total_us, receipt_of(row).usage.cache_write_tokens) == (2**53 - 1, 2**53 - 1)


oddities = st.sampled_from(["", "s", "é" * 300, "s" * 100_000, "\ud800"])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(oddities, st.sampled_from([0, 7, 2**63, 2**70])), max_size=6))
def test_what_is_packed_together_is_what_each_would_be_alone(make, odd):
    intents = [make.intent(session=session, hold_nano_usd=number) for session, number in odd]
    assert pack_intents(intents) == [pack_intent(intent) for intent in intents]
    receipts = [make.receipt(session=session, tries=()) for session, _ in odd]
    rows = [row_of(receipt) for receipt in receipts]
    payloads = pack_receipts(rows)
    assert [*zip(rows, payloads, strict=True)] == [pack_receipt(receipt) for receipt in receipts]
    assert [unpack_receipt(payload, Head()) for payload in payloads] == rows
    assert all(len(payload) < 2048 for payload in payloads)


@given(st.data())
def test_a_brief_intent_is_the_wide_one_in_the_journal(data):
    """Whatever it says, monstrous or not, and whichever stand beside it."""
    text = st.none() | st.text(max_size=9) | st.just("x" * 20_000)
    wide, brief = [], []
    for _ in range(data.draw(st.integers(1, 4))):
        of = [data.draw(st.text(max_size=9)), data.draw(st.text(max_size=9)), data.draw(st.booleans())]
        of += [data.draw(text) for _ in range(6)]
        held = data.draw(st.none() | st.integers(0, 2**53) | st.just(2**70))
        intent = Intent("0192f0c1-0000-7000-8000-000000000001", data.draw(st.integers(0, 2**62)), *of, held, "hash")
        common = in_common(intent)
        wide.append(intent)
        if common is None:
            assert max(len(one or "") for one in of[3:]) > 9
            brief.append(intent)
        else:
            brief.append(BriefIntent(intent.id, intent.started_ns, common, held, "hash"))
            assert brief[-1].wide() == intent
    assert pack_intents(brief) == pack_intents(wide)


def test_a_form_with_fewer_fields_is_read_by_name_and_the_new_ones_are_at_their_defaults(make):
    intent = make.intent()
    form = Head(intent=("model", "id", "gone", "started_ns", "dialect"), receipt=("gone", "id", "model"))
    payload = msgspec.msgpack.encode([intent.model, intent.id, 5, intent.started_ns, intent.dialect])
    assert unpack_intent(payload, form) == Intent(intent.id, intent.started_ns, intent.dialect, intent.model)
    row = unpack_receipt(msgspec.msgpack.encode([5, b"0123456789abcdef", "fast"]), form)
    assert dict(zip(COLUMNS, row, strict=True)) == {
        **ABSENT,
        "id": b"0123456789abcdef",
        "model": "fast",
    }


def test_the_head_tells_the_form():
    head = unpack_head(pack_head())
    assert head == Head(SCHEMA, Intent.__struct_fields__, COLUMNS)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"id": 1}),
        msgspec.msgpack.encode(["018f"]),
        msgspec.msgpack.encode([b"0123456789abcdef"]),
        msgspec.msgpack.encode([id_text(bytes(16)), "when", "chat", "fast"]),
        msgspec.msgpack.encode(["no id", 5, "chat", "fast"]),
        b"\x91" * 100_000,
    ],
)
def test_payloads_that_make_no_sense_are_unreadable_and_nothing_worse(payload):
    with pytest.raises(Unreadable):
        unpack_intent(payload, Head())
    with pytest.raises(Unreadable):
        unpack_receipt(payload, Head())
    with pytest.raises(Unreadable):
        unpack_head(b"\xc1")


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_payload_breaks_its_reading(payload):
    for unpack in (unpack_intent, unpack_receipt):
        with suppress(Unreadable):
            unpack(payload, Head())
