"""The command line: `penstock ...`. Each command is a few lines over what the server and the library use.

Exit codes: 0 fine, 1 the answer is no, 2 usage, 3 could not find out.
"""

import sys

from penstock.cli.app import app
from penstock.errors import ConfigError, PenstockError

__all__ = ("app", "main")


def main() -> None:
    """Run the command line."""
    try:
        app()
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
    except PenstockError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(3 if error.status >= 500 else 1)
    except BrokenPipeError:
        sys.exit(0)
