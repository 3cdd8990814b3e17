"""One piece of work in one thread, done when asked for: checkpoints, deleting files, waiting for the disk.

The request path must not wait for a disk, and these three do. Asking costs less than a microsecond, starts the thread
the first time, and any number of requests while the work is running lead to one more run.
"""

import time
from collections.abc import Callable
from threading import Event, Thread


class Background:
    """Runs `work`, which must not raise, in a thread of its own; never twice at once.

    `pause_s` is how long a run waits before it begins, so that it serves all who ask within that time.
    """

    __slots__ = ("_asked", "_closing", "_name", "_pause_s", "_thread", "_work")

    def __init__(self, name: str, work: Callable[[], None], pause_s: float = 0.0) -> None:
        self._name = name
        self._work = work
        self._pause_s = pause_s
        self._asked = Event()
        self._closing = Event()
        self._thread: Thread | None = None

    def ask(self) -> None:
        """Have the work done once more, soon."""
        if self._asked.is_set():
            return
        self._asked.set()
        if self._thread is None and not self._closing.is_set():
            self._thread = Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._asked.wait()
            if self._closing.is_set():
                return
            if self._pause_s:
                time.sleep(self._pause_s)
            self._asked.clear()
            self._work()

    def close(self) -> None:
        """Wait for the run in progress and end the thread."""
        self._closing.set()  # before the wake-up, which a run in progress may take for a request
        self._asked.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
