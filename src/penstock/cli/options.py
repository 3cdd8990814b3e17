"""Options and arguments that several commands share, and where a command takes its text from."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from penstock.errors import InvalidRequest

Config = Annotated[str | None, typer.Option("--config", "-c", help="The configuration file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Model = Annotated[str | None, typer.Option("--model", "-m", help="A configured model, or provider/model.")]
Team = Annotated[str | None, typer.Option("--team", help="The team that pays.")]
Feature = Annotated[str | None, typer.Option("--feature", help="The feature that pays.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", min=1, help="At most so many tokens of answer.")]
System = Annotated[str | None, typer.Option("--system", help="A system text before the prompt.")]
Since = Annotated[str, typer.Option("--since", help="today, yesterday, 24h, 7d, 2026-11-01, 2026-11-01T09:00 ...")]
Until = Annotated[str | None, typer.Option("--until", help="As --since; now if left out.")]
Zone = Annotated[str, typer.Option("--zone", help="The time zone of days and hours: an IANA name.")]


def read_text(given: str | None, file: Path | None = None) -> str:
    """Give the text that a command is about: of a file, of the standard input (`-`, or nothing given), or as it stands.

    Raises InvalidRequest where there is none, or where it is not text or cannot be read.
    """
    if file is not None:
        if given is not None:
            raise InvalidRequest("Give a text or --file, not both.")
        try:
            return _decoded(file.read_bytes(), str(file))
        except OSError as error:
            raise InvalidRequest(f"{file} cannot be read: {error.strerror}.", hint="Correct the path.") from None
    if given is not None and given != "-":
        return _decoded(given.encode("utf-8", "surrogateescape"), "The argument")
    if given is None and sys.stdin.isatty():
        raise InvalidRequest("Give a text, or - to type one.")
    return _decoded(sys.stdin.buffer.read(), "The standard input")


def read_bounded(file: Path, most_bytes: int, hint: str) -> bytes:
    """Give a whole file. Raises InvalidRequest, with the hint where it is longer than it may be."""
    try:
        with file.open("rb") as opened:
            data = opened.read(most_bytes + 1)
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}.", hint="Correct the path.") from None
    if len(data) > most_bytes:
        raise InvalidRequest(f"{file} has more than {most_bytes} bytes.", hint=hint)
    return data


def _decoded(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"{what} is not UTF-8 text: byte {data[error.start]:#04x} at offset {error.start}.",
            hint="Models take text; turn it into UTF-8 first.",
        ) from None
