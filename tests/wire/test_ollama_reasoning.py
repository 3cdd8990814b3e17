"""Signatures in members that clients send back as they got them."""

import pytest
from msgspec import Raw
from msgspec.json import encode

from penstock.call import Reasoning, Signer
from penstock.wire.ollama_reasoning import read_details, read_tool_signature, write_details, write_tool_signature

THOUGHTS = (
    Reasoning("Hm", "c2ln", signer="anthropic"),
    Reasoning("", "ZW5j", redacted=True, signer="openai"),
    Reasoning("more"),
    Reasoning("", "own"),
)


def test_signed_thoughts_come_back_as_they_were() -> None:
    assert read_details(Raw(encode(write_details(THOUGHTS)))) == THOUGHTS


def test_thoughts_without_signatures_need_no_details() -> None:
    assert write_details([Reasoning("a"), Reasoning("b")]) == []
    assert write_details([]) == []


def test_a_summary_is_read_as_text() -> None:
    raw = Raw(b'[{"type":"reasoning.summary","summary":"s"},{"type":"reasoning.encrypted"},{"type":"other"}]')
    assert read_details(raw) == (Reasoning("s"),)


@pytest.mark.parametrize("raw", [b"", b"null", b"{}", b'[{"text":"x"}]', b"[1]", b'[{"type":"\xff"}]', b"[" * 99_999])
def test_what_are_no_details_are_none(raw: bytes) -> None:
    assert read_details(Raw(raw)) == ()


@pytest.mark.parametrize(("signature", "signer"), [("c2ln", "google"), ("own", ""), ("x", "anthropic")])
def test_a_tool_calls_signature_comes_back_as_it_was(signature: str, signer: Signer) -> None:
    written = write_tool_signature(signature, signer)["extra_content"]
    assert read_tool_signature(Raw(encode(written))) == (signature, signer)


def test_a_tool_call_without_a_signature_says_nothing() -> None:
    assert write_tool_signature(None, "") == {}


@pytest.mark.parametrize("raw", [b"", b"null", b"{}", b'{"google":null}', b'{"google":{}}', b"1", b'{"google":"\xff"}'])
def test_what_is_no_signature_is_none(raw: bytes) -> None:
    assert read_tool_signature(Raw(raw)) == (None, "")
