"""`python -m penstock`: the command line, as `penstock`."""

from penstock.cli import main

main()
