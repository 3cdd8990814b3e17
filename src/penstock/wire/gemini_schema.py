"""Schemas between JSON Schema and the subset of OpenAPI 3.0 that Gemini's `parameters` and `responseSchema` take.

Pure. Gemini's form writes types in capitals, `nullable` beside the type, and the order of the properties as a list of its
own; everything that it cannot say goes out as JSON Schema, in the members that take that (`parametersJsonSchema`,
`responseJsonSchema`). Place in the line: below the dialect's reader and writer of requests. Source: the `Schema` of the
Gemini API's reference; JSON Schema 2020-12.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from msgspec import DecodeError
from msgspec.json import Decoder, encode

from penstock.call import Json
from penstock.wire.gemini_members import camel

Schema = dict[str, Any]

_ANY: Final = Decoder()
_MAX_KEPT: Final = 256
"""Schemas of each kind that are remembered: an agent sends the same tools with every step."""
_MAX_KEPT_BYTES: Final = 8_192
"""Longer ones are not, so that what is remembered has a bound of a few MiB."""

_TYPES: Final = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
_CAPITALS: Final[Mapping[str, str]] = MappingProxyType({name: name.upper() for name in _TYPES})
_LETTERS: Final[Mapping[str, str]] = MappingProxyType({large: name for name, large in _CAPITALS.items()})
_PLAIN: Final = frozenset(
    {"title", "description", "default", "minimum", "maximum", "pattern", "required", "enum", "format"}
)
"""Members that say the same in both forms."""
_COUNTS: Final = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
_KEPT: Final = _COUNTS | {"title", "description", "default", "minimum", "maximum", "pattern", "required"}
_FORMATS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "string": frozenset({"date-time", "enum"}),
        "integer": frozenset({"int32", "int64"}),
        "number": frozenset({"float", "double"}),
    }
)
_NULL: Final = {"type": "null"}


class _Inexpressible(Exception):
    """Something that Gemini's form cannot say."""


# -- from Gemini's form --


def to_json_schema(schema: Json) -> Json:
    """Write a schema of Gemini's form as JSON Schema. What is JSON Schema already stays as it is."""
    return _remembered_json_schema(schema) if len(schema) <= _MAX_KEPT_BYTES else _json_schema(schema)


def _json_schema(schema: Json) -> Json:
    return encode(_to_json_schema(_ANY.decode(schema)))


@lru_cache(maxsize=_MAX_KEPT)
def _remembered_json_schema(schema: Json) -> Json:
    return _json_schema(schema)


def _to_json_schema(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    out: Schema = {}
    for name, value in schema.items():
        if name in _PLAIN:
            out[name] = value
        elif name == "type":
            _read_type(value, out)
        else:
            _read_member(name, value, out)
    if "propertyOrdering" in schema or "property_ordering" in schema:
        _read_order(schema, out)
    if schema.get("nullable") is True:
        _read_nullable(out)
    return out


def _read_member(name: str, value: Any, out: Schema) -> None:
    known = camel(name) if "_" in name else name
    match known:
        case "properties" | "defs" | "$defs" if isinstance(value, dict):
            kept = "properties" if known == "properties" else "$defs"
            out[kept] = {key: _to_json_schema(item) for key, item in value.items()}
        case "anyOf" | "oneOf" | "allOf" | "prefixItems" if isinstance(value, list):
            out[known] = [_to_json_schema(item) for item in value]
        case "items" | "additionalProperties" | "not":
            out[known] = _to_json_schema(value)
        case "ref" if isinstance(value, str):
            out["$ref"] = value.replace("#/defs/", "#/$defs/")
        case "example":
            out["examples"] = [value]
        case "nullable" | "propertyOrdering":
            pass
        case _ if known in _COUNTS and isinstance(value, str) and value.isdecimal():
            out[known] = int(value)  # how protocol buffers write 64 bits
        case _:
            out[known if known in _KEPT else name] = value


def _read_type(value: Any, out: Schema) -> None:
    if not isinstance(value, str):
        out["type"] = value
    elif value != "TYPE_UNSPECIFIED":
        small = _LETTERS.get(value) or value.lower()
        out["type"] = small if small in _TYPES else value


def _read_order(schema: Schema, out: Schema) -> None:
    """Put the properties in the order that was asked for."""
    order = schema.get("propertyOrdering", schema.get("property_ordering"))
    properties = out.get("properties")
    if isinstance(order, list) and isinstance(properties, dict):
        first = {name: properties[name] for name in order if isinstance(name, str) and name in properties}
        out["properties"] = {**first, **properties}


def _read_nullable(out: Schema) -> None:
    kind = out.get("type")
    if isinstance(kind, str):
        out["type"] = [kind, "null"]
    elif isinstance(out.get("anyOf"), list):
        out["anyOf"] = [*out["anyOf"], _NULL]
    if isinstance(out.get("enum"), list):
        out["enum"] = [*out["enum"], None]


# -- into Gemini's form --


def to_gemini_schema(schema: Json) -> Json | None:
    """Write a JSON Schema in Gemini's form; None if that cannot say it."""
    return _remembered_gemini_schema(schema) if len(schema) <= _MAX_KEPT_BYTES else _gemini_schema(schema)


def _gemini_schema(schema: Json) -> Json | None:
    try:
        return encode(_to_gemini(_ANY.decode(schema)))
    except (_Inexpressible, DecodeError, RecursionError):
        return None


@lru_cache(maxsize=_MAX_KEPT)
def _remembered_gemini_schema(schema: Json) -> Json | None:
    return _gemini_schema(schema)


def _to_gemini(schema: Any) -> Schema:
    if not isinstance(schema, dict) or not schema:
        raise _Inexpressible
    out: Schema = {}
    for name, value in schema.items():
        if name == "type" and isinstance(value, str) and value in _CAPITALS:
            out["type"] = _CAPITALS[value]
        elif (writer := _WRITERS.get(name)) is not None:
            writer(value, schema, out)
        elif name in _KEPT:
            out[name] = value
        elif name != "$schema":
            raise _Inexpressible
    if out.get("type") == "OBJECT" and not out.get("properties"):
        raise _Inexpressible  # Gemini refuses objects without properties
    if "type" not in out and "anyOf" not in out:
        raise _Inexpressible
    return out


def _write_type(value: Any, schema: Schema, out: Schema) -> None:
    del schema
    if isinstance(value, list) and len(value) == 2 and "null" in value:
        out["nullable"] = True
        value = value[0] if value[1] == "null" else value[1]
    if not isinstance(value, str) or value not in _TYPES:
        raise _Inexpressible
    out["type"] = _CAPITALS[value]


def _write_properties(value: Any, schema: Schema, out: Schema) -> None:
    if not isinstance(value, dict) or (schema.get("type") != "object" and "object" not in _kinds(schema)):
        raise _Inexpressible
    out["properties"] = {name: _to_gemini(item) for name, item in value.items()}
    if len(value) > 1:
        out["propertyOrdering"] = list(value)


def _write_items(value: Any, schema: Schema, out: Schema) -> None:
    del schema
    out["items"] = _to_gemini(value)


def _write_any_of(value: Any, schema: Schema, out: Schema) -> None:
    """Write alternatives; null among them is `nullable`, and a single other one stands for itself."""
    if not isinstance(value, list) or "type" in schema:
        raise _Inexpressible
    others = [_to_gemini(item) for item in value if item != _NULL]
    if len(others) < len(value):
        out["nullable"] = True
    if len(others) == 1:
        for name, said in others[0].items():
            out.setdefault(name, said)
    else:
        out["anyOf"] = others


def _write_enum(value: Any, schema: Schema, out: Schema) -> None:
    kinds = _kinds(schema)
    nullable = "null" in kinds
    if not isinstance(value, list) or "string" not in kinds:
        raise _Inexpressible
    words = [word for word in value if word is not None or not nullable]
    if not words or (nullable and len(words) == len(value)) or not all(isinstance(word, str) for word in words):
        raise _Inexpressible
    out["enum"] = words


def _write_const(value: Any, schema: Schema, out: Schema) -> None:
    _write_enum([value], schema, out)


def _write_format(value: Any, schema: Schema, out: Schema) -> None:
    if not isinstance(value, str) or not any(value in _FORMATS.get(kind, ()) for kind in _kinds(schema)):
        raise _Inexpressible
    out["format"] = value


def _kinds(schema: Schema) -> list[str]:
    """Give the types that a schema allows, as far as it says."""
    kind = schema.get("type")
    return [one for one in (kind if isinstance(kind, list) else [kind]) if isinstance(one, str)]


def _write_examples(value: Any, schema: Schema, out: Schema) -> None:
    del schema
    if not isinstance(value, list) or len(value) != 1:
        raise _Inexpressible
    out["example"] = value[0]


_WRITERS: Final[Mapping[str, Callable[[Any, Schema, Schema], None]]] = MappingProxyType(
    {
        "type": _write_type,
        "properties": _write_properties,
        "items": _write_items,
        "anyOf": _write_any_of,
        "enum": _write_enum,
        "const": _write_const,
        "format": _write_format,
        "examples": _write_examples,
    }
)
