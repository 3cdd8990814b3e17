"""Several processes behind one port: they share the work, die alone, lose nothing, and end together."""

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from decimal import Decimal

from tests.e2e.load import CONFIG, PENSTOCK, Caller, Load, Site, once, running, until, wait_until


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def workers(site):
    caller = Caller(site.port)
    try:
        return (await caller.ask("/admin/v1/health")).json["workers"]
    finally:
        caller.close()


async def replaced(site, number, pid):
    """Wait until another process has this number and is ready."""
    found = {}

    async def is_there():
        found.update({worker["worker"]: worker for worker in await workers(site)})
        return number in found and found[number]["pid"] != pid

    await until(is_there)
    return found


async def test_every_worker_answers_and_one_of_them_tells_of_all(tmp_path):
    with running(Site(tmp_path, "--workers", "3")) as site:
        ids = [(await once(site.port)).headers["x-penstock-call"] for _ in range(60)]
        health = await workers(site)
        caller = Caller(site.port)
        metrics = (await caller.ask("/metrics")).body.decode()
        caller.close()
        receipts = site.receipts()

    counted = dict(re.findall(r'^penstock_calls_total\{worker="(\d)",.*\} ([\d.]+)$', metrics, re.MULTILINE))
    assert [worker["worker"] for worker in health] == [1, 2, 3]
    assert len({worker["pid"] for worker in health}) == 3
    assert all(worker["ready"] for worker in health)
    assert counted.keys() == {"1", "2", "3"}, "one worker got no connection out of 60"
    assert sum(map(float, counted.values())) == 60
    assert metrics.count("# TYPE penstock_calls_total ") == 1
    assert site.log.read_text().count("serves on") == 1
    assert Counter(receipt["id"] for receipt in receipts) == Counter(ids)


async def test_a_worker_that_is_killed_is_replaced_and_no_receipt_is_lost(tmp_path):
    with running(Site(tmp_path, "--workers", "3")) as site:
        load = Load(site.port, callers=12)
        for _ in range(4):
            await asyncio.sleep(0.15)
            victim = (await workers(site))[1]
            os.kill(victim["pid"], signal.SIGKILL)
            found = await replaced(site, 2, victim["pid"])
            assert found.keys() == {1, 2, 3}
        await load.stop()
        receipts = site.receipts()
        log = site.log.read_text()

    ids = Counter(receipt["id"] for receipt in receipts)
    statuses = Counter(receipt["status"] for receipt in receipts)
    print(f"\n4 workers killed: {len(load.ids)} answers, {len(load.failed)} failed, receipts: {dict(statuses)}")
    assert len(load.ids) > 100
    assert set(load.ids) <= ids.keys(), "a call that was answered has no receipt"
    assert max(ids.values()) == 1
    assert len(load.failed) <= 4 * 12, "more calls failed than the dead workers can have had in flight"
    assert log.count("ended with -9") == 4


async def test_a_worker_that_is_told_to_end_drains_and_is_replaced_without_a_failed_call(tmp_path):
    with running(Site(tmp_path, "--workers", "2")) as site:
        streams = [asyncio.create_task(once(site.port, "long", stream=True)) for _ in range(10)]
        await asyncio.sleep(0.2)
        victim = (await workers(site))[0]
        os.kill(victim["pid"], signal.SIGTERM)
        replies = await asyncio.gather(*streams)
        await replaced(site, 1, victim["pid"])

    assert all(b"twelve" in reply.body for reply in replies)


async def test_a_key_press_that_reaches_all_processes_lets_calls_in_flight_end(tmp_path):
    site = Site(tmp_path, "--workers", "2")
    log = site.log.open("wb")
    site.process = await asyncio.create_subprocess_exec(
        *(str(PENSTOCK), "serve", "--port", str(site.port), *site.options),
        env=site.environ,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    await until(lambda: "serves on" in site.log.read_text(), 20)
    streams = [asyncio.create_task(once(site.port, "long", stream=True)) for _ in range(10)]
    await asyncio.sleep(0.2)
    os.killpg(site.process.pid, signal.SIGINT)
    replies = await asyncio.gather(*streams)

    code = await asyncio.wait_for(site.process.wait(), 10)
    log.close()

    assert all(b"twelve" in reply.body for reply in replies)
    assert code == 0


async def test_no_worker_outlives_its_supervisor(tmp_path):
    with running(Site(tmp_path, "--workers", "2")) as site:
        pids = [worker["pid"] for worker in await workers(site)]
        stream = asyncio.create_task(once(site.port, "long", stream=True))
        await asyncio.sleep(0.2)
        site.kill()
        reply = await stream  # what has begun is still served
        await asyncio.to_thread(wait_until, lambda: not any(map(is_alive, pids)))
        code, _, err = site.run("reload")

    assert b"twelve" in reply.body
    assert (code, "No server runs" in err) == (3, True)


async def test_a_server_comes_up_although_the_workers_of_the_one_before_it_still_have_the_port(tmp_path):
    with running(Site(tmp_path, "--workers", "2")) as site:
        orphans = [worker["pid"] for worker in await workers(site)]
        for pid in orphans:
            os.kill(pid, signal.SIGSTOP)  # they see nothing of the supervisor's end
        site.kill()
        try:
            site.launch()
            await until(lambda: f"port {site.port} of 127.0.0.1 is in use" in site.log.read_text())
        finally:
            for pid in orphans:
                os.kill(pid, signal.SIGCONT)
        await until(lambda: site.log.read_text().count("serves on") == 2)
        replies = [await once(site.port) for _ in range(20)]

    assert {reply.status for reply in replies} == {200}


async def test_a_second_signal_ends_every_worker_at_once(tmp_path):
    with running(Site(tmp_path, "--workers", "2")) as site:
        streams = [asyncio.create_task(once(site.port, "stuck")) for _ in range(8)]
        await asyncio.sleep(0.2)
        site.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        assert site.process.poll() is None, "it did not wait for the calls"
        began = time.monotonic()
        site.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(site.process.wait, 10)
        took_s = time.monotonic() - began
        ended = await asyncio.gather(*streams, return_exceptions=True)
        receipts = site.receipts()

    assert code == 0
    assert took_s < 4
    assert all(isinstance(one, AssertionError) and b"shut" in one.args[0] for one in ended), ended
    assert [receipt["status"] for receipt in receipts] == ["cancelled"] * 8


def refused(folder, *options, config=CONFIG):
    site = Site(folder, config=config)
    return site.run("serve", *options, "--port", "0", "--workers", "2")


def test_what_no_worker_can_serve_is_said_once_and_ends_all(tmp_path):
    code, out, err = refused(tmp_path, config=CONFIG.replace("replies.toml", "none.toml"))

    assert (code, out) == (1, "")
    assert err.count("none.toml") == 1


BUDGET = """
[prices."fake/m"]
input = 1000
output = 1000
[features.poor]
budget_usd = { day = 1 }
"""


async def test_workers_keep_one_budget_together(tmp_path):
    config = CONFIG.replace("free = true\n", "") + BUDGET
    with running(Site(tmp_path, "--workers", "3", config=config)) as site:

        async def spend():
            statuses = []
            while statuses.count(402) < 5:
                caller = Caller(site.port)  # on a connection of its own, so that each worker gets some
                body = {"model": "fast", "max_tokens": 5, "metadata": {"feature": "poor"}}
                reply = await caller.ask(
                    "/v1/chat/completions", body | {"messages": [{"role": "user", "content": "hi"}]}
                )
                caller.close()
                statuses.append(reply.status)
            return statuses

        statuses = [status for some in await asyncio.gather(*[spend() for _ in range(12)]) for status in some]
        health = await workers(site)
        spent = json.loads(site.command("spend", "--by", "feature", "--json"))["total"]["cost_usd"]

    assert set(statuses) == {200, 402}
    assert Decimal("0.5") < Decimal(spent) <= 1, "the last holds alone may stay unused"
    assert len(health) == 3


def test_a_port_that_is_taken_is_named_also_where_the_other_shares_it(tmp_path):
    with running(Site(tmp_path, "--workers", "2")) as site:
        code, _, err = Site(tmp_path / "b").run("serve", "--port", str(site.port), "--workers", "2")

    assert code == 1
    assert f"port {site.port}: " in err


def test_workers_that_die_at_once_are_given_up(tmp_path):
    site = Site(tmp_path)
    plugin = tmp_path / "deadly"
    plugin.mkdir()
    (plugin / "deadly.py").write_text("import os\n\n\ndef make(settings):\n    os._exit(9)\n")
    info = plugin / "deadly-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[penstock.providers]\ndeadly = deadly:make\n")
    site.config.write_text(CONFIG.replace('kind = "scripted"', 'kind = "deadly"'))
    environ = site.environ | {"PYTHONPATH": f"{plugin}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}

    done = subprocess.run(
        [PENSTOCK, "serve", "--port", "0", "--workers", "2"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 1, done.stderr
    assert "No worker came up" in done.stderr
    assert json.dumps(done.stdout) == '""'
