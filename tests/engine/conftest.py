"""For the engine's tests: one thread for products, as they are tiny and the machine is shared."""

import pytest

from penstock.engine.threads import limit_blas_threads


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    limit_blas_threads(1)
