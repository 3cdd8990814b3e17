"""The tap says of a whole message what the full reader says, without its content."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import UpstreamGarbled
from penstock.reply import Failed, Finished, TextDelta, UsageReported, fold
from penstock.wire.anthropic_messages_reply import read_reply, write_reply
from penstock.wire.anthropic_messages_tap import tap_reply, tell
from wire.generated import Can, any_reply

GOLDEN = Path(__file__).parent / "golden" / "messages"
REPLIES = [path for path in sorted(GOLDEN.glob("*.json")) if not path.name.endswith(".request.json")]


@pytest.mark.parametrize("path", REPLIES, ids=lambda path: path.stem)
def test_the_tap_agrees_with_the_reader(path: Path) -> None:
    tapped, whole = fold(tap_reply(path.read_bytes())), fold(read_reply(path.read_bytes()))
    assert (tapped.id, tapped.model, tapped.usage, tapped.service_tier) == (whole.id, whole.model, whole.usage, whole.service_tier)  # fmt: skip
    assert [choice.finish for choice in tapped.choices] == [choice.finish for choice in whole.choices]
    assert (tapped.error is None) == (whole.error is None)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**64))
def test_the_tap_agrees_with_the_reader_on_any_reply(seed: int) -> None:
    body = write_reply(any_reply(Random(seed), Can(dialect="chat")))
    assert fold(tap_reply(body)).usage == fold(read_reply(body)).usage


def test_a_plain_reply_is_not_read_whole() -> None:
    events = tap_reply((GOLDEN / "cached.json").read_bytes())
    assert not any(isinstance(event, TextDelta) for event in events)
    assert Finished("stop", "end_turn") in events
    assert tell((GOLDEN / "cached.json").read_bytes()).events == events


@pytest.mark.parametrize(
    "body",
    [
        b'{"id":"i","model":"m","content":{},"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}',
        b'{"id":"\xff","model":"m","content":[],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}',
        b"",
        b"[" * 100_000,
    ],
)
def test_what_is_no_message_is_garbled(body: bytes) -> None:
    assert tell(body) is None
    with pytest.raises(UpstreamGarbled):
        tap_reply(body)


def test_an_error_is_told() -> None:
    body = b'{"id":"i","model":"m","content":[],"stop_reason":"x","usage":{"input_tokens":1,"output_tokens":1},"error":{"type":"api_error"}}'
    assert isinstance(tap_reply(body)[0], Failed)


def test_a_count_that_cannot_be_true_costs_no_answer() -> None:
    plain = (GOLDEN / "cached.json").read_bytes()
    body = plain.replace(b'"cache_read_input_tokens":188086', b'"cache_read_input_tokens":%d' % 10**30)
    assert body != plain
    assert not any(isinstance(event, UsageReported) for event in tap_reply(body))
    assert any(isinstance(event, TextDelta) for event in tap_reply(body)), "the full reader has the word"
