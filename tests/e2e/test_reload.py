"""A configuration that changes while the server serves: taken over without a lost call, or refused with all its mistakes."""

import asyncio
import json
import signal
import ssl
import time

import pytest
import trustme
from tests.e2e.load import CONFIG, PENSTOCK, Caller, Load, Site, running, until

RELOADS = 100
WORKERS = pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "two workers"])


def changed(number):
    """The same server with another target, and so another hash."""
    return CONFIG.replace("fake/m", f"fake/m{number}")


@WORKERS
@pytest.mark.timeout(240)
async def test_100_reloads_under_load_fail_no_call(tmp_path, options):
    with running(Site(tmp_path, *options)) as site:
        load, admin, targets, hashes = Load(site.port, callers=8), Caller(site.port), set(), set()
        began = time.monotonic()
        for number in range(RELOADS):
            site.config.write_text(changed(number))
            reply = await admin.ask("/admin/v1/reload", {})
            assert reply.status == 200, reply.body
            assert reply.json["reloaded"]
            hashes.add(reply.json["hash"])
            targets.add((await admin.chat()).headers["x-penstock-target"])
        took_s = time.monotonic() - began
        await load.stop()
        health = (await admin.ask("/admin/v1/health")).json
        admin.close()
        receipts = site.receipts()

    print(
        f"\n{RELOADS} reloads in {took_s:.1f} s, {len(load.ids)} calls beside them, {len(load.failed)} failed, "
        f"the slowest took {load.slowest_s * 1000:.0f} ms"
    )
    assert load.failed == []
    assert len(load.ids) > RELOADS
    assert len(hashes) == RELOADS
    assert targets == {f"fake/m{number}" for number in range(RELOADS)}
    assert {worker["config"] for worker in health["workers"]} == {reply.json["hash"]}
    assert {receipt["id"] for receipt in receipts} >= set(load.ids)
    assert all(receipt["status"] == "ok" for receipt in receipts)


@WORKERS
async def test_a_bad_configuration_is_kept_out_and_every_mistake_is_told(tmp_path, options):
    with running(Site(tmp_path, *options)) as site:
        load, admin = Load(site.port), Caller(site.port)
        before = (await admin.ask("/admin/v1/health")).json["workers"][0]["config"]
        site.config.write_text(CONFIG + "[server]\nprot = 1\ndeadline_s = -1\n")
        reply = await admin.ask("/admin/v1/reload", {})
        code, out, err = site.run("reload")
        as_json = site.run("reload", "--json")
        site.config.write_text(CONFIG.replace("replies.toml", "none.toml"))  # only who makes the provider finds out
        missing = await admin.ask("/admin/v1/reload", {})
        health = (await admin.ask("/admin/v1/health")).json["workers"]
        await load.stop()
        admin.close()
        log = site.log.read_text()

    assert reply.status == missing.status == 400
    assert reply.json["error"]["code"] == missing.json["error"]["code"] == "invalid_config"
    assert {mistake["key"] for mistake in reply.json["error"]["mistakes"]} == {"server.prot", "server.deadline_s"}
    assert "none.toml" in missing.json["error"]["message"]
    assert (code, out) == (1, "")
    assert "prot" in err
    assert "deadline_s" in err
    assert as_json[0] == 1
    (told,) = json.loads(as_json[1])["servers"]
    assert (told["reloaded"], told["hash"], len(told["mistakes"])) == (False, before, 2)
    assert "prot" in log
    assert {worker["config"] for worker in health} == {before}
    assert load.failed == []


@WORKERS
async def test_a_command_and_a_signal_have_it_taken_over_and_say_what_needs_a_restart(tmp_path, options):
    with running(Site(tmp_path, *options)) as site:
        caller = Caller(site.port)
        site.config.write_text(changed(1))
        code, out, err = site.run("reload")
        first = await caller.chat()
        site.config.write_text(changed(2) + '[server]\nhost = "localhost"\n')
        restart = json.loads(site.run("reload", "--json")[1])["servers"][0]
        second = await caller.chat()
        site.config.write_text(changed(3))
        site.process.send_signal(signal.SIGHUP)

        async def is_taken_over():
            return (await caller.chat()).headers["x-penstock-target"] == "fake/m3"

        await until(is_taken_over)
        caller.close()

    assert (code, err) == (0, "")
    assert site.url in out
    assert first.headers["x-penstock-target"] == "fake/m1"
    assert second.headers["x-penstock-target"] == "fake/m2"
    assert (restart["reloaded"], restart["restart"], restart["pid"]) == (True, ["server.host"], site.process.pid)


async def test_only_administrators_may_have_it_taken_over(tmp_path):
    with running(Site(tmp_path)) as site:
        site.command("keys", "create", "--team", "web")
        caller = Caller(site.port)
        reply = await caller.ask("/admin/v1/reload", {})
        caller.close()

    assert reply.status == 401


async def test_calls_in_flight_end_with_the_configuration_that_they_began_with(tmp_path):
    with running(Site(tmp_path)) as site:
        caller, admin = Caller(site.port), Caller(site.port)
        stream = asyncio.create_task(caller.chat("long", stream=True))
        await asyncio.sleep(0.2)
        site.config.write_text(changed(1))
        assert (await admin.ask("/admin/v1/reload", {})).status == 200
        assert not stream.done()
        after = await admin.chat()
        reply = await stream
        for one in (caller, admin):
            one.close()
        receipts = {receipt["id"]: receipt for receipt in site.receipts()}

    assert reply.headers["x-penstock-target"] == "fake/m"
    assert b"twelve" in reply.body
    assert after.headers["x-penstock-target"] == "fake/m1"
    assert receipts[reply.headers["x-penstock-call"]]["status"] == "ok"


@WORKERS
async def test_a_new_certificate_is_shown_to_new_connections(tmp_path, options):
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def write(name):
        issued = authority.issue_cert("127.0.0.1", common_name=name)
        issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))

    async def shown():
        _, writer = await asyncio.open_connection("127.0.0.1", site.port, ssl=context)
        subject = dict(pair[0] for pair in writer.get_extra_info("peercert")["subject"])
        writer.close()
        return subject["commonName"]

    write("before")
    tls = '[server]\ntls_cert = "server.pem"\ntls_key = "server.pem"\n'
    site = Site(tmp_path, *options, config=CONFIG + tls)
    site.start = lambda: None
    log = site.log.open("wb")
    site.process = await asyncio.create_subprocess_exec(
        *(str(PENSTOCK), "serve", "--port", str(site.port), *options),
        env=site.environ,
        stdout=log,
        stderr=log,
    )
    try:
        await until(lambda: "serves on https" in site.log.read_text(), 20)
        first = await shown()
        write("after")
        code, _, err = site.run("reload")
        second = [await shown() for _ in range(6)]
        (tmp_path / "server.pem").write_text("no certificate")
        refused = site.run("reload")
        third = await shown()
    finally:
        site.process.send_signal(signal.SIGTERM)
        await site.process.wait()
        log.close()

    assert (first, code, err) == ("before", 0, "")
    assert set(second) == {"after"}
    assert refused[0] == 1
    assert "server.tls_cert" in refused[2]
    assert third == "after"
