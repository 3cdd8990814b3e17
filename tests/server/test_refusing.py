"""What is refused before it is a call, and what is not."""

import pytest

from penstock.errors import PermissionDenied
from penstock.server.refusing import WrongMethod, reading_only, stay_at_home, wrong_method
from penstock.server.request import Request


def request(method="GET", **headers):
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request(method, b"/x", "/x", b"", fields, b"", "1.1", "127.0.0.1")


@pytest.mark.parametrize(("right", "allow"), [("GET", b"GET, HEAD"), ("POST", b"POST")])
def test_the_wrong_method_is_told_the_right_ones(right, allow):
    error = wrong_method(request("PUT"), right)
    assert (error.status, error.allow) == (405, allow)
    assert error.message == f"/x takes {right}, not PUT."


def test_what_only_reads_may_be_a_head():
    for method in ("GET", "HEAD"):
        reading_only(request(method))
    with pytest.raises(WrongMethod):
        reading_only(request("POST"))


def test_an_open_door_is_for_this_machine_alone():
    stay_at_home(request(host="127.0.0.1:8080"))
    for strange in ({"host": "evil.example"}, {"host": "127.0.0.1", "origin": "https://evil.example"}):
        with pytest.raises(PermissionDenied):
            stay_at_home(request(**strange))
