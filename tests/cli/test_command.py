"""Options from structs, errors to exit codes: on commands made up for it, and on the real ones through a shell's eyes."""

from pathlib import Path
from typing import Annotated

import pytest
import typer
from msgspec import Struct
from typer.testing import CliRunner

from penstock import errors
from penstock.cli.command import command, exit_code
from penstock.errors import (
    BudgetExhausted,
    ConfigError,
    Internal,
    InvalidRequest,
    NotFound,
    Overloaded,
    RateLimited,
    UnknownModel,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamRejected,
)


class Wishes(Struct, frozen=True):
    size: Annotated[int, typer.Option(help="How large.")]
    colour: Annotated[str, typer.Option(help="Of what colour.")] = "red"


def run(function, *arguments):
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(command(function))
    return CliRunner().invoke(app, arguments)


def test_the_fields_of_a_struct_are_options_beside_the_other_parameters():
    seen = []

    def make(
        name: Annotated[str, typer.Argument()],
        wishes: Wishes,
        *,
        loud: Annotated[bool, typer.Option("--loud")] = False,
    ):
        seen.append((name, wishes, loud))

    assert run(make, "ball", "--size", "3").exit_code == 0
    assert run(make, "ball", "--size", "3", "--colour", "blue", "--loud").exit_code == 0

    assert seen == [("ball", Wishes(3), False), ("ball", Wishes(3, "blue"), True)]


def test_a_field_without_a_default_has_to_be_given():
    def make(wishes: Wishes): ...

    result = run(make)

    assert result.exit_code == 2
    assert "--size" in result.stderr


def test_the_help_has_the_function_s_words_and_every_option():
    def make(wishes: Wishes):
        """Make a thing."""

    help_text = run(make, "--help").stdout

    assert all(words in help_text for words in ("Make a thing.", "--size", "How large.", "--colour", "Of what colour."))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequest("x"), 2),
        (ConfigError("x", ()), 1),
        (UnknownModel("x"), 1),
        (NotFound("x"), 1),
        (BudgetExhausted("x"), 1),
        (UpstreamRejected("x"), 1),
        (RateLimited("x"), 3),
        (Overloaded("x"), 3),
        (UpstreamRateLimited("x"), 3),
        (UpstreamFailed("x"), 3),
        (Internal("x"), 3),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_an_error_becomes_words_and_an_exit_code(error, code):
    def fail():
        typer.echo("half of")
        raise error

    result = run(fail)

    assert (result.exit_code, result.stdout) == (code, "half of\n")
    assert result.stderr.strip() == str(error).strip()


def test_every_error_there_is_has_an_exit_code():
    kinds = [errors.PenstockError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    made = [kind("x") if kind is not ConfigError else kind("x", ()) for kind in kinds]

    assert {exit_code(error) for error in made} == {1, 2, 3}


def test_an_error_with_a_receipt_says_where_to_look_at_it():
    def fail():
        error = UpstreamFailed("It broke.", hint="Mend it.")
        error.call_id = "01-id"
        raise error

    assert run(fail).stderr == "It broke. Mend it.\nIts receipt: penstock calls show 01-id\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.txt"), "a.txt: No such file or directory\n"),
        (OSError(28, "No space left on device"), "No space left on device\n"),
        (OSError("odd"), "odd\n"),
    ],
)
def test_the_system_s_own_errors_are_told_without_a_traceback(error, told):
    def fail():
        raise error

    result = run(fail)

    assert (result.exit_code, result.stderr) == (3, told)


def test_a_defect_is_not_hidden():
    def fail():
        raise ZeroDivisionError

    assert isinstance(run(fail).exception, ZeroDivisionError)


def test_a_reader_that_has_had_enough_is_no_error(process):
    with process("models") as whole:
        assert whole.stdout.readline()
        whole.stdout.close()
        assert (whole.stderr.read(), whole.wait()) == ("", 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk_below_the_standard_output_is_told(process):
    with Path("/dev/full").open("w") as full:
        one = process("models", stdout=full)
        assert "No space left on device" in one.communicate()[1]

    assert one.returncode == 3
