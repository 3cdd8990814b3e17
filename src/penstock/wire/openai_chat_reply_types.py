"""The JSON of chat completions replies and of their streams as structs.

Types only: nothing here decides, and nothing but the `openai_chat*` files knows them. Replies are read, never trusted:
nearly everything in them may be missing or null, and members that are not named here are skipped. Source: OpenAI's API
reference, and what compatible servers send (`reasoning_content`: DeepSeek, vLLM; `reasoning`, `reasoning_details`,
`images`: OpenRouter; `extra_content`: Gemini).
"""

from typing import Any

from msgspec import Raw, Struct


class Alternative(Struct, gc=False):
    """A token that could have been."""

    token: str = ""
    logprob: float | None = None
    bytes: list[int] | None = None


class TokenLogprob(Alternative, gc=False):
    """A token that came."""

    top_logprobs: list[Alternative] | None = None


class Logprobs(Struct, gc=False):
    """Log probabilities of what a choice says."""

    content: list[TokenLogprob] | None = None
    refusal: list[TokenLogprob] | None = None


class ReplyFunction(Struct, gc=False):
    """A called function; some servers give the arguments as an object."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class ReplyCustom(Struct, gc=False):
    """A called custom tool."""

    name: str | None = None
    input: str | None = None


class ReplyToolCall(Struct, gc=False):
    """A tool call, or a piece of one."""

    index: int | None = None
    id: str | None = None
    function: ReplyFunction | None = None
    custom: ReplyCustom | None = None
    extra_content: Raw = Raw(b"")


class ReplyAudio(Struct, gc=False):
    """Sound, or a piece of it."""

    id: str | None = None
    data: str | None = None
    transcript: str | None = None
    expires_at: int | None = None


class ReplyPart(Struct, gc=False):
    """One part of a reply whose content is a list (Mistral)."""

    text: str | None = None


class Delta(Struct, gc=False):
    """What a choice says, or more of it."""

    content: str | list[ReplyPart] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ReplyToolCall] | None = None
    function_call: ReplyFunction | None = None
    audio: ReplyAudio | None = None
    annotations: Raw = Raw(b"")
    reasoning_details: Raw = Raw(b"")
    images: Raw = Raw(b"")


class ReplyChoice(Struct, gc=False):
    """One answer, or a piece of one."""

    index: int = 0
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class StreamChoice(ReplyChoice, gc=False):
    """A piece of an answer."""

    delta: Delta | None = None


class WholeChoice(ReplyChoice, gc=False, kw_only=True):
    """One answer."""

    message: Delta


class ReplyHead(Struct, gc=False):
    """What replies and chunks share. `usage` and `error` are read apart: a strange one must not cost the answer."""

    id: str | None = None
    created: int | float | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    usage: Raw = Raw(b"")
    error: Raw = Raw(b"")


class StreamChunk(ReplyHead, gc=False):
    """One event of a stream."""

    choices: list[StreamChoice] | None = None


class WholeReply(ReplyHead, gc=False):
    """A reply in one piece."""

    choices: list[WholeChoice] | None = None


class ExactMessage(Delta, gc=False, forbid_unknown_fields=True):
    """A message with the members of the reference and no other, so that nobody has to look for others."""

    role: str | None = None


class ExactChoice(WholeChoice, gc=False, kw_only=True, forbid_unknown_fields=True):
    """See `ExactMessage`."""

    message: ExactMessage


class ExactReply(ReplyHead, gc=False, forbid_unknown_fields=True):
    """See `ExactMessage`."""

    choices: list[ExactChoice] | None = None
    object: str | None = None


class InputDetails(Struct, gc=False):
    """What the prompt's tokens were."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class OutputDetails(Struct, gc=False):
    """What the answer's tokens were. `image_tokens` are OpenRouter's, and those of OpenAI's models that draw."""

    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None
    image_tokens: int | None = None


class WireUsage(Struct, gc=False):
    """Tokens. `prompt_cache_hit_tokens` is DeepSeek's and `cached_tokens` Moonshot's word for the cached ones."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None
