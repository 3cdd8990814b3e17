"""The values of a configuration: secrets that never show, finding by name, what a feature pins."""

import copy
import pickle
import sys
import traceback

import msgspec
import pytest

from penstock.config import load
from penstock.settings import (
    Config,
    FeatureSettings,
    LedgerSettings,
    Pins,
    ProviderSettings,
    Secret,
    ServerSettings,
    SharedSettings,
)

CANARY = "sk-canary-0123456789"


def test_a_secret_is_given_only_when_asked_for():
    secret = Secret(CANARY, "env:KEY")

    assert secret.reveal() == CANARY
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!s:>5}", repr((secret,)), "%s" % secret):  # noqa: UP031
        assert CANARY not in shown
        assert "***" in shown
    assert CANARY not in repr(ProviderSettings(name="a", kind="b", api_key=secret))


def test_a_secret_is_not_encoded():
    settings = ProviderSettings(name="a", kind="b", api_key=Secret(CANARY, "env:KEY"))

    for encode in (msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins):
        with pytest.raises(TypeError) as caught:
            encode(settings)
        assert CANARY not in str(caught.value)
    assert msgspec.json.decode(msgspec.json.encode(settings, enc_hook=str))["api_key"] == "***"


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_is_not_pickled_or_copied(copied):
    with pytest.raises(TypeError, match="not pickled") as caught:
        copied(Secret(CANARY, "env:KEY"))

    assert CANARY not in str(caught.value)


def test_a_secret_does_not_show_in_a_traceback_with_locals():
    def fail(secret):
        raise ValueError(f"with {secret}")

    try:
        fail(Secret(CANARY, "env:KEY"))
    except ValueError:
        told = traceback.TracebackException(*sys.exc_info(), capture_locals=True)

    text = "".join(told.format())
    assert "***" in text
    assert CANARY not in text


def test_secrets_are_equal_if_value_and_reference_are():
    assert Secret("a", "env:A") == Secret("a", "env:A")
    assert hash(Secret("a", "env:A")) == hash(Secret("b", "env:A"))
    assert Secret("a", "env:A") != Secret("b", "env:A")
    assert Secret("a", "env:A") != Secret("a", "env:B")
    assert Secret("é", "env:A") == Secret("é", "env:A")
    assert Secret("a", "env:A") != "a"


def test_settings_are_found_by_name(tmp_path):
    path = tmp_path / "penstock.toml"
    path.write_text("""
        [providers.a]
        kind = "scripted"
        [providers.b]
        kind = "scripted"
        [models.m]
        targets = ["b/x"]
        [teams.t]
        [features.f]
    """)
    config = load(str(path), {})

    assert [config.provider(name).name for name in "ab"] == ["a", "b"]
    assert config.model("m").targets == ("b/x",)
    assert config.team("t").name == "t"
    assert config.feature("f").name == "f"
    assert (config.provider("c"), config.model("a"), config.team("m"), config.feature("t")) == (None, None, None, None)


def test_urls_are_reached_without_their_table():
    config = Config("x", None, "", ServerSettings(), (), (), (), (), (), LedgerSettings(), SharedSettings())

    assert (config.ledger_url, config.shared_url) == ("sqlite", "memory")


def test_a_feature_pins_what_it_says_and_nothing_else():
    assert FeatureSettings(name="f").pins is None
    assert FeatureSettings(name="f", temperature=0.0).pins == Pins(temperature=0.0)
    everything = FeatureSettings(name="f", model="m", temperature=1.0, top_p=0.5, seed=0, max_tokens=9)
    assert everything.pins == Pins("m", 1.0, 0.5, 0, 9)


def test_settings_are_frozen():
    with pytest.raises(AttributeError):
        ServerSettings().port = 1
