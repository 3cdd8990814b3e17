"""A bound on what a task does: cancelled once it is over, and by nobody else's leave."""

import asyncio

import pytest

from jumping import jumping
from penstock.time_limit import TimeLimit


class TooLate(Exception):
    """What becomes of the limit's own cancellation."""


async def within(seconds, work):
    limit = TimeLimit(seconds)
    try:
        found = await work
    except BaseException as error:
        if limit.lift() and isinstance(error, asyncio.CancelledError):
            raise TooLate from None
        raise
    limit.lift()
    return found


async def work(seconds, raised=None):
    await asyncio.sleep(seconds)
    if raised is not None:
        raise raised
    return "done"


@jumping
async def test_what_is_done_in_time_is_not_disturbed():
    assert await within(1.0, work(0.5)) == "done"
    await asyncio.sleep(5.0)
    assert not asyncio.current_task().cancelling()
    assert not [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()]


@jumping
async def test_what_takes_longer_is_cancelled_and_the_task_goes_on():
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TooLate):
        await within(1.0, work(5.0))
    assert loop.time() - began == pytest.approx(1.0, abs=0.01)
    assert not asyncio.current_task().cancelling()
    assert await within(1.0, work(0.5)) == "done"


@jumping
async def test_a_failure_in_time_is_passed_on():
    with pytest.raises(ZeroDivisionError):
        await within(1.0, work(0.5, ZeroDivisionError()))
    with pytest.raises(TimeoutError):
        await within(1.0, work(0.5, TimeoutError()))


@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.5])
@jumping
async def test_whoever_else_cancels_the_task_before_or_in_the_same_moment_is_heard(seconds):
    task = asyncio.create_task(within(1.0, work(5.0)))
    asyncio.get_running_loop().call_later(seconds, task.cancel)
    with pytest.raises(TooLate if seconds > 1.0 else asyncio.CancelledError):
        await task


@jumping
async def test_a_failure_that_comes_instead_of_the_cancellation_stays_what_it_is():
    async def stubborn():
        try:
            await asyncio.sleep(5.0)
        except asyncio.CancelledError:
            raise ZeroDivisionError from None

    with pytest.raises(ZeroDivisionError):
        await within(1.0, stubborn())
    assert not asyncio.current_task().cancelling()


@jumping
async def test_limits_stand_in_one_another():
    with pytest.raises(TooLate):
        await within(1.0, within(2.0, work(5.0)))
    with pytest.raises(TooLate):
        await within(2.0, within(1.0, work(5.0)))
    assert not asyncio.current_task().cancelling()
