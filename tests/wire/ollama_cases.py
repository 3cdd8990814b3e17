"""What Ollama's API can say of the drawn calls and replies, and the form in which it says it."""

from random import Random

from msgspec import Raw
from msgspec.json import encode
from msgspec.structs import replace

from penstock.call import Call, Foreign, Message, Part, Reasoning, Text, Thinking, ToolResult, ToolUse
from penstock.reply import Reply
from wire.generated import Can, any_call, any_reply

CAN = Can(
    dialect="ollama",
    developer=True,
    names=False,
    result_media=True,
    many_texts=False,
    images=("data",),
    image_types=("image/png",),
    detail=False,
    audio=False,
    files=(),
    refusal=False,
    custom_tools=False,
    raw_arguments=False,
    signers=("",),
    redacted=False,
    tool_signers=("",),
    caches=(),
    tool_schema_needed=True,
    tool_strict=False,
    foreign_tools=(Foreign("ollama", "web_search", b'{"type":"web_search"}'),),
    tool_choices=(),
    parallel_tools=False,
    outputs=("json", "json_schema"),
    output_name=False,
    thinkings=(Thinking(tokens=0), Thinking(visible=True, adaptive=True)),
    service_tiers=(),
    metadata=False,
    extra=(("keep_alive", b'"5m"'), ("truncate", b"true"), ("options.num_ctx", b"4096"), ("options.mirostat", b"1")),
    sampling=frozenset(
        {
            *("temperature", "top_p", "top_k", "min_p", "max_tokens", "stop", "seed", "presence_penalty"),
            *("frequency_penalty", "logprobs", "top_logprobs", "reasoning_effort"),
        }
    ),
    efforts=("low", "medium", "high"),
    user=False,
    ids=False,
    fingerprint=False,
    choices=False,
    reply_audio=False,
    reply_custom_tools=False,
    reply_images=("data",),
    foreign_deltas=(("total_duration", b"4883583458"), ("eval_duration", b"99")),
    endings=(("stop", "stop"), ("length", "length"), ("content_filter", "content_filter")),
    refusal_logprobs=False,
    usage=frozenset({"input_tokens", "output_tokens"}),
)


def own_call(rng: Random) -> Call:
    """A call in the form in which the reader gives it: one text at the head, then pictures."""
    call = any_call(rng, CAN)
    content, sampling = call.content, call.sampling
    turns = tuple(_own_turn(turn) for turn in content.messages)
    thinking = Thinking(visible=True) if sampling.reasoning_effort else content.thinking
    content = replace(content, messages=turns, thinking=thinking)
    return replace(call, read=lambda: content, form="chat")


def _own_turn(turn: Message) -> Message:
    if turn.role == "tool":
        results = [replace(part, parts=_own_parts(part.parts)) for part in turn.parts if isinstance(part, ToolResult)]
        return replace(turn, parts=tuple(results))
    return replace(turn, parts=_own_parts(turn.parts, empty=turn.role == "assistant"))


def _own_parts(parts: tuple[Part, ...], *, empty: bool = False) -> tuple[Part, ...]:
    thoughts = [part for part in parts if isinstance(part, Reasoning)]
    texts = [part for part in parts if isinstance(part, Text) and part.text]
    rest = [part for part in parts if not isinstance(part, Text | Reasoning)]
    return (*thoughts, *texts, *rest) or (() if empty else (Text(""),))


def own_reply(rng: Random, *, streamed: bool = False) -> Reply:
    """A reply in the form in which the reader gives it: tool calls end it like any other answer."""
    reply = any_reply(rng, CAN, streamed=streamed)
    choice = reply.choices[0]
    called = any(isinstance(part, ToolUse) for part in choice.parts)
    finish = "tool_calls" if called and choice.native_finish == "stop" else choice.finish
    return replace(reply, choices=(replace(choice, finish=finish),))


def body(**members: object) -> bytes:
    """A request with the least that it needs, and these members."""
    least: dict[str, object] = {"model": "llama3.2", "messages": [{"role": "user", "content": "Hi"}]}
    return encode(
        {name: Raw(value) if isinstance(value, bytes) else value for name, value in (least | members).items()}
    )
