"""From token ids back to text: what the member `decoder` of a `tokenizer.json` says.

Gives the exact bytes of one token and the text of several. It never fails on bytes that are no UTF-8, since a model may
draw any token after any other: they become U+FFFD.
"""

from collections.abc import Iterable, Iterator

from msgspec import UNSET

from penstock.engine.errors import BadModel
from penstock.engine.pretokenize import byte_characters
from penstock.engine.tokenizer_file import (
    ByteFallback,
    ByteLevel,
    Decoder,
    DecoderSequence,
    Fuse,
    Replace,
    Strip,
)

_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")


class Detokenizing:
    """Texts of tokens to bytes and to text. Immutable once made."""

    __slots__ = ("_byte_fallback", "_byte_level", "_replacements", "stripped")

    stripped: int
    """Leading spaces of a whole text that are left out, since the tokenizer put them there."""

    def __init__(self, decoder: Decoder | None) -> None:
        """Raise `BadModel` where the decoder does something else than the known kinds of byte-pair encoding need."""
        self._byte_level: dict[str, int] | None = None
        self._byte_fallback = False
        self._replacements: list[tuple[str, str]] = []
        self.stripped = 0
        steps = list(_flat(decoder))
        if not steps:
            raise BadModel("tokenizer.json: there is no decoder; take the file from its source again")
        if isinstance(steps[0], ByteLevel) and len(steps) == 1:
            self._byte_level = {character: byte for byte, character in enumerate(byte_characters())}
            return
        for step in steps:
            self._add(step)

    def _add(self, step: Decoder) -> None:
        match step:
            case Replace(pattern=pattern, content=content) if pattern.string is not UNSET and not self.stripped:
                self._replacements.append((pattern.string, content))
            case ByteFallback():
                self._byte_fallback = True
            case Fuse():
                pass
            case Strip(content=" ", start=start, stop=0) if not self.stripped:
                self.stripped = start
            case _:
                raise BadModel(
                    f"tokenizer.json: the decoder's step {step!r} is not supported here; decoders are ByteLevel, or "
                    "Replace, ByteFallback, Fuse and Strip of leading spaces, in this order"
                )

    def token_bytes(self, text: str) -> bytes:
        """Give the bytes that a token's text stands for."""
        if self._byte_level is not None:
            try:
                return bytes([self._byte_level[character] for character in text])
            except KeyError:  # not written in bytes: an added token
                return text.encode()
        for old, new in self._replacements:
            text = text.replace(old, new)
        if (byte := self._fallback_byte(text)) is not None:
            return bytes((byte,))
        return text.encode()

    def text(self, tokens: Iterable[str]) -> str:
        """Give the text of tokens, bytes that are no UTF-8 as U+FFFD.

        A byte-level run loses only the wrong bytes. Of a run of `<0x..>` tokens that is not UTF-8 as a whole, every byte
        becomes U+FFFD, as in the `tokenizers` library.
        """
        if self._byte_level is not None:
            return b"".join(map(self.token_bytes, tokens)).decode(errors="replace")
        text = "".join(self._pieces(tokens))
        spaces = len(text) - len(text.lstrip(" "))
        return text[min(self.stripped, spaces) :]

    def _pieces(self, tokens: Iterable[str]) -> Iterator[str]:
        run = bytearray()
        for token in tokens:
            for old, new in self._replacements:
                token = token.replace(old, new)  # noqa: PLW2901  # step by step, as the file says
            if (byte := self._fallback_byte(token)) is not None:
                run.append(byte)
                continue
            yield _run_text(run)
            run.clear()
            yield token
        yield _run_text(run)

    def _fallback_byte(self, token: str) -> int | None:
        if not (self._byte_fallback and len(token) == 6 and token.startswith("<0x") and token.endswith(">")):
            return None
        return int(token[3:5], 16) if _HEXADECIMAL.issuperset(token[3:5]) else None


def _flat(step: Decoder | None) -> Iterator[Decoder]:
    match step:
        case None:
            return
        case DecoderSequence(decoders=steps):
            for inner in steps:
                yield from _flat(inner)
        case _:
            yield step


def _run_text(run: bytearray) -> str:
    try:
        return run.decode()
    except UnicodeDecodeError:
        return "\ufffd" * len(run)
