"""The public types are an interface: mypy reads `typing_api.py` as it would read a user's program."""

import subprocess
import sys
from pathlib import Path

API = Path(__file__).with_name("typing_api.py")


def mypy(path, cache):
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=path.parent,
    )
    return done.stdout.splitlines()


def test_programs_that_use_the_library_well_are_well_typed_and_others_are_not(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(API.read_text().replace("  # type: ignore[arg-type]", "", 1))

    assert mypy(API, tmp_path / "cache") == ["Success: no issues found in 1 source file"]
    assert any('error: Argument 1 to "ask"' in line for line in mypy(wrong, tmp_path / "cache"))
