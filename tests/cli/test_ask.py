"""`penstock ask`: the answer to the standard output, all else to the standard error, and one receipt however it ends."""

import signal
import time

import pytest


def test_the_answer_is_all_that_a_pipe_gets(penstock):
    done = penstock("ask", "Hi")

    assert (done.code, done.out) == (0, "You said: Hi\n")
    assert done.err.startswith("fake/m · 1 + 3 tokens · $0.000007 (exact) · ")


def test_the_receipt_is_that_of_the_ledger(penstock, receipts):
    done = penstock("ask", "Hi", "--feature", "f", "--team", "web", "--system", "Be brief.")

    (receipt,) = receipts()
    assert done.err.rstrip().endswith(receipt["id"])
    assert receipt["usage"]["input_tokens"] == 3
    assert (receipt["status"], receipt["feature"], receipt["team"]) == ("ok", "f", "web")
    assert receipt["streamed"]


def test_with_json_there_is_one_document_with_text_and_receipt(penstock, receipts):
    done = penstock("ask", "Hi", "--json")

    assert done.code == 0
    assert done.json == {"text": "You said: Hi", "receipt": receipts()[0]}
    assert done.json["receipt"]["streamed"] is False
    assert done.err == ""


def test_a_dash_asks_what_the_standard_input_says(penstock):
    assert penstock("ask", "-", stdin="from the pipe").out == "You said: from the pipe\n"


def test_an_empty_prompt_is_a_mistake_of_usage(penstock, receipts):
    done = penstock("ask", "")

    assert (done.code, done.err) == (2, "The prompt is empty.\n")
    assert receipts() == []


def test_options_of_sampling_reach_the_model(penstock):
    done = penstock("ask", "count", "--max-tokens", "3", "--temperature", "0", "--seed", "7")

    assert done.out == "a b c\n"
    assert "ended by length" in done.err


@pytest.mark.parametrize("options", [("--max-tokens", "0"), ("--temperature", "3"), ("--seed", "x"), ("--nope",)])
def test_options_that_cannot_be_are_a_mistake_of_usage(penstock, options):
    done = penstock("ask", "Hi", *options)

    assert done.code == 2
    assert "Error" in done.err


def test_thinking_goes_to_the_standard_error_on_lines_of_its_own(penstock):
    done = penstock("ask", "think")

    assert done.out == "42\n"
    assert done.err.startswith("Let me see.\nfake/m · ")


def test_a_refusal_of_the_model_is_an_answer(penstock):
    done = penstock("ask", "decline")

    assert (done.code, done.out) == (0, "I would rather not.\n")
    assert "ended by refusal" in done.err


@pytest.mark.parametrize("json", [(), ("--json",)])
@pytest.mark.parametrize(
    ("prompt", "code", "error"),
    [
        ("down", 3, "upstream_failed"),
        ("busy", 3, "upstream_rate_limited"),
        ("reject", 1, "upstream_rejected"),
        ("break", 3, "upstream_failed"),
    ],
)
def test_what_went_wrong_is_told_with_its_exit_code_and_its_receipt(penstock, receipts, prompt, code, error, json):
    done = penstock("ask", prompt, *json)

    (receipt,) = receipts()
    assert (done.code, receipt["error"]) == (code, error)
    assert f"penstock calls show {receipt['id']}" in done.err
    assert "Traceback" not in done.err


def test_what_came_before_a_break_is_kept(penstock):
    assert penstock("ask", "break").out == "This is \n"


def test_a_model_that_does_not_exist_is_named_with_its_neighbours(penstock):
    done = penstock("ask", "Hi", "--model", "fats")

    assert done.code == 1
    assert done.err.startswith("There is no model 'fats'. Did you mean: fast?")


def test_a_budget_that_is_used_up_is_a_no(penstock):
    done = penstock("ask", "Hi", "--team", "poor")

    assert done.code == 1
    assert "The day budget of team 'poor' is used up" in done.err


@pytest.mark.parametrize("json", [(), ("--json",)])
def test_a_fixed_text_in_place_of_an_answer_is_shown_and_said_to_be_one(penstock, json):
    done = penstock("ask", "down", "--model", "safe", *json)

    assert done.code == 3
    assert "We are busy." in done.out
    assert "No model could be reached" in done.err


def test_a_missing_configuration_is_named(penstock):
    done = penstock("ask", "Hi", "--config", "elsewhere.toml")

    assert done.code == 1
    assert "elsewhere.toml has 1 mistake" in done.err


def test_a_home_that_cannot_be_written_is_named(penstock, monkeypatch, folder):
    (folder / "file").write_text("")
    monkeypatch.setenv("PENSTOCK_HOME", str(folder / "file" / "home"))

    done = penstock("ask", "Hi")

    assert done.code == 3
    assert "cannot be made" in done.err


def test_interrupting_leaves_a_cancelled_receipt(process, receipts):
    one = process("ask", "slow")
    while one.stdout.read(1) != "e":  # "one " is there
        pass
    began = time.monotonic()
    one.send_signal(signal.SIGINT)
    out, err = one.stdout.read(), one.stderr.read()
    one.wait()

    assert time.monotonic() - began < 3
    assert one.returncode == 130, err
    assert out.endswith("\n")
    assert "Interrupted" in err
    assert "Traceback" not in err
    assert [receipt["status"] for receipt in receipts()] == ["cancelled"]


def test_a_terminal_gets_colours_and_no_control_sequence_of_the_model(terminal):
    done = terminal("ask", "escape")

    assert done.code == 0
    answer, _, receipt = done.out.partition("\n")
    assert answer == "\ufffd[31mred\ufffd [/x] done"
    assert receipt.startswith("\x1b[2mfake/m · ")
