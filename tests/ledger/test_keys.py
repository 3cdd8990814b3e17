import ast
import inspect
import re
import stat
import sys
from decimal import Decimal
from subprocess import PIPE, Popen

import msgspec
import pytest

from penstock.call import Limits, Who
from penstock.errors import Internal, InvalidRequest, NotFound
from penstock.ledger import keys
from penstock.ledger.keys import PEPPER_FILE, CreatedKey, Grant, Key, Keyring, listed, read_pepper, read_usd
from penstock.ledger.store import FILE, Store

NOW = 1_763_754_000_000_000_000
SECOND = 10**9


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / FILE)
    yield opened
    opened.close()


@pytest.fixture
def ring(store, tmp_path):
    return Keyring(store, read_pepper(tmp_path))


def test_a_key_is_found_by_its_secret_with_its_rights(ring):
    made = ring.create(Grant(team="web", feature="invoices", label="ci", admin=True, expires_ns=NOW + SECOND), NOW)
    assert re.fullmatch(r"ps-[A-Za-z0-9_-]{43}", made.key)
    assert re.fullmatch(r"key_[0-9a-f]{16}", made.id)
    assert ring.find(made.key, NOW) == Key(made.id, "web", "invoices", "ci", True, NOW, NOW + SECOND)


def test_a_ring_is_empty_until_its_first_key_and_never_again(ring):
    assert ring.empty
    made = ring.create(Grant(), NOW)
    assert not ring.empty
    ring.revoke(made.id, NOW)
    assert not ring.empty


def test_every_key_is_another(ring):
    made = [ring.create(Grant(), NOW) for _ in range(50)]
    assert len({each.key for each in made}) == len({each.id for each in made}) == 50


@pytest.mark.parametrize(
    "secret",
    [
        *("", "ps-", "sk-" + "a" * 43, "ps-" + "a" * 43, "ps-" + "a" * 42, "ps-" + "a" * 10**6, "ps-" + "é" * 43),
        *("ps-" + "\ud800" * 43, "PS-" + "a" * 43),
    ],
)
def test_what_is_no_key_finds_nothing(ring, secret):
    ring.create(Grant(), NOW)
    assert ring.find(secret, NOW) is None
    if secret != "ps-" + "a" * 43:
        assert ring.digest(secret) is None


def test_nothing_is_found_by_no_digest(ring):
    made = ring.create(Grant(), NOW)
    assert ring.digest(None) is None
    assert ring.found(None, NOW) is None
    assert ring.found(ring.digest(made.key), NOW) == ring.find(made.key, NOW)


def test_a_key_that_differs_in_one_character_finds_nothing(ring):
    secret = ring.create(Grant(), NOW).key
    for place in range(3, len(secret)):
        other = "A" if secret[place] != "A" else "B"
        assert ring.find(secret[:place] + other + secret[place + 1 :], NOW) is None


def test_a_key_works_until_the_moment_it_expires(ring):
    secret = ring.create(Grant(expires_ns=NOW + SECOND), NOW).key
    assert ring.find(secret, NOW + SECOND - 1)
    assert ring.find(secret, NOW + SECOND) is None


def test_a_revoked_key_ends_at_once_and_stays_listed(ring):
    made = ring.create(Grant(team="web"), NOW)
    ring.revoke(made.id, NOW + 5)
    assert ring.find(made.key, NOW) is None
    (key,) = ring.list()
    assert key.revoked_ns == NOW + 5
    ring.revoke(made.id, NOW + 9)
    assert ring.list()[0].revoked_ns == NOW + 5, "the first time counts"


def test_rotation_gives_a_key_of_the_same_rights_and_lets_the_old_one_work_a_while(ring):
    old = ring.create(Grant("web", "invoices", "ci", admin=True, expires_ns=NOW + 100 * SECOND), NOW)
    new = ring.rotate(old.id, NOW, grace_s=10)
    assert ring.find(old.key, NOW + 10 * SECOND - 1)
    assert ring.find(old.key, NOW + 10 * SECOND) is None
    found = ring.find(new.key, NOW + 10 * SECOND)
    assert (found.team, found.feature, found.label, found.admin) == ("web", "invoices", "ci", True)
    assert found.expires_ns == NOW + 100 * SECOND


def test_a_grace_does_not_outlast_the_key(ring):
    old = ring.create(Grant(expires_ns=NOW + SECOND), NOW)
    ring.rotate(old.id, NOW, grace_s=3600)
    assert ring.find(old.key, NOW + SECOND) is None


def test_keys_that_are_not_there_or_no_longer_work_are_told(ring):
    with pytest.raises(NotFound, match="There is no key 'key_x'") as caught:
        ring.revoke("key_x", NOW)
    assert "penstock keys list" in caught.value.hint
    with pytest.raises(NotFound, match="There is no key 'key_x'"):
        ring.rotate("key_x", NOW, 5)
    made = ring.create(Grant(), NOW)
    ring.revoke(made.id, NOW)
    with pytest.raises(NotFound, match="No longer works"):
        ring.rotate(made.id, NOW, 5)


# -- limits --


@pytest.mark.parametrize(
    "limits", [Limits(60, 1000, 5), Limits(rpm=1), Limits(tpm=1_000_000_000), Limits(concurrency=2)]
)
def test_a_key_may_have_limits_of_its_own_which_a_rotated_one_has_too(ring, limits):
    old = ring.create(Grant(team="web", limits=limits), NOW)
    new = ring.rotate(old.id, NOW, grace_s=10)
    assert ring.find(old.key, NOW).limits == ring.find(new.key, NOW).limits == limits
    for key in ring.list():
        shown = listed(key)
        assert (shown.rpm, shown.tpm, shown.concurrency) == (limits.rpm, limits.tpm, limits.concurrency)


def test_a_key_without_limits_has_none(ring):
    made = ring.create(Grant(team="web"), NOW)
    assert ring.find(made.key, NOW).limits is None
    assert ring.find(ring.rotate(made.id, NOW, 5).key, NOW).limits is None


# -- several processes --


def test_what_another_process_changes_is_taken_over_on_refresh(ring, tmp_path):
    theirs_store = Store.open(tmp_path / FILE)
    theirs = Keyring(theirs_store, read_pepper(tmp_path))
    made = theirs.create(Grant(team="web"), NOW)
    assert ring.find(made.key, NOW) is None
    assert ring.refresh()
    assert ring.find(made.key, NOW)
    assert not ring.refresh()
    theirs.revoke(made.id, NOW)
    assert ring.refresh()
    assert ring.find(made.key, NOW) is None
    theirs_store.close()


def test_refreshing_reads_the_keys_only_when_keys_have_changed(ring, store, tmp_path, make, monkeypatch):
    from penstock.ledger.records import pack_receipt

    other = Store.open(tmp_path / FILE)
    other.add([pack_receipt(make.receipt())[0]])
    other.close()
    monkeypatch.setattr(Store, "key_rows", None)
    assert not ring.refresh()
    monkeypatch.setattr(Store, "keys_version", None)
    assert not ring.refresh(), "nothing was written at all"


# -- secrets at rest --


def test_no_byte_of_a_secret_is_on_disk(ring, store, tmp_path):
    made = [ring.create(Grant(label=f"key {n}"), NOW) for n in range(20)]
    made += [ring.rotate(each.id, NOW, 60) for each in made[:5]]
    store.close()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert made[0].id.encode() in content, "this is where it would be"
    for each in made:
        secret = each.key.removeprefix("ps-")
        for start in range(len(secret) - 12):
            assert secret[start : start + 12].encode() not in content


def test_a_secret_shows_only_where_it_is_meant_to(ring):
    made = ring.create(Grant(team="web", expires_ns=NOW), NOW)
    assert made.key not in repr(made)
    assert made.key not in str(made)
    assert msgspec.json.decode(msgspec.json.encode(made)) == {
        "id": made.id,
        "key": made.key,
        "team": "web",
        "feature": None,
        "expires_at": "2025-11-21T19:40:00.000Z",
    }
    assert CreatedKey.__struct_fields__ == ("id", "key", "team", "feature", "expires_at")


def test_a_listed_key_is_written_for_people(ring):
    made = ring.create(Grant("web", None, "ci"), NOW)
    ring.revoke(made.id, NOW + SECOND)
    assert msgspec.to_builtins(listed(ring.list()[0])) == {
        "id": made.id,
        "team": "web",
        "feature": None,
        "label": "ci",
        "admin": False,
        "rpm": None,
        "tpm": None,
        "concurrency": None,
        "budget_day_usd": None,
        "budget_month_usd": None,
        "created_at": "2025-11-21T19:40:00.000Z",
        "expires_at": None,
        "revoked_at": "2025-11-21T19:40:01.000Z",
    }


def test_the_same_key_under_another_pepper_is_unknown(ring, store):
    secret = ring.create(Grant(), NOW).key
    assert Keyring(store, bytes(32)).find(secret, NOW) is None


def test_secrets_and_hashes_are_never_compared():
    tree = ast.parse(inspect.getsource(keys))
    compared = {
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq)
    }
    assert compared == {"key.id == key_id", "data == self._data_version", "version == self._keys_version"}


# -- budgets --

HALF_A_DOLLAR = 500_000_000
BUDGETS = Limits(rpm=5, day_nano_usd=HALF_A_DOLLAR, month_nano_usd=1)


def test_a_key_carries_its_budgets(ring):
    made = ring.create(Grant(team="web", limits=BUDGETS), NOW)
    shown = listed(ring.list()[0])

    assert ring.find(made.key, NOW).limits == BUDGETS
    assert (shown.budget_day_usd, shown.budget_month_usd) == ("0.5", "0.000000001")
    assert [*ring.limited(NOW)] == [Who(made.id, "web", None, limits=BUDGETS)]


def test_limits_change_and_the_secret_stays(ring, store, tmp_path):
    made, other = ring.create(Grant(team="web", label="ci"), NOW), Keyring(store, read_pepper(tmp_path))
    assert ring.find(made.key, NOW).limits is None

    changed = ring.limit(made.id, lambda _: BUDGETS)
    assert changed == ring.find(made.key, NOW) == Key(made.id, "web", None, "ci", False, NOW, limits=BUDGETS)
    assert ring.limit(made.id, lambda before: Limits(before.rpm, tpm=3)).limits == Limits(5, 3)
    assert ring.limit(made.id, lambda _: Limits()).limits is None
    ring.limit(made.id, lambda _: Limits(day_nano_usd=0))
    assert [who.key_id for who in ring.limited(NOW)] == [made.id], "nothing a day is a budget as well"
    other._data_version = -1
    assert other.refresh()
    assert other.find(made.key, NOW).limits == Limits(day_nano_usd=0)


def test_a_key_that_does_not_work_has_no_budget_and_one_that_is_revoked_cannot_be_changed(ring):
    made = ring.create(Grant(limits=BUDGETS, expires_ns=NOW + SECOND), NOW)
    ring.create(Grant(limits=Limits(rpm=5)), NOW)
    assert [who.key_id for who in ring.limited(NOW)] == [made.id]
    assert [*ring.limited(NOW + SECOND)] == []
    ring.revoke(made.id, NOW)
    assert [*ring.limited(NOW)] == []
    for key_id in (made.id, "key_none"):
        with pytest.raises(NotFound, match=f"no key '{key_id}' that is not revoked"):
            ring.limit(key_id, lambda before: before)


def test_a_key_that_takes_the_place_of_another_has_its_budgets(ring):
    made = ring.rotate(ring.create(Grant(limits=BUDGETS), NOW).id, NOW, 0)
    assert ring.find(made.key, NOW).limits == BUDGETS


@pytest.mark.parametrize(
    ("amount", "nano"), [("5", 5 * 10**9), ("0", 0), ("0.000000001", 1), (Decimal("1e3"), 10**12), ("1e9", 10**18)]
)
def test_an_amount_is_read_exactly(amount, nano):
    assert read_usd(amount, "budget") == nano


@pytest.mark.parametrize(
    "amount", ["", "five", "-1", "NaN", "Infinity", "1e10", "0.0000000001", "1e-99", "5 USD", "0x5"]
)
def test_what_is_no_amount_is_refused_by_its_name(amount):
    with pytest.raises(InvalidRequest, match=r"^budget ") as refused:
        read_usd(amount, "budget")
    assert refused.value.param == "budget"


# -- users --


def test_a_user_has_one_pseudonym_per_team_that_says_nothing(ring):
    pseudonym = ring.user_hash("ann@example.com", "web")
    assert re.fullmatch(r"[0-9a-f]{16}", pseudonym)
    assert ring.user_hash("ann@example.com", "web") == pseudonym
    others = [("ann@example.com", "app"), ("bob@example.com", "web"), ("ann@example.com", None)]
    others += [("b:ann@example.com", "we"), ("", "web"), ("\ud800", "web"), ("ann@example.com", "\0")]
    assert pseudonym not in [ring.user_hash(*other) for other in others]
    assert len({ring.user_hash(*other) for other in others}) == len(others)


def test_a_pseudonym_depends_on_the_pepper(ring, store):
    assert Keyring(store, bytes(32)).user_hash("ann", "web") != ring.user_hash("ann", "web")


# -- the pepper --


def test_the_pepper_is_made_once_for_this_user_alone(tmp_path):
    pepper = read_pepper(tmp_path)
    assert len(pepper) == 32
    assert read_pepper(tmp_path) == pepper
    assert [path.name for path in tmp_path.iterdir()] == [PEPPER_FILE]
    assert stat.S_IMODE((tmp_path / PEPPER_FILE).stat().st_mode) == 0o600


def test_a_process_that_comes_second_takes_the_pepper_of_the_first(tmp_path, monkeypatch):
    first = read_pepper(tmp_path)
    monkeypatch.setattr(keys.Path, "exists", lambda _: False)
    assert read_pepper(tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == [PEPPER_FILE]


PEPPERING = """
import sys
from pathlib import Path
from penstock.ledger.keys import read_pepper
sys.stdin.readline()
print(read_pepper(Path(sys.argv[1])).hex())
"""


def test_processes_that_make_the_pepper_at_once_agree(tmp_path):
    command = [sys.executable, "-c", PEPPERING, str(tmp_path)]
    children = [Popen(command, stdin=PIPE, stdout=PIPE, text=True) for _ in range(6)]
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    assert len({child.communicate(timeout=30)[0] for child in children}) == 1


def test_a_damaged_pepper_is_told_and_not_replaced(tmp_path):
    (tmp_path / PEPPER_FILE).write_bytes(b"short")
    with pytest.raises(Internal, match="it has 5 bytes") as caught:
        read_pepper(tmp_path)
    assert "Restore it" in caught.value.hint
    assert (tmp_path / PEPPER_FILE).read_bytes() == b"short"


def test_a_pepper_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / PEPPER_FILE).mkdir()
    with pytest.raises(Internal, match="cannot be read"):
        read_pepper(tmp_path)
