"""`penstock calls`: the list and its filters, one receipt whole, and the tail while a server works."""

import json
import re
import signal
import threading
import time
from urllib.request import urlopen

import pytest

from penstock.cli import calls
from penstock.config import load
from penstock.ledger.ledger import Ledger
from penstock.receipt import Attempt, Receipt

pytestmark = pytest.mark.timeout(60)  # a tail that shows nothing would be waited for

FACE = {
    *("id", "started_at", "team", "feature", "model", "target", "status", "http_status", "finish_reason", "streamed"),
    *("usage", "cost_usd", "cost_status", "ttft_ms", "total_ms", "tries", "prompt", "lane", "cache"),
}
USAGE = {"input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "source"}


@pytest.fixture
def made(penstock):
    """Three calls: an answer, a failure, an answer for a team."""
    penstock("ask", "Hi")
    penstock("ask", "busy", "--model", "chain")
    penstock("ask", "Hi", "--team", "web", "--feature", "search")
    return penstock


def test_receipts_are_listed_newest_first_with_the_names_that_scripts_rely_on(made):
    found = made("calls", "--json").json["calls"]

    assert [call["team"] for call in found] == ["web", None, None]
    assert [call["started_at"] for call in found] == sorted((call["started_at"] for call in found), reverse=True)
    assert all(call.keys() >= FACE and call["usage"].keys() >= USAGE for call in found)
    assert found[1]["tries"][1].keys() >= {"target", "status", "usage", "cost_usd"}


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (("--team", "web"), 1),
        (("--feature", "search"), 1),
        (("--model", "chain"), 1),
        (("--target", "fake/m"), 2),
        (("--status", "error"), 1),
        (("--status", "ok", "--team", "web"), 1),
        (("--key", "key_none"), 0),
        (("--limit", "2"), 2),
        (("--since", "2020-01-01", "--until", "2020-02-01"), 0),
    ],
)
def test_filters_narrow_the_list(made, options, count):
    assert len(made("calls", *options, "--json").json["calls"]) == count


def test_lines_for_a_pipe_have_a_header_and_a_cell_per_column(made):
    rows = made("calls").rows

    assert rows[0] == list(calls.COLUMNS)
    assert {len(row) for row in rows} == {len(calls.COLUMNS)}
    assert rows[2][4] == "error (upstream_rate_limited)"


def test_a_name_that_a_client_made_up_breaks_no_line(penstock):
    penstock("ask", "Hi", "--model", "[/x]\t\n\x1b[31m")

    rows = penstock("calls").rows
    assert [len(row) for row in rows] == [len(calls.COLUMNS)] * 2
    assert rows[1][2] == "[/x]  \ufffd[31m"


@pytest.mark.parametrize("options", [("--status", "fine"), ("--limit", "0"), ("--since", "x")])
def test_what_cannot_be_asked_is_a_mistake_of_usage(penstock, options):
    assert penstock("calls", *options).code == 2


def test_one_receipt_is_shown_whole(made):
    call = made("calls", "--status", "error", "--json").json["calls"][0]

    rows = dict(row for row in made("calls", "show", call["id"]).rows if len(row) == 2)
    assert made("calls", "show", call["id"], "--json").json == call
    assert rows["receipt"] == call["id"]
    assert rows["status"] == "error (upstream_rate_limited), HTTP 429"
    assert rows["cost"] == "$0 (exact)"
    tries = [row for row in made("calls", "show", call["id"]).rows if len(row) == len(calls.TRY_COLUMNS)]
    assert [row[:3] for row in tries[1:]] == [["1", "fake/m", "first"], ["2", "fake/unpriced", "fallback"]]


def test_a_try_tells_in_which_tier_it_was_served(penstock):
    now_ns = time.time_ns()
    ledger = Ledger.open(load().home, now_ns=now_ns)
    rows = (Attempt("fake/m", status="error"), Attempt("fake/m", service_tier="flex"))
    call_id = ledger.new_id(now_ns)
    ledger.settle(Receipt(call_id, now_ns, "chat", "fast", "ok", 200, tries=rows))
    ledger.close()

    assert [one["service_tier"] for one in penstock("calls", "show", call_id, "--json").json["tries"]] == [None, "flex"]
    at = calls.TRY_COLUMNS.index("tier")
    tries = [row for row in penstock("calls", "show", call_id).rows if len(row) == len(calls.TRY_COLUMNS)]
    assert [row[at] for row in tries] == ["tier", "", "flex"]


@pytest.mark.parametrize("asked", ["nope", "01a1fff6-ecc2-71e6-a331-10ce22a08fa3"])
def test_a_receipt_that_is_not_there_is_a_no(penstock, asked):
    done = penstock("calls", "show", asked)

    assert (done.code, done.out) == (1, "")
    assert asked in done.err


def read_line(one):
    """The next line that the process prints."""
    line = one.stdout.readline()
    assert line, one.stderr.read()
    return line


def first_line(penstock, one):
    """Make calls until the tail shows one; give its line. Nothing says when the tail has begun to look."""
    lines = []
    reader = threading.Thread(target=lambda: lines.append(read_line(one)))
    reader.start()
    while reader.is_alive():
        penstock("ask", "Hi")
        reader.join(0.3)
    return lines[0]


def test_the_tail_shows_calls_of_other_processes_and_ends_on_an_interrupt(penstock, process):
    penstock("ask", "before")
    one = process("calls", "tail", "--json")
    shown = [json.loads(first_line(penstock, one))]
    penstock("ask", "last", "--feature", "last")
    while shown[-1]["feature"] != "last":
        shown.append(json.loads(read_line(one)))
    one.send_signal(signal.SIGINT)

    assert (one.stdout.read(), one.stderr.read(), one.wait()) == ("", "", 0)
    ids = [call["id"] for call in shown]
    listed = [call["id"] for call in penstock("calls", "--limit", "1000", "--json").json["calls"]]
    assert len(set(ids)) == len(ids)
    assert set(ids) < set(listed), "a call from before the tail is shown"


def test_the_tail_shows_a_call_that_began_before_others_and_ends_after_them(penstock, process):
    one = process("calls", "tail", "--json")
    first_line(penstock, one)
    slow = process("ask", "slow", "--feature", "slow")
    while slow.stdout.read(1) != "e":
        pass
    penstock("ask", "Hi", "--feature", "quick")
    while json.loads(read_line(one))["feature"] != "quick":
        pass
    slow.send_signal(signal.SIGINT)
    slow.wait()

    call = json.loads(read_line(one))
    assert (call["feature"], call["status"]) == ("slow", "cancelled")


def test_the_tail_shows_calls_of_a_server_while_it_runs(process):
    server, one = process("serve"), process("calls", "tail", "--json")
    url = re.search(r"http://\S+", server.stdout.readline())[0]
    shown, body = [], {"model": "fast", "messages": [{"role": "user", "content": "Hi"}]}
    reader = threading.Thread(target=lambda: shown.append(json.loads(read_line(one))))
    reader.start()
    while reader.is_alive():
        with urlopen(f"{url}/v1/chat/completions", json.dumps(body).encode(), timeout=10) as reply:
            assert reply.status == 200
        reader.join(0.3)

    assert (shown[0]["dialect"], shown[0]["status"]) == ("chat", "ok")


def test_the_tail_is_one_line_a_call(penstock, process):
    one = process("calls", "tail")

    assert len(first_line(penstock, one).split("\t")) == len(calls.COLUMNS)
