"""What a feature pins."""

from penstock.call import Call, Content, Sampling
from penstock.policy.sampling import pin
from penstock.settings import Pins


def call(**sampling):
    return Call(dialect="chat", model="fast", sampling=Sampling(**sampling), read=lambda: Content(()), raw=b"{}")


def test_nothing_pinned_leaves_the_call_as_it_is():
    asked = call(temperature=1.0)
    assert pin(asked, Pins()) is asked


def test_a_value_that_is_already_right_is_no_change():
    asked = call(temperature=0.0, seed=7, top_p=1.0, max_tokens=5)
    assert pin(asked, Pins(temperature=0.0, seed=7, top_p=1.0, max_tokens=5)) is asked


def test_pinned_values_replace_the_requests_and_are_named():
    pinned = pin(call(temperature=1.5), Pins(temperature=0.0, top_p=0.5, seed=7))
    assert pinned.sampling == Sampling(temperature=0.0, top_p=0.5, seed=7)
    assert pinned.changed == ("temperature", "top_p", "seed")
    assert pinned.raw == b"{}"


def test_max_tokens_is_a_cap():
    assert pin(call(), Pins(max_tokens=10)).sampling.max_tokens == 10
    assert pin(call(max_tokens=50), Pins(max_tokens=10)).sampling.max_tokens == 10
    small = call(max_tokens=5)
    assert pin(small, Pins(max_tokens=10)) is small


def test_a_pinned_model_is_asked_for_instead():
    pinned = pin(call(), Pins(model="smart"))
    assert pinned.model == "smart"
    assert pinned.changed == ()


def test_a_field_that_was_changed_before_is_named_once():
    once = pin(call(), Pins(seed=1))
    assert pin(once, Pins(seed=2)).changed == ("seed",)
