"""`penstock plan`: what would be tried, why not the rest, what it could cost at most; and nobody is called."""


def test_the_targets_stand_in_their_order_with_their_ceilings(penstock, receipts):
    done = penstock("plan", "Hi", "--max-tokens", "100")

    header, first, last = done.rows
    assert header == ["try", "target", "input", "counted", "at most", "why"]
    assert first[:2] == ["1", "fake/m"]
    assert first[4].startswith("$0.000")
    assert last[0].startswith("model fast: at most $0.000")
    assert receipts() == []


def test_with_json_it_is_the_same_with_every_number(penstock):
    plan = penstock("plan", "Hi", "--max-tokens", "100", "--json").json

    (step,) = plan["steps"]
    assert plan["model"] == "fast"
    assert plan["ceiling_usd"] == step["ceiling_usd"]
    assert step["input"]["band"][0] <= step["input"]["n"] <= step["input"]["band"][1]
    ceiling = (step["input"]["band"][1] + 256) * 1 + 100 * 2  # dollars per million; 256 tokens for the chat template
    assert step["ceiling_usd"] == f"{ceiling / 1e6:.6f}".rstrip("0")


def test_the_ceiling_of_the_whole_is_that_of_the_dearest_target_as_a_number(penstock, folder):
    config = (folder / "penstock.toml").read_text()
    both = '[models.both]\ntargets = ["fake/cheap", "fake/dear"]\n'
    prices = "".join(
        f'[prices."fake/{name}"]\ninput = 1\noutput = {rate}\n' for name, rate in (("cheap", 900), ("dear", 1000))
    )
    (folder / "penstock.toml").write_text(config + both + prices)

    plan = penstock("plan", "Hi", "--model", "both", "--max-tokens", "10000", "--json").json

    cheap, dear = (step["ceiling_usd"] for step in plan["steps"])
    assert float(dear) > 10 > float(cheap) > 9  # as texts they would stand the other way round
    assert plan["ceiling_usd"] == dear


def test_a_target_without_a_price_leaves_no_ceiling(penstock):
    done = penstock("plan", "Hi", "--model", "chain")

    assert done.rows[2][1:5:3] == ["fake/unpriced", "unpriced"]
    assert "no ceiling" in done.out
    assert penstock("plan", "Hi", "--model", "chain", "--json").json["ceiling_usd"] is None


def test_the_fixed_text_is_the_last_rung(penstock):
    done = penstock("plan", "Hi", "--model", "safe")

    assert done.rows[2] == ["2", "static", "", "", "$0", "the fixed text, if all of them fail"]


def test_what_a_feature_pins_counts(penstock):
    plain = penstock("plan", "Hi", "--json").json
    pinned = penstock("plan", "Hi", "--feature", "short", "--json").json

    assert float(pinned["ceiling_usd"]) < float(plain["ceiling_usd"])


def test_targets_that_have_no_room_are_left_out_with_the_reason(penstock, folder):
    config = (folder / "penstock.toml").read_text()
    both = '[models.both]\ntargets = ["fake/gpt-4o", "fake/gpt-4.1"]\n'
    (folder / "penstock.toml").write_text(config + both)

    done = penstock("plan", "-", "--model", "both", stdin="word " * 150_000)

    assert [row[:2] for row in done.rows[1:3]] == [["1", "fake/gpt-4.1"], ["-", "fake/gpt-4o"]]
    assert "left out: The prompt has" in done.rows[2][5]
    assert "window of 128000" in done.rows[2][5]


def test_a_prompt_that_fits_nowhere_is_a_no(penstock):
    done = penstock("plan", "-", "--model", "fake/gpt-4o", stdin="word " * 150_000)

    assert done.code == 1
    assert "window" in done.err


def test_what_a_team_may_not_use_is_a_no(penstock):
    done = penstock("plan", "Hi", "--team", "web", "--model", "safe")

    assert done.code == 1
    assert "Team 'web' may not use model 'safe'" in done.err


def test_an_unknown_model_is_a_no(penstock):
    assert penstock("plan", "Hi", "--model", "nope").code == 1
