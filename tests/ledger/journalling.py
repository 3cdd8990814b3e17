"""Records in a journal one by one, for tests that care for what is in the file."""

from penstock.ledger.records import INTENT


def append(journal, kind, payload):
    """Write one record; raise why it could not be written."""
    failed = journal.write([payload], []) if kind == INTENT else journal.write([], [payload])
    if failed is not None:
        raise failed[0]
