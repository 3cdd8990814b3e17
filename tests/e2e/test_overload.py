"""More clients than a server can serve: its health is told in time, whoever is refused hears it, and it recovers."""

import asyncio
import sys
import time
from pathlib import Path

from tests.e2e.load import Caller, Site, once, running

FLOOD = Path(__file__).with_name("flood.py")
CLIENTS, SECONDS = 800, 5


async def test_health_is_told_in_time_at_many_times_the_load_that_can_be_served(tmp_path):
    with running(Site(tmp_path)) as site:
        flood = await asyncio.create_subprocess_exec(
            *(sys.executable, str(FLOOD), str(site.port), str(CLIENTS), str(SECONDS)), stdout=asyncio.subprocess.PIPE
        )
        await asyncio.sleep(1.0)
        took_s = []
        while flood.returncode is None and len(took_s) < 120:
            began = time.monotonic()
            prober = Caller(site.port)  # as most probes do: on a connection of its own
            assert (await prober.ask("/healthz")).status == 200
            prober.close()
            took_s.append(time.monotonic() - began)
            await asyncio.sleep(0.02)
        out, _ = await flood.communicate()
        began = time.monotonic()
        await once(site.port)
        recovered_s = time.monotonic() - began

    answered, refused, lost = map(int, out.split())
    p95_s = sorted(took_s)[int(len(took_s) * 0.95)]
    print(
        f"\n{CLIENTS} clients at once: {answered} answered, {refused} refused with Retry-After; health p95 "
        f"{p95_s * 1000:.0f} ms over {len(took_s)} probes; the next call took {recovered_s * 1000:.0f} ms"
    )
    assert len(took_s) > 20, "the probes were held up"
    assert p95_s < 0.3  # 50 ms on a machine of its own
    assert answered > 500
    assert lost == 0
    assert recovered_s < 5
