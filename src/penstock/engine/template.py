"""Chat templates: the messages of a conversation as the one text that a model was trained to read.

The step before `encode`. Renders the Jinja templates of Hugging Face model folders as the `transformers` library does
(`apply_chat_template`), in a sandbox that bounds what they touch and do (`sandbox.py`). It adds nothing of its own: what
begins and ends a prompt stands in the template.

There is no clock here. A template that asks for today's date gets the time that the caller brings; without one, the
function it asks is not defined, and most templates then have a fixed date of their own.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import jinja2

from penstock.engine.errors import BadModel, EngineError
from penstock.engine.fuel import FUEL, Fuel
from penstock.engine.sandbox import Refused, Sandbox

MOST_CHARACTERS = 1_000_000
"""The longest source of a template. Those in use have up to 20,000 characters."""

BASE_FUEL = 4_000_000
FUEL_PER_UNIT = 64
"""What a render may do: so much, and this much more for each character or member of what it is given."""

SHOWN = 500
"""So much of what a template said goes into a message; it may have put the whole conversation into it."""


class ChatTemplate:
    """One model's chat template, compiled. May be used by several threads."""

    __slots__ = ("_special", "_template")

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        """Take the template's source and the texts it calls `bos_token` and `eos_token`.

        Raises `BadModel` where the source is no template that can be used.
        """
        if len(source) > MOST_CHARACTERS:
            raise BadModel(f"the chat template has {len(source)} characters; at most {MOST_CHARACTERS} are read")
        self._special = {"bos_token": bos, "eos_token": eos}
        try:
            self._template = Sandbox().load(source)
        except jinja2.TemplateSyntaxError as error:
            raise BadModel(
                f"the chat template cannot be used: line {error.lineno}: {str(error.message).rstrip('.')}. Correct chat_template in "
                "tokenizer_config.json (or chat_template.jinja), or take it from its source again"
            ) from error
        except (jinja2.TemplateError, RecursionError, MemoryError, SyntaxError, ValueError) as error:
            raise BadModel(
                f"the chat template cannot be used: {error or 'it is nested too deep'}. Take it from its source again"
            ) from error

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = True,
        now: datetime | None = None,
    ) -> str:
        """Give the prompt's text.

        messages                as in the chat API: role, content, tool_calls ..., of JSON types only
        tools                   as in the chat API: each with its type and function
        add_generation_prompt   end with the beginning of the assistant's answer
        now                     the time that `strftime_now` of a template writes; without it there is no such function

        Raises `EngineError` where the template refuses the messages (its message says why), or does anything that it may
        not, or more than any chat needs.
        """
        given = {"messages": _plain(messages), "tools": _plain(tools), "add_generation_prompt": add_generation_prompt}
        given |= self._special
        if now is not None:
            given["strftime_now"] = now.strftime
        meter = Fuel(_UNBOUNDED)
        meter.weigh((given["messages"], given["tools"]))
        fuel = Fuel(BASE_FUEL + FUEL_PER_UNIT * (_UNBOUNDED - meter.left))
        try:
            return "".join(self._template.generate({**given, FUEL: fuel}))
        except Refused as error:
            raise EngineError(f"the model's chat template refuses these messages: {str(error)[:SHOWN]}") from error
        except RecursionError as error:
            raise EngineError("the model's chat template calls itself without end") from error
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
            raise EngineError(f"the model's chat template cannot write these messages: {str(error)[:SHOWN]}") from error


_UNBOUNDED = 1 << 60


def _plain(value: object) -> object:
    """Copy JSON types, so that a template holds nothing that has methods of its own. Raises `EngineError` on others."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return str(value)
        case Mapping():
            return {str(name): _plain(member) for name, member in value.items()}
        case Sequence() if not isinstance(value, bytes | bytearray | memoryview):
            return [_plain(member) for member in value]
        case _:
            raise EngineError(f"messages and tools hold JSON values only, not a {type(value).__name__}")
