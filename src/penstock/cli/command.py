"""Makes commands of functions: how their options are gathered, and what becomes of an error.

A command takes few values, and a struct of options is one of them: each field of the struct is an option of the command.
Whatever goes wrong ends here, as words on the standard error and an exit code; nothing here knows what a command does.

    0  fine
    1  the answer is no: an invalid configuration, an unknown model, a refused call, a spent budget
    2  usage: the command line itself says something that cannot be
    3  could not find out: a provider or the disk failed, a limit says to come again later
    130  interrupted
"""

import os
import sys
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

import typer
from msgspec import NODEFAULT, Struct, structs

from penstock.cli.screen import note
from penstock.errors import (
    BudgetExhausted,
    CallerError,
    ConfigError,
    InvalidRequest,
    PenstockError,
    UpstreamRejected,
)

NO, USAGE, UNKNOWN = 1, 2, 3


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Give the function as typer has to see it; it raises `typer.Exit` where the exit code is not 0."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, type[Struct]] = {}
    parameters: list[Parameter] = []
    for name, parameter in signature(function).parameters.items():
        kind = hints[name]
        if isinstance(kind, type) and issubclass(kind, Struct):
            groups[name] = kind
            parameters += _options(kind)
        else:
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=kind))

    @wraps(function)
    def run(**values: Any) -> None:
        for name, kind in groups.items():
            values[name] = kind(**{field: values.pop(field) for field in kind.__struct_fields__})
        try:
            function(**values)
            sys.stdout.flush()
        except PenstockError as error:
            note(str(error))
            if error.call_id:
                note(f"Its receipt: penstock calls show {error.call_id}")
            raise typer.Exit(exit_code(error)) from None
        except BrokenPipeError:  # the reader has had enough, as `head` has
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            what = error.strerror or str(error)
            note(what if error.filename is None else f"{error.filename}: {what}")
            raise typer.Exit(UNKNOWN) from None

    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # a function has one, says inspect
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _options(kind: type[Struct]) -> list[Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is NODEFAULT else field.default,
            annotation=hints[field.name],
        )
        for field in structs.fields(kind)
    ]


def exit_code(error: PenstockError) -> int:
    """Say which of the four answers an error is."""
    if isinstance(error, InvalidRequest):
        return USAGE
    if isinstance(error, ConfigError | CallerError | BudgetExhausted | UpstreamRejected):
        return NO
    return UNKNOWN
