"""`penstock serve`: what it says, what it refuses, and how signals end it. The server itself is tested in tests/server."""

import http.client
import json
import re
import signal
import socket
import time

import pytest

URL = re.compile(r"http://(127\.0\.0\.1):(\d+)")
BODY = {"model": "fast", "messages": [{"role": "user", "content": "slow"}], "stream": True}


class Serving:
    """A server process that has said where it answers."""

    def __init__(self, process):
        self.process = process
        self.said = ""
        while "control" not in self.said:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            self.said += line
        host, port = URL.search(self.said).groups()
        self.connection = http.client.HTTPConnection(host, int(port), timeout=20)

    def get(self, path):
        self.connection.request("GET", path)
        reply = self.connection.getresponse()
        return reply.status, reply.read().decode()

    def begin(self, body):
        """Begin a stream and wait for its first content."""
        self.connection.request("POST", "/v1/chat/completions", json.dumps(body))
        reply = self.connection.getresponse()
        while b"content" not in reply.readline():
            pass
        return reply

    def end(self):
        """What it printed from now to its end, and its exit code. `communicate` would lose what `readline` has buffered."""
        rest, err = self.process.stdout.read(), self.process.stderr.read()
        self.connection.close()
        return rest, err, self.process.wait(20)


@pytest.fixture
def serve(process):
    return lambda *arguments: Serving(process("serve", *arguments))


def test_it_says_where_it_answers_and_how_to_try_it_and_a_signal_ends_it(serve):
    one = serve()
    answer = one.get("/healthz")
    one.process.send_signal(signal.SIGTERM)
    rest, err, code = one.end()

    said = one.said + rest
    assert answer == (200, "ok\n")
    assert (code, err) == (0, "")
    assert "(penstock.toml)" in said
    assert "models   fast, safe, chain" in said
    body = re.search(r"curl (\S+)/v1/chat/completions -d '(.*)'", said)
    assert URL.fullmatch(body[1])
    assert json.loads(body[2])["model"] == "fast"
    assert "make one: penstock keys create" in said


def test_without_a_model_of_ones_own_it_serves_what_its_providers_have(serve, folder):
    (folder / "penstock.toml").write_text('[providers.fake]\nkind = "scripted"\n')
    one = serve()
    answer = one.get("/readyz")
    one.process.send_signal(signal.SIGTERM)
    rest, err, code = one.end()

    assert (answer, code, err) == ((200, "ready\n"), 0, "")
    assert "models   none by a name of your own" in one.said + rest
    assert '"model": "fake/..."' in one.said + rest


def test_with_keys_the_line_to_try_asks_for_one_and_calls_of_a_dead_process_are_told(
    serve, penstock, process, receipts
):
    key = penstock("keys", "create", "--json").json["key"]
    dead = process("ask", "slow")
    while dead.stdout.read(1) != "e":
        pass
    dead.kill()
    dead.wait()

    one = serve()
    refused = one.get("/v1/models")[0]
    one.process.send_signal(signal.SIGINT)
    rest, err, code = one.end()

    assert (refused, code, err) == (401, 0, "")
    assert "-H 'authorization: Bearer ps-...'" in one.said
    assert "keys     none" not in one.said + rest
    assert "1 calls of an earlier process were cut" in one.said + rest
    assert [receipt["status"] for receipt in receipts()] == ["interrupted"]
    assert key not in one.said + rest


def test_a_signal_lets_a_call_in_flight_end(serve, receipts):
    one = serve()
    reply = one.begin({**BODY, "messages": [{"role": "user", "content": "slow"}], "max_tokens": 3})
    one.process.send_signal(signal.SIGTERM)
    rest = reply.read()
    _, err, code = one.end()

    assert rest.rstrip().endswith(b"data: [DONE]")
    assert (code, err) == (0, "")
    assert receipts()[0]["status"] == "ok"


def test_a_second_signal_ends_calls_at_once_and_their_receipts_are_kept(serve, receipts):
    one = serve()
    reply = one.begin(BODY)
    one.process.send_signal(signal.SIGTERM)
    time.sleep(0.05)  # two at the same moment would be one
    began = time.monotonic()
    one.process.send_signal(signal.SIGTERM)
    told = reply.read()
    _, _, code = one.end()

    assert told.count(b'"error"') == told.count(b'"code":"overloaded"') == 1
    assert code == 0
    assert time.monotonic() - began < 2
    assert [receipt["status"] for receipt in receipts()] == ["cancelled"]


def test_a_port_that_is_taken_is_named(penstock):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = penstock("serve", "--port", port)

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"Cannot listen on 127.0.0.1, port {port}: ")
    assert "ddress already in use" in done.err
    assert "--port" in done.err


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_a_host_that_others_can_reach_is_refused_without_a_key(penstock, host):
    done = penstock("serve", "--host", host)

    assert (done.code, done.out) == (1, "")
    assert f"{host} can be reached from elsewhere and there is no key yet" in done.err
    assert "penstock keys create" in done.err


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "x" * 70, "a..b"])
def test_a_host_that_is_not_this_machine_s_is_named(penstock, host):
    penstock("keys", "create")

    done = penstock("serve", "--host", host)

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"Cannot listen on {host}, port 0: ")


def test_a_certificate_that_cannot_be_loaded_is_a_mistake_of_the_configuration(penstock, folder):
    (folder / "a.pem").write_text("no certificate")
    config = (folder / "penstock.toml").read_text()
    tls = '[server]\ntls_cert = "a.pem"\ntls_key = "a.pem"\n'
    (folder / "penstock.toml").write_text(config.replace("[server]\n", tls))

    done = penstock("serve")

    assert done.code == 1
    assert "server.tls_cert" in done.err


def test_a_script_that_cannot_be_used_is_a_mistake_of_the_configuration(penstock, folder):
    (folder / "replies.toml").write_text("rules = 5")

    done = penstock("serve")

    assert done.code == 1
    assert "replies.toml has 1 mistake" in done.err


def test_a_home_that_cannot_be_written_is_named(penstock, monkeypatch, folder):
    (folder / "file").write_text("")
    monkeypatch.setenv("PENSTOCK_HOME", str(folder / "file" / "home"))

    done = penstock("serve")

    assert done.code == 3
    assert "cannot be made" in done.err


@pytest.mark.parametrize("options", [("--port", "70000"), ("--port", "x"), ("--host", ""), ("--workers",)])
def test_options_that_cannot_be_are_a_mistake_of_usage(penstock, options):
    assert penstock("serve", *options).code == 2
