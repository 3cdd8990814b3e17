"""The commands as a whole: what there is, what each one answers to `--help`, and how a start goes wrong."""

import pytest
import typer

from penstock import __version__
from penstock.cli import app

GROUP = typer.main.get_command(app)
COMMANDS = [
    *([name] for name, command in GROUP.commands.items() if not hasattr(command, "commands") or name == "calls"),
    *([name, inner] for name, group in GROUP.commands.items() for inner in getattr(group, "commands", ())),
]
PRINT_DATA = [path for path in COMMANDS if path != ["serve"]]


def test_every_command_of_this_version_is_there():
    assert sorted(map(" ".join, COMMANDS)) == [
        *("ask", "calls", "calls show", "calls tail", "check"),
        *("keys create", "keys list", "keys revoke", "keys rotate"),
        *("models", "plan", "serve", "spend", "tokens"),
    ]


@pytest.mark.parametrize("path", [[], ["keys"], *COMMANDS], ids=" ".join)
def test_every_command_has_a_help_that_says_what_it_does_and_all_its_options(penstock, path):
    done = penstock(*path, "--help")

    assert done.code == 0
    assert len(done.out.splitlines()[2].strip()) > 10
    described = [line for line in done.out.splitlines() if line.startswith("  -")]
    assert all(len(line.split("  ")) > 2 or line.split("  ")[1] for line in described)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_first_words_of_a_help_fit_into_the_list_of_commands(penstock, path):
    commands = penstock(*path[:-1], "--help").out.partition("Commands:")[2]

    assert commands
    assert "..." not in commands


@pytest.mark.parametrize("path", PRINT_DATA, ids=" ".join)
def test_every_command_that_prints_data_takes_json(penstock, path):
    assert "--json" in penstock(*path, "--help").out


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_takes_a_configuration(penstock, path):
    assert "--config" in penstock(*path, "--help").out


def test_the_version_is_the_package_s(penstock):
    assert penstock("--version").out == f"penstock {__version__}\n"


def test_without_a_command_there_is_the_help_as_a_mistake_of_usage(penstock):
    done = penstock()

    assert done.code == 2
    assert "Usage: penstock" in done.out + done.err


@pytest.mark.parametrize("path", [["nope"], ["keys", "nope"], ["calls", "nope"], ["ask", "a", "b"]], ids=" ".join)
def test_what_is_no_command_is_a_mistake_of_usage(penstock, path):
    assert penstock(*path).code == 2


@pytest.mark.parametrize("path", [path for path in PRINT_DATA if path[-1] != "tail"], ids=" ".join)
def test_no_command_shows_a_traceback_for_a_broken_configuration(penstock, folder, path):
    (folder / "penstock.toml").write_text("[models\n")
    arguments = {"show": ["x"], "revoke": ["x"], "rotate": ["x"], "ask": ["Hi"], "plan": ["Hi"], "tokens": ["Hi"]}

    done = penstock(*path, *arguments.get(path[-1], []))

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("penstock.toml has 1 mistake")


def test_an_answer_that_the_terminal_s_encoding_cannot_show_is_no_crash(process, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")

    one = process("ask", "Grüße")

    assert one.communicate()[0] == "You said: Gr??e\n"
    assert one.returncode == 0
