"""The structs name what google-genai names, so that what its clients send is never unknown."""

from google.genai import types
from msgspec.json import decode, encode

from penstock.wire import gemini_types as wire


def names(struct: type) -> set[str]:
    return set(struct.__struct_encode_fields__)  # type: ignore[attr-defined]


def test_every_member_is_one_of_googles() -> None:
    pairs: list[tuple[type, type]] = [
        (wire.Blob, types.Blob),
        (wire.FileData, types.FileData),
        (wire.FunctionCall, types.FunctionCall),
        (wire.FunctionResponse, types.FunctionResponse),
        (wire.Part, types.Part),
        (wire.Turn, types.Content),
        (wire.ThinkingConfig, types.ThinkingConfig),
        (wire.GenerationConfig, types.GenerationConfig),
        (wire.FunctionDeclaration, types.FunctionDeclaration),
        (wire.FunctionCallingConfig, types.FunctionCallingConfig),
        (wire.Candidate, types.Candidate),
        (wire.WireUsage, types.GenerateContentResponseUsageMetadata),
        (wire.WireCitation, types.Citation),
    ]
    for ours, theirs in pairs:
        fields = theirs.model_fields  # type: ignore[attr-defined]
        assert names(ours) <= {field.alias or name for name, field in fields.items()}


def test_the_exact_twins_know_the_same_members() -> None:
    for name in dir(wire):
        if name.startswith("Exact"):
            assert names(getattr(wire, name)) == names(getattr(wire, name.removeprefix("Exact")))


def test_only_what_is_said_is_written() -> None:
    json = b'{"inlineData":{"mimeType":"image/png","data":"aGk="}}'
    assert encode(decode(json, type=wire.Part)) == json
