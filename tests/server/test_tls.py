"""The server's certificate."""

from ssl import SSLError

import pytest
import trustme

from penstock.server.tls import server_context


def test_a_certificate_and_its_key_make_a_context_for_http11(tmp_path):
    certificate = trustme.CA().issue_cert("localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    certificate.private_key_pem.write_to_path(key)
    assert server_context(chain, key).get_ca_certs() == []


def test_what_is_no_certificate_is_an_error_of_the_system(tmp_path):
    (tmp_path / "x.pem").write_text("nothing")
    with pytest.raises(SSLError):
        server_context(tmp_path / "x.pem", None)
    with pytest.raises(FileNotFoundError):
        server_context(tmp_path / "missing.pem", None)
