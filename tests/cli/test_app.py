"""The commands as a whole: what there is, what each one answers to `--help`, and how a start goes wrong."""

import socket

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
        *("alerts test", "ask", "budgets", "calls", "calls show", "calls tail", "check", "estimate"),
        *("keys create", "keys list", "keys revoke", "keys rotate", "keys set"),
        *("models apply", "models diff", "models list"),
        *("plan", "reconcile", "reload", "serve", "spend", "tokens"),
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


READ_ONE = [path for path in COMMANDS if path != ["reload"]]
"""Commands that read a configuration; `reload` leaves that to the server."""


@pytest.mark.parametrize("path", READ_ONE, ids=" ".join)
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


@pytest.mark.parametrize("path", [path for path in PRINT_DATA if path[-1] not in {"tail", "reload"}], ids=" ".join)
def test_no_command_shows_a_traceback_for_a_broken_configuration(penstock, folder, path):
    (folder / "penstock.toml").write_text("[models\n")

    done = penstock(*path, *ASKED.get(path[-1], []))

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("penstock.toml has 1 mistake")


SECRET = "sk-canary-4711-of-the-provider"
ASKED = {
    "ask": ["Hi"],
    "plan": ["Hi"],
    "tokens": ["Hi"],
    "show": ["x"],
    "revoke": ["x"],
    "rotate": ["x"],
    "set": ["x", "--rpm", "5"],
    "diff": ["x"],
    "apply": ["x"],
    "reconcile": ["x"],
}


@pytest.mark.parametrize("json", [(), ("--json",)])
def test_no_command_shows_a_secret_and_a_provider_that_cannot_be_reached_is_told(penstock, folder, monkeypatch, json):
    monkeypatch.setenv("BOX_KEY", SECRET)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    (folder / "penstock.toml").write_text(f"""
[providers.box]
kind = "openai"
api_key = "env:BOX_KEY"
base_url = "http://127.0.0.1:{port}/v1"
retries = 0
[models.fast]
targets = ["box/m"]
""")
    done = {
        " ".join(path): penstock(*path, *ASKED.get(path[-1], []), *json) for path in PRINT_DATA if path[-1] != "tail"
    }

    assert done["ask"].code == 3
    assert f"127.0.0.1:{port}" in done["ask"].err
    assert not [name for name, one in done.items() if SECRET in one.out + one.err]
    assert not [name for name, one in done.items() if "Traceback" in one.err]


def test_an_answer_that_the_terminal_s_encoding_cannot_show_is_no_crash(process, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")

    one = process("ask", "Grüße")

    assert one.communicate()[0] == "You said: Gr??e\n"
    assert one.returncode == 0
