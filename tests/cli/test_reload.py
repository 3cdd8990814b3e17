"""`penstock reload`: which server it finds, what it says of it, and with what exit code."""

import json
import os
import signal
import threading

import pytest

from penstock.cli import reload as command
from penstock.errors import Mistake
from penstock.server.presence import FOLDER, Presence, Reloaded

TAKEN = Reloaded(True, "penstock.toml", "0123456789ab")
REFUSED = Reloaded(False, "penstock.toml", "0123456789ab", (), (Mistake("server.prot", "unknown key.", 3, "port?"),))


@pytest.fixture
def server(folder, monkeypatch):
    """A server in this process: it answers a signal with what it is told, if with anything."""
    presence = Presence(folder / "home", "http://127.0.0.1:8420")
    answers = []
    signals = []

    def kill(pid, number):
        signals.append((pid, number))
        if answers:
            threading.Timer(0.03, presence.tell, answers).start()

    monkeypatch.setattr(command.os, "kill", kill)
    yield answers, presence
    assert signals in ([], [(os.getpid(), signal.SIGHUP)])
    if (folder / "home" / FOLDER / str(os.getpid())).exists():
        presence.close()


def test_a_configuration_that_is_taken_over_is_told_with_its_hash(penstock, server):
    server[0].append(TAKEN)
    done = penstock("reload")

    assert (done.code, done.err) == (0, "")
    assert done.out == "http://127.0.0.1:8420 has taken penstock.toml over; hash 0123456789ab\n"


def test_what_needs_a_restart_is_a_warning(penstock, server):
    server[0].append(Reloaded(True, "penstock.toml", "0", ("server.port", "server.workers")))
    done = penstock("reload")

    assert done.code == 0
    assert "server.port, server.workers" in done.err


def test_one_that_is_refused_is_told_with_every_mistake(penstock, server):
    server[0].append(REFUSED)
    done = penstock("reload")

    assert (done.code, done.out) == (1, "")
    assert "keeps its configuration: penstock.toml has 1 mistake:" in done.err
    assert "line 3, server.prot: unknown key. port?" in done.err


@pytest.mark.parametrize("told", [TAKEN, REFUSED])
def test_programs_get_json(penstock, server, told):
    server[0].append(told)
    done = penstock("reload", "--json")

    assert done.code == (0 if told.reloaded else 1)
    (row,) = done.json["servers"]
    assert row.keys() == {"pid", "url", "reloaded", "source", "hash", "restart", "mistakes"}
    assert row["reloaded"] is told.reloaded
    assert [mistake["key"] for mistake in row["mistakes"]] == [mistake.key for mistake in told.mistakes]


def test_without_a_server_it_could_not_find_out(penstock, folder):
    plain, as_json = penstock("reload"), penstock("reload", "--json")

    assert (plain.code, plain.out) == (3, "")
    assert f"No server runs in {folder / 'home'}." in plain.err
    assert (as_json.code, json.loads(as_json.out)) == (3, {"servers": []})


def test_a_server_that_says_nothing_in_time_could_not_be_asked(penstock, server):
    done, as_json = penstock("reload", "--timeout", "0.1"), None

    assert done.code == 3
    assert "did not say in time" in done.err
    assert as_json is None


def test_a_server_that_ends_meanwhile_could_not_be_asked(penstock, server, monkeypatch):
    monkeypatch.setattr(command.os, "kill", lambda *_: server[1].close())
    done = penstock("reload", "--json")

    assert done.code == 3
    assert done.json["servers"][0]["reloaded"] is None


@pytest.mark.parametrize("options", [("--timeout", "0"), ("--timeout", "x"), ("surplus",)])
def test_options_that_cannot_be_are_a_mistake_of_usage(penstock, options):
    assert penstock("reload", *options).code == 2
