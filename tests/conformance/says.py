"""What a model says in each case, and what clients ask: the one content that every stand-in puts into its own words."""

import base64
import struct
import zlib
from typing import NamedTuple

TEXT = "Grüße, Zoë \u2028👋 data: [DONE] {}"
"""With what streams stumble over: a line separator of Unicode, an emoji, and words of SSE."""
THOUGHT = "First I look, then I leap."
HELLO = "Say hi to Zoë"
SYSTEM = "Be brief."
ANSWER = '{"ok": true, "n": 7}'
REFUSED = "I cannot help with that."
IMAGE_URL = "https://example.com/cat.png"
LIMIT = 4000

SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "n": {"type": "integer"}},
    "required": ["ok", "n"],
    "additionalProperties": False,
}
TOOLS = {
    "get_weather": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "get_time": {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]},
}
CITY, ZONE = {"city": "Köln \u2029"}, {"zone": "Europe/Berlin"}


class Use(NamedTuple):
    """A call of a tool; `id` is used by the APIs that have ids."""

    name: str
    arguments: dict[str, str]
    id: str = ""


class Say(NamedTuple):
    """One answer. Tokens are inclusive: `cached` of `input`, `thought` of `output`."""

    text: str = ""
    thought: str = ""
    signed: str = ""
    uses: tuple[Use, ...] = ()
    finish: str = "stop"
    input: int = 25
    cached: int = 5
    output: int = 9
    thinking: int = 0


SAYS = {
    "plain": Say(TEXT),
    "empty": Say(""),
    "tools": Say("", uses=(Use("get_weather", CITY, "1"),), finish="tools"),
    "parallel": Say(TEXT, uses=(Use("get_weather", CITY, "1"), Use("get_time", ZONE, "2")), finish="tools"),
    "image": Say("A cat."),
    "structured": Say(ANSWER),
    "reasoning": Say(TEXT, THOUGHT, "1", (Use("get_weather", CITY, "1"),), "tools", thinking=3),
    "refusal": Say(REFUSED, finish="refusal"),
    "length": Say(TEXT, finish="length"),
    "break": Say(TEXT),
}


def agent(turn: int) -> Say:
    """What an agent says in its `turn` of a long conversation: thinks, then two calls at once; in the end a text."""
    uses = (Use("get_weather", {"city": f"C{turn}"}, f"{turn}a"), Use("get_time", {"zone": f"Z{turn}"}, f"{turn}b"))
    return Say(f"Turn {turn}.", f"Thought {turn}.", str(turn), uses, "tools", thinking=3)


def signature(family: str, number: str) -> str:
    """A signature that a stand-in of this family makes, and knows again: base64, as some SDKs decode it."""
    return base64.b64encode(f"signed by {family}, number {number}?>".encode()).decode()


def pieces(text: str, size: int = 7) -> list[str]:
    """A text in pieces, as it is streamed."""
    return [text[at : at + size] for at in range(0, len(text), size)]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _picture() -> bytes:
    """A PNG of one pixel whose base64 has both characters in which URL-safe base64 differs."""
    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\x00\xff\x00\x00")
    comment = b"c\x00" + b"\xfb\xef\xbe\xff\xff\xff" * 4
    chunks = (_chunk(b"IHDR", head), _chunk(b"tEXt", comment), _chunk(b"IDAT", body), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


PNG = _picture()
PNG64 = base64.b64encode(PNG).decode()
assert "+" in PNG64, "URL-safe base64 would differ"
assert "/" in PNG64, "URL-safe base64 would differ"
