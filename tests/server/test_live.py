"""What the control plane can do with the running server, told over a server of the test's own."""

import pytest

from penstock.errors import ConfigError, InvalidRequest, Mistake
from penstock.server.live import LIVE, HealthReport, perform
from penstock.server.presence import Reloaded

HEALTH, RELOAD = LIVE


class Server:
    """A server that reloads to what it is told."""

    def __init__(self, reloaded):
        self.reloaded = reloaded

    async def health(self):
        return HealthReport(())

    async def reload(self):
        return self.reloaded


async def test_health_is_told():
    assert await perform(Server(None), HEALTH, []) == HealthReport(())


async def test_a_reload_says_what_came_of_it():
    reloaded = Reloaded(True, "penstock.toml", "abc", ("server.port",))

    assert await perform(Server(reloaded), RELOAD, []) is reloaded


async def test_a_refused_reload_is_an_error_with_every_mistake():
    mistakes = (Mistake("a", "is wrong."), Mistake("b", "is wrong, too."))
    with pytest.raises(ConfigError) as told:
        await perform(Server(Reloaded(False, "penstock.toml", "abc", (), mistakes)), RELOAD, [])

    assert told.value.mistakes == mistakes


@pytest.mark.parametrize("operation", LIVE)
async def test_a_parameter_is_refused(operation):
    with pytest.raises(InvalidRequest) as told:
        await perform(Server(None), operation, [("force", "1")])

    assert told.value.param == "force"


def test_every_operation_has_a_path_of_its_own_under_the_control_plane():
    assert all(operation.path.startswith("/admin/v1/") for operation in LIVE)
    assert len({(operation.method, operation.path) for operation in LIVE}) == len(LIVE)
