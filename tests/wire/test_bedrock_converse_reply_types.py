"""The structs know every event of a stream, and name members as the service model does."""

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from msgspec import Struct

from penstock.wire import bedrock_converse_reply_types as wire

MODEL = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))


@pytest.mark.parametrize(
    ("shape", "struct", "left"),
    [
        (
            "ConverseResponse",
            wire.WholeReply,
            {"metrics", "trace", "performanceConfig", "additionalModelResponseFields"},
        ),
        ("TokenUsage", wire.TokenUsage, {"totalTokens"}),
        ("CacheDetail", wire.CacheDetail, set()),
        ("ContentBlockStartEvent", wire.ContentBlockStart, set()),
        ("ContentBlockStart", wire.BlockStart, set()),
        ("ToolUseBlockStart", wire.StartedTool, set()),
        ("ImageBlockStart", wire.StartedImage, set()),
        ("ContentBlockDeltaEvent", wire.ContentBlockDelta, set()),
        ("ContentBlockDelta", wire.BlockDelta, set()),
        ("ToolUseBlockDelta", wire.ToolDelta, set()),
        ("ReasoningContentBlockDelta", wire.ReasoningDelta, set()),
        ("ImageBlockDelta", wire.ImageDelta, {"error"}),
        ("ContentBlockStopEvent", wire.ContentBlockStop, set()),
        ("MessageStopEvent", wire.MessageStop, set()),
        ("ConverseStreamMetadataEvent", wire.Metadata, {"metrics", "trace", "performanceConfig"}),
    ],
)
def test_a_struct_has_the_members_of_its_shape(shape: str, struct: type[Struct], left: set[str]) -> None:
    members = set(MODEL.shape_for(shape).members)
    assert members - set(struct.__struct_encode_fields__) == left
    assert set(struct.__struct_encode_fields__) <= members


def test_every_event_of_the_model_is_read_by_name() -> None:
    events = {
        name
        for name, shape in MODEL.shape_for("ConverseStreamOutput").members.items()
        if not shape.metadata.get("exception")
    }
    assert events == {
        *("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata")
    }
