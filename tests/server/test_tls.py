"""The server's certificate."""

import asyncio
from ssl import SSLError, create_default_context

import pytest
import trustme

from penstock.server.tls import Certificate, server_context


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


async def test_a_certificate_is_replaced_whatever_kind_of_key_it_has(tmp_path):
    authority = trustme.CA()
    trust = create_default_context()
    authority.configure_trust(trust)
    paths = []
    for kind in (trustme.KeyType.RSA, trustme.KeyType.ECDSA):
        paths.append(tmp_path / f"{kind.name}.pem")
        issued = authority.issue_cert("127.0.0.1", common_name=kind.name, key_type=kind)
        issued.private_key_and_cert_chain_pem.write_to_path(paths[-1])
    certificate = Certificate(paths[0], paths[0])
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=certificate.context)
    shown = []
    for replace in (None, paths[1], paths[0]):
        if replace is not None:
            certificate.replace(server_context(replace, replace))
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=trust)
        subject = dict(pair[0] for pair in writer.get_extra_info("peercert")["subject"])
        shown.append((subject["commonName"], writer.get_extra_info("ssl_object").selected_alpn_protocol()))
        writer.transport.abort()
    server.close()

    assert shown == [("RSA", None), ("ECDSA", None), ("RSA", None)]
