"""The record: plain values that encode."""

import msgspec

from penstock.receipt import Attempt, Receipt, Usage


def test_a_receipt_survives_encoding():
    receipt = Receipt(
        id="x", started_ns=1, dialect="chat", model="m", status="ok", http_status=200, tries=(Attempt("p/m"),)
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(receipt), type=Receipt) == receipt


def test_the_try_that_answered_is_the_last_one_if_it_did():
    failed, answered = Attempt("p/m", status="error"), Attempt("p/m")
    receipt = Receipt("x", 1, "", "m", "ok", 200, target="p/m", tries=(failed, answered))
    assert receipt.answering is answered
    replace = msgspec.structs.replace
    assert replace(receipt, target="static").answering is None
    assert replace(receipt, tries=()).answering is None
    assert replace(receipt, status="degraded", cache="stale", tries=(failed,)).answering is None


def test_a_usage_that_nobody_counted_says_so():
    assert Receipt("x", 1, "", "m", "refused", 404).usage == Usage(source="none")
