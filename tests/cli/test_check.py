"""`penstock check`: every mistake at once, those of scripts and certificates too; and what may surprise."""

import pytest


@pytest.fixture
def write(folder):
    """Put a file into the working directory."""

    def put(text, name="penstock.toml"):
        (folder / name).write_text(text)

    return put


def test_a_configuration_without_a_mistake_is_said_to_have_none(penstock, write):
    write("""
[providers.fake]
kind = "scripted"
path = "replies.toml"
[models.fast]
targets = ["fake/m"]
""")
    done = penstock("check")

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("penstock.toml: no mistake. 1 providers, 1 models, 0 teams, 0 features; hash ")


def test_the_shape_of_json(penstock):
    done = penstock("check", "--json").json

    assert list(done) == ["valid", "source", "hash", "mistakes", "warnings"]
    assert (done["valid"], done["source"], done["mistakes"]) == (True, "penstock.toml", [])


def test_the_built_in_defaults_are_fine(penstock, folder):
    (folder / "penstock.toml").unlink()

    assert penstock("check", "--json").json["valid"]


WRONG = """
[sever]
port = 1
[providers.fake]
kind = "scripted"
[models.fast]
targets = ["fakee/m"]
"""


def test_every_mistake_is_told_at_once_with_line_key_and_suggestion(penstock, write):
    write(WRONG)

    done = penstock("check")

    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[0] == "penstock.toml has 2 mistakes:"
    assert "line 2, sever: unknown key. Did you mean `server`?" in done.err
    assert "line 7, models.fast.targets[0]" in done.err


def test_mistakes_in_json_are_places_and_words(penstock, write):
    write(WRONG)

    done = penstock("check", "--json")

    assert (done.code, done.err, done.json["valid"]) == (1, "", False)
    assert [(one["line"], one["key"]) for one in done.json["mistakes"]] == [
        (7, "models.fast.targets[0]"),
        (2, "sever"),
    ] or [(one["line"], one["key"]) for one in done.json["mistakes"]] == [(2, "sever"), (7, "models.fast.targets[0]")]


def test_the_mistakes_of_every_script_are_told(penstock, write):
    write('rules = [{ txt = "x" }]', "one.toml")
    write("rules = 5", "two.toml")
    write("""
[providers.one]
kind = "scripted"
path = "one.toml"
[providers.two]
kind = "scripted"
path = "two.toml"
[models.fast]
targets = ["one/m", "two/m"]
""")
    done = penstock("check")

    assert done.code == 1
    assert "one.toml has 1 mistake" in done.err
    assert "two.toml has 1 mistake" in done.err
    assert len(penstock("check", "--json").json["mistakes"]) == 2


def test_a_certificate_that_cannot_be_loaded_is_a_mistake(penstock, write):
    write("no certificate", "a.pem")
    write("""
[server]
tls_cert = "a.pem"
tls_key = "a.pem"
[providers.fake]
kind = "scripted"
""")
    done = penstock("check")

    assert done.code == 1
    assert "server.tls_cert: the certificate and its key cannot be loaded" in done.err


def test_certificate_authorities_that_cannot_be_loaded_are_a_mistake(penstock, write):
    write("no certificate", "a.pem")
    write("""
[providers.box]
kind = "openai"
base_url = "https://127.0.0.1:9/v1"
ca_file = "a.pem"
""")
    done = penstock("check")

    assert done.code == 1
    assert "providers.box" in done.err


def test_a_provider_without_its_key_is_a_mistake_that_names_the_usual_variable(penstock, write):
    write('[providers.x]\nkind = "anthropic"\n')

    done = penstock("check")

    assert done.code == 1
    assert "env:ANTHROPIC_API_KEY" in done.err


def test_a_secret_that_is_missing_is_a_mistake_and_one_that_is_there_is_not_shown(penstock, write, monkeypatch):
    write('[providers.x]\nkind = "openai"\napi_key = "env:X_KEY"\nbase_url = "http://127.0.0.1:9/v1"\n')
    missing = penstock("check")
    monkeypatch.setenv("X_KEY", "sk-hush")
    found = penstock("check")

    assert (missing.code, found.code) == (1, 0)
    assert "X_KEY" in missing.err
    assert "sk-hush" not in found.out + found.err


SURPRISING = """
[providers.openai]
kind = "openai"
api_key = "env:X_KEY"
[models.old]
targets = ["openai/gpt-3.5-turbo", "openai/gpt-4o-mini"]
[models.unknown]
targets = ["openai/unheard-of"]
"""
BUDGET = "[features.search]\nbudget_usd = { month = 5 }\n"


def test_models_that_are_gone_and_models_that_no_budget_can_hold_are_warned_of(penstock, write, monkeypatch):
    monkeypatch.setenv("X_KEY", "sk-hush")
    monkeypatch.setattr("penstock.cli.check.day", lambda: "2100-01-01")
    write(SURPRISING + BUDGET)

    done = penstock("check")
    warnings = penstock("check", "--json").json["warnings"]

    assert done.code == 0
    assert done.err.count("warning: ") == len(warnings) >= 2
    assert any(one.startswith("openai/gpt-3.5-turbo was retired on 20") for one in warnings)
    assert any(
        "openai/unheard-of has no price, so calls with the budget of feature 'search'" in one for one in warnings
    )


def test_a_missing_price_surprises_nobody_who_has_no_budget(penstock, write, monkeypatch):
    monkeypatch.setenv("X_KEY", "sk-hush")
    monkeypatch.setattr("penstock.cli.check.day", lambda: "2020-01-01")
    write(SURPRISING)

    assert penstock("check", "--json").json["warnings"] == []
