"""`penstock alerts test` against webhooks that listen, that do not want it, and that are not there."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from penstock.cli.alerts import _named

TABLE = '[alerts]\nwebhook = "env:ALERT_WEBHOOK"\n'


class Received(ThreadingHTTPServer):
    """A webhook that answers with one status and keeps what it got."""

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.got: list[tuple[str, dict]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Received

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, json.loads(body)))
        self.send_response(self.server.status)
        self.send_header("location", "http://127.0.0.1:1/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def receiving(status: int) -> Iterator[Received]:
    server = Received(status)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def webhook(folder, monkeypatch):
    """Configure a webhook at this port."""

    def configure(port):
        path = folder / "penstock.toml"
        path.write_text(path.read_text() + TABLE)
        monkeypatch.setenv("ALERT_WEBHOOK", f"http://127.0.0.1:{port}/services/T000/secret?sig=s3cr3t")
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)

    return configure


def test_a_sample_is_posted_and_the_answer_is_told(penstock, webhook):
    with receiving(200) as server:
        webhook(server.server_port)
        done = penstock("alerts", "test")

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("env:ALERT_WEBHOOK answered 200 OK in ")
    ((path, body),) = server.got
    assert path == "/services/T000/secret?sig=s3cr3t"
    assert (body["event"], body["test"]) == ("budget_threshold", True)
    assert "test" in body["text"]


@pytest.mark.parametrize(("status", "named"), [(404, "404 Not Found"), (302, "302 Found"), (503, "503 Service Un")])
def test_a_webhook_that_does_not_want_it_is_a_no_after_one_try(penstock, webhook, status, named):
    with receiving(status) as server:
        webhook(server.server_port)
        done = penstock("alerts", "test")

    assert done.code == 1
    assert named in done.out
    assert "was not taken" in done.err
    assert len(server.got) == 1


def test_a_webhook_that_is_not_there_could_not_be_reached_and_nothing_of_its_address_is_shown(penstock, webhook):
    webhook(1)
    done = penstock("alerts", "test")

    assert (done.code, done.out) == (3, "")
    assert "the webhook was not reached: " in done.err
    for part in ("secret", "s3cr3t", "127.0.0.1", "T000"):
        assert part not in done.err


def test_programs_get_json(penstock, webhook):
    with receiving(204) as server:
        webhook(server.server_port)
        taken = penstock("alerts", "test", "--json")
    lost = penstock("alerts", "test", "--json")

    assert taken.json.keys() == lost.json.keys() == {"webhook", "id", "arrived", "status", "error", "ms"}
    assert (taken.code, taken.json["arrived"], taken.json["status"], taken.json["error"]) == (0, True, 204, None)
    assert taken.json["webhook"] == "env:ALERT_WEBHOOK"
    assert taken.json["id"] == server.got[0][1]["id"]
    assert (lost.code, lost.json["arrived"], lost.json["status"]) == (3, False, None)
    assert "was not reached" in lost.json["error"]
    assert "s3cr3t" not in taken.out + lost.out


def test_without_a_webhook_there_is_nothing_to_test(penstock):
    done = penstock("alerts", "test")

    assert done.code == 2
    assert "No webhook is configured." in done.err
    assert "webhook = " in done.err


def test_a_status_without_a_name_is_a_number():
    assert (_named(200), _named(299)) == ("200 OK", "299")
