"""Reads what callers of the library pass in: prompts and options become a `Call`, and who makes it.

The library's counterpart of a dialect: nothing is sent and nothing decided here. What cannot be understood is an
InvalidRequest that names the option; an option that does not exist is a TypeError, as for any other function.
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, TypedDict, get_args

from msgspec import Meta, Struct, ValidationError, convert

from penstock.call import (
    Audio,
    Call,
    Caller,
    Content,
    File,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Part,
    Role,
    Sampling,
    Text,
    Tool,
    ToolChoice,
    Who,
)
from penstock.errors import InvalidRequest

Prompt = str | Sequence[Message | Mapping[str, Any]]
"""One text of a user; or messages, each a `Message` or `{"role": ..., "content": ...}` with a text or a list of parts."""

ROLES: tuple[str, ...] = get_args(Role)
PARTS: tuple[type, ...] = get_args(Part)

MARKS = 16
"""More tokens than a chat template puts around a message, a part or a tool."""


class Options(TypedDict, total=False):
    """What may be said about a call besides its prompt and its model. None is the same as leaving it out.

    system                          a text before the prompt
    team, feature, user, session    who pays and for what; budgets and limits hold as for a key of that team
    deadline_s                      the longest that the call may take, all waits and tries included
    tools, tool_choice, output      as in `penstock.call`
    explain                         how many candidates of each step are told, 0 to 50; embedded models only
    the rest                        how the answer is drawn: `penstock.call.Sampling`
    """

    system: str | None
    team: str | None
    feature: str | None
    user: str | None
    session: str | None
    deadline_s: float | None
    tools: Sequence[Tool]
    tool_choice: ToolChoice | None
    output: OutputFormat | None
    explain: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    max_tokens: int | None
    stop: str | Sequence[str] | None
    seed: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logit_bias: Mapping[str, float] | None
    n: int | None
    logprobs: bool | None
    top_logprobs: int | None
    reasoning_effort: str | None


_Positive = Annotated[int, Meta(ge=1)]
_Penalty = Annotated[float, Meta(ge=-2, le=2)]
_Share = Annotated[float, Meta(ge=0, le=1)]


class _Said(Struct, frozen=True):
    """The options with their ranges, which are the widest of the field."""

    system: str | None = None
    team: str | None = None
    feature: str | None = None
    user: str | None = None
    session: str | None = None
    deadline_s: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    output: OutputFormat | None = None
    explain: Annotated[int, Meta(ge=0, le=50)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: _Share | None = None
    top_k: Annotated[int, Meta(ge=-1)] | None = None
    min_p: _Share | None = None
    max_tokens: _Positive | None = None
    stop: tuple[str, ...] | str = ()
    seed: int | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] = {}
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    reasoning_effort: str | None = None


def read_call(prompt: Prompt, model: str, options: Options, *, stream: bool) -> tuple[Call, Who, Caller]:
    """Make a call of a prompt and options, and say who makes it. Raises InvalidRequest or TypeError."""
    said = _read_options({name: value for name, value in options.items() if value is not None})
    if not isinstance(model, str) or not model:
        raise InvalidRequest(f"model has to be a name, not {model!r}.", param="model")
    messages = tuple(_messages(prompt))
    if said.system is not None:
        messages = (Message("system", (Text(said.system),)), *messages)
    extra = (("explain", b"%d" % said.explain),) if said.explain else ()
    content = Content(messages, said.tools, said.tool_choice, None, said.output, extra)
    sampling = {name: getattr(said, name) for name in Sampling.__struct_fields__}
    sampling["stop"] = (said.stop,) if isinstance(said.stop, str) else said.stop
    sampling["logit_bias"] = tuple(said.logit_bias.items())
    call = Call(
        dialect="",
        model=model,
        sampling=Sampling(**sampling),
        read=lambda: content,
        stream=stream,
        stream_usage=True,
        input_bound=_bound(content),
    )
    caller = Caller(feature=said.feature, session=said.session, user=said.user, deadline_s=said.deadline_s)
    return call, Who(team=said.team, admin=True), caller


def _read_options(given: Mapping[str, Any]) -> _Said:
    unknown = next((name for name in given if name not in _Said.__struct_fields__), None)
    if unknown is not None:
        close = get_close_matches(unknown, _Said.__struct_fields__, 1)
        meant = f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(_Said.__struct_fields__)}"
        raise TypeError(f"there is no option {unknown!r}{meant}")
    try:
        return convert(given, _Said)
    except ValidationError as error:
        what, _, place = str(error).partition(" - at `$.")
        name = place.rstrip("`").partition("[")[0].partition(".")[0]
        raise InvalidRequest(
            f"{name} cannot be {given.get(name)!r}: {what[:1].lower()}{what[1:]}.", param=name
        ) from None


# -- messages --


def _messages(prompt: Any) -> Iterator[Message]:
    if isinstance(prompt, str):
        if not prompt:
            raise InvalidRequest("The prompt is empty.", param="messages")
        yield Message("user", (Text(prompt),))
        return
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes):
        raise InvalidRequest(
            f"The prompt is of the type {type(prompt).__name__}.",
            hint='Give a text, or a list of messages such as {"role": "user", "content": "Hi"}.',
            param="messages",
        )
    if not prompt:
        raise InvalidRequest("The prompt has no message.", param="messages")
    for at, item in enumerate(prompt):
        yield item if isinstance(item, Message) else _message(item, f"messages[{at}]")


def _message(item: Any, place: str) -> Message:
    if not isinstance(item, Mapping):
        raise InvalidRequest(f"{place} is of the type {type(item).__name__}, not a message.", param=place)
    role, content, name = item.get("role"), item.get("content"), item.get("name")
    strange = sorted(map(str, item.keys() - {"role", "content", "name"}))
    if strange:
        raise InvalidRequest(
            f"{place} has {', '.join(strange)}, which a dictionary cannot say here.",
            hint="Give a penstock.Message with parts: Text, Image, ToolUse, ToolResult ...",
            param=place,
        )
    if role not in ROLES:
        raise InvalidRequest(f"{place} has the role {role!r}.", hint=f"Use {', '.join(ROLES)}.", param=place)
    if name is not None and not isinstance(name, str):
        raise InvalidRequest(f"{place} has a name that is no text.", param=place)
    return Message(convert(role, Role), _parts(content, place), name)


def _parts(content: Any, place: str) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),)
    if isinstance(content, Sequence) and all(isinstance(part, PARTS) for part in content):
        return tuple(content)
    raise InvalidRequest(
        f"The content of {place} is neither a text nor a list of parts.",
        hint="Parts are penstock.Text, Image, ToolUse, ToolResult ...",
        param=place,
    )


# -- how long at most --


def _bound(content: Content) -> int | None:
    """Give a number of input tokens that is surely not exceeded: a token is at least a byte of text. None: not known."""
    size, is_text = 0, True
    todo: list[object] = [content.messages, content.tools, content.output]
    while todo:
        match todo.pop():
            case str(text):
                size += _bytes(text)
            case bytes(json):
                size += len(json)
            case tuple(values):
                todo += values
            case Struct() as value:
                size += MARKS
                is_text = is_text and not isinstance(value, Image | Audio | File | Foreign)
                todo += (getattr(value, name) for name in value.__struct_fields__)
            case _:
                pass
    return size if is_text else None


def _bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"The text has half a surrogate pair at offset {error.start}, which no provider takes.",
            hint="Decode bytes as UTF-8 with errors='replace' before they become a prompt.",
            param="messages",
        ) from None
