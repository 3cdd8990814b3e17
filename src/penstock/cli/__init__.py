"""The command line: `penstock ...`. Each command is a few lines over what the server and the library use.

Exit codes: 0 fine, 1 the answer is no, 2 usage, 3 could not find out.
"""

import sys
from io import TextIOWrapper

from penstock.cli.app import app

__all__ = ("app", "main")


def main() -> None:
    """Run the command line."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an answer may have what the terminal's encoding has not
    app()
