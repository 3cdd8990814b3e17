"""`penstock ask`: one streamed answer in the terminal, with its receipt."""

import sys
from typing import Annotated

import typer

from penstock.cli.options import Config, Feature, Json, Model
from penstock.cli.screen import console, money, print_json
from penstock.receipt import Receipt
from penstock.reply import Failed, ReasoningDelta, TextDelta, ToolUseDelta, ToolUseStarted
from penstock.target import usd


def ask(
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from the standard input.")],
    model: Model = None,
    system: Annotated[str | None, typer.Option(help="A system text before the prompt.")] = None,
    feature: Feature = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="At most so many tokens of answer.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2)] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Ask a model once, in this process: the same line as the server's, and a receipt in the same ledger."""
    from penstock.client import Gateway
    from penstock.ledger.reports import call_shape

    text = sys.stdin.read() if prompt == "-" else prompt
    options = {"system": system, "feature": feature, "max_tokens": max_tokens, "temperature": temperature}
    with Gateway(config) as gateway:
        if json:
            answer = gateway.ask(text, model=model, **options)
            print_json({"text": answer.text, "receipt": call_shape(answer.receipt)})
            return
        receipt = None
        for chunk in gateway.chunks(text, model=model, **options):
            for event in chunk.events:
                _show(event)
            receipt = chunk.receipt
    sys.stdout.write("\n")
    sys.stdout.flush()
    if receipt is not None:
        _say(receipt)
        if receipt.status == "error":
            raise typer.Exit(3)


def _show(event: object) -> None:
    match event:
        case TextDelta() | ReasoningDelta():
            sys.stdout.write(event.text)
        case ToolUseStarted():
            sys.stdout.write(f"\n{event.name} ")
        case ToolUseDelta():
            sys.stdout.write(event.arguments)
        case Failed():
            sys.stderr.write(f"\n{event.error}\n")
    sys.stdout.flush()


def _say(receipt: Receipt) -> None:
    """Print the receipt as one line, to the standard error so that the answer can be piped."""
    usage = receipt.usage
    cost = None if receipt.cost_nano_usd is None else usd(receipt.cost_nano_usd)
    tries = len(receipt.tries)
    line = (
        f"{receipt.target} · {usage.input_tokens} + {usage.output_tokens} tokens · {money(cost)} "
        f"({receipt.cost_status}) · {receipt.total_us / 1000:.0f} ms"
    )
    if tries > 1:
        line += f" · {tries} tries"
    if sys.stderr.isatty():
        console.print(f"[dim]{line} · {receipt.id}[/dim]")
    else:
        sys.stderr.write(f"{line} · {receipt.id}\n")
