"""Runs the examples of a page: shell commands and Python programs, in one folder with one server, and compares what they print.

A `console` block holds `$ commands`, each with what it prints; a `python` block may be followed by a `text` block with what
it prints; a `toml` block is written to penstock.toml, where the commands after it find it. `...` in what is printed
stands for anything.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
DEFAULT_URL = "http://127.0.0.1:8420"
BIN = Path(sys.executable).parent


class Block(NamedTuple):
    """One example of a page: its language, its text, the line on which it stands, and what a program prints."""

    language: str
    text: str
    line: int
    printed: str = ""


def blocks(page):
    """The examples of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        language, body = match.groups()
        if language == "text" and found and found[-1].language == "python":
            found[-1] = found[-1]._replace(printed=body)
        else:
            found.append(Block(language, body, text[: match.start()].count("\n") + 1))
    return found


def matches(printed, expected):
    """Whether a text is the expected one, in which `...` stands for anything."""
    parts = [re.escape(part) for part in expected.strip().split("...")]
    return re.fullmatch(".*?".join(parts), printed.strip(), re.DOTALL) is not None


class Reader:
    """Somebody who does what a page says, in a folder of their own, with a server that runs."""

    def __init__(self, folder, url):
        self.folder = folder
        self.url = url
        self.environ = environ(folder)

    def follow(self, block):
        """Do what one block says; give what went otherwise than it says."""
        if block.language == "toml":
            (self.folder / "penstock.toml").write_text(block.text, encoding="utf-8")
            return []
        if block.language == "python":
            return self._compare(self._run([sys.executable, "-c", self._real(block.text)]), block.printed, block)
        return [wrong for command, printed in self._commands(block) for wrong in self._try(command, printed, block)]

    def _commands(self, block):
        """The commands of a console block, each with what it prints."""
        found = []
        for line in block.text.splitlines():
            if line.startswith("$ "):
                found.append([line[2:], ""])
            else:
                found[-1][1] += f"{line}\n"
        return found

    def _try(self, command, printed, block):
        if command.startswith("make "):
            targets = re.findall(r"^([a-z]+):", (Path(__file__).parents[1] / "Makefile").read_text(), re.MULTILINE)
            target = command.split()[1]
            return [] if target in targets else [f"line {block.line}: there is no `make {target}`"]
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            self.environ[name] = self._run(["bash", "-c", f"exec 2>/dev/null; printf %s {value}"]).strip()
            return []
        if command.startswith("curl ") and shutil.which("curl") is None:
            return []  # the tests of the server make the same requests by other means
        if command.startswith("curl ") and " -s" not in command:
            command = command.replace("curl ", "curl -s ", 1)
        return self._compare(self._run(["bash", "-c", self._real(command)]), printed, block)

    def _compare(self, printed, expected, block):
        if matches(printed, expected):
            return []
        return [f"line {block.line}: expected\n{expected}\nand it printed\n{printed}"]

    def _run(self, command):
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
            timeout=60,
        )
        return done.stdout

    def _real(self, text):
        return text.replace(DEFAULT_URL, self.url)


def environ(folder):
    """What a user has in the environment, and nothing that this machine's owner may have exported."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "PENSTOCK_HOME": str(folder / "home"), "OPENAI_API_KEY": "sk-none", "COLUMNS": "80"}


@contextmanager
def reader(folder):
    """Serve with the built-in defaults, as `make serve` does, while somebody follows a page."""
    names = environ(folder)
    server = subprocess.Popen(
        [BIN / "penstock", "serve", "--port", "0"], cwd=folder, env=names, stdout=subprocess.PIPE, text=True
    )
    try:
        said = ""
        while "control" not in said:
            line = server.stdout.readline()
            assert line, f"the server ended: {said}"
            said += line
        yield Reader(folder, re.search(r"http://127\.0\.0\.1:\d+", said)[0])
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)
        server.stdout.close()


def follow(page, folder):
    """Do all that a page says, from top to bottom; give what went otherwise than it says."""
    with reader(folder) as somebody:
        wrong = [somebody.follow(block) for block in blocks(page) if block.language in ("console", "python", "toml")]
    return [text for texts in wrong for text in texts]
