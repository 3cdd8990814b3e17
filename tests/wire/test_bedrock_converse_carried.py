"""Signatures that the API has no place for come back whole from a client that sends its blobs back."""

from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.json import encode

from penstock.call import Signer
from penstock.wire.bedrock_converse_carried import (
    holds_carried,
    read_redacted,
    read_tool_signature,
    write_redacted,
    write_tool_signature,
)
from penstock.wire.signatures import carry

SIGNERS: tuple[Signer, ...] = ("anthropic", "google", "openai")


def through_a_client(blob: str) -> str:
    """What an AWS SDK makes of a blob: bytes, and base64 again."""
    return b64encode(b64decode(blob, validate=True)).decode()


@given(st.text(min_size=1), st.sampled_from(SIGNERS))
def test_redacted_thinking_comes_back_whole(signature: str, signer: Signer) -> None:
    assert read_redacted(through_a_client(write_redacted(signature, signer))) == (signature, signer)


@given(st.text(min_size=1, max_size=64), st.text(), st.sampled_from(("", *SIGNERS)))
def test_the_signature_of_a_tool_call_comes_back_whole(ident: str, signature: str, signer: Signer) -> None:
    blob = through_a_client(write_tool_signature(ident, signature, signer))
    assert read_tool_signature(blob) == (ident, (signature, signer))


def test_bedrocks_own_blob_goes_as_it_is() -> None:
    assert write_redacted("c2ln", "anthropic") == write_redacted("c2ln", "") == "c2ln"
    assert read_redacted("c2ln") == ("c2ln", "anthropic")
    assert read_tool_signature("c2ln") is None


@pytest.mark.parametrize(
    "data",
    [
        b"penstock.tool.",
        b"penstock.tool.[1]",
        b"penstock.tool.\xff",
        b"penstock.other",
        b'penstock.tool.["a","evil","s"]',
    ],
)
def test_a_blob_that_only_looks_carried_is_no_signature_of_a_tool(data: bytes) -> None:
    assert read_tool_signature(b64encode(data).decode()) is None


def test_what_begins_like_a_carried_blob_and_is_no_base64_stays_as_it_is() -> None:
    assert read_redacted("cGVuc3RvY2su!") == ("cGVuc3RvY2su!", "anthropic")
    assert read_tool_signature("cGVuc3RvY2su!") is None
    assert read_redacted(b64encode(b"penstock.google.").decode()) == ("", "google")


@pytest.mark.parametrize("signer", SIGNERS)
def test_a_body_that_holds_one_is_found(signer: Signer) -> None:
    assert holds_carried(encode({"redactedContent": write_redacted("é", signer)}))
    assert holds_carried(encode({"redactedContent": write_tool_signature("a", "s", signer)}))
    assert holds_carried(encode({"signature": carry("s", signer, "anthropic")})) is (signer != "anthropic")
    assert not holds_carried(encode({"signature": "c2ln", "text": "about penstock. and more"}))
