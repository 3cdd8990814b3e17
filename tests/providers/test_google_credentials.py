"""Tokens for Google Cloud, from each place that has credentials, with the real google-auth against a token service on loopback."""

import base64
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google.auth.jwt
import google.oauth2.credentials
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from msgspec.json import decode, encode

from penstock.errors import UpstreamAuth
from penstock.providers.google_credentials import SCOPE, Transport, find_file, google_bearer
from penstock.providers.tokens import BearerToken
from penstock.settings import ProviderSettings, Secret
from providers.token_service import Question, TokenService, always, serving

ACCESS = "ya29.made-up-access-token"


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2048)


@pytest.fixture
def service() -> Iterator[TokenService]:
    with serving(always(200, {"access_token": ACCESS, "expires_in": 3600, "token_type": "Bearer"})) as found:
        yield found


def pem(key: rsa.RSAPrivateKey) -> str:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


def service_account(folder: Path, key: rsa.RSAPrivateKey, token_uri: str, **members: object) -> Path:
    info = {
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "1",
        "private_key": pem(key),
        "client_email": "robot@my-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_uri,
        **members,
    }
    return write(folder, info)


def write(folder: Path, info: object, name: str = "key.json") -> Path:
    path = folder / name
    path.write_bytes(encode(info))
    return path


def bearer(
    credentials: Path | None = None, proxies: dict[str, str] | None = None, clock: Any = time.time, **environ: str
) -> BearerToken:
    return google_bearer(settings(credentials, proxies, None, **environ), clock)


def settings(
    credentials: Path | None, proxies: dict[str, str] | None, ca_file: Path | None, **environ: str
) -> ProviderSettings:
    return ProviderSettings(
        name="vertex",
        kind="vertex",
        credentials=credentials,
        ca_file=ca_file,
        proxy_environ=tuple((name, Secret(value, f"env:{name}")) for name, value in (proxies or {}).items()),
        cloud_environ=tuple((name, Secret(value, f"env:{name}")) for name, value in environ.items()),
    )


# -- service accounts --


async def test_a_service_account_signs_for_a_token(
    tmp_path: Path, key: rsa.RSAPrivateKey, service: TokenService
) -> None:
    path = service_account(tmp_path, key, f"{service.url}/token")
    tokens = bearer(path)
    assert await tokens.lines("/v1", b"") == b"authorization: Bearer %b\r\n" % ACCESS.encode()
    (question,) = service.asked
    assert (question.method, question.path) == ("POST", "/token")
    assert question.form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    said = google.auth.jwt.decode(
        question.form["assertion"], certs=public, audience="https://oauth2.googleapis.com/token"
    )
    assert (said["iss"], said["scope"]) == ("robot@my-project.iam.gserviceaccount.com", SCOPE)
    assert (await tokens.token()).expires_at == pytest.approx(time.time() + 3600, abs=60)


async def test_a_token_is_renewed_before_it_ends_and_once_for_all(
    tmp_path: Path, key: rsa.RSAPrivateKey, service: TokenService
) -> None:
    late = 0.0
    tokens = bearer(service_account(tmp_path, key, service.url), clock=lambda: time.time() + late)
    await tokens.token()
    await tokens.token()
    assert len(service.asked) == 1
    late = 3_599.0
    await tokens.token()
    assert len(service.asked) == 2


async def test_a_key_that_was_replaced_is_used_from_the_next_token_on(
    tmp_path: Path, key: rsa.RSAPrivateKey, service: TokenService
) -> None:
    path = service_account(tmp_path, key, service.url)
    tokens = bearer(path)
    await tokens.token()
    service_account(tmp_path, key, service.url, client_email="other@my-project.iam.gserviceaccount.com")
    tokens.forget()
    await tokens.token()
    emails = [decode(_payload(question))["iss"] for question in service.asked]
    assert emails == ["robot@my-project.iam.gserviceaccount.com", "other@my-project.iam.gserviceaccount.com"]


def _payload(question: Question) -> bytes:
    part = question.form["assertion"].split(".")[1]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@pytest.mark.parametrize("said", ["invalid_grant", "secret text <b>", 7, None])
async def test_a_refused_key_is_told_by_its_code_alone(tmp_path: Path, key: rsa.RSAPrivateKey, said: object) -> None:
    answer: dict[str, object] = {"error": said, "error_description": "Invalid JWT: ya29.secret"}
    with serving(always(400, answer)) as service, pytest.raises(UpstreamAuth) as caught:
        await bearer(service_account(tmp_path, key, service.url)).token()
    assert ("(invalid_grant)" in str(caught.value)) is (said == "invalid_grant")
    assert "Google refused the credentials" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.hint


async def test_an_answer_without_a_token_is_a_refusal(tmp_path: Path, key: rsa.RSAPrivateKey) -> None:
    with serving(always(200, {})) as service, pytest.raises(UpstreamAuth, match="Google refused"):
        await bearer(service_account(tmp_path, key, service.url)).token()


async def test_a_token_service_that_cannot_be_reached_is_told(tmp_path: Path, key: rsa.RSAPrivateKey) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        path = service_account(tmp_path, key, f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(UpstreamAuth, match="could not be reached"):
            await bearer(path).token()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"not json", "is no JSON object"),
        (b"[]", "is no JSON object"),
        (b"[" * 99_999, "is no JSON object"),
        (b'{"a":"\xff"}', "is no JSON object"),
        (b"{}", "holds no credentials"),
        (b'{"type":"service_account","private_key":"-----BEGIN PRIVATE KEY-----\\nMIIsecret"}', "holds no credentials"),
        (b'{"type":"service_account","client_email":1,"token_uri":2,"private_key":3}', "holds no credentials"),
        (b'{"type":"authorized_user"}', "holds no credentials"),
        (b'{"type":"external_account"}', "holds no credentials"),
        (b'{"type":"external_account","credential_source":{"executable":{}}}', "holds no credentials"),
        (b'{"type":"external_account","credential_source":{},"subject_token_type":"urn:ietf:params:aws:token-type:aws4_request"}', "holds no credentials"),
        (b'{"type":"external_account_authorized_user"}', "holds no credentials"),
        (b'{"type":"impersonated_service_account"}', "holds no credentials"),
    ],
)  # fmt: skip
async def test_a_file_without_credentials_says_so_and_not_what_is_in_it(tmp_path: Path, text: bytes, says: str) -> None:
    path = tmp_path / "key.json"
    path.write_bytes(text)
    with pytest.raises(UpstreamAuth, match=says) as caught:
        await bearer(path).token()
    assert "MII" not in str(caught.value)
    assert str(path) in str(caught.value)


async def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UpstreamAuth, match=r"missing\.json cannot be read: No such file"):
        await bearer(tmp_path / "missing.json").token()


# -- other kinds of files --


async def test_a_users_own_login_is_refreshed_for_its_project(
    tmp_path: Path, service: TokenService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(google.oauth2.credentials, "_GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{service.url}/user")
    info = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    folder = tmp_path / ".config" / "gcloud"
    folder.mkdir(parents=True)
    write(folder, {**info, "quota_project_id": "billed-here"}, "application_default_credentials.json")
    tokens = bearer(HOME=str(tmp_path))
    expected = b"authorization: Bearer %b\r\nx-goog-user-project: billed-here\r\n" % ACCESS.encode()
    assert await tokens.lines("/", b"") == expected
    (question,) = service.asked
    assert question.path == "/user"
    assert (question.form["grant_type"], question.form["refresh_token"]) == ("refresh_token", "r")
    forged = write(tmp_path, {**info, "quota_project_id": "a\r\nx-evil: 1"})
    assert await bearer(forged).lines("/", b"") == b"authorization: Bearer %b\r\n" % ACCESS.encode()


async def test_a_workload_elsewhere_exchanges_its_own_token(tmp_path: Path) -> None:
    said = {"access_token": ACCESS, "expires_in": 3600, "token_type": "Bearer", "issued_token_type": "x"}
    with serving(always(200, dict(said))) as service:
        subject = tmp_path / "oidc-token"
        subject.write_text("my-oidc-token")
        info = {
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{service.url}/sts",
            "credential_source": {"file": str(subject)},
        }
        token = await bearer(write(tmp_path, info)).token()
    assert token.text == ACCESS
    assert service.asked[0].form["subject_token"] == "my-oidc-token"


# -- where they are looked for --


def test_the_settings_win_over_the_environment_and_that_over_gcloud(tmp_path: Path) -> None:
    environ = {"GOOGLE_APPLICATION_CREDENTIALS": "/b.json", "HOME": str(tmp_path)}
    assert find_file(Path("/a.json"), environ) == Path("/a.json")
    assert find_file(None, environ) == Path("/b.json")
    del environ["GOOGLE_APPLICATION_CREDENTIALS"]
    assert find_file(None, environ) is None
    assert find_file(None, {}) is None
    own = write(tmp_path, {}, "application_default_credentials.json")
    assert find_file(None, {"CLOUDSDK_CONFIG": str(tmp_path), "HOME": "/nowhere"}) == own


async def test_the_machine_itself_gives_a_token() -> None:
    with serving(always(200, {"access_token": ACCESS, "expires_in": 300, "token_type": "Bearer"})) as service:
        service.headers = {"Metadata-Flavor": "Google"}
        tokens = bearer(
            proxies={"HTTP_PROXY": "http://127.0.0.1:9"}, clock=lambda: 1_000.0, GCE_METADATA_HOST=service.netloc
        )
        token = await tokens.token()
    assert (token.text, token.expires_at) == (ACCESS, 1_300.0)
    (question,) = service.asked
    assert question.headers["metadata-flavor"] == "Google"
    assert question.path == f"/computeMetadata/v1/instance/service-accounts/default/token?scopes={SCOPE}"


@pytest.mark.parametrize(
    ("status", "said", "flavor"),
    [(404, {}, "Google"), (200, {}, "Google"), (200, {"access_token": "x", "expires_in": 5}, "Other")],
)
async def test_what_is_no_metadata_server_gives_no_token(status: int, said: dict[str, object], flavor: str) -> None:
    with serving(always(status, said)) as service:
        service.headers = {"Metadata-Flavor": flavor}
        with pytest.raises(UpstreamAuth, match=rf"gave no token \({status}\)"):
            await bearer(GCE_METADATA_IP=service.netloc).token()


async def test_without_any_credentials_it_is_said_where_they_may_stand() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(UpstreamAuth, match=r"no credentials for Google Cloud\. Name a service account's file"):
            await bearer(GCE_METADATA_HOST=f"127.0.0.1:{taken.getsockname()[1]}").token()


async def test_without_the_extra_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.auth.exceptions", None)
    with pytest.raises(UpstreamAuth, match=r'pip install "penstock\[google\]"'):
        await bearer(write(tmp_path, {})).token()


def test_neither_google_auth_nor_requests_is_loaded_before_it_is_needed() -> None:
    code = (
        "import sys\nimport penstock.providers.google_credentials\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('google', 'requests', 'azure')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


# -- the way there --


async def test_a_proxy_is_used_with_its_password_and_left_out_where_the_environment_says_so(
    tmp_path: Path, key: rsa.RSAPrivateKey, service: TokenService
) -> None:
    path = service_account(tmp_path, key, "http://oauth2.example.com/token")
    proxies = {"HTTP_PROXY": f"http://me:pass%20word@{service.netloc}"}
    assert (await bearer(path, proxies).token()).text == ACCESS
    (question,) = service.asked
    assert question.path == "http://oauth2.example.com/token"
    expected = "Basic " + base64.b64encode(b"me:pass word").decode()
    assert question.headers["proxy-authorization"] == expected
    path = service_account(tmp_path, key, f"{service.url}/direct")
    assert (await bearer(path, {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "localhost"}).token()).text == ACCESS
    assert service.asked[-1].path == "/direct"


async def test_a_corporate_certificate_is_trusted_where_the_settings_name_it(
    tmp_path: Path, key: rsa.RSAPrivateKey
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with serving(always(200, {"access_token": ACCESS, "expires_in": 3600}), context) as service:
        path = service_account(tmp_path, key, service.url)
        token = await google_bearer(settings(path, None, tmp_path / "ca.pem")).token()
        assert token.text == ACCESS
        with pytest.raises(UpstreamAuth, match="could not be reached"):
            await bearer(path).token()


def test_a_redirect_is_not_followed(service: TokenService) -> None:
    with serving(always(302, {})) as first:
        first.headers = {"location": service.url}
        answer = Transport({})(first.url, "POST", "a=b", {"x-y": "1"}, 5)
    assert (answer.status, answer.data) == (302, b"{}")
    assert service.asked == []
    assert first.asked[0].form == {"a": "b"}
    assert first.asked[0].headers["x-y"] == "1"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://localhost/x", "http://", "x", "http://user:p@localhost"])
def test_only_http_is_spoken(url: str) -> None:
    with pytest.raises(OSError, match=r"URL|http"):
        Transport({})(url)


def test_an_answer_that_is_no_http_is_an_error_like_any_other() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        import threading

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(9_999)
            connection.sendall(b"garbage\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(OSError, match="cannot be read"):
            Transport({})(f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()
