"""The first page does what it says: its examples run, on a real server and in real processes, and print what it shows."""

import re
from pathlib import Path

import pytest
import typer

from examples import blocks, follow
from penstock.cli import app

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.timeout(180)
def test_every_example_does_what_it_says(tmp_path):
    assert {block.language for block in blocks(README)} == {"console", "python", "toml"}
    assert follow(README, tmp_path) == []


def test_what_is_said_to_be_missing_is_missing():
    missing = README.read_text(encoding="utf-8").partition("## What it does not have yet")[2].partition("\n## ")[0]
    commands = set(typer.main.get_command(app).commands)

    assert not commands & set(re.findall(r"`(?:penstock )?(\w+)`", missing))
