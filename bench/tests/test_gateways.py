"""The candidates' configuration: what is generated is what the programs accept."""

import subprocess
import tomllib
from pathlib import Path

import gateways
import peers
import pytest
import upstream
from gateways import Places
from peers import NotMeasured
from processes import environment


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path, tmp_path, 9001, 9002, tmp_path / "bin" / "penstock")


def check_nginx(config: str, work: Path) -> None:
    path = work / "under-test.conf"
    path.write_text(config)
    argv = ["nginx", "-t", "-q", "-e", str(work / "e.log"), "-c", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment(work))
    assert done.returncode == 0, done.stderr


def test_nginx_accepts_both_of_its_configurations(places: Places) -> None:
    check_nginx(upstream.nginx_config(9001, places.work), places.work)
    check_nginx(gateways.nginx_proxy_config(places, (9003, 9004)), places.work)


def test_penstock_runs_with_everything_on(places: Places) -> None:
    config = tomllib.loads(gateways.penstock_config(places, 8420))
    assert config["server"]["port"] == 8420
    assert config["providers"]["box"] == {"kind": "openai", "base_url": "http://127.0.0.1:9001/v1"}
    assert config["providers"]["paced"]["base_url"] == "http://127.0.0.1:9002/v1"
    assert {*config["models"]} == {"fast", "paced"} == {*config["teams"]["bench"]["models"]}
    assert set(config["prices"]) == {"box/mock-model", "paced/mock-model"}
    assert set(config["teams"]["bench"]) == {"models", "budget_usd", "rpm", "tpm", "concurrency"}
    assert config["features"]["bench"]["budget_usd"] == {"day": 1_000_000}


def test_tensorzero_keeps_no_log_and_asks_for_no_key(places: Places) -> None:
    config = tomllib.loads(gateways.tensorzero_config(places))
    assert config["gateway"] == {"observability": {"enabled": False}, "disable_pseudonymous_usage_analytics": True}
    assert config["models"]["fast"]["providers"]["mock"]["api_base"] == "http://127.0.0.1:9001/v1/"
    assert config["models"]["paced"]["providers"]["mock"]["api_key_location"] == "none"


def test_litellm_points_each_model_at_its_mock(places: Places) -> None:
    text = gateways.litellm_config(places)
    assert text.count("model: openai/mock-model") == 2
    assert "http://127.0.0.1:9001/v1" in text
    assert "http://127.0.0.1:9002/v1" in text


def test_the_same_call_goes_to_everyone_but_for_the_models_name(places: Places) -> None:
    setup = gateways.direct(places)
    assert setup.plain(9001).port == 9001
    assert setup.paced(9001).port == 9002
    assert b'"stream":true' in setup.paced(9001).body
    assert b'"stream"' not in setup.plain(9001).body


def test_a_project_that_is_not_set_up_is_a_reason_not_a_crash(places: Places) -> None:
    with pytest.raises(NotMeasured, match="does not exist"):
        gateways.penstock(places)


def stand_in(places: Places, script: str) -> None:
    places.penstock.parent.mkdir()
    places.penstock.write_text(f"#!/bin/sh\n{script}\n")
    places.penstock.chmod(0o755)


def test_the_key_is_made_in_the_home_that_is_served(places: Places) -> None:
    stand_in(places, '[ "$1" = keys ] && echo "$@ $PENSTOCK_HOME" >> words; echo "{\\"key\\": \\"ps-1\\"}"')
    setup = gateways.penstock(places)
    assert dict(setup.headers)["authorization"] == "Bearer ps-1"
    assert dict(setup.headers)["x-penstock-feature"] == "bench"
    assert setup.argv == (str(places.penstock), "serve", "--config", str(places.work / "penstock.toml"))
    home = setup.env["PENSTOCK_HOME"]
    assert (places.work / "words").read_text().splitlines()[0] == f"keys create --team bench --json {home}"


@pytest.mark.parametrize(
    ("script", "reason"), [("echo broken >&2; exit 1", "broken"), ("echo hello", "gave no key"), ("echo []", "no key")]
)
def test_a_key_that_cannot_be_made_is_a_reason(places: Places, script: str, reason: str) -> None:
    stand_in(places, script)
    with pytest.raises(NotMeasured, match=reason):
        gateways.penstock(places)


def test_no_secret_or_proxy_of_the_caller_reaches_a_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "DATABASE_URL", "HTTP_PROXY"):
        monkeypatch.setenv(name, "x")
    assert not {"OPENAI_API_KEY", "DATABASE_URL", "HTTP_PROXY"} & set(environment(tmp_path))


def test_a_peer_that_cannot_be_installed_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(NotMeasured, match="cannot install"):
        peers.environment_of("nobody", "./no-such-folder", tmp_path)
    assert not (tmp_path / ".bench" / "nobody" / "installed.txt").exists()


def test_a_peer_that_is_installed_is_not_installed_again(tmp_path: Path) -> None:
    place = tmp_path / ".bench" / "peer"
    place.mkdir(parents=True)
    (place / "installed.txt").write_text("peer==1\n")
    assert peers.environment_of("peer", "peer==1", tmp_path) == place
