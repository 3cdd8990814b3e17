"""Who may come in while there is no key."""

import pytest

from penstock.errors import PermissionDenied
from penstock.server.loopback import is_here, refuse_strangers


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8420", "localhost", "localhost:1", "[::1]:8420", "127.9.9.9"])
def test_this_machine_is_here(host):
    assert is_here(host)


@pytest.mark.parametrize("host", ["", "evil.example", "10.0.0.1", "127.0.0.1.evil.example", "[::1", "0.0.0.0"])
def test_any_other_name_is_not(host):
    assert not is_here(host)


def test_a_program_comes_in_and_so_does_our_own_page():
    refuse_strangers("127.0.0.1:8420", None)
    refuse_strangers("localhost:8420", "http://localhost:8420")
    refuse_strangers("localhost:8420", "https://localhost:8420")


@pytest.mark.parametrize(
    ("host", "origin"),
    [("evil.example", None), ("127.0.0.1:8420", "https://evil.example"), ("127.0.0.1:8420", "http://127.0.0.1:3000")],
)
def test_a_page_from_elsewhere_does_not(host, origin):
    with pytest.raises(PermissionDenied, match="web page"):
        refuse_strangers(host, origin)
