"""Reads the vocabularies that the configuration points at: a `tokenizer.json`, or the head of a GGUF file.

Place in the line: before the first call, when vocabularies are loaded. `tokens/` knows what the bytes mean; this file opens.
"""

import mmap
from pathlib import Path

from penstock.tokens.gguf import is_gguf
from penstock.tokens.vocabularies import KNOWN, Tokenizer, from_gguf_file, from_json, give

LONGEST_BYTES = 256 * 1024 * 1024
"""The longest tokenizer.json that is read; the largest that are known have 33 MB."""


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a vocabulary; seconds for a large one. Raises ValueError, which says what is wrong with the file."""
    try:
        with path.open("rb") as file:
            if is_gguf(file.read(4)):
                return _gguf(file.fileno())
            file.seek(0)
            text = file.read(LONGEST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    if len(text) > LONGEST_BYTES:
        raise ValueError(f"{path} is longer than any tokenizer.json, and no GGUF file.")
    return from_json(text)


def load_tokenizer(name: str | None) -> str:
    """Make the vocabulary that a profile names known, if it is a file's; give what is wrong with that file, "" if nothing."""
    if name is None or name in KNOWN:
        return ""
    try:
        give(name, read_tokenizer(Path(name)))
    except ValueError as error:
        return f"{name}: {error} Its models' prompts are estimated."
    return ""


def _gguf(descriptor: int) -> Tokenizer:
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
        return from_gguf_file(view)
