"""One process of the server: a gateway takes the place of the one before, or it does not and nothing has changed."""

import asyncio
import logging
import os

import msgspec
import pytest

from penstock.config import load
from penstock.errors import ConfigError, Mistake
from penstock.gateway import start
from penstock.server.live import WorkerHealth
from penstock.server.presence import Reloaded
from penstock.server.serving import Serving, limits_of, needing_restart, refused

CONFIG = """
[providers.fake]
kind = "scripted"
free = true
[models.fast]
targets = ["fake/m"]
"""


class Site:
    """A server that listens nowhere, and its file."""

    def __init__(self, folder):
        self.file, self.environ = folder / "penstock.toml", {"PENSTOCK_HOME": str(folder / "home")}
        self.write(CONFIG)
        self.serving = Serving(start(self.read()), self.read)

    def write(self, text):
        self.file.write_text(text)

    def read(self):
        return load(str(self.file), self.environ)


@pytest.fixture
async def site(tmp_path):
    one = Site(tmp_path)
    yield one
    await one.serving.retired(5)
    await one.serving.gateway.close()


async def test_a_changed_configuration_is_taken_over_with_its_limits(site):
    before = site.serving.gateway
    site.write(CONFIG.replace("fake/m", "fake/n") + "[server]\nmax_body_bytes = 5000\nport = 1\n")
    reloaded = await site.serving.reload()

    after = site.serving.gateway
    assert after is not before
    assert site.serving.app.gateway is after
    assert after.ledger is before.ledger
    assert after.metrics is before.metrics
    assert site.serving.server.limits.body_bytes == 5000
    assert reloaded == Reloaded(True, str(site.file), after.config.hash, ("server.port",))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (CONFIG + "[server]\nprot = 1\n", "server.prot"),
        (CONFIG + '[server]\ntls_cert = "penstock.toml"\ntls_key = "penstock.toml"\n', "server.tls_cert"),
        (CONFIG.replace("free = true", 'path = "penstock.toml"'), ""),
        ("\x00", ""),
    ],
)
async def test_one_with_a_mistake_is_refused_and_logged_and_nothing_changes(site, caplog, text, key):
    before, limits = site.serving.gateway, site.serving.server.limits
    site.write(text)
    with caplog.at_level(logging.ERROR):
        told = await site.serving.reload()

    assert not told.reloaded
    assert told.mistakes
    assert key in told.mistakes[0].key
    assert told.hash == before.config.hash
    assert str(told.mistakes[0].message) in caplog.text
    assert site.serving.gateway is before
    assert site.serving.server.limits is limits


async def test_reloads_at_once_are_done_one_after_another(site):
    results = []

    async def reload(number):
        site.write(CONFIG.replace("fake/m", f"fake/m{number}"))
        results.append(await site.serving.reload())

    await asyncio.gather(*(reload(number) for number in range(20)))

    assert all(one.reloaded for one in results)
    assert site.serving.gateway.config.hash == site.read().hash


async def test_a_process_answers_for_itself(site):
    health = await site.serving.health()
    alone = msgspec.json.decode(await site.serving.answer("health"), type=WorkerHealth)
    metrics = await site.serving.metrics()

    assert health.workers == (alone,)
    assert (alone.worker, alone.pid, alone.ready) == (1, os.getpid(), True)
    assert metrics == await site.serving.answer("metrics")
    assert b"worker=" not in metrics
    assert msgspec.json.decode(await site.serving.answer("reload"), type=Reloaded).reloaded


class Others:
    """A channel to a supervisor with two workers."""

    number = 2

    def __init__(self, mine):
        self.mine = mine

    async def gather(self, what):
        return {2: await self.mine().answer(what), 1: await self.mine().answer(what)}

    async def ask(self, what):
        assert what == "reload"
        return msgspec.json.encode(Reloaded(True, "a", "b"))


async def test_one_of_several_workers_answers_for_all(tmp_path):
    site = Site(tmp_path)
    await site.serving.gateway.close()
    serving = Serving(start(site.read()), site.read, Others(lambda: serving))
    health, metrics, reloaded = await serving.health(), await serving.metrics(), await serving.reload()
    await serving.gateway.close()

    assert [worker.worker for worker in health.workers] == [2, 2]
    assert metrics.count(b'penstock_calls_in_flight{worker="') == 2
    assert reloaded == Reloaded(True, "a", "b")


def test_what_a_process_cannot_change_needs_a_restart(tmp_path):
    site_file = tmp_path / "penstock.toml"

    def read(server):
        sync = "power" if server else "process"
        site_file.write_text(f'{CONFIG}[server]\n{server}\n[ledger]\nsync = "{sync}"\n')
        return load(str(site_file), {"PENSTOCK_HOME": str(tmp_path)})

    pem = "".join(f'tls_{name} = "{site_file}"\n' for name in ("cert", "key"))
    changed = read(f'host = "::1"\nport = 1\nworkers = 2\ndrain_s = 1\n{pem}')

    assert needing_restart(read(""), changed) == (
        *("server.host", "server.port", "server.workers"),
        *("ledger.sync", "server.tls_cert"),
    )
    assert needing_restart(changed, changed) == ()


def test_limits_come_from_the_configuration(tmp_path):
    (tmp_path / "p.toml").write_text(
        "[server]\nmax_body_bytes = 2048\nmax_connections = 3\nkeepalive_s = 4\nbusy_poll_s = 0\n"
    )
    limits = limits_of(load(str(tmp_path / "p.toml"), {}))

    assert (limits.body_bytes, limits.connections, limits.keepalive_s, limits.busy_poll_s) == (2048, 3, 4, 0)


def test_why_one_was_refused_names_its_own_source(tmp_path):
    config = load(None, {"PENSTOCK_HOME": str(tmp_path), "PENSTOCK_CONFIG": ""})
    error = ConfigError("other.toml", (Mistake("a", "b."),))

    assert refused(config, error) == Reloaded(False, "other.toml", config.hash, mistakes=error.mistakes)
    assert "no disk" in refused(config, OSError("no disk")).mistakes[0].message
