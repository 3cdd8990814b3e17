"""Whose key it is: known soon after it was made elsewhere, and nobody's while there is none."""

import pytest

from penstock.call import Caller, Limits, Who
from penstock.errors import Unauthenticated
from penstock.identity import KEYS_S, OPEN_DOOR, Identity
from penstock.ledger.keys import Grant, Keyring, read_pepper
from penstock.ledger.store import FILE, Store


class Site:
    """A ring of keys with a clock that is moved by hand."""

    def __init__(self, home):
        self.now = 0.0
        self.store = Store.open(home / FILE)
        self.ring = Keyring(self.store, read_pepper(home))
        self.identity = Identity(self.ring, lambda: self.now, lambda: int(self.now * 1e9))


@pytest.fixture
def site(tmp_path):
    one = Site(tmp_path)
    yield one
    one.store.close()


def test_without_any_key_everybody_is_an_administrator(site):
    assert site.identity.of(Caller()) is OPEN_DOOR
    assert site.identity.of(Caller(key="ps-whatever")) is OPEN_DOOR


def test_a_key_tells_its_team_its_feature_and_its_limits(site):
    made = site.ring.create(Grant(team="web", feature="invoices", limits=Limits(rpm=5)), 0)
    who = site.identity.of(Caller(key=made.key))
    assert (who.key_id, who.team, who.feature, who.admin) == (made.id, "web", "invoices", False)
    assert who.limits == Limits(rpm=5)


def test_a_key_without_limits_has_none(site):
    made = site.ring.create(Grant(team="web"), 0)
    assert site.identity.of(Caller(key=made.key)).limits is None


@pytest.mark.parametrize(("key", "said"), [(None, "has none"), ("ps-nobody", "unknown")])
def test_with_a_key_in_the_ring_everybody_needs_one(site, key, said):
    site.ring.create(Grant(), 0)
    with pytest.raises(Unauthenticated, match=said):
        site.identity.of(Caller(key=key))


def test_keys_of_another_process_are_known_soon(site, tmp_path):
    assert site.identity.of(Caller()) is OPEN_DOOR
    other = Store.open(tmp_path / FILE)
    Keyring(other, read_pepper(tmp_path)).create(Grant(), 0)
    other.close()
    site.now += KEYS_S * 2
    with pytest.raises(Unauthenticated):
        site.identity.of(Caller())


def test_the_name_of_a_user_is_hashed(site):
    assert site.identity.hashed(Who(team="web")) == Who(team="web")
    limits = Limits(rpm=5)
    hashed = site.identity.hashed(Who(team="web", user="anna", limits=limits))
    assert hashed.user not in {None, "anna"}
    assert (hashed.team, hashed.limits) == ("web", limits)
    assert site.identity.hashed(Who(team="other", user="anna")).user != hashed.user


def test_a_digest_says_whose_key_it_is_and_nothing_of_whether_it_works(site):
    made = site.ring.create(Grant(team="web", admin=True), 0)
    digest = site.ring.digest(made.key)
    who = site.identity.of(Caller(key=made.key))
    assert site.identity.of(Caller(key=made.key), digest) == who == Who(made.id, "web", admin=True)
    site.ring.revoke(made.id, 0)
    with pytest.raises(Unauthenticated, match="revoked"):
        site.identity.of(Caller(key=made.key), digest)
