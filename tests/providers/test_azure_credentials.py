"""Entra tokens with the real azure-identity, against an authority on loopback."""

import logging
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
from azure.identity import CredentialUnavailableError

from penstock.errors import UpstreamAuth
from penstock.providers import azure_credentials
from penstock.providers.azure_credentials import SCOPE, azure_bearer
from penstock.settings import ProviderSettings, Secret
from providers.token_service import Question, TokenService, serving

ACCESS = "made-up-entra-token"
TENANT = "11111111-2222-3333-4444-555555555555"


class Fake:
    """A credential that answers what it was told to."""

    def __init__(self, said: AccessToken | Exception) -> None:
        self.said = said
        self.asked: list[tuple[str, ...]] = []

    def get_token(self, *scopes: str) -> AccessToken:
        self.asked.append(scopes)
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


def settings(ca_file: Path | None = None, proxies: dict[str, str] | None = None, **environ: str) -> ProviderSettings:
    return ProviderSettings(
        name="azure",
        kind="azure",
        ca_file=ca_file,
        proxy_environ=tuple((name, Secret(value, f"env:{name}")) for name, value in (proxies or {}).items()),
        cloud_environ=tuple((name, Secret(value, f"env:{name}")) for name, value in environ.items()),
    )


async def test_a_credential_is_asked_for_the_scope_of_azures_models() -> None:
    fake = Fake(AccessToken(ACCESS, int(time.time()) + 3600))
    tokens = azure_bearer(settings(), credential=fake)
    assert await tokens.lines("/openai", b"") == b"authorization: Bearer %b\r\n" % ACCESS.encode()
    assert fake.asked == [(SCOPE,)]


async def test_a_token_is_renewed_before_it_ends() -> None:
    late = 0.0
    fake = Fake(AccessToken(ACCESS, int(time.time()) + 3600))
    tokens = azure_bearer(settings(), lambda: time.time() + late, fake)
    await tokens.token()
    late = 3_590.0
    await tokens.token()
    assert len(fake.asked) == 2


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ClientAuthenticationError("AADSTS7000215: Invalid client secret 'hunter2'"), r"refused the credential \(AADSTS7000215\)"),
        (CredentialUnavailableError("EnvironmentCredential: hunter2"), "no credential that Entra takes"),
        (ServiceRequestError("hunter2"), "could not be reached"),
        (ValueError("hunter2"), "settings of the Azure identity"),
    ],
)  # fmt: skip
async def test_a_failure_is_told_without_azures_own_words(error: Exception, says: str) -> None:
    with pytest.raises(UpstreamAuth, match=says) as caught:
        await azure_bearer(settings(), credential=Fake(error)).token()
    assert "hunter2" not in str(caught.value)
    assert caught.value.hint


# -- the real chain --


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[tuple[TokenService, Path]]:
    """Entra as far as a client with a secret needs it, with TLS, since azure-identity insists on that."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)

    def answer(question: Question) -> tuple[int, dict[str, object]]:
        if question.path.endswith("/token"):
            if question.form.get("client_secret") != "right":
                return 401, {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret."}
            return 200, {"access_token": ACCESS, "expires_in": 3600, "token_type": "Bearer"}
        base = f"https://localhost:{service.server_address[1]}/{TENANT}"
        return 200, {
            "issuer": f"{base}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base}/oauth2/v2.0/token",
        }

    with serving(answer, context) as service:
        yield service, tmp_path / "ca.pem"


def environment(monkeypatch: pytest.MonkeyPatch, service: TokenService, secret: str) -> dict[str, str]:
    environ = {
        "AZURE_AUTHORITY_HOST": service.url,
        "AZURE_TENANT_ID": TENANT,
        "AZURE_CLIENT_ID": "client",
        "AZURE_CLIENT_SECRET": secret,
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return environ


async def test_a_client_secret_of_the_environment_gets_a_token(
    authority: tuple[TokenService, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, ca_file = authority
    environ = environment(monkeypatch, service, "right")
    tokens = azure_bearer(settings(ca_file, {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "localhost"}, **environ))
    token = await tokens.token()
    assert token.text == ACCESS
    assert token.expires_at == pytest.approx(time.time() + 3600, abs=60)
    question = service.asked[-1]
    assert (question.form["grant_type"], question.form["scope"]) == ("client_credentials", SCOPE)


async def test_a_wrong_client_secret_is_told_by_its_code(
    authority: tuple[TokenService, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service, ca_file = authority
    environ = environment(monkeypatch, service, "wrong-secret")
    with caplog.at_level(logging.INFO), pytest.raises(UpstreamAuth, match="AADSTS7000215") as caught:
        await azure_bearer(settings(ca_file, **environ)).token()
    assert "wrong-secret" not in str(caught.value) + caplog.text


async def test_an_authority_that_is_no_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "ftp://x")
    with pytest.raises(UpstreamAuth, match="settings of the Azure identity"):
        await azure_bearer(settings(AZURE_AUTHORITY_HOST="ftp://x")).token()


async def test_the_chain_gets_the_proxy_and_bounded_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    import azure.identity

    made: list[dict[str, Any]] = []

    def chain(**options: Any) -> Fake:
        made.append(options)
        return Fake(AccessToken(ACCESS, 1))

    monkeypatch.setattr(azure.identity, "DefaultAzureCredential", chain)
    tokens = azure_bearer(settings(proxies={"HTTPS_PROXY": "http://proxy:3128"}))
    await tokens.token()
    await tokens.token()
    (options,) = made  # the chain is made once, since it remembers what worked
    assert options["proxies"] == {"https": "http://proxy:3128"}
    assert options["connection_timeout"] == options["read_timeout"] == azure_credentials.TIMEOUT_S
    assert "authority" not in options


async def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.core.exceptions", None)
    with pytest.raises(UpstreamAuth, match=r'pip install "penstock\[azure\]"'):
        await azure_bearer(settings()).token()
