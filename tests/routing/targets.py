"""Three targets of two providers, and tries there from beginning to end."""

from penstock.routing.health import Health, HealthSettings
from penstock.target import Target

ONE = Target(id="a/one", provider="a", model="one", dialect="chat")
OTHER = Target(id="a/other", provider="a", model="other", dialect="chat")
TWO = Target(id="b/two", provider="b", model="two", dialect="chat")
LEFT_S = 100.0


def make(before=None, now=0.0, **settings):
    return Health({"a": HealthSettings(**settings), "b": HealthSettings()}, now, before)


def verdict(health, now, target=ONE, left_s=LEFT_S):
    return health.verdict(target, now, left_s)


def tried(health, now, ending, *, target=ONE, took_s=0.0, first_s=None, **more):
    """Make one try from beginning to end."""
    slot = health.enter(target, now)
    if first_s is not None:
        slot.first(now + first_s)
    slot.leave(now + took_s, ending, **more)


def broken(**settings):
    health = make(**settings)
    for _ in range(5):
        tried(health, 0.0, "failed")
    return health


def state(health, now, target=ONE):
    return next(one for one in health.states(now) if one.target == target.id)
