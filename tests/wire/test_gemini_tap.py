"""The meter's look at a whole reply: the same usage and endings as the full reader, which has the word on anything unusual."""

import pytest
from msgspec.json import encode

from penstock.errors import UpstreamGarbled
from penstock.receipt import Usage
from penstock.reply import Ended, Finished, Started, UsageReported, fold
from penstock.wire.gemini_reply import read_reply
from penstock.wire.gemini_tap import tap_reply, tell

USAGE = {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}


def body(**members: object) -> bytes:
    candidate = {"content": {"parts": [{"text": "Hi"}], "role": "model"}, "finishReason": "STOP", "index": 0}
    reply = {"candidates": [candidate], "usageMetadata": USAGE, "responseId": "r", "modelVersion": "m"}
    return encode({**reply, **members})


def test_a_plain_reply_is_tapped_without_its_text() -> None:
    assert tap_reply(body()) == (Started("r", "m"), Finished("stop", "STOP"), UsageReported(Usage(5, 2)), Ended())
    assert tell(body()).events == tap_reply(body())


@pytest.mark.parametrize(
    "raw",
    [
        body(responseId="é"),
        body(responseId=None),
        body(usageMetadata={}),
        body(usageMetadata={**USAGE, "trafficType": "ON_DEMAND"}),
        body(candidates=[{"finishReason": "STOP"}, {"finishReason": "MAX_TOKENS"}]),
        body(candidates=[{"finishReason": "SAFETY"}]),
        body(candidates=[{"finishReason": "STOP", "index": 1}]),
        body(candidates=[{"content": {"parts": [{"functionCall": {"name": "f"}}]}, "finishReason": "STOP"}]),
        body(candidates=[], promptFeedback={"blockReason": "SAFETY"}),
        body(error={"code": 503, "message": "x"}),
    ],
)
def test_the_full_reader_has_the_word_on_anything_unusual(raw: bytes) -> None:
    tapped, whole = fold(tap_reply(raw)), fold(read_reply(raw))
    assert tell(raw) is None
    assert (tapped.usage, tapped.id, str(tapped.error)) == (whole.usage, whole.id, str(whole.error))
    assert [choice.finish for choice in tapped.choices] == [choice.finish for choice in whole.choices]


def test_what_is_no_reply_is_refused() -> None:
    for raw in (b"", b"{}", b"7"):
        with pytest.raises(UpstreamGarbled):
            tap_reply(raw)
