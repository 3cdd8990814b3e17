"""What calls of one caller have in common: found once, and never for another one than those that are like it."""

from random import Random

import pytest
from msgspec import structs
from tests.test_direct import CALL, CALL_BEHIND, SHARED, Asker, Ready
from tests.test_gateway import WEB, WHOLE, Played, ask, jumping, world

from penstock.call import Caller, Sampling, Who
from penstock.calls_alike import Standing


@jumping
async def test_what_was_found_for_a_caller_holds_for_its_next_call_and_for_no_other(tmp_path):
    """Another model, key, feature, user, session or configuration is looked at anew."""
    provider = Ready()
    async with world(tmp_path, a=provider) as one:
        gateway, standing = one.gateway, Standing(Caller())
        looked = []
        planned = gateway.planned

        def look(call, who, caller):
            looked.append((call.model, call.feature, who))
            return planned(call, who, caller)

        gateway.planned = look
        other = Who(key_id="key_1", team="web")  # equal, and yet it was found anew

        def begin(call, who=WEB):
            before, asker = len(looked), Asker(one)
            assert asker.begin(call, who, standing) is not None
            provider.sent[-1].come(WHOLE)
            assert asker.answers
            return len(looked) - before

        assert [begin(CALL), begin(CALL), begin(CALL)] == [1, 0, 0]
        assert begin(CALL, other) == 1
        assert begin(CALL, WEB) == 1
        assert begin(CALL_BEHIND) == 1
        assert begin(CALL) == 1
        for said in ({"feature": "f"}, {"user": "u"}, {"session": "s"}):
            assert begin(structs.replace(CALL, **said)) == 1
            assert begin(CALL) == 0, "what a call says of itself holds for it alone"
        paid = {(receipt.feature, receipt.user is None, receipt.session) for receipt in one.receipts()}
        assert paid == {(None, True, None), ("f", True, None), (None, False, None), (None, True, "s")}
        one.check()


SAID = (Sampling(), Sampling(max_tokens=9), Sampling(max_tokens=8000), Sampling(max_tokens=100_000, n=2))


@pytest.mark.parametrize("seed", range(5))
@jumping
async def test_a_caller_with_a_past_is_served_as_one_without(tmp_path, seed):
    rng, provider = Random(seed), Ready()
    async with world(tmp_path, config=SHARED, a=provider, gratis=Played()) as one:
        standing = Standing(Caller(deadline_s=rng.choice((None, 7.0))))

        def outcome(call, who, standing):
            asker, before = Asker(one), len(provider.sent)
            begun = asker.begin(call, who, standing)
            if begun is None:
                return len(provider.sent) - before
            provider.sent[-1].come(WHOLE)
            ((_, _, body, settled),) = asker.answers
            flight, left_s = begun.flight, provider.sent[-1].deadline - begun.flight.began
            cost = settled.cost_nano_usd, settled.tokens
            return flight.who, begun.plan, flight.plan, flight.baseline, flight.ceiling, round(left_s, 3), body, cost

        for _ in range(40):
            call = ask(
                rng.choice(("solo", "small", "fast", "free", "kept")), "Hi " * rng.choice((1, 50, 4000)), stream=False
            )
            call = structs.replace(call, sampling=rng.choice(SAID), user=rng.choice((None, None, None, "ann")))
            call = structs.replace(call, input_bound=rng.choice((call.input_bound, call.input_bound, None)))
            who = rng.choice((WEB, WEB, Who(key_id="key_2", team="web")))
            known = outcome(call, who, standing)
            assert known == outcome(call, who, Standing(standing.caller))
        one.check()


@jumping
async def test_options_that_are_large_are_not_kept(tmp_path):
    async with world(tmp_path, a=Ready()) as one:
        asker = Asker(one)
        for large in (
            Sampling(stop=("x" * 600, "y" * 600)),
            Sampling(logit_bias=(("1", 2.0),)),
            Sampling(reasoning_effort="z" * 2000),
        ):
            begun = asker.begin(structs.replace(CALL, sampling=large))
            assert asker.standing.common.sampling is not large
            begun.prepared.come(WHOLE)
        small = Sampling(stop=("x",))
        asker.begin(structs.replace(CALL, sampling=small)).prepared.come(WHOLE)
        assert asker.standing.common.sampling is small
        one.check()
