"""`penstock ask`: one streamed answer in the terminal, with its receipt."""

import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from msgspec import Struct, structs

from penstock.cli.command import UNKNOWN, command
from penstock.cli.explain import CANDIDATES, print_steps, steps_of
from penstock.cli.options import Config, Feature, Json, MaxTokens, Model, System, Team, read_text
from penstock.cli.screen import money, note, print_json, write
from penstock.ledger.reports import call_shape
from penstock.receipt import Receipt
from penstock.reply import Chunk, Event, Failed, ReasoningDelta, RefusalDelta, TextDelta, fold
from penstock.target import usd


class Options(Struct, frozen=True):
    """How to ask; see `penstock.client.Options`."""

    model: Model = None
    system: System = None
    feature: Feature = None
    team: Team = None
    max_tokens: MaxTokens = None
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="0 is the least random.")] = None
    seed: Annotated[int | None, typer.Option(help="The same seed, the same answer, where the model knows seeds.")] = (
        None
    )


@command
def ask(
    prompt: Annotated[str | None, typer.Argument(help="The prompt; - reads it from the standard input.")] = None,
    options: Options = Options(),  # noqa: B008 - frozen
    config: Config = None,
    json: Json = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell how each token was drawn (embedded models).")
    ] = False,
) -> None:
    """Ask a model once.

    The call is made in this process: the same line as the server's, and a receipt in the same ledger. The answer goes to the standard output; thinking, remarks and the receipt go to the standard error. Exit code 3 says
    that no model could be reached.
    """
    from penstock.client import Gateway

    text, asked = read_text(prompt), structs.asdict(options)
    if explain:
        asked["explain"] = CANDIDATES
    with Gateway(config) as gateway:
        if json:
            answer = gateway.ask(text, **asked)
            told = {"steps": steps_of(answer.reply)} if explain else {}
            print_json({"text": answer.text, **told, "receipt": call_shape(answer.receipt)})
            receipt = answer.receipt
        else:
            events: list[Event] = []
            receipt = _show(gateway.chunks(text, **asked), events)
            if explain:
                print_steps(steps_of(fold(events)), receipt.target or "")
    _remark(receipt)
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


def _show(chunks: Iterator[Chunk], events: list[Event]) -> Receipt:
    """Show an answer as it comes, keep its events, and tell its receipt. Raises what ended it early, with the receipt's id."""
    screen, receipt, error = _Screen(), None, None
    try:
        for chunk in chunks:
            screen.show(chunk)
            events += chunk.events
            receipt = chunk.receipt
            error = next((event.error for event in chunk.events if isinstance(event, Failed)), None)
    except KeyboardInterrupt:
        screen.end()
        note("Interrupted: the provider is no longer listened to, and what it did so far stands in `penstock calls`.")
        raise
    finally:
        screen.end()
    assert receipt is not None, "the last chunk of every call has its receipt"
    note(_told(receipt), "dim")
    if error is not None:
        error.call_id = receipt.id
        raise error
    return receipt


def _told(receipt: Receipt) -> str:
    """Tell a receipt in one line."""
    usage, tries = receipt.usage, len(receipt.tries)
    cost = None if receipt.cost_nano_usd is None else usd(receipt.cost_nano_usd)
    parts = [
        receipt.target or "no target",
        f"{usage.input_tokens} + {usage.output_tokens} tokens",
        f"{money(cost)} ({receipt.cost_status})",
        f"{receipt.total_us / 1000:.0f} ms",
        *([f"{tries} tries"] if tries > 1 else ()),
        *([f"ended by {receipt.finish_reason}"] if receipt.finish_reason not in {None, "stop"} else ()),
        receipt.id,
    ]
    return " · ".join(parts)


def _remark(receipt: Receipt) -> None:
    if receipt.status == "degraded":
        note("No model could be reached; this is the fixed text of the configuration.")
