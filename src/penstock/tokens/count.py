"""Counts a text or a whole call for a model, and says how sure the number is.

Exact is only what was counted with the model's own vocabulary and, for a call, framed by a rule that is known to match the
provider's bill. Everything else is an estimate with a band that the true number is believed to lie in; nothing is passed
off as more than it is. A count that the provider itself gave is `provider`; nobody makes one here.

Pure: no provider is asked. A long text takes time (see `vocabularies.py`), so count one beside the event loop.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from math import ceil
from typing import Any, Literal

import msgspec
from msgspec import Struct

from penstock.call import (
    Audio,
    Call,
    Content,
    Embed,
    File,
    Foreign,
    Image,
    Json,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    Tool,
    ToolResult,
    ToolUse,
)
from penstock.target import Profile
from penstock.tokens.images import picture_tokens
from penstock.tokens.rules import ChatRule, Rules, ToolRule, rules_for
from penstock.tokens.vocabularies import KNOWN, Piece, find, is_loaded, vocabulary

Certainty = Literal["exact", "provider", "estimated"]

TOOL_USE_TOKENS = (0, 8, 24)
"""Around a call of a tool, besides its name and arguments: low, likely, high. A judgement."""

FILE_TOKENS = (0, 2_000, 100_000)
"""A document of which nothing but an address or an id is known."""

BYTES_PER_FILE_TOKEN = (33, 8)
"""Likely and least. Claude's docs give 1,500 to 3,000 tokens for a page of a PDF; a page has some 75 KB."""

AUDIO_TOKENS_PER_MB = (200, 1_300, 16_000)
"""From 10 tokens a second at the size of raw samples to 32 at that of a telephone; likely is 20 a second of common MP3."""

HOSTED_TOOL_TOKENS = 1_000
"""The most that the instructions of a tool that the provider hosts are believed to take."""

Spoken = Text | Refusal | ToolUse | Reasoning | Foreign
_TEXT_TYPES = ("text/", "application/json", "application/xml")


class Count(Struct, frozen=True, gc=False):
    """A number of tokens: how it came about, and the band (low, high) that holds the true number.

    `reports` is from how many calls that the provider billed an estimate was corrected; 0 where it was not.
    """

    n: int
    certainty: Certainty
    band: tuple[int, int]
    reports: int = 0

    @property
    def percent(self) -> int:
        """How far the true number may be off, in percent of this one, whichever side of the band is farther."""
        far = max(self.n - self.band[0], self.band[1] - self.n)
        return -(-100 * far // self.n) if self.n else 0

    def told(self) -> str:
        """Say in words how sure the number is: "exact", or "estimated, +-12 %, from 57 calls"."""
        if self.certainty != "estimated":
            return self.certainty if self.certainty == "exact" else "counted by the provider"
        calls = f", from {self.reports} call{'s' if self.reports != 1 else ''}" if self.reports else ""
        return f"estimated, +-{self.percent} %{calls}"


NONE = Count(0, "exact", (0, 0))


class Buckets(Struct, frozen=True):
    """Where the tokens of a call are; together they are all of it.

    user      the text of the last message of the user
    history   the text of every other message that is no system text
    tools     tool definitions, and the schema that the answer has to have
    files     documents and sound
    overhead  what the chat template adds
    """

    system: Count = NONE
    history: Count = NONE
    user: Count = NONE
    tools: Count = NONE
    images: Count = NONE
    files: Count = NONE
    overhead: Count = NONE


class CallCount(Count, frozen=True, kw_only=True):
    """The count of a call, by bucket and by message; a message's count holds its pictures and its own role marks."""

    buckets: Buckets
    messages: tuple[Count, ...]


def count_text(text: str, profile: Profile) -> Count:
    """Count a text as the model sees it, without anything around it."""
    if not text:
        return NONE
    own = find(profile.tokenizer)
    if own is not None:
        tally = own.count(text)
        low, high = max(1, tally.n - tally.slack), tally.n + tally.slack
        return Count(tally.n, "estimated" if tally.slack else "exact", (low, high))
    guess = rules_for(profile.family).estimate
    tally = vocabulary(guess.vocabulary).count(text)
    low = (tally.n - tally.slack) * guess.low // 1_000
    high = ceil((tally.n + tally.slack) * guess.high / 1_000)
    return _about(max(0, low), ceil(tally.n * guess.factor / 1_000), high + 1)


def is_ready(profile: Profile) -> bool:
    """Tell whether the vocabulary that this model is counted with is loaded."""
    own = profile.tokenizer
    if own is not None and (own in KNOWN or is_loaded(own)):
        return is_loaded(own)
    return is_loaded(rules_for(profile.family).estimate.vocabulary)


def tokens(text: str, profile: Profile) -> list[Piece]:
    """Give the tokens themselves, from the model's vocabulary or, where it is not public, from the one estimated with."""
    return (find(profile.tokenizer) or vocabulary(rules_for(profile.family).estimate.vocabulary)).pieces(text)


def count_call(call: Call, profile: Profile) -> CallCount:
    """Count a whole call: messages, tools, pictures and what the chat template puts around them."""
    content, rules = call.content, rules_for(profile.family)
    if content.embed is not None:
        return _embedded(content.embed, profile)
    latest = max((at for at, message in enumerate(content.messages) if message.role == "user"), default=-1)
    texts: dict[str, list[Count]] = {"system": [], "history": [], "user": []}
    images: list[Count] = []
    files: list[Count] = []
    marks = [_frame(rules.chat)]
    messages: list[Count] = []
    for at, message in enumerate(content.messages):
        text, pictures, documents = _parts(message.parts, profile, rules)
        around = _marks(message, profile, rules.chat)
        bucket = "system" if message.role in ("system", "developer") else "user" if at == latest else "history"
        texts[bucket].append(text)
        images.append(pictures)
        files.append(documents)
        marks.append(around)
        messages.append(total((text, pictures, documents, around)))
    buckets = Buckets(
        system=total(texts["system"]),
        history=total(texts["history"]),
        user=total(texts["user"]),
        tools=_tools(content, profile, rules.tools),
        images=total(images),
        files=total(files),
        overhead=total(marks),
    )
    whole = total(getattr(buckets, name) for name in Buckets.__struct_fields__)
    return CallCount(whole.n, whole.certainty, whole.band, buckets=buckets, messages=tuple(messages))


def _embedded(embed: Embed, profile: Profile) -> CallCount:
    """Count what is to be embedded: token ids are their own count."""
    counts = [
        count_text(one, profile) if isinstance(one, str) else Count(len(one), "exact", (len(one), len(one)))
        for one in embed.inputs
    ]
    whole = total(counts)
    return CallCount(whole.n, whole.certainty, whole.band, buckets=Buckets(user=whole), messages=tuple(counts))


def total(counts: Iterable[Count]) -> Count:
    """Add counts; the sum is exact only if all of them are, and an estimate if one of them is."""
    n = low = high = 0
    certainty: Certainty = "exact"
    for count in counts:
        n += count.n
        low += count.band[0]
        high += count.band[1]
        if count.certainty == "estimated" or certainty == "exact":
            certainty = count.certainty
    return Count(n, certainty, (low, high))


def _about(low: int, n: int, high: int) -> Count:
    return Count(n, "estimated", (min(low, n), max(n, high)))


def _is_plain(message: Message) -> bool:
    """Whether this is the kind of message that the published rules were checked with: one text, or none."""
    parts = message.parts
    return message.role in ("system", "user", "assistant") and (
        not parts or (len(parts) == 1 and isinstance(parts[0], Text))
    )


def _frame(chat: ChatRule) -> Count:
    """Count what a template puts around the whole prompt."""
    n = chat.base + chat.primer
    return Count(n, "exact", (n, n)) if chat.exact else _about(n // 2, n, 2 * n + chat.hidden)


def _marks(message: Message, profile: Profile, chat: ChatRule) -> Count:
    """Count what a template puts around one message."""
    n = chat.message
    for role, other in chat.roles:
        if role == message.role:
            n = other
    if message.name is not None:
        n += chat.name
    marks = Count(n, "exact", (n, n)) if chat.exact and _is_plain(message) else _about(n // 2, n, 2 * n + 4)
    return marks if message.name is None else total((marks, count_text(message.name, profile)))


def _parts(parts: tuple[Part, ...], profile: Profile, rules: Rules) -> tuple[Count, Count, Count]:
    """Count what a message holds: text, pictures, documents."""
    texts: list[Count] = []
    images: list[Count] = []
    files: list[Count] = []
    for part in flat_parts(parts):
        if isinstance(part, Image):
            images.append(_about(*picture_tokens(rules.image, _inline(part), part.detail)))
        elif isinstance(part, File):
            files.append(_file(part, profile))
        elif isinstance(part, Audio):
            files.append(_audio(part, profile))
        else:
            texts.append(_text(part, profile))
    return total(texts), total(images), total(files)


def flat_parts(parts: tuple[Part, ...]) -> Iterator[Spoken | Image | Audio | File]:
    """Give all parts, those inside the results of tools included."""
    todo = list(reversed(parts))
    while todo:
        part = todo.pop()
        if isinstance(part, ToolResult):
            todo += reversed(part.parts)
        else:
            yield part


def _text(part: Spoken, profile: Profile) -> Count:
    """Count a part that reaches the model as text."""
    if isinstance(part, ToolUse):
        low, n, high = TOOL_USE_TOKENS
        return total((count_text(part.name, profile), count_text(part.arguments, profile), _about(low, n, high)))
    if isinstance(part, Reasoning):  # most providers drop the thinking of earlier turns
        spoken = count_text(part.text, profile)
        return _about(0, spoken.n, spoken.band[1] + len(part.signature or "") // 2)
    if isinstance(part, Foreign):
        return _loose(_as_text(part.json), profile)
    return count_text(part.text, profile)


def _loose(text: str, profile: Profile) -> Count:
    """Count a text of which it is not known in what form it reaches the model."""
    count = count_text(text, profile)
    return _about(0, count.n, 2 * count.band[1])


def _inline(image: Image) -> str | None:
    """Give the base64 text of a picture that was sent along, also as a data URL."""
    if image.data is not None or image.url is None or not image.url.startswith("data:"):
        return image.data
    return image.url.partition(",")[2]


def _file(file: File, profile: Profile) -> Count:
    if file.data is None:
        return _about(*FILE_TOKENS)
    if (file.media_type or "").startswith(_TEXT_TYPES):
        try:
            return _loose(base64.b64decode(file.data).decode("utf-8", "replace"), profile)
        except (binascii.Error, ValueError):
            pass  # then it is whatever it is
    size = len(file.data) * 3 // 4
    likely, least = BYTES_PER_FILE_TOKEN
    return _about(0, size // likely, size // least)


def _audio(audio: Audio, profile: Profile) -> Count:
    if audio.data is None:
        return _loose(audio.transcript or "", profile)
    size = len(audio.data) * 3 // 4
    low, n, high = (rate * size // 1_000_000 for rate in AUDIO_TOKENS_PER_MB)
    return _about(low, n, high)


def _tools(content: Content, profile: Profile, rule: ToolRule) -> Count:
    """Count tool definitions and the schema of the answer; never exact, since no provider says how it writes them."""
    counts = [_tool(tool, profile, rule) for tool in content.tools]
    if counts:
        counts.append(_about(0, rule.end, 2 * rule.end))
    output = content.output
    if output is not None and output.schema is not None:
        counts.append(_loose(_as_text(output.schema), profile))
    return total(counts)


def _tool(tool: Tool | Foreign, profile: Profile, rule: ToolRule) -> Count:
    if isinstance(tool, Foreign):
        count = _loose(_as_text(tool.json), profile)
        return _about(0, count.n, count.band[1] + HOSTED_TOOL_TOKENS)
    about = (tool.description or "").removesuffix(".")
    schema = _decoded(tool.parameters)
    if rule.form == "signature" and schema is not None:
        counts = [count_text(f"{tool.name}:{about}", profile), *_members(schema, profile, rule)]
    else:
        counts = [count_text(text, profile) for text in (tool.name, about, _as_text(tool.parameters or b""))]
    count = total(counts)
    n = count.n + rule.function
    return _about(count.band[0] * 7 // 10, n, (count.band[1] + rule.function) * 3 // 2 + 16)


def _members(schema: dict[str, Any], profile: Profile, rule: ToolRule) -> Iterator[Count]:
    """Count the properties of a schema, those of objects and lists inside it included, as lines `name:type:description`."""
    todo = [schema]
    while todo:
        members = todo.pop().get("properties")
        if not isinstance(members, dict) or not members:
            continue
        yield _plain(rule.properties)
        for name, member in members.items():
            if not isinstance(member, dict):
                continue
            todo += [inner for inner in (member, member.get("items")) if isinstance(inner, dict)]
            about = str(member.get("description", "")).removesuffix(".")
            yield count_text(f"{name}:{member.get('type', '')}:{about}", profile)
            yield _plain(rule.member)
            choices = member.get("enum")
            if isinstance(choices, list) and choices:
                yield _plain(rule.enum + rule.enum_item * len(choices))
                yield from (count_text(str(choice), profile) for choice in choices)


def _plain(n: int) -> Count:
    return Count(n, "estimated", (n, n))


def _decoded(parameters: Json | None) -> dict[str, Any] | None:
    """Give a schema as values; None if it is no JSON object."""
    try:
        return msgspec.json.decode(parameters or b"{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None


def _as_text(json: Json) -> str:
    return json.decode("utf-8", "replace")
