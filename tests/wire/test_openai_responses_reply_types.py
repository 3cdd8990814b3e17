"""The events that are read are among those of the official SDK."""

from typing import get_args

from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel

from penstock.wire import openai_responses_reply_types as wire
from penstock.wire.openai_responses_stream import KNOWN


def test_every_event_that_is_read_exists() -> None:
    models = [model for model in get_args(get_args(ResponseStreamEvent)[0]) if issubclass(model, BaseModel)]
    names = {get_args(model.model_fields["type"].annotation)[0] for model in models}
    assert KNOWN - names == {"response.cancelled"}, (
        "a state that a Response may have, though no event of it is documented"
    )


def test_nearly_everything_may_be_missing() -> None:
    for kind in (
        wire.StreamEvent,
        wire.WholeReply,
        wire.OutputItem,
        wire.ContentPart,
        wire.WireUsage,
        wire.TappedReply,
    ):
        kind()
