"""Whose key it is: known soon after it was made elsewhere, and nobody's while there is none."""

from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.call import Caller, Limits, Who
from penstock.errors import NotFound, Unauthenticated
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


# -- one value for one caller --


def test_a_key_is_the_same_value_until_a_key_changes(site):
    made, other = (site.ring.create(Grant(team="web", limits=Limits(rpm=5)), 0) for _ in range(2))
    digest = site.ring.digest(made.key)
    who = site.identity.of(Caller(key=made.key), digest)
    site.now += KEYS_S * 2
    assert site.identity.of(Caller(key=made.key), digest) is site.identity.of(Caller(key=made.key)) is who
    site.ring.limit(made.id, lambda _: Limits(rpm=9))
    again = site.identity.of(Caller(key=made.key), digest)
    assert (again.key_id, again.limits) == (made.id, Limits(rpm=9))
    site.ring.revoke(other.id, 0)
    assert site.identity.of(Caller(key=made.key), digest) == again


def test_a_key_that_ends_is_the_same_value_until_it_does(site):
    made = site.ring.create(Grant(team="web", expires_ns=5_000_000_000), 0)
    digest = site.ring.digest(made.key)
    who = site.identity.of(Caller(key=made.key), digest)
    site.now = 4.99
    assert site.identity.of(Caller(key=made.key), digest) is who
    site.now = 5.0
    for known in (digest, None):
        with pytest.raises(Unauthenticated, match="expired"):
            site.identity.of(Caller(key=made.key), known)


def test_a_key_that_is_to_end_ends_although_it_was_remembered_as_one_that_does_not(site):
    made = site.ring.create(Grant(team="web"), 0)
    digest = site.ring.digest(made.key)
    site.identity.of(Caller(key=made.key), digest)
    site.ring.rotate(made.id, 0, 3)
    assert site.identity.of(Caller(key=made.key), digest).key_id == made.id
    site.now = 3.0
    with pytest.raises(Unauthenticated, match="expired"):
        site.identity.of(Caller(key=made.key), digest)


def test_a_key_that_another_process_revoked_is_refused_soon_although_it_was_remembered(site, tmp_path):
    made = site.ring.create(Grant(team="web"), 0)
    digest = site.ring.digest(made.key)
    site.identity.of(Caller(key=made.key), digest)
    other = Store.open(tmp_path / FILE)
    Keyring(other, read_pepper(tmp_path)).revoke(made.id, 0)
    other.close()
    site.now += KEYS_S * 2
    with pytest.raises(Unauthenticated, match="revoked"):
        site.identity.of(Caller(key=made.key), digest)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["make", "make ending", "limit", "revoke", "rotate", "elsewhere", "ask", "ask"]),
            st.integers(0, 9),
            st.floats(0, 2),
        ),
        max_size=25,
    )
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whoever_is_remembered_is_who_the_ring_finds(tmp_path_factory, steps):
    home = tmp_path_factory.mktemp("keys")
    site = Site(home)
    second = Store.open(home / FILE)
    other, made = Keyring(second, read_pepper(home)), []
    for what, which, later in steps:
        site.now += later
        now_ns = int(site.now * 1e9)
        one = made[which % len(made)] if made else None
        with suppress(NotFound):
            if what == "make" or one is None:
                made.append(site.ring.create(Grant(team=f"t{which}"), now_ns))
            elif what == "make ending":
                made.append(site.ring.create(Grant(expires_ns=now_ns + which * 10**9), now_ns))
            elif what == "limit":
                site.ring.limit(one.id, lambda _, rpm=which + 1: Limits(rpm=rpm))
            elif what == "revoke":
                site.ring.revoke(one.id, now_ns)
            elif what == "rotate":
                made.append(site.ring.rotate(one.id, now_ns, which))
            elif what == "elsewhere":
                other.revoke(one.id, now_ns)
        for each in made:
            digest = site.ring.digest(each.key)
            with suppress(Unauthenticated):
                site.identity.of(Caller(key=each.key), digest)  # which looks for what others changed
            key = site.ring.found(digest, now_ns)
            for known in (digest, None):
                if key is None:
                    with pytest.raises(Unauthenticated):
                        site.identity.of(Caller(key=each.key), known)
                else:
                    who = site.identity.of(Caller(key=each.key), known)
                    assert who == Who(key.id, key.team, key.feature, None, None, key.admin, key.limits)
    second.close()
    site.store.close()
