"""Reads and writes safetensors, the files that hold a model's weights: memory-mapped, checked, as 32-bit floats.

The format (https://huggingface.co/docs/safetensors): 8 bytes little-endian length of a JSON header, the header with
dtype, shape and byte range of each tensor, then the bytes, without holes. A file is refused unless all of this holds, so
that nothing behind this door can read outside of it. f32 tensors stay in the file and are read as they are touched, so
several processes share one copy; f16 and bf16 are widened once. A model may lie in several files under an index.

The only file here that touches weights on disk; what the tensors mean is decided in transformer.py.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.engine.config import decode_json
from penstock.engine.errors import BadModel

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
LONGEST_HEADER = 100_000_000
"""Bytes; the limit of the reference implementation."""
LINE = 64
"""Bytes of a cache line, and of the widest vector register: where arrays begin that are made here."""

ITEM_BYTES: Mapping[str, int] = MappingProxyType(
    {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2}
    | {"U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8, "C64": 8}
)
SUPPORTED = ("F32", "F16", "BF16")


class _Entry(msgspec.Struct):
    """One tensor as the header describes it; offsets count from the end of the header."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


class _Stored(msgspec.Struct, frozen=True):
    """One tensor in a mapped file."""

    dtype: str
    shape: tuple[int, ...]
    raw: Bytes


class Weights:
    """The tensors of a model by name, handed out as 32-bit floats of the shape that is asked for."""

    __slots__ = ("_stored",)

    def __init__(self, stored: Mapping[str, _Stored]) -> None:
        self._stored = stored

    @classmethod
    def open(cls, folder: Path) -> "Weights":
        """Map the weights of a model folder; BadModel says what is wrong with them."""
        if (folder / INDEX).is_file():
            return cls(_sharded(folder))
        if (folder / SINGLE).is_file():
            return cls(read_file(folder / SINGLE))
        raise BadModel(
            f"{folder} holds neither {SINGLE} nor {INDEX}: fetch the model's safetensors files, or convert its weights."
        )

    def __contains__(self, name: str) -> bool:
        return name in self._stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def is_mapped(self, name: str) -> bool:
        """Whether a tensor can be used where it lies in the file, without a copy."""
        one = self._stored.get(name)
        return one is not None and one.dtype == "F32" and one.raw.ctypes.data % 4 == 0

    def take(self, name: str, shape: tuple[int, ...]) -> Floats:
        """Give a tensor: the file's own bytes where they are f32, else widened. BadModel if missing or of another shape."""
        stored = self._find(name, shape)
        if self.is_mapped(name):
            return stored.raw.view(np.float32).reshape(shape)
        array = aligned(shape)
        _widen(stored, array)
        return array

    def fill(self, name: str, array: Floats) -> None:
        """Copy a tensor, widened, into an array of its shape (a part of a larger one)."""
        _widen(self._find(name, array.shape), array)

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise BadModel unless the tensor is there, of this shape and of a supported dtype."""
        self._find(name, shape)

    def _find(self, name: str, shape: tuple[int, ...]) -> _Stored:
        stored = self._stored.get(name)
        if stored is None:
            raise BadModel(f"The weights lack the tensor {name!r}: is this the folder of the whole model?")
        if stored.shape != shape:
            raise BadModel(
                f"The tensor {name!r} has the shape {list(stored.shape)}, but config.json asks for {list(shape)}: "
                "weights and configuration are not of the same model."
            )
        if stored.dtype not in SUPPORTED:
            raise BadModel(f"The tensor {name!r} is stored as {stored.dtype}; supported are {', '.join(SUPPORTED)}.")
        return stored


def aligned(shape: tuple[int, ...]) -> Floats:
    """Make an empty array that begins at a cache line."""
    size = math.prod(shape)
    memory = np.empty(size + LINE // 4, dtype=np.float32)
    start = -memory.ctypes.data % LINE // 4
    return memory[start : start + size].reshape(shape)


def read_file(path: Path) -> dict[str, _Stored]:
    """Map one safetensors file; BadModel unless it is whole and consistent."""
    try:
        size = path.stat().st_size
        if size < 8:
            raise BadModel(f"{path.name} has {size} bytes, too few for a safetensors file: fetch it again.")
        raw = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
    except OSError as error:
        raise BadModel(f"{path.name} cannot be read: {error.strerror or error}.") from error
    length = int.from_bytes(raw[:8].tobytes(), "little")
    if length > min(size - 8, LONGEST_HEADER):
        raise BadModel(
            f"{path.name} announces a header of {length} bytes, but has {size - 8} behind its first 8 (and at most "
            f"{LONGEST_HEADER} are allowed): it is truncated, or no safetensors file."
        )
    members = decode_json(raw[8 : 8 + length].tobytes(), dict[str, msgspec.Raw], path.name)
    entries = {
        name: decode_json(bytes(member), _Entry, f"{path.name}, tensor {name!r}")
        for name, member in members.items()
        if name != "__metadata__"
    }
    data = raw[8 + length :]
    _check_layout(path.name, entries, len(data))
    return {
        name: _Stored(entry.dtype, tuple(entry.shape), data[slice(*entry.data_offsets)])
        for name, entry in entries.items()
    }


def _check_layout(file: str, entries: Mapping[str, _Entry], data_bytes: int) -> None:
    """Refuse byte ranges that overlap, leave holes, do not fit the shapes, or do not end with the file."""
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        first, last = entry.data_offsets
        if first != end or last < first:
            raise BadModel(
                f"{file}, tensor {name!r}: its bytes {first} to {last} overlap others or leave a hole before them "
                f"(expected to begin at {end}). Fetch the file again."
            )
        item_bytes = ITEM_BYTES.get(entry.dtype)
        if any(extent < 0 for extent in entry.shape):
            raise BadModel(f"{file}, tensor {name!r}: the shape {entry.shape} has a negative extent.")
        if item_bytes is not None and math.prod(entry.shape) * item_bytes != last - first:
            raise BadModel(
                f"{file}, tensor {name!r}: {last - first} bytes do not hold the shape {entry.shape} in {entry.dtype}."
            )
        end = last
    if end != data_bytes:
        how = "truncated" if end > data_bytes else "followed by bytes that belong to no tensor"
        raise BadModel(f"{file} is {how}: its tensors take {end} bytes, it holds {data_bytes}. Fetch it again.")


def _sharded(folder: Path) -> dict[str, _Stored]:
    """Map the files that an index names; each must lie in the folder itself and hold the tensors that it should."""
    try:
        text = (folder / INDEX).read_bytes()
    except OSError as error:
        raise BadModel(f"{INDEX} cannot be read: {error.strerror or error}.") from error
    where = decode_json(text, _Index, INDEX).weight_map
    for name in set(where.values()):
        if not name.endswith(".safetensors") or {"/", "\\", "\0"} & set(name):
            raise BadModel(f"{INDEX} names the file {name!r}; only a .safetensors file in the same folder is read.")
        if not (folder / name).is_file():
            raise BadModel(f"{INDEX} names the file {name!r}, which is not there: fetch the missing part of the model.")
    files = {name: read_file(folder / name) for name in sorted(set(where.values()))}
    for tensor, name in where.items():
        if tensor not in files[name]:
            raise BadModel(f"{INDEX} says that {name} holds the tensor {tensor!r}, but it does not.")
    return {tensor: files[name][tensor] for tensor, name in where.items()}


def _widen(stored: _Stored, array: Floats) -> None:
    """Copy a stored tensor into 32-bit floats. bf16 is the upper half of an f32, so its bits only move up."""
    if stored.dtype == "BF16":
        halves = stored.raw.view("<u2").reshape(stored.shape)
        bits = array.view(np.uint32)
        bits[...] = halves
        np.left_shift(bits, 16, out=bits)
    else:
        array[...] = stored.raw.view("<f4" if stored.dtype == "F32" else "<f2").reshape(stored.shape)


def write_safetensors(
    path: Path,
    tensors: Mapping[str, NDArray[Any]],
    *,
    dtype: Literal["F32", "F16", "BF16"] = "F32",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors as one file, rounded to the dtype (to nearest, ties to even); data begin at a cache line."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    parts: list[bytes] = []
    end = 0
    for name, tensor in tensors.items():
        part = _encode(tensor, dtype)
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [end, end + len(part)]}
        end += len(part)
        parts.append(part)
    text = msgspec.json.encode(header)
    text += b" " * (-(8 + len(text)) % LINE)
    path.write_bytes(b"".join([len(text).to_bytes(8, "little"), text, *parts]))


def _encode(tensor: NDArray[Any], dtype: str) -> bytes:
    floats = np.ascontiguousarray(tensor, dtype="<f4")
    if dtype == "F32":
        return floats.tobytes()
    if dtype == "F16":
        return floats.astype("<f2").tobytes()
    bits = floats.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    return np.where(np.isnan(floats), bits | np.uint32(0x400000), rounded).__rshift__(16).astype("<u2").tobytes()
