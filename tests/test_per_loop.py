"""One of a kind for each event loop, which ends with it."""

import asyncio
import gc
from weakref import ref

from penstock.outbox import Outbox
from penstock.passage import Passages
from penstock.per_loop import PerLoop
from penstock.providers.sweep import Sweep


class Bell(PerLoop):
    _name = "bell"
    made = 0

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.loop = loop
        Bell.made += 1


class Gong(Bell):
    _name = "gong"


def test_a_loop_has_one_of_each_kind_which_is_made_once() -> None:
    before, loops = Bell.made, [asyncio.new_event_loop() for _ in range(2)]
    one, other = [Bell.of(loop) for loop in loops]
    gong = Gong.of(loops[0])
    assert Bell.of(loops[0]) is one is not other is Bell.of(loops[1])
    assert Gong.of(loops[0]) is gong
    assert (type(one), type(gong)) == (Bell, Gong)
    assert [each.loop for each in (one, other, gong)] == [*loops, loops[0]]
    assert Bell.made - before == 3
    for loop in loops:
        loop.close()


def test_it_ends_with_the_loop() -> None:
    loop = asyncio.new_event_loop()
    bell = ref(Bell.of(loop))
    loop.close()
    del loop
    gc.collect()
    assert bell() is None


async def test_those_of_the_line_share_a_loop_and_add_nothing_to_their_objects() -> None:
    loop = asyncio.get_running_loop()
    found = Outbox.of(loop), Passages.of(loop), Sweep.of(loop)
    assert [type(each) for each in found] == [Outbox, Passages, Sweep]
    assert not any(hasattr(each, "__dict__") for each in found)
