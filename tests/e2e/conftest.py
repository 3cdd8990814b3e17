"""A real model server and a real gateway process, for tests that go the whole way."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from tests.e2e.model import write_model

HERE = Path(__file__).parent
PENSTOCK = Path(sys.executable).with_name("penstock")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(url, process, log, *, seconds=30):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            pytest.fail(f"the process ended with {process.returncode}:\n{log.read_text()}")
        try:
            with urlopen(url, timeout=5) as reply:
                if reply.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.02)
    pytest.fail(f"{url} did not answer:\n{log.read_text()}")


def end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    """The base URL of the real llama.cpp server on a small random model."""
    folder = tmp_path_factory.mktemp("llama")
    model, log, port = write_model(folder / "tiny.gguf"), folder / "log", free_port()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "model.py"), str(model), str(port)],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.communicate()


class Served:
    """One gateway process with its home and configuration."""

    def __init__(self, folder, config):
        self.home = folder / "home"
        self.config = folder / "penstock.toml"
        self.config.write_text(config)
        self.log = folder / "log"
        self.port = free_port()
        self.process = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def environ(self):
        kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
        return kept | {"PENSTOCK_HOME": str(self.home), "PENSTOCK_CONFIG": str(self.config)}

    def start(self):
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [PENSTOCK, "serve", "--port", str(self.port)], env=self.environ, stdout=out, stderr=out
            )
        wait_for(f"{self.url}/healthz", self.process, self.log)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def command(self, *arguments):
        """Run `penstock ...` in the same home; give what it printed."""
        done = subprocess.run(
            [PENSTOCK, *arguments], env=self.environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def served(folder, config):
    gateway = Served(folder, config)
    gateway.start()
    try:
        yield gateway
    finally:
        end(gateway.process)


@pytest.fixture(scope="session")
def gateway(llama, tmp_path_factory):
    """A gateway in front of the real model."""
    config = f"""
[providers.box]
kind = "openai"
base_url = "{llama}"

[models.fast]
targets = ["box/tiny"]

[prices."box/tiny"]
input = 0.15
output = 0.6
"""
    with served(tmp_path_factory.mktemp("gateway"), config) as one:
        yield one
