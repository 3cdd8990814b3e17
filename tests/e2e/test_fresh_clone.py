"""Two commands on a fresh machine: a clone, `make serve`, an unchanged OpenAI client, `penstock spend`."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from tests.e2e.conftest import free_port, wait_for

ROOT = Path(__file__).parents[2]
SETUP_S = 600
HI = [{"role": "user", "content": "What is penstock?"}]

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2 * SETUP_S)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The repository as somebody else gets it: what is committed, and nothing of this environment."""
    for tool in ("git", "make"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    folder = tmp_path_factory.mktemp("fresh") / "penstock"
    subprocess.run(["git", "clone", "--quiet", "--no-local", str(ROOT), str(folder)], check=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def environ():
    foreign = re.compile(r"PENSTOCK_|.*_API_KEY$|VIRTUAL_ENV|PYTHON|UV_PROJECT|COV_|PYTEST|MAKE")
    return {name: value for name, value in os.environ.items() if not foreign.match(name)}


@contextmanager
def made(clone, environ, port):
    """`make serve` in the clone, until it answers; at the end it is asked to stop."""
    log = clone.parent / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["make", "serve", f"ARGS=--port {port}"],
            cwd=clone,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz", process, log, seconds=SETUP_S)
        yield process, log
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def test_a_fresh_clone_serves_an_unchanged_client_and_knows_what_was_spent(clone, environ):
    port = free_port()
    with made(clone, environ, port) as (process, log):
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
            model = client.models.list().data[0].id
            whole = client.chat.completions.create(model=model, messages=HI)
            parts = list(client.chat.completions.create(model=model, messages=HI, stream=True))
        said = log.read_text()
        penstock = clone / ".venv" / "bin" / "penstock"
        spent = json.loads(
            subprocess.run(
                [penstock, "spend", "--json"], cwd=clone, env=environ, capture_output=True, check=True, timeout=60
            ).stdout
        )
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)

    assert whole.choices[0].message.content
    assert whole.usage.completion_tokens > 0
    assert "".join(chunk.choices[0].delta.content or "" for chunk in parts if chunk.choices)
    assert f"http://127.0.0.1:{port}" in said
    assert "curl" in said
    assert spent["total"]["calls"] == 2
    assert spent["total"]["output_tokens"] > 0
    assert spent["total"]["cost_status"] == "free"
    assert not (clone.parent / ".penstock").exists()
    changed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True, timeout=60
    )
    assert changed.stdout == "", "serving leaves files that git would take for new"


def test_the_second_start_is_quick(clone, environ):
    port = free_port()
    with made(clone, environ, port):  # whatever has to be set up is there now
        pass
    port, began = free_port(), time.monotonic()
    with made(clone, environ, port):
        took = time.monotonic() - began

    assert took < 10
