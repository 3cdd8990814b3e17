"""Installs the peers: each into a virtual environment of its own under `.bench/`, pinned, on first use only.

They never touch the project's environment or its lock file. What cannot be installed is a reason, not a crash.
"""

import subprocess
import sys
from pathlib import Path

_LIMIT_S = 900


class NotMeasured(Exception):
    """A candidate that takes no part in this run; the message is the reason that the report shows."""


def environment_of(peer: str, requirement: str, root: Path) -> Path:
    """Return the virtual environment of `peer` with `requirement` installed, making it when it is not there yet."""
    place = root / ".bench" / peer
    marker = place / "installed.txt"
    if marker.exists() and marker.read_text().strip() == requirement:
        return place
    print(f"installing {requirement} into {place.relative_to(root)} ...", file=sys.stderr, flush=True)
    place.parent.mkdir(exist_ok=True)
    _run([sys.executable, "-m", "venv", str(place)], f"no virtual environment for {requirement}")
    _run(
        [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", requirement], f"cannot install {requirement}"
    )
    marker.write_text(requirement + "\n")
    return place


def version_of(place: Path, distribution: str) -> str:
    """Ask the environment at `place` which version of `distribution` it holds."""
    code = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    return _run([str(place / "bin" / "python"), "-c", code], f"{distribution} is not in {place}")


def _run(argv: list[str], failure: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotMeasured(f"{failure}: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        raise NotMeasured(f"{failure}: {lines[-1] if lines else f'exit code {done.returncode}'}")
    return done.stdout.strip()
