"""The head of a request: its target, its Host, and what asks for a decision."""

import pytest

from penstock.server.request import Endpoints, Limits, Refused, Request, check_head, split_target

HOST = (b"host", b"a")


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", b""),
        (b"/v1/chat/completions", "/v1/chat/completions", b""),
        (b"/a?b=c&d=%20?e", "/a", b"b=c&d=%20?e"),
        (b"/a?", "/a", b""),
        (b"//a/../b", "//a/../b", b""),
        (b"/model/arn%3Aaws%2Fx/converse", "/model/arn:aws/x/converse", b""),
        (b"/caf%C3%A9%00", "/café\0", b""),
        (b"/100%", "/100%", b""),
        (b"http://h", "/", b""),
        (b"http://h?q", "/", b"q"),
        (b"HTTPS://u@h:1/p/q?r", "/p/q", b"r"),
    ],
)
def test_a_target_is_split_into_path_and_query(target, path, query):
    assert split_target("GET", target) == (path, query)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", b"/a#b", 400),
        ("GET", b"/a?b#c", 400),
        ("GET", b"http://h#c", 400),
        ("GET", b"/%FF", 400),
        ("GET", b"*", 400),
        ("GET", b"ftp://h/", 400),
        ("GET", b"a:80", 400),
        ("CONNECT", b"a:80", 405),
    ],
)
def test_an_ambiguous_target_is_refused(method, target, status):
    with pytest.raises(Refused) as refusal:
        split_target(method, target)
    assert refusal.value.status == status


def test_an_asterisk_goes_with_options():
    assert split_target("OPTIONS", b"*") == ("*", b"")


def test_fields_hold_the_first_value_of_each_name():
    fields, waits = check_head([HOST, (b"x", b"1"), (b"x", b"2")], "1.1", 100)
    assert fields == {b"host": b"a", b"x": b"1"}
    assert not waits


@pytest.mark.parametrize(
    "host", [b"", b"localhost", b"127.0.0.1:8420", b"[::1]:80", b"a-b.c_d:1", b"xn--caf-dma.example"]
)
def test_a_host_may_be_a_name_or_an_address_with_a_port(host):
    assert check_head([(b"host", host)], "1.1", 100)[0] == {b"host": host}


@pytest.mark.parametrize(
    "host", [b"a b", b"a/b", b"a?b", b"a#b", b"a@b", b"a,b", b"a\\b", b"a\tb", "é".encode(), b"<a>", b'"a"']
)
def test_a_host_that_could_change_an_address_is_refused(host):
    with pytest.raises(Refused, match="Host"):
        check_head([(b"host", host)], "1.1", 100)


def test_http_1_0_needs_no_host():
    assert check_head([], "1.0", 100) == ({}, False)


@pytest.mark.parametrize(
    ("header", "version", "waits"),
    [
        ((b"expect", b"100-continue"), "1.1", True),
        ((b"expect", b" 100-Continue\t"), "1.1", True),
        ((b"expect", b"100-continue"), "1.0", False),
        ((b"expect", b"a cake"), "1.0", False),
        ((b"transfer-encoding", b"Chunked "), "1.1", False),
    ],
)
def test_rare_headers_are_understood(header, version, waits):
    assert check_head([HOST, header], version, 100)[1] is waits


@pytest.mark.parametrize(
    ("headers", "version", "status"),
    [
        ([(b"expect", b"a cake")], "1.1", 417),
        ([(b"transfer-encoding", b"chunked")], "1.0", 400),
        ([(b"transfer-encoding", b"gzip, chunked")], "1.1", 400),
        ([(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")], "1.0", 400),
        ([(b"content_length", b"1")], "1.1", 400),
        ([(b"transfer_encoding", b"chunked")], "1.1", 400),
        ([HOST], "1.1", 400),
        ([(b"x", b"y")] * 100, "1.1", 431),
        ([], "2.0", 505),
        ([], "0.9", 505),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(headers, version, status):
    with pytest.raises(Refused) as refusal:
        check_head([HOST, *headers], version, 100)
    assert refusal.value.status == status
    assert str(refusal.value) == refusal.value.message


def test_a_header_is_found_without_the_table_too():
    request = Request("GET", b"/", "/", b"", [(b"x", b"1"), (b"x", b"2")], b"", "1.1", "127.0.0.1")
    assert request.header(b"x") == b"1"
    assert request.header(b"y") is None


@pytest.mark.parametrize(
    ("limits", "sweep_s"),
    [
        (Limits(), 0.25),
        (Limits(keepalive_s=0.4), 0.1),
        (Limits(body_idle_s=0.001), 0.005),
        (Limits(write_stall_s=0.2), 0.05),
    ],
)
def test_the_sweep_is_fine_enough_for_the_shortest_limit(limits, sweep_s):
    assert limits.sweep_s == pytest.approx(sweep_s)


def test_a_unix_socket_has_no_address(memory):
    transport = memory()
    transport._extra = {"peername": "", "sockname": "/run/x", "sslcontext": object()}
    assert Endpoints.of(transport) == Endpoints(("", 0), ("", 0), "https")
