"""A credential shows in nothing that is told of a provider's replies."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import RateLimited, UpstreamFailed
from penstock.providers.secrecy import HIDDEN, Secrecy
from penstock.reply import Failed, TextDelta

KEY = "sk-very-secret-0123456789"


class Fetched:
    text = "token-of-an-hour-42"


@given(st.text(max_size=30), st.text(max_size=30), st.sampled_from([KEY, Fetched.text, KEY[3:17]]))
def test_a_text_that_quotes_the_key_or_what_was_fetched_is_known(before, after, quoted):
    assert Secrecy(KEY, Fetched()).shows(before + quoted + after)


def test_a_text_that_does_not_is_left_as_it_is():
    secrecy = Secrecy(KEY, Fetched())
    assert not secrecy.shows("The key sk-very is wrong.")
    error = UpstreamFailed("a/one: down")
    error.body = b"down"
    assert secrecy.keep(error) is error
    assert (error.message, error.body) == ("a/one: down", b"down")


def test_without_any_key_nothing_is_hidden():
    assert not Secrecy("", None).shows("anything")


def test_the_words_of_an_error_that_quotes_it_are_taken_out():
    ours, theirs = RateLimited(f"bad key {KEY}"), UpstreamFailed(f"bad key {KEY}")
    theirs.body = KEY.encode()
    secrecy = Secrecy(KEY, None)
    assert secrecy.keep(ours).message == secrecy.keep(theirs).message == HIDDEN
    assert theirs.body == b""


def test_so_is_an_error_among_events():
    error = UpstreamFailed(f"bad key {KEY}")
    Secrecy(KEY, None).keep_in((TextDelta(KEY), Failed(error)))
    assert error.message == HIDDEN


def test_it_shows_nothing_itself():
    assert KEY not in repr(Secrecy(KEY, None))
