"""Imports every module of the installed package; `make test` runs it where only the declared dependencies are.

So a library that only the development tools bring along cannot hide, and doors to optional extras must import late.
"""

from importlib import import_module
from pkgutil import walk_packages

import penstock

names = [found.name for found in walk_packages(penstock.__path__, "penstock.") if not found.name.endswith("__main__")]
for name in names:
    import_module(name)
if len(names) < 10:
    raise SystemExit(f"only {len(names)} modules in {penstock.__path__}: the package is not whole")
