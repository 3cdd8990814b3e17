"""Schemas both ways: the same again, in Google's own types, and never something weaker than what was asked."""

from random import Random

import pytest
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import decode, encode

from penstock.wire.gemini_schema import to_gemini_schema, to_json_schema

Schema = dict[str, object]


def any_schema(rng: Random, depth: int = 3) -> Schema:
    """A JSON Schema that Gemini's form can say, in the order in which its writer puts it."""
    kind = rng.choice(("string", "integer", "number", "boolean", "array", "object") if depth else ("string", "integer"))
    nullable = rng.random() < 0.2
    out: Schema = {"type": [kind, "null"] if nullable else kind}
    if rng.random() < 0.3:
        out["description"] = "What it is."
    match kind:
        case "array":
            out["items"] = any_schema(rng, depth - 1)
            if rng.random() < 0.3:
                out["minItems"] = 1
        case "object":
            names = rng.sample(("a", "b_c", "type", "é"), rng.randrange(1, 4))
            out["properties"] = {name: any_schema(rng, depth - 1) for name in names}
            out["required"] = names[:1]
        case "string" if rng.random() < 0.3:
            out["enum"] = ["x", "y", None] if nullable else ["x", "y"]
        case "integer" if rng.random() < 0.3:
            out |= {"minimum": 1, "maximum": 9, "format": "int32"}
    return out


def back(schema: object) -> object:
    return decode(to_json_schema(encode(schema)))


def out(schema: object) -> object:
    written = to_gemini_schema(encode(schema))
    return None if written is None else decode(written)


@settings(max_examples=2_000, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_what_gemini_can_say_comes_back_the_same(seed: int) -> None:
    schema = any_schema(Random(seed))
    written = out(schema)
    assert encode(back(written)) == encode(schema)
    types.Schema.model_validate(written)


def test_objects_say_their_order() -> None:
    schema = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "string"}}}
    assert out(schema) == {
        "type": "OBJECT",
        "properties": {"b": {"type": "STRING"}, "a": {"type": "STRING"}},
        "propertyOrdering": ["b", "a"],
    }
    ordered = {"type": "OBJECT", "properties": {"a": {}, "b": {}, "c": {}}, "property_ordering": ["c", "b", "x", 7]}
    assert list(back(ordered)["properties"]) == ["c", "b", "a"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("gemini", "schema"),
    [
        ({"type": "TYPE_UNSPECIFIED", "title": "T"}, {"title": "T"}),
        ({"type": "WEIRD"}, {"type": "WEIRD"}),
        ({"type": ["string"]}, {"type": ["string"]}),
        ({"type": "string", "maxLength": "9"}, {"type": "string", "maxLength": 9}),
        ({"type": "STRING", "nullable": True, "enum": ["a"]}, {"type": ["string", "null"], "enum": ["a", None]}),
        ({"any_of": [{"type": "STRING"}], "nullable": True}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ({"nullable": True}, {}),
        ({"type": "STRING", "example": 1}, {"type": "string", "examples": [1]}),
        ({"ref": "#/defs/A", "defs": {"A": {"type": "NULL"}}}, {"$ref": "#/$defs/A", "$defs": {"A": {"type": "null"}}}),
        (
            {"type": "OBJECT", "additionalProperties": {"type": "STRING"}},
            {"type": "object", "additionalProperties": {"type": "string"}},
        ),
        (
            {"items": True, "oneOf": [{"type": "STRING"}], "x_y": 1},
            {"items": True, "oneOf": [{"type": "string"}], "x_y": 1},
        ),
        ({"properties": 7}, {"properties": 7}),
        (True, True),
    ],
)
def test_geminis_form_is_read(gemini: object, schema: object) -> None:
    assert back(gemini) == schema


@pytest.mark.parametrize(
    ("schema", "gemini"),
    [
        ({"type": ["null", "string"]}, {"nullable": True, "type": "STRING"}),
        ({"$schema": "x", "type": "string", "const": "a"}, {"type": "STRING", "enum": ["a"]}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"nullable": True, "type": "STRING"}),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]}),
        ({"type": "string", "examples": ["a"]}, {"type": "STRING", "example": "a"}),
        ({"type": "string", "format": "date-time"}, {"type": "STRING", "format": "date-time"}),
        ({"type": "number", "format": "double"}, {"type": "NUMBER", "format": "double"}),
    ],
)
def test_json_schema_is_written_in_geminis_form(schema: object, gemini: object) -> None:
    assert out(schema) == gemini
    types.Schema.model_validate(gemini)


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"title": "no type"},
        {"type": "object"},
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {"a": {}}},
        {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False},
        {"properties": {"a": {"type": "string"}}},
        {"type": "string", "properties": {"a": {"type": "string"}}},
        {"type": "object", "properties": 7},
        {"type": ["string", "integer"]},
        {"type": "weird"},
        {"type": "string", "format": "email"},
        {"type": "string", "format": 7},
        {"type": "string", "enum": []},
        {"type": "string", "enum": ["a", 1]},
        {"type": ["string", "null"], "enum": ["a"]},
        {"type": "integer", "enum": [1]},
        {"enum": ["a"]},
        {"type": "string", "const": 1},
        {"type": "string", "examples": ["a", "b"]},
        {"anyOf": [{"type": "string"}], "type": "string"},
        {"anyOf": 7},
        {"oneOf": [{"type": "string"}]},
        {"$ref": "#/$defs/A"},
        {"type": "array", "items": True},
    ],
)
def test_what_geminis_form_cannot_say_is_left_to_json_schema(schema: object) -> None:
    assert out(schema) is None


def test_what_is_no_json_is_left_alone() -> None:
    assert to_gemini_schema(b"{") is None
