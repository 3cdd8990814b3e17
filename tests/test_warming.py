"""What is loaded before the first call: each provider once, and a failure is a line in the log."""

import logging

from penstock.errors import UpstreamFailed
from penstock.target import Target
from penstock.warming import warm


class Cold:
    """A provider with something to load."""

    def __init__(self, error=None):
        self.warmed = 0
        self.error = error

    async def warm(self):
        self.warmed += 1
        if self.error is not None:
            raise self.error


def target(provider):
    return Target(id=f"{provider}/m", provider=provider, model="m", dialect="")


async def test_each_provider_is_warmed_once_and_one_that_cannot_be_is_told_of(caplog):
    providers = {"a": Cold(), "b": Cold(UpstreamFailed("no such file")), "c": object()}
    with caplog.at_level(logging.WARNING, "penstock"):
        await warm(tuple(target(name) for name in "abac"), providers)

    assert [providers[name].warmed for name in "ab"] == [1, 1]
    assert "b: no such file" in caplog.text
