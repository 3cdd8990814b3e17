"""The headers that carry a provider's key, and nobody else's."""

import pytest

from penstock.config import load
from penstock.errors import ConfigError
from penstock.providers.auth import AwsSigner, authority, credential_headers, static_key
from penstock.providers.tokens import BearerToken
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


@pytest.mark.parametrize(
    ("kind", "more", "headers"),
    [
        ("anthropic", {}, {b"x-api-key": b"k-test", b"anthropic-version": b"2023-06-01"}),
        ("anthropic", {"dialect": "chat"}, {b"authorization": b"Bearer k-test"}),
        ("openai", {"dialect": "messages"}, {b"authorization": b"Bearer k-test", b"anthropic-version": b"2023-06-01"}),
        ("gemini", {}, {b"x-goog-api-key": b"k-test"}),
        ("gemini", {"dialect": "chat"}, {b"authorization": b"Bearer k-test"}),
        ("azure", {}, {b"api-key": b"k-test"}),
        ("azure", {"dialect": "responses"}, {b"api-key": b"k-test"}),
        ("vertex", {"dialect": "messages"}, {b"authorization": b"Bearer k-test"}),
        ("bedrock", {}, {b"authorization": b"Bearer k-test"}),
        ("ollama", {}, {b"authorization": b"Bearer k-test"}),
    ],
)
def test_each_service_takes_its_key_in_its_own_header(kind, more, headers):
    settings = ProviderSettings(name="one", kind=kind, api_key=Secret("k-test", "env:KEY"), **more)

    assert dict(credential_headers(settings)) == headers
    assert authority(settings, "host") is None


def test_a_key_of_bedrock_may_stand_in_the_environment():
    environ = (("AWS_BEARER_TOKEN_BEDROCK", Secret("abc-token", "env:x")),)
    settings = ProviderSettings(name="one", kind="bedrock", region="eu-central-1", cloud_environ=environ)

    assert static_key(settings) == "abc-token"
    assert credential_headers(settings) == ((b"authorization", b"Bearer abc-token"),)
    assert static_key(ProviderSettings(name="one", kind="openai")) == ""


def test_without_a_key_clouds_are_asked_for_tokens_and_others_for_nothing():
    for kind in ("vertex", "azure"):
        assert isinstance(authority(ProviderSettings(name="one", kind=kind), "host"), BearerToken)
    assert authority(ProviderSettings(name="one", kind="openai"), "host") is None


async def test_aws_requests_are_signed_with_the_keys_of_the_environment():
    keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI", "AWS_SESSION_TOKEN": "tok"}
    environ = tuple((name, Secret(value, f"env:{name}")) for name, value in keys.items())
    settings = ProviderSettings(name="one", kind="bedrock", region="eu-central-1", cloud_environ=environ)
    signer = authority(settings, "bedrock-runtime.eu-central-1.amazonaws.com")
    assert isinstance(signer, AwsSigner)

    lines = (await signer.lines("/model/m/converse", b"{}")).decode()
    signer.forget()
    signer.close()

    names = [line.partition(":")[0].lower() for line in lines.split("\r\n")[:-1]]
    assert {"authorization", "x-amz-date", "x-amz-security-token"} <= set(names)
    assert "Credential=AKIDEXAMPLE/" in lines
    assert "/eu-central-1/bedrock/aws4_request" in lines
    assert "wJalr" not in lines
    assert lines.endswith("\r\n")
