"""The fixed lines of a request, the certificates that a provider is trusted by, and the type of an error of AWS."""

import pytest

from penstock.errors import ConfigError
from penstock.providers.writing import fixed_lines, trusted, typed
from penstock.settings import ProviderSettings, Secret


def test_the_lines_of_a_head_are_those_of_every_request_and_end_where_the_next_begins():
    lines = fixed_lines(
        b"api.example:8443",
        ProviderSettings(name="x", kind="openai", api_key=Secret("sk-1", "env:X"), headers=(("X-Team", "web"),)),
    )
    assert lines.startswith(b"host: api.example:8443\r\n")
    assert lines.endswith(b"\r\n")
    assert b"\r\n\r\n" not in lines
    assert b"authorization: Bearer sk-1\r\n" in lines
    assert b"x-team: web\r\n" in lines


def test_a_file_without_a_certificate_is_a_mistake_that_says_where(tmp_path):
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ConfigError, match=r"providers\.box\.ca_file"):
        trusted("box", str(tmp_path / "ca.pem"))


@pytest.mark.parametrize(
    ("body", "kind", "told"),
    [
        (
            b'{"message":"slower"}',
            b"ThrottlingException:http://x",
            b'{"__type":"ThrottlingException","message":"slower"}',
        ),
        (b"{ }", b"ThrottlingException", b'{"__type":"ThrottlingException"}'),
        (b'{"__type":"A"}', b"B", b'{"__type":"A"}'),
        (b'{"message":"x"}', None, b'{"message":"x"}'),
        (b'{"message":"x"}', b'","y":"', b'{"message":"x"}'),
        (b"not json", b"B", b"not json"),
    ],
)
def test_the_type_of_an_error_is_put_into_its_body_where_the_header_alone_says_it(body, kind, told):
    assert typed(body, kind) == told
