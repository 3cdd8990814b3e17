"""Which dialects there are, for which operation. Place in the line: where the two edges look a dialect up."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from penstock.call import Operation
from penstock.wire.dialect import Dialect
from penstock.wire.openai_chat import OpenAIChat

_ANSWERS: Final[Mapping[str, Dialect]] = MappingProxyType({"chat": OpenAIChat()})
_EMBEDDINGS: Final[Mapping[str, Dialect]] = MappingProxyType({})


def dialect(name: str, operation: Operation = "generate") -> Dialect:
    """Give the dialect of that name. Raises KeyError with the names there are."""
    known = _EMBEDDINGS if operation == "embed" else _ANSWERS
    found = known.get(name)
    if found is None:
        what = "for embeddings " if operation == "embed" else ""
        raise KeyError(f"There is no dialect {name!r} {what}; known: {', '.join(sorted(known))}.")
    return found
