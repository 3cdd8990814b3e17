"""Reads and writes what stands beside the parts of a Gemini answer: usage, sources, log probabilities.

Pure. Usage is inclusive in the neutral form, where Gemini counts thoughts beside the answer and the tokens that its own tools
put into the prompt beside the prompt. Whatever cannot be read is none: it never costs the answer.
Place in the line: behind `gemini_reply.py` and `gemini_stream.py`.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from msgspec import DecodeError, Raw
from msgspec.json import Decoder

from penstock.call import Citation
from penstock.receipt import Usage
from penstock.reply import Logprob
from penstock.wire import gemini_types as wire
from penstock.wire.gemini_members import Object, given
from penstock.wire.token_counts import count, plausible

_USAGE: Final = Decoder(wire.WireUsage)
_PLAIN_USAGE: Final = Decoder(wire.PlainUsage)
_MODALITIES: Final = Decoder(list[wire.Modality])
_LOGPROBS: Final = Decoder(wire.LogprobsResult)
_CITATIONS: Final = Decoder(wire.CitationMetadata)
_CITATION: Final = Decoder(wire.WireCitation)
_GROUNDING: Final = Decoder(wire.GroundingMetadata)
_TIERS: Final[Mapping[str, str]] = MappingProxyType(
    {"ON_DEMAND": "default", "ON_DEMAND_PRIORITY": "priority", "ON_DEMAND_FLEX": "flex"}
)
_PICTURES: Final = frozenset({"IMAGE", "VIDEO", "DOCUMENT"})
"""What is seen. Google prices films and pages of documents with pictures, wherever those cost otherwise than text."""
_TRAFFIC: Final[Mapping[str, str]] = MappingProxyType({tier: traffic for traffic, tier in _TIERS.items()})


# -- sources and log probabilities --


def read_citations(raw: Raw) -> Iterable[Citation]:
    """Give the sources of a `citationMetadata`; none where it cannot be read."""
    try:
        metadata = _CITATIONS.decode(raw)
        for one in metadata.citations or metadata.citation_sources or ():
            source = _CITATION.decode(one)
            yield Citation(
                source.uri, source.title, None, source.start_index, source.end_index, None, None, wire.NAME, bytes(one)
            )
    except (DecodeError, RecursionError):
        return


def read_grounded(raw: Raw, text: str) -> list[Citation]:
    """Give each source of each piece of the text, then the sources that no piece names."""
    try:
        found = _GROUNDING.decode(raw)
    except (DecodeError, RecursionError):
        return []
    sources = [chunk.web or chunk.retrieved_context or chunk.maps for chunk in found.grounding_chunks or ()]
    used: set[int] = set()
    out: list[Citation] = []
    supports = [(one.segment or wire.Segment(), one) for one in found.grounding_supports or ()]
    characters = _characters(
        text.encode(), {place or 0 for segment, _ in supports for place in (segment.start_index, segment.end_index)}
    )
    for segment, support in supports:
        end = None if segment.end_index is None else characters[segment.end_index]
        start = characters[segment.start_index or 0]
        for index in support.grounding_chunk_indices or ():
            if 0 <= index < len(sources) and (source := sources[index]) is not None:
                used.add(index)
                out.append(Citation(source.uri, source.title, None, start, end, dialect=wire.NAME))
    for index, source in enumerate(sources):
        if source is not None and index not in used:
            out.append(Citation(source.uri, source.title, dialect=wire.NAME))
    return out


def _characters(data: bytes, places: set[int]) -> dict[int, int]:
    """Give the character at each place that is counted in bytes, in one walk over the text."""
    out: dict[int, int] = {}
    before = count = 0
    for place in sorted(places):
        at = max(before, min(place, len(data)))
        count += sum(byte & 0xC0 != 0x80 for byte in data[before:at])  # bytes that begin a character
        before = at
        out[place] = count
    return out


def read_logprobs(raw: Raw) -> tuple[Logprob, ...]:
    """Give the log probabilities of a `logprobsResult`; none where it cannot be read."""
    try:
        result = _LOGPROBS.decode(raw)
    except (DecodeError, RecursionError):
        return ()
    tops = result.top_candidates or []
    return tuple(
        Logprob(
            one.token,
            one.log_probability or 0.0,
            None,
            tuple(
                Logprob(other.token, other.log_probability or 0.0)
                for other in (tops[index].candidates or () if index < len(tops) else ())
            ),
        )
        for index, one in enumerate(result.chosen_candidates or ())
    )


def write_logprobs(tokens: Iterable[Logprob]) -> Object:
    """Write log probabilities, and their sum."""
    known = list(tokens)
    return {
        "topCandidates": [{"candidates": [_token(other) for other in token.top]} for token in known],
        "chosenCandidates": [_token(token) for token in known],
        "logProbabilitySum": sum(token.logprob for token in known),
    }


def _token(token: Logprob) -> Object:
    return {"token": token.token, "logProbability": token.logprob}


def write_citations(citations: Iterable[Citation]) -> list[Raw | Object]:
    """Write sources, apart from those that the grounding metadata tells of."""
    return [
        Raw(one.native)
        if one.dialect == wire.NAME
        else given(startIndex=one.start, endIndex=one.end, uri=one.url, title=one.title)
        for one in citations
        if one.native or one.dialect != wire.NAME
    ]


# -- usage --


def read_tier(raw: Raw) -> str | None:
    """Give the service tier that a usage tells of (Vertex AI), in OpenAI's words."""
    usage = _usage(raw) if b"rafficType" in bytes(raw) else None
    return None if usage is None else _TIERS.get(usage.traffic_type or "")


def _usage(raw: Raw) -> wire.WireUsage | None:
    try:
        return _USAGE.decode(raw)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_usage(raw: Raw) -> Usage | None:
    """Read the provider's count; None if there is none, or none that makes sense.

    The parts are held to the whole, so that no price of a part can turn a cost negative; what the total has beyond them was
    answered. Some servers count thoughts as a part of the answer: then the total says so.
    """
    try:
        plain = _PLAIN_USAGE.decode(raw)
    except (DecodeError, RecursionError):
        return _read_any_usage(raw)
    into = plain.prompt_token_count + plain.tool_use_prompt_token_count
    out = plain.candidates_token_count + plain.thoughts_token_count
    cached = plain.cached_content_token_count
    if into + out != plain.total_token_count or cached > into or _is_more_than_text(bytes(raw)):
        return _read_any_usage(raw)
    return Usage(into, out, cached, 0, 0, plain.thoughts_token_count)


def _read_any_usage(raw: Raw) -> Usage | None:
    """Read a count in which something is missing, odd, or of sound or pictures."""
    usage = _usage(raw)
    if usage is None or (usage.prompt_token_count is None and usage.total_token_count is None):
        return None
    into = count(usage.prompt_token_count) + count(usage.tool_use_prompt_token_count)
    thoughts, total = count(usage.thoughts_token_count), count(usage.total_token_count)
    out = count(usage.candidates_token_count)
    if not thoughts or thoughts > out or into + out != total:
        out += thoughts
    if total > into + out:
        out = total - into
    heard, seen = _of_media(usage.prompt_tokens_details)
    heard_of_tools, seen_of_tools = _of_media(usage.tool_use_prompt_tokens_details)
    voiced, drawn = _of_media(usage.candidates_tokens_details)
    said = Usage(
        into,
        out,
        count(usage.cached_content_token_count),
        0,
        0,
        thoughts,
        heard + heard_of_tools,
        voiced,
        image_input_tokens=seen + seen_of_tools,
        image_output_tokens=drawn,
    )
    return plausible(said)


def _is_more_than_text(usage: bytes) -> bool:
    """Tell whether the details name anything else than text."""
    return usage.count(b'"modality"') != usage.count(b'"TEXT"')


def _of_media(raw: Raw) -> tuple[int, int]:
    """Give the tokens of sound and of pictures among the details."""
    if not _is_more_than_text(bytes(raw)):
        return 0, 0
    try:
        details = _MODALITIES.decode(raw)
    except (DecodeError, RecursionError):
        return 0, 0
    sound = sum(count(one.token_count) for one in details if one.modality == "AUDIO")
    return sound, sum(count(one.token_count) for one in details if one.modality in _PICTURES)


def write_usage(usage: Usage, tier: str | None = None) -> Object:
    """Write a count, with its modalities where there is sound or a picture."""
    answered = usage.output_tokens - usage.reasoning_tokens
    out: Object = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": answered,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }
    if usage.reasoning_tokens:
        out["thoughtsTokenCount"] = usage.reasoning_tokens
    if usage.cached_input_tokens:
        out["cachedContentTokenCount"] = usage.cached_input_tokens
    heard, seen = usage.audio_input_tokens, usage.image_input_tokens
    if heard or seen:
        out["promptTokensDetails"] = _details(usage.input_tokens, heard, seen)
    voiced, drawn = usage.audio_output_tokens, usage.image_output_tokens
    if voiced or drawn:
        out["candidatesTokensDetails"] = _details(answered, voiced, drawn)
    if (traffic := _TRAFFIC.get(tier or "")) is not None:
        out["trafficType"] = traffic
    return out


def _details(total: int, audio: int, images: int) -> list[Object]:
    tokens = (("TEXT", total - audio - images), ("IMAGE", images), ("AUDIO", audio))
    return [{"modality": modality, "tokenCount": number} for modality, number in tokens if number > 0]
