"""The structs know the members that Anthropic's SDK can send."""

import anthropic.types as sdk
import pytest
from msgspec import Struct

from penstock.wire import anthropic_messages_request_types as wire


@pytest.mark.parametrize(
    ("ours", "theirs", "left_out"),
    [
        (wire.ToolChoice, sdk.ToolChoiceToolParam, set()),
        (wire.ThinkingConfig, sdk.ThinkingConfigEnabledParam, set()),
        (wire.OutputConfig, sdk.OutputConfigParam, set()),
        (wire.CacheControl, sdk.CacheControlEphemeralParam, set()),
        (wire.Block, sdk.TextBlockParam, set()),
        (wire.Block, sdk.ThinkingBlockParam, set()),
        (wire.Block, sdk.ToolUseBlockParam, {"caller", "toolset_name"}),
        (wire.Block, sdk.ToolResultBlockParam, {"toolset_name"}),
        (wire.Block, sdk.DocumentBlockParam, {"context"}),
        (wire.Block, sdk.ImageBlockParam, {"transformations"}),
        (wire.Metadata, sdk.MetadataParam, set()),
    ],
)
def test_every_member_of_the_sdks_types_is_known_or_rides_along(
    ours: type[Struct], theirs: type, left_out: set[str]
) -> None:
    assert set(theirs.__annotations__) - set(ours.__struct_fields__) == left_out


def test_the_name_is_the_configurations() -> None:
    assert wire.NAME == "messages"
