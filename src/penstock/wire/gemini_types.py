"""The JSON of Gemini's `generateContent` and its streams as structs: which members there are, of what type, in what range.

Types only: nothing here decides, and nothing but the `gemini*` files knows them. Contents are the same in requests and in
replies, so nearly everything may be missing; the readers say what has to be there. Lists of one may be written as that one,
as Google's own servers take them. Source: the reference of the Gemini API and the types of google-genai.

The `Exact...` twins refuse members that are not named, so that nobody has to look for others where they fit.
"""

from typing import Annotated, Final

from msgspec import Meta, Raw, Struct

from penstock.wire.token_counts import MOST_TOKENS

NAME: Final = "generate"


class Blob(Struct, gc=False, rename="camel", omit_defaults=True):
    """Base64 of either alphabet."""

    mime_type: str | None = None
    data: str = ""


class FileData(Struct, gc=False, rename="camel", omit_defaults=True):
    """A file by its address."""

    mime_type: str | None = None
    file_uri: str = ""


class FunctionCall(Struct, gc=False, omit_defaults=True):
    """A call of a function, whole."""

    name: str = ""
    id: str | None = None
    args: Raw = Raw(b"")


class ResponsePart(Struct, gc=False, rename="camel", omit_defaults=True):
    """A picture or a document among the results of a function."""

    inline_data: Blob | None = None
    file_data: FileData | None = None


class FunctionResponse(Struct, gc=False, omit_defaults=True):
    """The result of a function."""

    name: str = ""
    id: str | None = None
    response: Raw = Raw(b"")
    parts: list[ResponsePart] | ResponsePart | None = None


class Part(Struct, gc=False, rename="camel", omit_defaults=True):
    """One part of a turn: one of these members, and what is said about it."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    executable_code: Raw = Raw(b"")
    code_execution_result: Raw = Raw(b"")
    tool_call: Raw = Raw(b"")
    tool_response: Raw = Raw(b"")


class Turn(Struct, gc=False):
    """What one side says."""

    parts: list[Part] | Part | None = None
    role: str | None = None


class ThinkingConfig(Struct, gc=False, rename="camel"):
    """How much to think, in tokens (-1: as much as it likes) or in a word, and whether to tell."""

    thinking_budget: Annotated[int, Meta(ge=-1)] | None = None
    include_thoughts: bool | None = None
    thinking_level: str | None = None


Share = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]


class GenerationConfig(Struct, gc=False, rename="camel"):
    """How the answer is drawn, and its form."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Share | None = None
    top_k: Annotated[float, Meta(ge=0)] | None = None
    candidate_count: Annotated[int, Meta(ge=1, le=8)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=16)] | None = None
    seed: int | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    response_logprobs: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    thinking_config: ThinkingConfig | None = None
    response_mime_type: str | None = None
    response_schema: Raw = Raw(b"")
    response_json_schema: Raw = Raw(b"")


class FunctionDeclaration(Struct, gc=False, rename="camel"):
    """A function that the model may call."""

    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: Raw = Raw(b"")
    parameters_json_schema: Raw = Raw(b"")


class ToolSet(Struct, gc=False, rename="camel"):
    """Functions, and beside them tools that Google hosts, which are not looked into."""

    function_declarations: list[FunctionDeclaration] | FunctionDeclaration | None = None


class FunctionCallingConfig(Struct, gc=False, rename="camel"):
    """Whether functions must be called, and which."""

    mode: str | None = None
    allowed_function_names: list[str] | None = None


class ToolConfig(Struct, gc=False, rename="camel"):
    """What is said about all tools."""

    function_calling_config: FunctionCallingConfig | None = None


class Options(Struct, gc=False, rename="camel"):
    """Everything of a request but what is said."""

    model: str | None = None
    generation_config: GenerationConfig | None = None
    tools: list[ToolSet] | ToolSet | None = None
    tool_config: ToolConfig | None = None
    cached_content: str | None = None
    service_tier: str | None = None
    labels: dict[str, str] | None = None


class Request(Options, gc=False, rename="camel"):
    """A request, whatever else it holds."""

    contents: list[Turn] | Turn | None = None
    system_instruction: Turn | None = None


# -- replies --


class Candidate(Struct, gc=False, rename="camel"):
    """One answer, or a piece of one."""

    content: Turn | None = None
    finish_reason: str | None = None
    index: int | None = None
    citation_metadata: Raw = Raw(b"")
    grounding_metadata: Raw = Raw(b"")
    logprobs_result: Raw = Raw(b"")
    avg_logprobs: Raw = Raw(b"")
    safety_ratings: Raw = Raw(b"")
    finish_message: Raw = Raw(b"")
    token_count: Raw = Raw(b"")
    url_context_metadata: Raw = Raw(b"")
    continuation_token: Raw = Raw(b"")


class ReplyHead(Struct, gc=False, rename="camel"):
    """What stands beside the answers. `usage_metadata` is read apart: a strange one must not cost the answer."""

    response_id: str | None = None
    model_version: str | None = None
    create_time: str | None = None
    usage_metadata: Raw = Raw(b"")
    prompt_feedback: Raw = Raw(b"")
    error: Raw = Raw(b"")


class Chunk(ReplyHead, gc=False, rename="camel"):
    """A reply, or one event of a stream."""

    candidates: list[Candidate] | None = None


class Modality(Struct, gc=False, rename="camel"):
    """Tokens of one kind."""

    modality: str | None = None
    token_count: int | None = None


Count = Annotated[int, Meta(ge=0, le=MOST_TOKENS)]


class PlainUsage(Struct, gc=False, rename="camel"):
    """Tokens as they nearly always come: whole numbers, and a total."""

    prompt_token_count: Count
    total_token_count: Count
    candidates_token_count: Count = 0
    thoughts_token_count: Count = 0
    cached_content_token_count: Count = 0
    tool_use_prompt_token_count: Count = 0


class WireUsage(Struct, gc=False, rename="camel"):
    """Tokens; the counts of a stream's chunks are of everything until then. The details are lists of `Modality`."""

    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    total_token_count: int | None = None
    thoughts_token_count: int | None = None
    cached_content_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    prompt_tokens_details: Raw = Raw(b"")
    candidates_tokens_details: Raw = Raw(b"")
    tool_use_prompt_tokens_details: Raw = Raw(b"")
    traffic_type: str | None = None


class LogprobsCandidate(Struct, gc=False, rename="camel"):
    """A token that came, or could have."""

    token: str = ""
    log_probability: float | None = None


class TopCandidates(Struct, gc=False):
    """What could have been in one place."""

    candidates: list[LogprobsCandidate] | None = None


class LogprobsResult(Struct, gc=False, rename="camel"):
    """Log probabilities of an answer."""

    chosen_candidates: list[LogprobsCandidate] | None = None
    top_candidates: list[TopCandidates] | None = None


class WireCitation(Struct, gc=False, rename="camel"):
    """A source of a piece of text."""

    start_index: int | None = None
    end_index: int | None = None
    uri: str | None = None
    title: str | None = None


class CitationMetadata(Struct, gc=False, rename="camel"):
    """Sources; `citationSources` is their name in older versions."""

    citations: list[Raw] | None = None
    citation_sources: list[Raw] | None = None


class Source(Struct, gc=False):
    """Where something was found."""

    uri: str | None = None
    title: str | None = None


class GroundingChunk(Struct, gc=False, rename="camel"):
    """Something found."""

    web: Source | None = None
    retrieved_context: Source | None = None
    maps: Source | None = None


class Segment(Struct, gc=False, rename="camel"):
    """A piece of the answer; places are bytes of UTF-8."""

    start_index: int | None = None
    end_index: int | None = None


class GroundingSupport(Struct, gc=False, rename="camel"):
    """What a piece of the answer rests on."""

    segment: Segment | None = None
    grounding_chunk_indices: list[int] | None = None


class GroundingMetadata(Struct, gc=False, rename="camel"):
    """What was found, and which pieces of the answer rest on it."""

    grounding_chunks: list[GroundingChunk] | None = None
    grounding_supports: list[GroundingSupport] | None = None


# -- the exact twins --


class ExactBlob(Blob, gc=False, rename="camel", forbid_unknown_fields=True):
    """See `Blob`."""


class ExactFileData(FileData, gc=False, rename="camel", forbid_unknown_fields=True):
    """See `FileData`."""


class ExactFunctionCall(FunctionCall, gc=False, forbid_unknown_fields=True):
    """See `FunctionCall`."""


class ExactResponsePart(ResponsePart, gc=False, rename="camel", forbid_unknown_fields=True):
    """See `ResponsePart`."""

    inline_data: ExactBlob | None = None
    file_data: ExactFileData | None = None


class ExactFunctionResponse(FunctionResponse, gc=False, forbid_unknown_fields=True):
    """See `FunctionResponse`."""

    parts: list[ExactResponsePart] | ExactResponsePart | None = None  # type: ignore[assignment]  # read only


class ExactPart(Part, gc=False, rename="camel", forbid_unknown_fields=True):
    """See `Part`."""

    inline_data: ExactBlob | None = None
    file_data: ExactFileData | None = None
    function_call: ExactFunctionCall | None = None
    function_response: ExactFunctionResponse | None = None


class ExactTurn(Turn, gc=False, forbid_unknown_fields=True):
    """See `Turn`."""

    parts: list[ExactPart] | ExactPart | None = None  # type: ignore[assignment]  # read only


class ExactFunctionDeclaration(FunctionDeclaration, gc=False, rename="camel", forbid_unknown_fields=True):
    """See `FunctionDeclaration`."""


class ExactToolSet(ToolSet, gc=False, rename="camel", forbid_unknown_fields=True):
    """See `ToolSet`; with a list of functions, and nothing that Google hosts."""

    function_declarations: list[ExactFunctionDeclaration] | None = None  # type: ignore[assignment]  # read only


class ExactRequest(Options, gc=False, rename="camel"):
    """A request with known members in its turns; unknown ones beside them do not matter."""

    contents: list[ExactTurn] | ExactTurn | None = None
    system_instruction: ExactTurn | None = None


class ExactCandidate(Candidate, gc=False, rename="camel", forbid_unknown_fields=True):
    """See `Candidate`."""

    content: ExactTurn | None = None


class ExactChunk(ReplyHead, gc=False, rename="camel", forbid_unknown_fields=True):
    """See `Chunk`."""

    candidates: list[ExactCandidate] | None = None
