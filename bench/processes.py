"""Starts processes on a chosen core, waits until they serve, and ends every one by its id, whatever happens.

Nothing started here outlives the `Fleet` that started it: also on Ctrl-C, SIGTERM or an error. Each process leads a
session of its own, so that its children can be ended with it and a Ctrl-C in the terminal reaches only the benchmark.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import load

_GRACE_S = 5.0


class StartFailed(Exception):
    """A process ended or did not serve in time; carries the last lines that it wrote."""


@dataclass(frozen=True)
class Launch:
    """How to start a process: command, environment (nothing is inherited), the core to run on, where its output goes."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    core: int
    log: Path


def environment(home: Path, **extra: str) -> dict[str, str]:
    """Build a bare environment: no provider key, proxy or database of the caller reaches a candidate."""
    path = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin") + ":/usr/sbin:/sbin"
    return {"PATH": path, "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8", "NO_COLOR": "1", **extra}


def free_port() -> int:
    """Find a loopback port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run the block on `core` only; what is started inside stays there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def tail(log: Path, lines: int = 6) -> str:
    """Return the end of what a process wrote."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return "no output"
    return " | ".join(text.strip().splitlines()[-lines:])[-800:] or "no output"


def tries(request: load.Request) -> str | None:
    """Make one checked plain call; None when the answer is whole, else what is wrong."""
    try:
        return load.plain_problem(*load.call(request))
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"


class Fleet:
    """All processes of one run. As a context manager it ends them, last started first."""

    def __init__(self) -> None:
        self._running: list[tuple[subprocess.Popen[bytes], Launch]] = []

    def __enter__(self) -> Self:
        # Also SIGINT: a shell starts its background jobs with it ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, _as_interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave processes behind
        for process, _ in reversed(self._running):
            _end(process)
        self._running.clear()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(self, launch: Launch) -> int:
        """Start a process on its core and return its id."""
        with launch.log.open("wb") as log, pinned(launch.core):
            process = subprocess.Popen(
                launch.argv,
                env=dict(launch.env),
                cwd=launch.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running.append((process, launch))
        return process.pid

    def end(self, pid: int) -> None:
        """End the process `pid` and its children, and forget it."""
        for entry in self._running:
            if entry[0].pid == pid:
                _end(entry[0])
                self._running.remove(entry)
                return

    def check(self, pid: int) -> None:
        """Raise `StartFailed` when the process `pid` has ended by itself."""
        for process, launch in self._running:
            if process.pid == pid and _has_ended(process):
                raise StartFailed(f"ended by itself: {tail(launch.log)}")

    def wait_port(self, pid: int, port: int, limit_s: float = 10.0) -> None:
        """Wait until something listens on `port`."""
        ends_at = time.monotonic() + limit_s
        while time.monotonic() < ends_at:
            self.check(pid)
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            time.sleep(0.005)
        raise StartFailed(f"nothing listened on port {port} after {limit_s:g} s")


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a process has ended, without reaping it: its id must stay taken until its group is swept."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to stop, insist after a grace, sweep its own process group, and only then reap it."""
    os.kill(process.pid, signal.SIGTERM)  # not Popen.terminate(): that one would reap it
    ends_at = time.monotonic() + _GRACE_S
    while not _has_ended(process) and time.monotonic() < ends_at:
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # the group that this process leads: start_new_session made it
    process.wait()
