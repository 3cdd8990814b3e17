"""The structs know every member that the service model has for a request, and name it as the API does."""

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from msgspec import Struct

from penstock.wire import bedrock_converse_request_types as wire

MODEL = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))
LEFT_OUT = {
    "ContentBlock": {"searchResult", "toolAddition", "toolRemoval"},  # parts that only Bedrock knows
    "ToolResultContentBlock": {"searchResult"},
    "ImageBlock": {"error"},
    "AudioBlock": {"error"},
    "DocumentBlock": {"context", "citations"},  # these ride along
    "GuardrailConverseTextBlock": {"qualifiers"},
    "ConverseRequest": {"modelId", "additionalModelResponseFieldPaths", "performanceConfig"},
    "ConverseTokensRequest": set(),
}


@pytest.mark.parametrize(
    ("shape", "struct"),
    [
        ("ConverseRequest", wire.Request),
        ("ConverseTokensRequest", wire.Options),
        ("Message", wire.WireMessage),
        ("ContentBlock", wire.Block),
        ("ToolResultContentBlock", wire.ResultBlock),
        ("SystemContentBlock", wire.SystemBlock),
        ("ImageBlock", wire.Media),
        ("AudioBlock", wire.Media),
        ("VideoBlock", wire.Media),
        ("DocumentBlock", wire.Document),
        ("DocumentSource", wire.DocumentSource),
        ("ImageSource", wire.MediaSource),
        ("S3Location", wire.S3Location),
        ("ToolUseBlock", wire.ToolUse),
        ("ToolResultBlock", wire.ToolResult),
        ("ReasoningContentBlock", wire.ReasoningContent),
        ("ReasoningTextBlock", wire.ReasoningText),
        ("CachePointBlock", wire.CachePoint),
        ("GuardrailConverseContentBlock", wire.GuardContent),
        ("GuardrailConverseTextBlock", wire.GuardText),
        ("CitationsContentBlock", wire.CitationsContent),
        ("ToolConfiguration", wire.ToolConfig),
        ("Tool", wire.ToolDefinition),
        ("ToolSpecification", wire.ToolSpec),
        ("ToolChoice", wire.ToolChoice),
        ("InferenceConfiguration", wire.InferenceConfig),
        ("OutputConfig", wire.OutputConfig),
        ("OutputFormat", wire.TextFormat),
        ("JsonSchemaDefinition", wire.JsonSchema),
        ("ServiceTier", wire.Tier),
        ("CountTokensInput", wire.CountInput),
    ],
)
def test_a_struct_has_the_members_of_its_shape(shape: str, struct: type[Struct]) -> None:
    members = set(MODEL.shape_for(shape).members)
    assert members - set(struct.__struct_encode_fields__) == LEFT_OUT.get(shape, set())
    assert set(struct.__struct_encode_fields__) <= members
