"""Addresses, proxies and which proxy the environment asks for, as tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.providers.address import Address, Proxy, proxy_for


@pytest.mark.parametrize(
    ("url", "address", "prefix", "host_header"),
    [
        ("https://api.example.com/v1", Address("https", "api.example.com", 443), "/v1", b"api.example.com"),
        ("http://API.Example.com", Address("http", "api.example.com", 80), "", b"api.example.com"),
        ("https://api.example.com:8443/", Address("https", "api.example.com", 8443), "", b"api.example.com:8443"),
        ("http://127.0.0.1:9000/v1/", Address("http", "127.0.0.1", 9000), "/v1", b"127.0.0.1:9000"),
        ("http://[::1]:8080/a/b", Address("http", "::1", 8080), "/a/b", b"[::1]:8080"),
        ("http://[2001:db8::1]", Address("http", "2001:db8::1", 80), "", b"[2001:db8::1]"),
        (" https://münchen.example ", Address("https", "xn--mnchen-3ya.example", 443), "", b"xn--mnchen-3ya.example"),
    ],
)
def test_a_base_url_gives_address_and_prefix(url: str, address: Address, prefix: str, host_header: bytes) -> None:
    assert Address.parse(url) == (address, prefix)
    assert address.host_header == host_header


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://hidden.test", "http:// or https://"),
        ("api.example.com/v1", "http:// or https://"),
        ("", "http:// or https://"),
        ("https://", "host"),
        ("https://a b.test", "host"),
        ("https://hidden%41.test", "host"),
        ("https://hidden.test:http", "port"),
        ("https://hidden.test:99999", "port"),
        ("https://[hidden", "malformed"),
        (f"https://{'ä' * 70}.test", "xn--"),
        ("https://user:hidden@a.test", "api_key"),
        ("https://hidden@a.test", "api_key"),
        ("https://a.test/v1?key=hidden", "?"),
        ("https://a.test/v1#hidden", "#"),
        ("https://a.test/v 1", "%-encoded"),
        ("https://a.test/vä", "%-encoded"),
    ],
)
def test_a_base_url_that_cannot_be_used_is_refused_without_repeating_it(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"host|port|URL") as caught:
        Address.parse(url)
    assert words in str(caught.value)
    assert "hidden" not in str(caught.value)


@given(st.text(max_size=40))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    for parse in (Address.parse, Proxy.parse):
        try:
            parse(text)
            parse(f"http://{text}")
        except ValueError:
            pass


@pytest.mark.parametrize(
    ("url", "netloc", "credential"),
    [
        ("http://proxy.test:3128", "proxy.test:3128", b""),
        ("proxy.test:3128", "proxy.test:3128", b""),
        ("http://proxy.test", "proxy.test:80", b""),
        ("http://[::1]:3128", "[::1]:3128", b""),
        ("http://bob:p%40ss@proxy.test:1", "proxy.test:1", b"proxy-authorization: Basic Ym9iOnBAc3M=\r\n"),
        ("http://bob@proxy.test:1", "proxy.test:1", b"proxy-authorization: Basic Ym9iOg==\r\n"),
    ],
)
def test_a_proxy_url_gives_place_and_credential(url: str, netloc: str, credential: bytes) -> None:
    proxy = Proxy.parse(url)
    assert (proxy.netloc, proxy.credential) == (netloc, credential)


@pytest.mark.parametrize(
    "url", ["https://proxy.test", "socks5://bob:hidden@proxy.test", "http://bob:hidden@:80", "http://"]
)
def test_a_proxy_that_is_not_spoken_to_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"proxy|host") as caught:
        Proxy.parse(url)
    assert "hidden" not in str(caught.value)


def test_a_proxy_never_shows_its_credential() -> None:
    assert repr(Proxy.parse("http://bob:hidden@proxy.test:1")) == "Proxy('proxy.test:1')"


HTTP, HTTPS = Address("http", "api.example.com", 80), Address("https", "api.example.com", 443)
P, Q = "http://p:1", "http://q:2"


@pytest.mark.parametrize(
    ("address", "environ", "proxy"),
    [
        (HTTP, {}, None),
        (HTTP, {"http_proxy": P}, P),
        (HTTP, {"HTTP_PROXY": P}, P),
        (HTTP, {"http_proxy": P, "HTTP_PROXY": Q}, P),
        (HTTP, {"http_proxy": "", "HTTP_PROXY": Q}, Q),
        (HTTP, {"https_proxy": P}, None),
        (HTTP, {"all_proxy": P}, P),
        (HTTP, {"ALL_PROXY": P}, P),
        (HTTP, {"ALL_PROXY": P, "HTTP_PROXY": Q}, Q),
        (HTTP, {"HTTP_PROXY": P, "REQUEST_METHOD": "GET"}, None),
        (HTTP, {"HTTP_PROXY": P, "REQUEST_METHOD": "GET", "ALL_PROXY": Q}, Q),
        (HTTP, {"http_proxy": P, "REQUEST_METHOD": "GET"}, P),
        (HTTP, {"http_proxy": f" {P} "}, P),
        (HTTP, {"http_proxy": "  "}, None),
        (HTTPS, {"HTTPS_PROXY": P, "REQUEST_METHOD": "GET"}, P),
        (HTTPS, {"https_proxy": P, "http_proxy": Q}, P),
        (HTTPS, {"http_proxy": Q}, None),
        (HTTPS, {"all_proxy": P, "NO_PROXY": "example.com"}, None),
        (HTTPS, {"all_proxy": P, "no_proxy": "other.test", "NO_PROXY": "example.com"}, P),
        (HTTPS, {"all_proxy": P, "no_proxy": "", "NO_PROXY": "example.com"}, None),
    ],
)
def test_the_environment_names_the_proxy(address: Address, environ: dict[str, str], proxy: str | None) -> None:
    assert proxy_for(address, environ) == proxy


@pytest.mark.parametrize(
    ("host", "no_proxy", "direct"),
    [
        ("api.example.com", "*", True),
        ("api.example.com", "example.com", True),
        ("example.com", "example.com", True),
        ("example.com", ".example.com", True),
        ("api.example.com", ".example.com", True),
        ("api.example.com", "*.example.com", True),
        ("api.example.com", "EXAMPLE.COM", True),
        ("api.example.com", "example.com.", True),
        ("api.example.com.", "example.com", True),
        ("api.example.com", "other.test, example.com", True),
        ("api.example.com", "other.test example.com", True),
        ("api.example.com", "example.com:443", True),
        ("api.example.com", "example.com:8443", False),
        ("notexample.com", "example.com", False),
        ("example.com.evil.test", "example.com", False),
        ("api.example.com", "", False),
        ("api.example.com", ",, ,", False),
        ("api.example.com", ".", False),
        ("api.example.com", "10.0.0.0/8", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3/8", True),
        ("10.1.2.3", "10.1.2.3:443", True),
        ("10.1.2.3", "10.1.2.3:80", False),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "2.3", False),
        ("10.1.2.3", "10.1.2.3.example.com", False),
        ("10.1.2.3", "fd00::/8", False),
        ("::1", "::1", True),
        ("::1", "[::1]", True),
        ("::1", "[::1]:443", True),
        ("::1", "[::1]:80", False),
        ("fd00::5", "fd00::/8", True),
        ("fe80::5", "fd00::/8", False),
        ("127.0.0.1", "localhost", False),
        ("localhost", "localhost", True),
    ],
)
def test_no_proxy_names_what_is_reached_directly(host: str, no_proxy: str, *, direct: bool) -> None:
    proxy = proxy_for(Address("https", host, 443), {"https_proxy": P, "no_proxy": no_proxy})
    assert proxy == (None if direct else P)


def test_loopback_has_no_special_place() -> None:
    assert proxy_for(Address("http", "127.0.0.1", 80), {"http_proxy": P}) == P
