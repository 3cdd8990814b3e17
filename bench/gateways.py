"""The candidates: how each is installed, configured, started and addressed. Sends no load and takes no measurement.

All get the same chance: one process (one worker) on one core, no access log, keep-alive to the same two upstreams. What
each does for a call differs and stands in its `does`, which the report prints: a proxy that checks nothing is not a
gateway, and the reader must see that. A candidate that cannot run says why (`NotMeasured`); none is dropped in silence.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import load
import peers
import upstream
from load import Request
from peers import NotMeasured
from processes import environment, free_port

LITELLM = "litellm[proxy]==1.106.2"
TENSORZERO = "tensorzero==2026.6.0"
_JSON = (("content-type", "application/json"),)


@dataclass(frozen=True)
class Places:
    """What every candidate needs to know: the repository, a scratch folder of its own, the two upstreams."""

    root: Path
    work: Path
    plain_port: int
    paced_port: int
    penstock: Path

    def inside(self, name: str) -> "Places":
        """Return the same places with the scratch folder `name` below this one, made now."""
        work = self.work / name
        work.mkdir(parents=True, exist_ok=True)
        return Places(self.root, work, self.plain_port, self.paced_port, self.penstock)


@dataclass(frozen=True)
class Setup:
    """A candidate ready to start. `port_file`: where it writes the port that it chose itself; else `port` is its own."""

    name: str
    version: str
    does: str
    argv: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    work: Path = Path()
    port: int = 0
    port_file: Path | None = None
    path: str = "/v1/chat/completions"
    headers: tuple[tuple[str, str], ...] = _JSON
    models: tuple[str, str] = ("mock-model", "mock-model")
    paced_port: int | None = None
    start_limit_s: float = 20.0

    def plain(self, port: int) -> Request:
        """Build the plain call, where this candidate listens on `port`."""
        return Request(port, self.path, self.headers, load.chat_body(self.models[0]))

    def paced(self, port: int) -> Request:
        """Build the streamed call, where this candidate listens on `port`."""
        return Request(self.paced_port or port, self.path, self.headers, load.chat_body(self.models[1], stream=True))


def direct(places: Places) -> Setup:
    """No gateway at all: the load goes straight to the upstreams. What the mock and the load themselves allow."""
    return Setup("direct", "-", "nothing: load to upstream", port=places.plain_port, paced_port=places.paced_port)


def nginx_proxy_config(places: Places, ports: tuple[int, int]) -> str:
    """Configure nginx as a reverse proxy: keep-alive to the upstreams, streams unbuffered, no log."""
    servers = "".join(
        f"""
  upstream {name} {{ server 127.0.0.1:{there}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{here} backlog=4096;
    location / {{
      proxy_pass http://{name};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering {buffering};
    }}
  }}"""
        for name, here, there, buffering in (
            ("plain", ports[0], places.plain_port, "on"),
            ("paced", ports[1], places.paced_port, "off"),
        )
    )
    return f"""{upstream.nginx_user()}
worker_processes 1;
daemon off;
pid {places.work}/nginx.pid;
error_log {places.work}/nginx.log error;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  {upstream.nginx_temp_paths(places.work)}
  keepalive_timeout 3600s;
  keepalive_requests 1000000000;{servers}
}}
"""


def nginx(places: Places) -> Setup:
    """Set up nginx as a reverse proxy: what any gateway in front of a provider costs at the least."""
    if shutil.which("nginx", path=environment(places.work)["PATH"]) is None:
        raise NotMeasured("nginx is not installed; on Debian: apt-get install nginx-light")
    ports = free_port(), free_port()
    config = places.work / "proxy.conf"
    config.write_text(nginx_proxy_config(places, ports))
    return Setup(
        "nginx",
        _output(["nginx", "-v"], environment(places.work)).removeprefix("nginx version: "),
        "reverse proxy only: no key, no limit, no record",
        ("nginx", "-e", str(places.work / "start.log"), "-c", str(config)),
        environment(places.work),
        places.work,
        ports[0],
        paced_port=ports[1],
    )


def penstock_config(places: Places, port: int) -> str:
    """Configure penstock with everything on: prices, team limits, team and feature budgets."""
    base = "http://127.0.0.1"
    return f"""
[server]
port = {port}

[providers.box]
kind = "openai"
base_url = "{base}:{places.plain_port}/v1"

[providers.paced]
kind = "openai"
base_url = "{base}:{places.paced_port}/v1"

[models.fast]
targets = ["box/mock-model"]

[models.paced]
targets = ["paced/mock-model"]

[prices."box/mock-model"]
input = 0.15
output = 0.60

[prices."paced/mock-model"]
input = 0.15
output = 0.60

[teams.bench]
models = ["fast", "paced"]
budget_usd = {{ day = 1000000 }}
rpm = 100000000
tpm = 1000000000
concurrency = 1000

[features.bench]
budget_usd = {{ day = 1000000 }}
"""


def penstock_environment(places: Places) -> dict[str, str]:
    """Build the environment of every `penstock` command of one run: its state lives in the scratch folder."""
    return environment(places.work, PENSTOCK_HOME=str(places.work / "home"))


def penstock(places: Places) -> Setup:
    """Set up penstock as shipped: key check, limits, budget hold, one receipt a call stored on disk."""
    if not places.penstock.exists():
        raise NotMeasured(f"{places.penstock} does not exist; set the project up first (make serve or make test does)")
    port, config, env = free_port(), places.work / "penstock.toml", penstock_environment(places)
    config.write_text(penstock_config(places, port))
    made = run_penstock(places, "keys", "create", "--team", "bench", "--json")
    try:
        key = json.loads(made)["key"]
    except (ValueError, KeyError, TypeError) as error:
        raise NotMeasured(f"`penstock keys create --json` gave no key ({error!r}): {made[:200]}") from error
    return Setup(
        "penstock",
        _output([str(places.penstock), "--version"], env) or "unknown",
        "key check, rate and token limits, budget hold, receipt stored for every call",
        (str(places.penstock), "serve", "--config", str(config)),
        env,
        places.work,
        port,
        headers=(*_JSON, ("authorization", f"Bearer {key}"), ("x-penstock-feature", "bench")),
        models=("fast", "paced"),
    )


def run_penstock(places: Places, *words: str) -> str:
    """Run one `penstock` command on the state of this run and return what it printed."""
    argv = [str(places.penstock), *words]
    env = {**penstock_environment(places), "PENSTOCK_CONFIG": str(places.work / "penstock.toml")}
    try:
        done = subprocess.run(argv, env=env, cwd=places.work, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotMeasured(f"`penstock {' '.join(words)}` did not run: {error}") from error
    if done.returncode:
        said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise NotMeasured(f"`penstock {' '.join(words)}` ended with {done.returncode}: {said[-400:]}")
    return done.stdout


def litellm_config(places: Places) -> str:
    """Configure LiteLLM's proxy: two models, a master key, no database, no callback."""
    models = "".join(
        f"""
  - model_name: {name}
    litellm_params:
      model: openai/mock-model
      api_base: http://127.0.0.1:{port}/v1
      api_key: none
      input_cost_per_token: 0.00000015
      output_cost_per_token: 0.0000006"""
        for name, port in (("fast", places.plain_port), ("paced", places.paced_port))
    )
    return f"""model_list:{models}
litellm_settings:
  telemetry: false
general_settings:
  master_key: sk-bench
"""


def litellm(places: Places) -> Setup:
    """Set up LiteLLM's proxy: one worker, no database, log of errors only."""
    venv = peers.environment_of("litellm", LITELLM, places.root)
    port, config = free_port(), places.work / "litellm.yaml"
    config.write_text(litellm_config(places))
    quiet = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it fetches its price list from the network
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_TELEMETRY": "False",
    }
    serve = ("--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
    return Setup(
        "litellm",
        peers.version_of(venv, "litellm"),
        "check of the master key, cost in memory; no database, so no limit, budget or record",
        (str(venv / "bin" / "litellm"), *serve),
        environment(places.work, **quiet),
        places.work,
        port,
        headers=(*_JSON, ("authorization", "Bearer sk-bench")),
        models=("fast", "paced"),
        start_limit_s=120.0,
    )


def tensorzero_config(places: Places) -> str:
    """Configure TensorZero's gateway: two models, its own logging (observability) off."""
    models = "".join(
        f"""
[models.{name}]
routing = ["mock"]

[models.{name}.providers.mock]
type = "openai"
model_name = "mock-model"
api_base = "http://127.0.0.1:{port}/v1/"
api_key_location = "none"
"""
        for name, port in (("fast", places.plain_port), ("paced", places.paced_port))
    )
    return f"""[gateway]
observability.enabled = false
disable_pseudonymous_usage_analytics = true
{models}"""


_TENSORZERO_STARTER = '''"""Starts the gateway inside TensorZero's wheel and writes the port that it chose; ends on SIGTERM."""

import os
import signal
import sys

from tensorzero.tensorzero import _start_http_gateway

gateway = _start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
with open(sys.argv[2] + ".new", "w") as file:
    file.write(gateway.base_url.split("/")[2].rpartition(":")[2])
os.replace(sys.argv[2] + ".new", sys.argv[2])
signal.signal(signal.SIGTERM, signal.SIG_DFL)
while True:
    signal.pause()
'''


def tensorzero(places: Places) -> Setup:
    """Set up TensorZero's gateway (Rust), as the HTTP server inside its wheel; it chooses its port itself."""
    venv = peers.environment_of("tensorzero", TENSORZERO, places.root)
    config, starter, port_file = (places.work / name for name in ("tensorzero.toml", "starter.py", "port.txt"))
    config.write_text(tensorzero_config(places))
    starter.write_text(_TENSORZERO_STARTER)
    return Setup(
        "tensorzero",
        peers.version_of(venv, "tensorzero"),
        "routing and translation; its own logging off: no key, no limit, no record",
        (str(venv / "bin" / "python"), str(starter), str(config), str(port_file)),
        environment(places.work, RUST_LOG="error"),
        places.work,
        port_file=port_file,
        path="/openai/v1/chat/completions",
        models=("tensorzero::model_name::fast", "tensorzero::model_name::paced"),
        start_limit_s=30.0,
    )


CANDIDATES: dict[str, Callable[[Places], Setup]] = {
    "direct": direct,
    "nginx": nginx,
    "penstock": penstock,
    "tensorzero": tensorzero,
    "litellm": litellm,
}


def _output(argv: list[str], env: dict[str, str]) -> str:
    try:
        done = subprocess.run(argv, env={**os.environ, **env}, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines and not done.returncode else ""
