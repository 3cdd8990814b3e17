"""Whether a value is what an official SDK's own types, or a service model of botocore, say: by name, with nothing unknown.

`problems(value, kind)` walks TypedDicts, pydantic models, unions, literals and lists; `shape_problems(value, shape)` the shapes
of botocore. Both list what is wrong as "where: what", where a lenient parser would pass over it.
"""

import base64
import binascii
import collections.abc
import datetime as dt
import enum
import types
import typing
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import pydantic
import typing_extensions

_SIMPLE = {str: "a string", bool: "a boolean", int: "a whole number", type(None): "null", dict: "an object"}
_LISTS = (list, tuple, collections.abc.Iterable, collections.abc.Sequence, collections.abc.Collection)
_WRAPPED = {
    typing_extensions.Required,
    typing_extensions.NotRequired,
    typing.Annotated,
    typing_extensions.ReadOnly,
}


@cache
def hints(kind: Any) -> dict[str, Any]:
    return typing_extensions.get_type_hints(kind, include_extras=True)


def problems(value: Any, kind: Any, at: str = "$", allow: frozenset[str] = frozenset()) -> list[str]:
    """List what is wrong with a decoded JSON value; `allow` names members that are documented though the type lacks them."""
    if isinstance(kind, typing.TypeAliasType if hasattr(typing, "TypeAliasType") else typing_extensions.TypeAliasType):
        kind = kind.__value__
    origin = get_origin(kind)
    if origin in _WRAPPED:
        return problems(value, get_args(kind)[0], at, allow)
    if kind in {Any, object}:
        return []
    if origin in {Union, types.UnionType}:
        return _any_of(value, get_args(kind), at, allow)
    if origin in {Literal, typing_extensions.Literal}:
        return [] if value in get_args(kind) else [f"{at}: {value!r} is none of {get_args(kind)}"]
    if typing_extensions.is_typeddict(kind):
        return _typed_dict(value, kind, at, allow)
    if isinstance(origin or kind, type):
        return _class(value, kind, origin, at, allow)
    return []


def _class(value: Any, kind: Any, origin: Any, at: str, allow: frozenset[str]) -> list[str]:
    if origin in _LISTS or kind in _LISTS:
        inner = next(iter(get_args(kind)), Any)
        if not isinstance(value, list):
            return [f"{at}: has to be a list"]
        return [wrong for place, item in enumerate(value) for wrong in problems(item, inner, f"{at}[{place}]", allow)]
    if origin in {dict, collections.abc.Mapping}:
        inner = get_args(kind)[1]
        if not isinstance(value, dict):
            return [f"{at}: has to be an object"]
        return [wrong for name, item in value.items() for wrong in problems(item, inner, f"{at}.{name}", allow)]
    if origin is not None:
        return [f"{at}: no {kind} can stand in JSON"]
    if issubclass(kind, pydantic.BaseModel):
        return _model(value, kind, at, allow)
    return _scalar(value, kind, at)


def _scalar(value: Any, kind: type, at: str) -> list[str]:
    if issubclass(kind, enum.Enum):
        return [] if value in [one.value for one in kind] else [f"{at}: {value!r} is none of {kind.__name__}"]
    if kind is bytes:
        return (
            []
            if isinstance(value, str) and is_base64(value.replace("-", "+").replace("_", "/"))
            else [f"{at}: is no base64"]
        )
    if kind is float:
        right = isinstance(value, int | float) and not isinstance(value, bool)
        return [] if right else [f"{at}: {value!r} is no number"]
    if kind is int and isinstance(value, bool):
        return [f"{at}: a boolean is no number"]
    if kind in {dt.datetime, dt.timedelta}:
        return [] if isinstance(value, str) else [f"{at}: is no time"]
    if kind not in _SIMPLE:
        return [f"{at}: no {kind} can stand in JSON"]
    return [] if isinstance(value, kind) else [f"{at}: {value!r} is not {_SIMPLE[kind]}"]


def is_base64(text: str) -> bool:
    """Standard alphabet, with padding: what providers take."""
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _any_of(value: Any, kinds: tuple[Any, ...], at: str, allow: frozenset[str]) -> list[str]:
    """The problems of the kind that fits best: the deepest ones tell the most."""
    if any(not problems(value, kind, at, allow) for kind in kinds if _may_be(value, kind)):
        return []
    found = [problems(value, kind, at, allow) for kind in kinds]
    if not all(found):
        return []
    return min(found, key=lambda wrong: (_off(wrong, at), len(wrong)))


def _may_be(value: Any, kind: Any) -> bool:
    """Whether neither `type` nor `role` says already that it is of another kind, so that the rest need not be looked at."""
    if not isinstance(value, dict):
        return True
    return all(value[name] in said for name, said in _says(kind).items() if name in value)


@cache
def _says(kind: Any) -> dict[str, tuple[Any, ...]]:
    """What a TypedDict says of its `type` and its `role`, as far as these are literals."""
    if not typing_extensions.is_typeddict(kind):
        return {}
    said = {}
    for name in {"type", "role"} & hints(kind).keys():
        inner = hints(kind)[name]
        while get_origin(inner) in _WRAPPED:
            inner = get_args(inner)[0]
        if get_origin(inner) in {Literal, typing_extensions.Literal}:
            said[name] = get_args(inner)
    return said


def _off(wrong: list[str], at: str) -> bool:
    """Whether the very kind is wrong (no object, another `type` or `role`), not something within."""
    return any(w.startswith((f"{at}: ", f"{at}.type:", f"{at}.role:")) for w in wrong)


def _typed_dict(value: Any, kind: Any, at: str, allow: frozenset[str]) -> list[str]:
    if not isinstance(value, dict):
        return [f"{at}: has to be an object"]
    known = hints(kind)
    wrong = [f"{at}.{name}: is missing" for name in kind.__required_keys__ if name not in value]
    wrong += [f"{at}.{name}: is unknown" for name in value if name not in known and name not in allow]
    return wrong + [
        inner for name in value if name in known for inner in problems(value[name], known[name], f"{at}.{name}", allow)
    ]


def _model(value: Any, kind: type[pydantic.BaseModel], at: str, allow: frozenset[str]) -> list[str]:
    if not isinstance(value, dict):
        return [f"{at}: has to be an object"]
    fields = {field.alias or name: field for name, field in kind.model_fields.items()}
    wrong = [f"{at}.{name}: is missing" for name, field in fields.items() if field.is_required() and name not in value]
    fields |= kind.model_fields  # Google's servers take both spellings, and both alphabets of base64
    for name, item in value.items():
        if name in fields:
            wrong += problems(item, fields[name].annotation, f"{at}.{name}", allow)
        elif name not in allow:
            wrong.append(f"{at}.{name}: is unknown")
    return wrong


def shape_problems(value: Any, shape: Any, at: str = "$") -> list[str]:
    """List what is wrong with a body, by a shape of botocore's service model."""
    kind = shape.type_name
    if kind == "structure":
        return _structure(value, shape, at)
    if kind == "blob":
        return [] if isinstance(value, str) and is_base64(value) else [f"{at}: is no standard base64"]
    python, size = _SHAPES[kind]
    if not isinstance(value, python) or (isinstance(value, bool) and kind != "boolean"):
        return [f"{at}: {value!r} is no {kind}"]
    wrong = _bounds(size(value), shape, at)
    if kind == "list":
        wrong += [w for n, item in enumerate(value) for w in shape_problems(item, shape.member, f"{at}[{n}]")]
    elif kind == "map":
        wrong += [w for name, item in value.items() for w in shape_problems(item, shape.value, f"{at}.{name}")]
    elif kind == "string" and shape.enum and value not in shape.enum:
        wrong.append(f"{at}: {value!r} is none of {shape.enum}")
    return wrong


_SHAPES: dict[str, tuple[Any, Any]] = {
    "list": (list, len),
    "map": (dict, len),
    "string": (str, len),
    "boolean": (bool, bool),
    "integer": (int, int),
    "long": (int, int),
    "float": (int | float, float),
    "double": (int | float, float),
    "timestamp": (str, len),
}


def _structure(value: Any, shape: Any, at: str) -> list[str]:
    if getattr(shape, "is_document_type", False):
        return []
    if not isinstance(value, dict):
        return [f"{at}: has to be an object"]
    members = {(member.serialization.get("name") or name): (name, member) for name, member in shape.members.items()}
    body = {wire: one for wire, one in members.items() if "location" not in one[1].serialization}
    wrong = [f"{at}.{name}: is unknown" for name in value if name not in body]
    missing = [name for name in shape.required_members if name not in value and name in body]
    wrong += [f"{at}.{name}: is missing" for name in missing]
    if getattr(shape, "is_tagged_union", False) and len(value) != 1:
        wrong.append(f"{at}: a union has one member, not {sorted(value)}")
    return wrong + [
        w for name, item in value.items() if name in body for w in shape_problems(item, body[name][1], f"{at}.{name}")
    ]


def _bounds(size: float, shape: Any, at: str) -> list[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if (least is not None and size < least) or (most is not None and size > most):
        return [f"{at}: {size} is not from {least} to {most}"]
    return []
