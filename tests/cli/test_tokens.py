"""`penstock tokens`: the number, how sure it is, the pieces, the share of the window and the price."""

import time
from math import exp

import pytest
from tests.tokens.test_vocabularies import tokenizer_json

from penstock.cli import tokens
from penstock.config import load
from penstock.ledger.ledger import Ledger

TEXT = "Antidisestablishmentarianism, naïve café: 日本語 👍"


@pytest.mark.parametrize(("model", "ids"), [("gpt-4o", [13225, 2375]), ("gpt-4", [9906, 1917])])
def test_the_number_and_the_pieces_are_those_of_the_vendor_s_own_vocabulary(penstock, model, ids):
    counted = penstock("tokens", "Hello world", "--model", model, "--json").json

    assert (counted["model"], counted["tokens"], counted["certainty"]) == (model, 2, "exact")
    assert counted["pieces"] == [{"id": ids[0], "text": "Hello"}, {"id": ids[1], "text": " world"}]
    assert (counted["characters"], counted["band"]) == (11, [2, 2])


def test_the_pieces_put_together_are_the_text(penstock):
    pieces = penstock("tokens", "Hello, wide world", "--model", "gpt-4o", "--json").json["pieces"]

    assert "".join(piece["text"] for piece in pieces) == "Hello, wide world"


def test_the_price_and_the_share_of_the_window_are_exact(penstock):
    counted = penstock("tokens", "Hello world", "--model", "gpt-4o", "--json").json

    assert counted["tokens"] == 2
    assert counted["window"] == 128_000
    assert counted["share_of_window"] == "0.000015625"
    assert counted["input_cost_usd"] == "0.000005"  # 2 x $2.50 per million


def test_it_says_so_in_words(penstock):
    done = penstock("tokens", "Hello world", "--model", "gpt-4o")

    assert done.out.splitlines() == [
        "2 tokens for gpt-4o (exact), 11 characters",
        "0.00 % of the window of 128000",
        "$0.000005 as input",
    ]


def test_an_estimate_has_its_band(penstock):
    done = penstock("tokens", "Hello world", "--model", "claude-sonnet-4-5")

    assert "(estimated, " in done.out


def test_an_estimate_is_corrected_by_what_the_gateway_has_learnt(penstock, folder, tmp_path):
    plain = penstock("tokens", "Hello world " * 50, "--model", "fake/claude-sonnet-4-5", "--json").json
    config = load(str(folder / "penstock.toml"))
    ledger = Ledger.open(config.home, now_ns=time.time_ns())
    ledger.store.keep_factors([("fake/claude-sonnet-4-5", 57, 0.5, 0.0025)])
    ledger.close()

    learnt = penstock("tokens", "Hello world " * 50, "--model", "fake/claude-sonnet-4-5", "--json").json
    done = penstock("tokens", "Hello world " * 50, "--model", "fake/claude-sonnet-4-5")

    assert (plain["reports"], learnt["reports"]) == (0, 57)
    assert learnt["tokens"] == round(plain["tokens"] * exp(0.5))
    assert "(estimated, +-17 %, from 57 calls: " in done.out


def test_a_vocabulary_of_the_user_counts_and_one_that_cannot_be_used_is_told_of(penstock, folder):
    config = (folder / "penstock.toml").read_text()
    (folder / "tokenizer.json").write_bytes(tokenizer_json())
    (folder / "own.toml").write_text(config + '[providers.box]\nkind = "scripted"\ntokenizer = "tokenizer.json"\n')

    counted = penstock("tokens", "hello!", "--model", "box/x", "--config", "own.toml", "--json").json
    (folder / "tokenizer.json").write_text("{}")
    refused = penstock("tokens", "hello!", "--model", "box/x", "--config", "own.toml")

    assert (counted["tokens"], counted["certainty"]) == (2, "exact")
    assert refused.code != 0
    assert "cannot be used" in refused.err


def test_a_configured_model_counts_with_its_first_target_and_its_own_price(penstock):
    counted = penstock("tokens", "x " * 1000, "--model", "fast", "--json").json

    assert counted["model"] == "fake/m"
    assert counted["certainty"] == "estimated"
    assert counted["input_cost_usd"] == f"{counted['tokens'] / 1e6:.6f}".rstrip("0")
    assert counted["window"] is None
    assert counted["share_of_window"] is None


def test_without_a_model_it_counts_for_the_default_one_if_its_vocabulary_is_known(penstock, folder):
    assert penstock("tokens", "Hi", "--json").json["model"] == "gpt-4o"

    config = (folder / "penstock.toml").read_text()
    (folder / "penstock.toml").write_text('[models.first]\ntargets = ["fake/gpt-4.1"]\n' + config)

    assert penstock("tokens", "Hi", "--json").json["model"] == "fake/gpt-4.1"


def test_a_free_provider_is_said_to_be_free(penstock, folder):
    (folder / "free.toml").write_text('[providers.mine]\nkind = "scripted"\nfree = true\n')

    assert penstock("tokens", "Hi", "--model", "mine/x", "--config", "free.toml").out.endswith("\nfree\n")


def test_a_file_and_the_standard_input_are_counted_like_an_argument(penstock, folder):
    (folder / "a.txt").write_text(TEXT)
    whole = penstock("tokens", TEXT, "--json").out

    assert penstock("tokens", "--file", "a.txt", "--json").out == whole
    assert penstock("tokens", "-f", "a.txt", "--json").out == whole
    assert penstock("tokens", "-", "--json", stdin=TEXT).out == whole
    assert penstock("tokens", "--json", stdin=TEXT).out == whole


def test_an_empty_text_has_no_tokens(penstock):
    counted = penstock("tokens", "", "--json").json

    assert (counted["tokens"], counted["pieces"], counted["input_cost_usd"]) == (0, [], "0")


def test_what_is_no_text_is_a_mistake_of_usage(penstock, folder):
    (folder / "a.bin").write_bytes(bytes(range(256)))

    done = penstock("tokens", "--file", "a.bin")

    assert done.code == 2
    assert "a.bin is not UTF-8 text: byte 0x80 at offset 128" in done.err


def test_a_huge_text_is_counted_without_listing_its_pieces(penstock, folder):
    (folder / "huge.txt").write_text("word and word, " * 100_000)

    counted = penstock("tokens", "--file", "huge.txt", "--json").json

    assert counted["tokens"] > tokens.LISTED
    assert counted["pieces"] is None


@pytest.mark.parametrize("name", ["nope", "zz/top"])
def test_an_unknown_model_is_a_no(penstock, name):
    done = penstock("tokens", "Hi", "--model", name)

    assert done.code == 1
    assert f"There is no model '{name}'." in done.err


def test_a_terminal_shows_where_one_token_ends_and_the_next_begins(terminal):
    done = terminal("tokens", "Hello\x1b wide", "--model", "gpt-4o")

    assert "\x1b[44mHello\x1b[0m" in done.out
    assert "\x1b[45m" in done.out
    assert "\ufffd" in done.out
