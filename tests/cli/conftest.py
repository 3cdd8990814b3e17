"""Commands run in this process, in an empty home, against scripted providers; and what they printed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

PENSTOCK = Path(sys.executable).with_name("penstock")

SCRIPT = """
rules = [
    { contains = "think", reasoning = "Let me see.", text = "42" },
    { contains = "decline", refusal = "I would rather not." },
    { contains = "down", fault = "refuse" },
    { contains = "busy", status = 429, retry_after_s = 30 },
    { contains = "reject", status = 400, message = "That is not allowed." },
    { contains = "break", text = "This is cut off here", fault = "reset", after_chunks = 2 },
    { contains = "escape", text = "\\u001b[31mred\\u0007 [/x] done" },
    { contains = "slow", text = "one two three four five six seven eight nine ten", chunk_ms = 400 },
    { contains = "count", text = "a b c d e f" },
    { text = "You said: {prompt}" },
]
"""
CONFIG = """
[server]
port = 0
[providers.fake]
kind = "scripted"
path = "replies.toml"
retries = 0
[models.fast]
targets = ["fake/m"]
[models.safe]
targets = ["fake/m"]
static = "We are busy."
[models.chain]
targets = ["fake/m", "fake/unpriced"]
[prices."fake/m"]
input = 1
output = 2
[teams.web]
models = ["fast"]
budget_usd = { day = 10 }
[teams.poor]
budget_usd = { day = 0 }
[features.short]
model = "fast"
max_tokens = 3
"""


class Ran:
    """What a command left behind."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def rows(self):
        return [line.split("\t") for line in self.out.splitlines()]


@pytest.fixture
def folder(tmp_home, tmp_path, monkeypatch):
    """The working directory of a user who has a penstock.toml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "replies.toml").write_text(SCRIPT)
    (tmp_path / "penstock.toml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def penstock(folder):
    """Run `penstock ...` in this process; give its exit code and what it printed."""
    from penstock.cli import app

    def run(*arguments, stdin=None):
        result = CliRunner().invoke(app, [str(one) for one in arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def receipts(penstock):
    """Give every receipt in the ledger, newest first."""

    def read():
        return penstock("calls", "--json").json["calls"]

    return read


@pytest.fixture
def process(folder):
    """Start `penstock ...` as a process of its own; whatever still runs after the test is ended."""
    started = []

    def start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options):
        command = [PENSTOCK, *map(str, arguments)]
        one = subprocess.Popen(command, stdout=stdout, stderr=stderr, text=True, env=os.environ.copy(), **options)
        started.append(one)
        return one

    yield start
    for one in started:
        if one.poll() is None:
            one.send_signal(signal.SIGKILL)
        one.wait()
        for pipe in (one.stdout, one.stderr):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def terminal(folder):
    """Run `penstock ...` at a terminal of 80 columns; give what it showed, colours and all."""
    import pty

    def run(*arguments):
        ours, theirs = pty.openpty()
        environ = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80"}
        one = subprocess.Popen([PENSTOCK, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:  # Linux says so where macOS gives nothing: the other end is closed
            pass
        finally:
            os.close(ours)
        return Ran(one.wait(), shown.decode().replace("\r\n", "\n"), "")

    return run
