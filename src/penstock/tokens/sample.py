"""Estimates the tokens of long texts in a time that does not grow with them: by samples, or by classes of bytes.

For what a provider did not report about a call that is over, where nobody may wait for a count. Samples are counted with
the model's own vocabulary; bytes need none. Both are estimates and say so.
"""

from penstock.call import Call, Foreign, Reasoning, Refusal, Text, Tool, ToolUse
from penstock.target import Profile
from penstock.tokens.count import Count, count_text, flat_parts
from penstock.tokens.rules import rules_for

WINDOWS = 48
WINDOW_CHARS = 192
"""So many stretches of this length stand for a whole text; it takes a few milliseconds at the worst."""

BYTE_WINDOWS = 256
BYTE_WINDOW = 1_024
"""The same for bytes, of which a quarter of a megabyte takes a millisecond or two."""

OFF = 4
"""The band of a sample: one part in so many either way. Texts of several kinds are that uneven."""

_SPACES = b" \t\r\x0b\x0c"
_LINES = b"\n"
_DIGITS = b"0123456789"
_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TWO = bytes(range(0xC0, 0xE0))
_THREE = bytes(range(0xE0, 0xF0))
_FOUR = bytes(range(0xF0, 0xF8))
_CJK = bytes(range(0xE3, 0xEE))
_SIGNS = bytes(set(range(128)) - {*_SPACES, *_LINES, *_DIGITS, *_LETTERS})

MILLI_PER_SPACE = 15
MILLI_PER_LINE = 500
MILLI_PER_LETTER = 235
MILLI_PER_DIGIT = 380
MILLI_PER_SIGN = 700
MILLI_PER_TWO_BYTES = 340
MILLI_PER_THREE_BYTES = 420
MILLI_PER_CJK = 740
MILLI_PER_FOUR_BYTES = 1_800
"""Thousandths of a token per character of a class, fitted to o200k on prose of ten languages, code and JSON;
a space belongs to the word behind it."""
MILLI_PER_BYTE = 700
"""No byte of any text has more."""


def by_bytes(text: bytes) -> int:
    """Estimate the tokens of a UTF-8 text by the class of each character, which its first byte tells; of a long one by samples."""
    size = len(text)
    if size > BYTE_WINDOWS * BYTE_WINDOW:
        step = (size - BYTE_WINDOW) // (BYTE_WINDOWS - 1)
        text = b"".join(text[at * step : at * step + BYTE_WINDOW] for at in range(BYTE_WINDOWS))

    whole = len(text)
    letters, digits = whole - len(text.translate(None, _LETTERS)), whole - len(text.translate(None, _DIGITS))
    spaces, lines = whole - len(text.translate(None, _SPACES)), text.count(_LINES)
    milli = MILLI_PER_SPACE * spaces + MILLI_PER_LINE * lines + MILLI_PER_LETTER * letters + MILLI_PER_DIGIT * digits
    if text.isascii():  # whatever is nothing of that is a sign
        milli += MILLI_PER_SIGN * (whole - letters - digits - spaces - lines)
    else:
        milli += _others(text)
    return -(-milli * size // (1_000 * (whole or 1))) or (1 if text else 0)


def _others(text: bytes) -> int:
    """Give the thousandths of tokens of signs, and of what is not ASCII."""

    def number(kind: bytes) -> int:
        return len(text) - len(text.translate(None, kind))

    cjk = number(_CJK)
    return (
        MILLI_PER_SIGN * number(_SIGNS)
        + MILLI_PER_TWO_BYTES * number(_TWO)
        + MILLI_PER_THREE_BYTES * (number(_THREE) - cjk)
        + MILLI_PER_CJK * cjk
        + MILLI_PER_FOUR_BYTES * number(_FOUR)
    )


def sampled(text: str, profile: Profile) -> Count:
    """Count a text by stretches of it, evenly spread; a short one is counted as it is."""
    if len(text) <= WINDOWS * WINDOW_CHARS:
        return count_text(text, profile)
    step = (len(text) - WINDOW_CHARS) // (WINDOWS - 1)
    window = "".join(text[at * step : at * step + WINDOW_CHARS] for at in range(WINDOWS))
    part = count_text(window, profile)
    n = -(-part.n * len(text) // len(window))
    return Count(n, "estimated", (n - n // OFF, n + n // OFF))


def sampled_call(call: Call, profile: Profile) -> Count:
    """Count a call by samples of its text, and what a template puts around it; pictures and sound are left out."""
    count, around = sampled(_text_of(call), profile), _around(call, profile)
    high = count.band[1] + 2 * around + rules_for(profile.family).chat.hidden
    return Count(count.n + around, "estimated", (count.band[0], high))


def call_by_bytes(call: Call, profile: Profile) -> int:
    """Estimate the tokens of a call by the bytes of its text, and what a template puts around it."""
    return by_bytes(_text_of(call).encode("utf-8", "surrogatepass")) + _around(call, profile)


def _around(call: Call, profile: Profile) -> int:
    chat = rules_for(profile.family).chat
    return chat.base + chat.primer + chat.message * len(call.content.messages)


def _text_of(call: Call) -> str:
    """Give all text of a call that reaches the model: messages, what tools were called with and said, and the tools."""
    content = call.content
    texts = [_definition(tool) for tool in content.tools]
    for message in content.messages:
        for part in flat_parts(message.parts):
            if isinstance(part, Text | Refusal | Reasoning):
                texts.append(part.text)
            elif isinstance(part, ToolUse):
                texts.append(f"{part.name} {part.arguments}")
    return "\n".join(texts)


def _definition(tool: Tool | Foreign) -> str:
    if isinstance(tool, Foreign):
        return tool.json.decode("utf-8", "replace")
    return f"{tool.name} {tool.description or ''} {(tool.parameters or b'').decode('utf-8', 'replace')}"
