"""A loop whose clock jumps to the next timer, so that tests of waits wait for nothing."""

import asyncio
import selectors
from functools import wraps


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop that does not wait."""

    def __init__(self):
        self.now = 1000.0
        super().__init__(self.Selector(self))

    def time(self):
        return self.now

    class Selector(selectors.DefaultSelector):
        def __init__(self, loop):
            super().__init__()
            self.loop = loop

        def select(self, timeout=None):
            self.loop.now += max(0.0, timeout or 0.0)
            return super().select(0)


def jump(coroutine):
    """Run to the end on such a loop."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(coroutine)


def jumping(test):
    """Run a test on such a loop."""

    @wraps(test)
    def run(*arguments, **named):
        jump(test(*arguments, **named))

    return run
