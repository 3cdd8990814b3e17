"""`penstock ask`: one streamed answer in the terminal, with its receipt."""

import sys
from typing import Annotated

import typer
from msgspec import Struct, structs

from penstock.cli.command import UNKNOWN, command
from penstock.cli.options import Config, Feature, Json, MaxTokens, Model, System, Team, read_text
from penstock.cli.screen import money, note, print_json, write
from penstock.client import Gateway
from penstock.ledger.reports import call_shape
from penstock.receipt import Receipt
from penstock.reply import Chunk, Failed, ReasoningDelta, RefusalDelta, TextDelta
from penstock.target import usd


class Options(Struct, frozen=True):
    """How to ask; see `penstock.client.Options`."""

    model: Model = None
    system: System = None
    feature: Feature = None
    team: Team = None
    max_tokens: MaxTokens = None
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="0 is the least random.")] = None
    seed: Annotated[int | None, typer.Option(help="The same seed, the same answer, where the model knows seeds.")] = None


@command
def ask(
    prompt: Annotated[str | None, typer.Argument(help="The prompt; - reads it from the standard input.")] = None,
    options: Options = Options(),  # noqa: B008 - frozen
    config: Config = None,
    json: Json = False,
) -> None:
    """Ask a model once, in this process: the same line as the server's, and a receipt in the same ledger.

    The answer goes to the standard output; thinking, remarks and the receipt go to the standard error. Exit code 3 says
    that no model could be reached.
    """
    text, asked = read_text(prompt), structs.asdict(options)
    with Gateway(config) as gateway:
        if json:
            answer = gateway.ask(text, **asked)
            print_json({"text": answer.text, "receipt": call_shape(answer.receipt)})
            receipt = answer.receipt
        else:
            receipt = _show(gateway.chunks(text, **asked))
    if receipt.status != "ok":
        raise typer.Exit(UNKNOWN)


class _Screen:
    """What stands on the screen so far: the answer on the standard output, all else on the standard error."""

    def __init__(self) -> None:
        self._thinking = False
        self._last = "\n"

    def show(self, chunk: Chunk) -> None:
        for event in chunk.events:
            match event:
                case ReasoningDelta(text=text, choice=0) if text:
                    self._thinking = True
                    write(text, sys.stderr, "dim italic")
                case TextDelta(text=text, choice=0) | RefusalDelta(text=text, choice=0) if text:
                    self._end_thinking()
                    self._last = text[-1]
                    write(text)
                case _:
                    pass

    def _end_thinking(self) -> None:
        if self._thinking:
            self._thinking = False
            note("")

    def end(self) -> None:
        """Let whatever comes next begin a line."""
        self._end_thinking()
        if self._last != "\n":
            self._last = "\n"
            write("\n")
