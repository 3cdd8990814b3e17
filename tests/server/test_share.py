"""What each of several workers may have."""

import pytest

from penstock.config import load
from penstock.server.share import share

CONFIG = """
[server]
workers = 3
queue = 10
max_connections = 100
[providers.fake]
kind = "scripted"
rpm = 10
[providers.other]
kind = "openai"
api_key = "env:KEY"
concurrency = 7
[models.fast]
targets = ["fake/m"]
concurrency = 1
[teams.web]
rpm = 600
tpm = 1000
[features.x]
tpm = 2
"""


@pytest.fixture
def read(tmp_path):
    def read(text):
        (tmp_path / "penstock.toml").write_text(text)
        environ = {"PENSTOCK_HOME": str(tmp_path), "KEY": "sk-0123456789"}
        return load(str(tmp_path / "penstock.toml"), environ)

    return read


def test_limits_are_shared_out_and_rounded_up(read):
    config = read(CONFIG)

    part = share(config, 3)

    assert (part.server.queue, part.server.max_connections) == (4, 34)
    assert (part.provider("fake").rpm, part.provider("fake").tpm) == (4, None)
    assert part.provider("other").concurrency == 3
    assert part.model("fast").concurrency == 1
    assert (part.team("web").rpm, part.team("web").tpm, part.team("web").concurrency) == (200, 334, None)
    assert part.feature("x").tpm == 1
    assert (config.server.sharers, part.server.sharers) == (1, 3)  # for the limits of keys
    assert part.hash == config.hash


def test_one_process_has_all(read):
    config = read(CONFIG)

    assert share(config, 1) is config
