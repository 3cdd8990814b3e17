"""What is installed is what is in the source: every file of it, and under `make test` once from the built wheel."""

import os
from hashlib import sha256
from pathlib import Path

import penstock

SOURCE = Path(__file__).parents[1] / "src" / "penstock"
INSTALLED = Path(penstock.__file__).parent


def files(folder: Path) -> dict[str, str]:
    plain = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in plain}


def test_the_installed_package_holds_every_file_of_the_source() -> None:
    assert files(INSTALLED) == files(SOURCE)


def test_the_wheel_is_under_test_when_it_should_be() -> None:
    from_wheel = bool(os.environ.get("PENSTOCK_TEST_WHEEL"))

    assert from_wheel == ("site-packages" in INSTALLED.parts)
    assert from_wheel != (INSTALLED == SOURCE)
