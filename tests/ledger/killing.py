"""Has an operation on shared budgets die at every single step: at each bytecode instruction of its code in turn."""

import os
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path

import penstock.ledger.balances
import penstock.ledger.booking
import penstock.ledger.processes
import penstock.ledger.shared_budgets
import penstock.ledger.sweeping

OPEN_FILES = Path("/dev/fd")
FILES = {
    module.__file__
    for module in (
        penstock.ledger.balances,
        penstock.ledger.booking,
        penstock.ledger.shared_budgets,
        penstock.ledger.processes,
        penstock.ledger.sweeping,
    )
}


class Killed(BaseException):
    """The process is gone: nobody catches this, and what still runs on the way out only lets go of locks."""


def killed_at_every_step(begin, act, check, every=1):
    """Do `act(begin())` again and again, each time dying a step later, and `check(step)` after each; give how many."""
    for step in count(0, every):
        process = begin()
        before = set(OPEN_FILES.iterdir())
        survived = _until(step, lambda process=process: act(process))
        if process is not None:
            process._table.close()
        for left in set(OPEN_FILES.iterdir()) - before:  # as the kernel does
            with suppress(OSError):
                os.close(int(left.name))
        check(step)
        if survived:
            return step // every
    return None


def _until(step, act):
    """Do it, but not beyond that many instructions; give whether it came to its end."""
    left = step

    def at_instruction(frame, event, _):
        nonlocal left
        if event == "opcode":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise Killed
        return at_instruction

    def at_call(frame, event, _):
        if frame.f_code.co_filename not in FILES:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return at_instruction

    before = sys.gettrace()
    sys.settrace(at_call)
    try:
        act()
    except Killed:
        return False
    finally:
        sys.settrace(before)
    return True
