"""The headers that carry a provider's key, and nobody else's."""

import pytest

from penstock.config import load
from penstock.errors import ConfigError
from penstock.providers.auth import credential_headers
from penstock.settings import ProviderSettings, Secret


def test_a_key_goes_out_as_a_bearer_token():
    settings = ProviderSettings(name="box", kind="openai", api_key=Secret("sk-test", "env:KEY"))

    assert credential_headers(settings) == ((b"authorization", b"Bearer sk-test"),)


def test_a_provider_that_needs_no_key_gets_none():
    assert credential_headers(ProviderSettings(name="box", kind="openai")) == ()


def test_neither_the_settings_nor_what_they_print_show_the_key():
    settings = ProviderSettings(name="box", kind="openai", api_key=Secret("sk-test", "env:KEY"))

    assert "sk-test" not in repr(settings)
    assert "sk-test" not in str(settings)


@pytest.mark.parametrize("value", ["sk\r\nx-evil: 1", "sk\nx", "sk\rx", "sk\x00", "schlüssel", "sk\x7f", ""])
def test_a_key_that_would_break_the_head_does_not_get_as_far(tmp_path, value):
    (tmp_path / "penstock.toml").write_text('[providers.box]\nkind = "openai"\napi_key = "env:KEY"\n')
    with pytest.raises(ConfigError) as raised:
        load(str(tmp_path / "penstock.toml"), {"KEY": value, "PENSTOCK_HOME": str(tmp_path)})

    if value:
        assert value not in str(raised.value)


def test_a_key_with_a_line_end_behind_it_is_taken_without(tmp_path):
    (tmp_path / "key").write_text("sk-from-a-file\n")
    (tmp_path / "penstock.toml").write_text(f'[providers.box]\nkind = "openai"\napi_key = "file:{tmp_path / "key"}"\n')
    config = load(str(tmp_path / "penstock.toml"), {"PENSTOCK_HOME": str(tmp_path)})

    assert credential_headers(config.provider("box")) == ((b"authorization", b"Bearer sk-from-a-file"),)
