"""Bounds how long the current task may be at something, as `asyncio.timeout` does at three times the price.

    limit = TimeLimit(seconds)
    try:
        found = await work
    except BaseException as error:
        if limit.lift() and isinstance(error, asyncio.CancelledError):
            raise TooLate from None
        raise
    limit.lift()

For what is done for every call. It decides nothing; place in the line: `execute.py` bounds with it how long a target may take
to its first content while another one stands ready.
"""

import asyncio


class TimeLimit:
    """So many seconds from now on, after which the task that made it is cancelled. It has to be lifted, once."""

    __slots__ = ("_cancels", "_is_over", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        """Begin; in a task only."""
        task = asyncio.current_task()
        assert task is not None, "only a task can be cancelled when its time is over"
        self._task = task
        self._cancels = task.cancelling()  # others may have cancelled it before
        self._is_over = False
        self._timer = asyncio.get_running_loop().call_later(seconds, self._end)

    def lift(self) -> bool:
        """End the limit; tell whether it was this alone that cancelled the task. That cancellation is taken back."""
        self._timer.cancel()
        return self._is_over and self._task.uncancel() <= self._cancels

    def _end(self) -> None:
        self._is_over = True
        self._task.cancel()
