"""Takes out of events what only the dialect understands that they were read in.

Pure. A reader keeps members without a neutral form (`extra`), so that they can be written again in the same dialect; in
another one they would be noise, which some SDKs refuse. Place in the line: between a provider's reader and the writer of
another dialect.
"""

from msgspec import structs

from penstock.call import File, Image
from penstock.reply import Event, PartAdded, Started


def neutral(events: tuple[Event, ...]) -> tuple[Event, ...]:
    """Give the events without members that have no neutral form; the same tuple where there are none."""
    for event in events:
        if _has_own(event):
            return tuple([_without(each) if _has_own(each) else each for each in events])
    return events


def _has_own(event: Event) -> bool:
    kind = type(event)
    if kind is Started:
        return event.extra != ()  # type: ignore[union-attr]  # as `kind` says
    return kind is PartAdded and isinstance(event.part, Image | File) and event.part.extra != ()  # type: ignore[union-attr]  # likewise


def _without(event: Event) -> Event:
    if isinstance(event, PartAdded) and isinstance(event.part, Image | File):
        return PartAdded(structs.replace(event.part, extra=()), event.choice)
    assert isinstance(event, Started), "no other event has members of its own"
    return structs.replace(event, extra=())
