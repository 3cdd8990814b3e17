"""The vocabulary in the head of a GGUF file, as values: the tokens, their kinds, merges or scores, and how text is cut.

Reads the head alone, from bytes that somebody else opened (a memory map will do: the weights are never touched). It knows
the form of the file, not what the vocabulary does. Source: ggml's docs/gguf.md; kinds of tokens and names of
pre-tokenizers as llama.cpp has them.
"""

from collections.abc import Mapping
from struct import Struct as Layout
from struct import error as StructError  # noqa: N812  it is a class
from types import MappingProxyType
from typing import Any

from msgspec import Struct

MAGIC = b"GGUF"
MOST_VALUES = 4_194_304
"""Members of one array, and pairs of keys and values: more is no vocabulary of anybody."""

LONGEST_TEXT = 1 << 24

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Kinds of tokens."""

_STRING, _ARRAY = 8, 9
_CODES = (
    (0, "B"),
    (1, "b"),
    (2, "H"),
    (3, "h"),
    (4, "I"),
    (5, "i"),
    (6, "f"),
    (7, "?"),
    (10, "Q"),
    (11, "q"),
    (12, "d"),
)
_SCALARS: Mapping[int, Layout] = MappingProxyType({kind: Layout(f"<{code}") for kind, code in _CODES})
_PREFIX = "tokenizer."


class GgufVocabulary(Struct, frozen=True):
    """What a GGUF file says of its vocabulary. `model` is gpt2 (byte-level BPE), llama (SentencePiece's BPE) or another."""

    model: str
    tokens: tuple[str, ...]
    kinds: tuple[int, ...]
    scores: tuple[float, ...] = ()
    merges: tuple[str, ...] = ()
    pre: str = "default"
    space_prefix: bool = True


def is_gguf(head: bytes) -> bool:
    """Say whether a file that begins so is a GGUF file."""
    return head[:4] == MAGIC


def read_vocabulary(file: memoryview) -> GgufVocabulary:
    """Read the vocabulary of a GGUF file (version 2 or 3, little-endian). Raises ValueError, which says what is wrong."""
    try:
        return _vocabulary(_values(file))
    except (StructError, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"This GGUF file cannot be used: it is cut short or damaged ({error}).") from error


def _vocabulary(values: Mapping[str, Any]) -> GgufVocabulary:
    tokens = values.get("ggml.tokens")
    model = values.get("ggml.model")
    if not isinstance(tokens, tuple) or not isinstance(model, str) or not tokens:
        raise ValueError("This GGUF file cannot be used: it has no vocabulary (tokenizer.ggml.model and tokens).")
    kinds = values.get("ggml.token_type", ()) or (NORMAL,) * len(tokens)
    scores = values.get("ggml.scores", ())
    if len(kinds) != len(tokens) or (scores and len(scores) != len(tokens)):
        raise ValueError("This GGUF file cannot be used: it has not as many kinds or scores as tokens.")
    return GgufVocabulary(
        model,
        tokens,
        kinds,
        scores,
        values.get("ggml.merges", ()),
        str(values.get("ggml.pre", "default")),
        bool(values.get("ggml.add_space_prefix", True)),
    )


def _values(file: memoryview) -> dict[str, Any]:
    """Read the pairs whose key begins with `tokenizer.`, without that; the others are passed over."""
    if not is_gguf(bytes(file[:4])):
        raise ValueError("This GGUF file cannot be used: it does not begin with GGUF.")
    version, _, pairs = Layout("<IQQ").unpack_from(file, 4)
    if version not in (2, 3) or pairs > MOST_VALUES:
        raise ValueError(f"This GGUF file cannot be used: version {version} is not known here, 2 and 3 are.")
    at, found = 24, {}
    for _ in range(pairs):
        key, at = _text(file, at)
        kind, at = _scalar(file, at, 4)
        wanted = key.startswith(_PREFIX)
        value, at = _value(file, at, kind)
        if wanted:
            found[key.removeprefix(_PREFIX)] = value
    return found


def _value(file: memoryview, at: int, kind: int) -> tuple[Any, int]:
    if kind == _STRING:
        return _text(file, at)
    if kind != _ARRAY:
        return _scalar(file, at, kind)
    inner, at = _scalar(file, at, 4)
    size, at = _scalar(file, at, 10)
    if size > MOST_VALUES or inner == _ARRAY:
        raise ValueError("This GGUF file cannot be used: an array in its head is too long, or has arrays in it.")
    if inner == _STRING:
        texts = []
        for _ in range(size):
            text, at = _text(file, at)
            texts.append(text)
        return tuple(texts), at
    layout = _layout(inner)
    end = at + size * layout.size
    if end > len(file):
        raise IndexError("an array goes beyond its end")
    return tuple(value for (value,) in layout.iter_unpack(file[at:end])), end


def _text(file: memoryview, at: int) -> tuple[str, int]:
    size, at = _scalar(file, at, 10)
    if size > LONGEST_TEXT or at + size > len(file):
        raise IndexError("a text goes beyond its end")
    return str(file[at : at + size], "utf-8", "replace"), at + size


def _scalar(file: memoryview, at: int, kind: int) -> tuple[Any, int]:
    layout = _layout(kind)
    return layout.unpack_from(file, at)[0], at + layout.size


def _layout(kind: int) -> Layout:
    layout = _SCALARS.get(kind)
    if layout is None:
        raise ValueError(
            f"This GGUF file cannot be used: a value in its head is of the kind {kind}, which is not known."
        )
    return layout
