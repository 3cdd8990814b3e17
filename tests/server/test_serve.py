"""The server as a process: how it begins, how signals end it, and with what exit code."""

import http.client
import json
import re
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest
from tests.e2e.conftest import PENSTOCK, Served, end

from penstock.ledger.store import FILE, Filter, Span, Store

WORDS = " ".join(f"word{number}" for number in range(40))
SCRIPT = f"""
[[rules]]
contains = "slow"
text = "{WORDS}"
chunk_ms = 25
[[rules]]
contains = "stuck"
fault = "stall"
[[rules]]
text = "Hello."
"""
CONFIG = """
[providers.fake]
kind = "scripted"
path = "replies.toml"
free = true
first_byte_s = 600
[models.fast]
targets = ["fake/m"]
"""


@contextmanager
def serving(folder, config=CONFIG):
    """A server process that has been started."""
    (folder / "replies.toml").write_text(SCRIPT)
    gateway = Served(folder, config)
    gateway.start()
    try:
        yield gateway
    finally:
        end(gateway.process)
    assert "Traceback" not in gateway.log.read_text()


def ended(gateway, number, seconds=15):
    """Send a signal and wait for the end; give the exit code and how long it took."""
    began = time.monotonic()
    gateway.process.send_signal(number)
    code = gateway.process.wait(seconds)
    return code, time.monotonic() - began


def receipts(gateway):
    store = Store.open(gateway.home / FILE)
    try:
        return store.calls(Filter(Span(0, 2**62)), 1000)
    finally:
        store.close()


class Reader(threading.Thread):
    """A client that reads a whole stream."""

    def __init__(self, gateway, prompt):
        super().__init__()
        self.connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
        body = {"model": "fast", "stream": True, "messages": [{"role": "user", "content": prompt}]}
        self.connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        self.reply = None
        self.data = b""

    def run(self):
        try:
            self.reply = self.connection.getresponse()
            while piece := self.reply.read1(65_536):
                self.data += piece
        except (OSError, http.client.HTTPException):
            pass
        finally:
            self.connection.close()


def wait_until(holds, seconds=5):
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.005)


# -- the beginning --


def test_it_says_where_it_serves_and_how_to_try_it(tmp_path):
    with serving(tmp_path) as gateway:
        said = gateway.log.read_text()

    assert gateway.url in said
    assert "curl" in said
    assert "penstock keys create" in said


def test_port_0_takes_a_free_one_and_tells_which(tmp_path):
    (tmp_path / "replies.toml").write_text(SCRIPT)
    gateway = Served(tmp_path, CONFIG)
    with gateway.log.open("wb") as out:
        gateway.process = subprocess.Popen(
            [PENSTOCK, "serve", "--port", "0"], env=gateway.environ, stdout=out, stderr=out
        )
    try:
        wait_until(lambda: re.search(r"http://127\.0\.0\.1:\d+", gateway.log.read_text()), 20)
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)", gateway.log.read_text())[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/readyz")
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        end(gateway.process)


def refused(folder, *arguments, config=CONFIG, **files):
    """Run `penstock serve` on something that cannot be served; give its exit code and what it said."""
    (folder / "replies.toml").write_text(SCRIPT)
    gateway = Served(folder, config)
    done = subprocess.run(
        [PENSTOCK, "serve", *arguments], env=gateway.environ, capture_output=True, text=True, timeout=30, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


def test_a_configuration_with_mistakes_is_refused_with_all_of_them(tmp_path):
    code, said = refused(tmp_path, "--port", "0", config=CONFIG + "[server]\nprot = 1\ndeadline_s = -1\n")

    assert code == 1
    assert "prot" in said
    assert "deadline_s" in said


def test_a_configuration_that_is_not_there_is_refused(tmp_path):
    code, said = refused(tmp_path, "--config", str(tmp_path / "none.toml"))

    assert code == 1
    assert "none.toml" in said


@pytest.mark.parametrize("arguments", [("--prot", "1"), ("--port", "x"), ("--port", "65536"), ("surplus",)])
def test_an_option_that_is_none_is_a_mistake_of_usage(tmp_path, arguments):
    code, said = refused(tmp_path, *arguments)

    assert code == 2
    assert said


def test_other_machines_are_let_in_only_where_there_are_keys(tmp_path):
    code, said = refused(tmp_path, "--host", "0.0.0.0", "--port", "0")

    assert code == 1
    assert "penstock keys create" in said


def test_a_certificate_that_cannot_be_loaded_is_refused(tmp_path):
    (tmp_path / "cert.pem").write_text("no certificate")
    tls = f'[server]\ntls_cert = "{tmp_path / "cert.pem"}"\ntls_key = "{tmp_path / "cert.pem"}"\n'
    code, said = refused(tmp_path, "--port", "0", config=CONFIG + tls)

    assert code == 1
    assert "cert.pem" in said or "tls_cert" in said


def test_a_port_that_is_taken_is_said_to_be_taken(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, said = refused(tmp_path, "--port", str(port))

    assert code in {1, 3}
    assert str(port) in said


def test_a_home_that_is_no_folder_is_said_to_be_none(tmp_path):
    (tmp_path / "home").write_text("a file")
    code, said = refused(tmp_path, "--port", "0")

    assert code == 3
    assert "home" in said
    assert "PENSTOCK_HOME" in said


# -- the end --


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_ends_at_once(tmp_path, number):
    with serving(tmp_path) as gateway:
        code, took = ended(gateway, number)

    assert code == 0
    assert took < 3


def test_a_signal_right_after_the_start_ends_it_as_well_as_any(tmp_path):
    names = ("gpt-4", "gpt-4o", "mistral-large-latest", "qwen3-32b", "deepseek-chat", "llama-3.3-70b")
    models = "".join(f'[models."{name}"]\ntargets = ["fake/{name}"]\n' for name in names)
    (tmp_path / "replies.toml").write_text(SCRIPT)
    gateway = Served(tmp_path, CONFIG + models)
    with gateway.log.open("wb") as out:
        gateway.process = subprocess.Popen(
            [PENSTOCK, "serve", "--port", str(gateway.port)], env=gateway.environ, stdout=out, stderr=out
        )
    try:
        wait_until(lambda: gateway.url in gateway.log.read_text(), 20)
        code, _ = ended(gateway, signal.SIGTERM)
    finally:
        end(gateway.process)

    assert code == 0


def test_idle_connections_do_not_hold_up_the_end(tmp_path):
    with serving(tmp_path) as gateway:
        idle = [http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=5) for _ in range(3)]
        for connection in idle:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
        code, took = ended(gateway, signal.SIGTERM)
        for connection in idle:
            connection.close()

    assert code == 0
    assert took < 3


def test_streams_in_flight_are_finished_while_readiness_is_off(tmp_path):
    with serving(tmp_path) as gateway:
        silent = socket.create_connection(("127.0.0.1", gateway.port))  # open before, and asking only now
        readers = [Reader(gateway, "slow") for _ in range(20)]
        for reader in readers:
            reader.start()
        wait_until(lambda: all(b"word0" in reader.data for reader in readers))
        gateway.process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        silent.sendall(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = silent.recv(4096)
        silent.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", gateway.port)).close()
        code = gateway.process.wait(15)
        for reader in readers:
            reader.join()
        statuses = [receipt.status for receipt in receipts(gateway)]

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"draining" in answer
    assert code == 0
    for reader in readers:
        assert reader.data.endswith(b"data: [DONE]\n\n")
        assert b"word39" in reader.data
    assert statuses == ["ok"] * 20


def test_a_second_signal_ends_what_is_left(tmp_path):
    with serving(tmp_path) as gateway:
        reader = Reader(gateway, "stuck")
        reader.start()
        time.sleep(0.2)
        gateway.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert gateway.process.poll() is None, "it did not wait for the call"
        code, took = ended(gateway, signal.SIGTERM)
        reader.join()
        (receipt,) = receipts(gateway)

    assert code == 0
    assert took < 4
    assert receipt.status == "cancelled"
    assert reader.reply is not None
    assert reader.reply.status == 503


def test_what_outlasts_the_time_for_draining_is_cut_with_a_receipt(tmp_path):
    with serving(tmp_path, CONFIG + "[server]\ndrain_s = 0.3\n") as gateway:
        reader = Reader(gateway, "stuck")
        reader.start()
        time.sleep(0.2)
        code, took = ended(gateway, signal.SIGTERM)
        reader.join()
        (receipt,) = receipts(gateway)

    assert code == 0
    assert 0.25 < took < 5
    assert receipt.status == "cancelled"


def test_a_server_leaves_no_journal_behind_and_its_next_start_finds_all_calls(tmp_path):
    with serving(tmp_path) as gateway:
        for _ in range(5):
            reader = Reader(gateway, "hi")
            reader.start()
            reader.join()
        ended(gateway, signal.SIGTERM)
        assert list((gateway.home / "journal").iterdir()) == []
        gateway.start()
        assert len(receipts(gateway)) == 5
