from hypothesis import given
from hypothesis import strategies as st

from penstock.wire.signatures import carry, take

SIGNERS = st.sampled_from(["anthropic", "google", "openai"])


@given(st.text(min_size=1).filter(lambda text: not text.startswith("penstock.")), SIGNERS, SIGNERS)
def test_a_signature_comes_back_as_it_went_with_its_maker(signature, signer, own):
    assert take(carry(signature, signer, own), own) == (signature, signer)


def test_an_own_signature_is_not_touched():
    assert carry("EqQB", "anthropic", "anthropic") == "EqQB"
    assert carry("EqQB", "", "google") == "EqQB"
    assert carry(None, "google", "openai") is None


def test_nothing_is_no_signature():
    assert take("", "google") == (None, "")
    assert take(None, "google") == (None, "")


def test_what_only_looks_like_a_prefix_is_a_signature_of_ones_own():
    assert take("penstock.nobody.x", "openai") == ("penstock.nobody.x", "openai")
    assert take("penstock.google", "openai") == ("penstock.google", "openai")
