"""A real server with its ledger in front of a provider that does as it is told: the fixtures of the fault tests."""

from tests.faults.conftest import alone, bad, good, pytest_asyncio_loop_factories, warm

__all__ = ("alone", "bad", "good", "pytest_asyncio_loop_factories", "warm")
