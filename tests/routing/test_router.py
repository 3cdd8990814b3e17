"""Where a call may go, why it may not go elsewhere, and what that costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from penstock.call import Call, Content, Sampling, Who
from penstock.config import catalog_text, load
from penstock.errors import ContextOverflow, PermissionDenied, UnknownModel, Unsupported
from penstock.routing.catalog import read_catalog
from penstock.routing.router import DIRECT, OUTPUT_BOUND, LeftOut, Options, Plan, Router
from penstock.target import Profile, Target

CONFIG = """
[providers.openai]
kind = "openai"
api_key = "env:KEY"
[providers.mirror]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"
vendor = "openai"
[providers.box]
kind = "openai"
base_url = "http://127.0.0.1:9000/v1"
[providers.gratis]
kind = "openai"
base_url = "http://127.0.0.1:9001/v1"
free = true
[models.fast]
targets = ["openai/gpt-4o-mini", "box/qwen2.5-7b"]
[models.smart]
targets = ["openai/gpt-4o"]
static = "We are busy."
[models.home]
targets = ["gratis/phi", "gratis/priced"]
[prices."box/qwen2.5-7b"]
input = 0.02
output = 0.06
[prices."gratis/priced"]
input = 1
output = 2
[prices."openai/gpt-4o"]
input = 9
output = 99
[teams.web]
models = ["fast"]
[teams.any]
rpm = 5
"""
ANYONE = Who()
DIALECTS = {"openai": "chat", "mirror": "chat", "box": "chat", "gratis": ""}


@pytest.fixture(scope="module")
def catalog():
    return read_catalog(catalog_text())


@pytest.fixture
def routed(tmp_path, catalog):
    def make(config=CONFIG):
        (tmp_path / "penstock.toml").write_text(config)
        loaded = load(str(tmp_path / "penstock.toml"), {"KEY": "sk-test", "PENSTOCK_HOME": str(tmp_path)})
        return Router(loaded, catalog, DIALECTS)

    return make


@pytest.fixture
def router(routed):
    return routed()


def asked(model="fast", *, bound=100, raw=b"", **sampling):
    return Call("chat", model, Sampling(**sampling), lambda: Content(()), raw=raw, input_bound=bound)


# -- names --


def test_a_configured_name_gives_its_targets_in_fallback_order(router):
    plan = router.plan("fast", ANYONE)

    assert (plan.model, plan.options.static, plan.left_out) == ("fast", None, ())
    assert [(one.id, one.provider, one.model, one.dialect) for one in plan.targets] == [
        ("openai/gpt-4o-mini", "openai", "gpt-4o-mini", "chat"),
        ("box/qwen2.5-7b", "box", "qwen2.5-7b", "chat"),
    ]
    assert router.plan("smart", ANYONE).options.static == "We are busy."
    assert router.plan("home", ANYONE).targets[0].dialect == ""


def test_the_configured_models_are_listed_and_cannot_be_changed(router):
    assert list(router.models) == ["fast", "smart", "home"]
    with pytest.raises(TypeError):
        router.models["other"] = None


@pytest.mark.parametrize("name", ["box/anything", "box/org/model:tag", "openai/gpt-5"])
def test_a_provider_and_a_model_can_be_asked_for_directly(router, name):
    (target,) = router.plan(name, ANYONE).targets

    assert (target.id, target.provider, target.model) == (name, *name.split("/", 1))


def test_a_bare_name_of_the_catalogue_goes_to_its_vendors_own_provider(router):
    plan = router.plan("gpt-5", ANYONE)

    assert plan.model == "gpt-5"
    assert [target.id for target in plan.targets] == ["openai/gpt-5"]
    assert plan.targets[0].prices


def test_a_configured_name_goes_before_the_catalogues(routed):
    router = routed(CONFIG.replace("[models.smart]", "[models.gpt-5]"))

    assert [target.id for target in router.plan("gpt-5", ANYONE).targets] == ["openai/gpt-4o"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("fsat", "Did you mean: fast"),
        ("Smart", "Did you mean: smart"),
        ("boxx/qwen2.5-7b", "Did you mean: box/qwen2.5-7b?"),
        ("claude-opus-4", "Known models: fast, home, smart."),
        ("zzzzzz", "Known models: fast, home, smart."),
        ("", "Known models"),
        ("/", "Known models"),
        ("box/", "Known models"),
        ("/qwen", "Known models"),
        ("x" * 100_000, "Known models"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_ones(router, name, hint):
    with pytest.raises(UnknownModel) as raised:
        router.plan(name, ANYONE)

    assert raised.value.param == "model"
    assert hint in raised.value.hint


def test_which_models_a_provider_has_is_its_own_business(router):
    assert router.plan("openai/gpt-4o-mni", ANYONE).targets[0].model == "gpt-4o-mni"


@pytest.mark.parametrize("name", ["box/" + "x" * 100_000, "box/a\r\nset-cookie: b=c", "box/a\x00b", "x" * 100_000])
def test_a_name_that_is_no_name_is_refused_and_not_echoed(router, name):
    with pytest.raises(UnknownModel) as raised:
        router.plan(name, ANYONE)

    assert len(str(raised.value)) < 1000
    assert str(raised.value).isprintable()


def test_names_that_clients_invent_are_remembered_up_to_a_bound(router):
    first = router.plan("box/0", ANYONE)
    assert router.plan("box/0", ANYONE) is first
    for number in range(3 * DIRECT):
        router.plan(f"box/{number}", ANYONE)

    assert len(router._direct) <= DIRECT
    assert router.plan("box/0", ANYONE) == first


def test_a_name_that_was_refused_is_not_remembered(router):
    for number in range(10):
        with pytest.raises(UnknownModel):
            router.plan(f"nothing-{number}", ANYONE)

    assert router._direct == {}


# -- teams --


def test_a_team_may_use_its_models_and_nothing_else(router):
    web = Who(team="web")

    assert router.plan("fast", web).model == "fast"
    for name in ("smart", "openai/gpt-4o-mini", "box/qwen2.5-7b", "gpt-5"):
        with pytest.raises(PermissionDenied, match="It may use: fast"):
            router.plan(name, web)


def test_the_route_of_a_call_is_that_of_its_model_for_each_team_however_often_it_is_asked(router):
    for _ in range(2):
        for team in (None, "any", "web"):
            for name in ("fast", "smart", "box/any"):
                who = Who(team=team)
                if team == "web" and name != "fast":
                    with pytest.raises(PermissionDenied):
                        router.plan_call(asked(name), who)
                else:
                    assert router.plan_call(asked(name), who) is router.plan(name, who)


def test_routes_of_teams_are_remembered_up_to_a_bound(router):
    for number in range(DIRECT + 50):
        router.plan_call(asked(f"box/m{number}"), ANYONE)
        assert len(router._known) <= DIRECT
    with pytest.raises(Unsupported):
        router.plan_call(structs.replace(asked("box/m1"), dialect="gemini", native=("stored",)), ANYONE)


@pytest.mark.parametrize("team", ["any", "unheard-of", None])
def test_a_team_without_a_list_may_use_all(router, team):
    assert router.plan("smart", Who(team=team)).model == "smart"
    assert router.plan("box/anything", Who(team=team)).model == "box/anything"


def test_a_team_does_not_learn_which_models_there_are_from_a_name_that_is_unknown(router):
    with pytest.raises(UnknownModel):
        router.plan("fsat", Who(team="web"))


# -- prices --


def price_of(router, name):
    (target,) = router.plan(name, ANYONE).targets
    return target.free, [price.rates.input for price in target.prices[-1:]]


def test_own_prices_come_before_the_catalogues_and_these_hold_at_the_vendor_alone(router):
    assert price_of(router, "openai/gpt-4o") == (False, [9_000_000_000])
    assert price_of(router, "openai/gpt-4o-mini") == (False, [150_000_000])
    assert price_of(router, "mirror/gpt-4o-mini") == (False, [150_000_000])
    assert price_of(router, "box/gpt-4o-mini") == (False, [])
    assert price_of(router, "box/qwen2.5-7b") == (False, [20_000_000])


def test_a_providers_discount_is_off_every_catalogue_price_and_off_no_other_providers(routed):
    router = routed(CONFIG.replace("[providers.box]", "discount = 12.5\n[providers.box]", 1))
    off = [price.discount_bp for price in router.plan("mirror/gpt-4o-mini", ANYONE).targets[0].prices]
    listed = router.plan("openai/gpt-4o-mini", ANYONE).targets[0].prices
    assert set(off) == {1250}
    assert len(off) == len(listed)
    assert {price.discount_bp for price in listed} == {0}


def test_a_free_provider_is_free_but_for_the_models_that_have_a_price(router):
    phi, priced = router.plan("home", ANYONE).targets

    assert (phi.free, phi.prices) == (True, ())
    assert (priced.free, priced.prices[0].rates.input) == (False, 1_000_000_000)


def test_facts_hold_wherever_a_model_is_served(router):
    assert router.plan("box/gpt-4o-mini", ANYONE).targets[0].profile.context_tokens == 128_000


# -- room --


def target(name, window=None, output=None, most_input=None):
    return Target(
        f"p/{name}", "p", name, "chat", Profile(context_tokens=window, output_tokens=output, input_tokens=most_input)
    )


LARGE, SMALL, UNKNOWN = target("large", 1000, 200), target("small", 100, 50), target("unknown")


def test_a_plan_knows_its_narrowest_limits_and_its_longest_answer():
    plan = Plan.of("m", (LARGE, SMALL, UNKNOWN))

    assert (plan.window, plan.output, plan.longest) == (100, 50, OUTPUT_BOUND)
    assert (Plan.of("m", (LARGE, SMALL)).longest, Plan.of("m", (UNKNOWN,)).window) == (200, None)


@pytest.mark.parametrize(
    ("targets", "call", "sure"),
    [
        ((UNKNOWN,), asked(bound=10**9), True),
        ((UNKNOWN,), asked(bound=None), True),
        ((LARGE, SMALL), asked(bound=99), True),
        ((LARGE, SMALL), asked(bound=100), False),
        ((LARGE, SMALL), asked(bound=50, max_tokens=50), True),
        ((LARGE, SMALL), asked(bound=51, max_tokens=50), False),
        ((LARGE, SMALL), asked(bound=1, max_tokens=51), False),
        ((LARGE,), asked(bound=None), False),
    ],
)
def test_a_plan_tells_without_counting_whether_every_target_surely_has_room(targets, call, sure):
    assert Plan.of("m", targets).surely_serves(call) == sure


@pytest.mark.parametrize(
    ("call", "bound"),
    [
        (asked(), 200),
        (asked(max_tokens=30), 30),
        (asked(max_tokens=5000), 200),
        (asked(max_tokens=30, n=4), 120),
        (asked(n=3), 600),
    ],
)
def test_the_most_output_is_what_was_asked_for_or_what_the_target_can_write_for_each_choice(call, bound):
    assert Plan.of("m", (LARGE, SMALL)).output_bound(call) == bound


def test_the_output_of_a_target_of_which_nothing_is_known_is_bounded_all_the_same():
    assert Plan.of("m", (UNKNOWN,)).output_bound(asked()) == OUTPUT_BOUND


def test_targets_without_room_are_left_out_with_the_reason():
    plan = Plan("m", (LARGE, SMALL, UNKNOWN), (LeftOut("p/gone", "retired"),), Options("Busy."))
    fitted = plan.fit(asked(max_tokens=10), {"p/large": 91, "p/small": 91, "p/unknown": 91})

    assert [one.id for one in fitted.targets] == ["p/large", "p/unknown"]
    assert [one.target for one in fitted.left_out] == ["p/gone", "p/small"]
    assert "91 tokens" in fitted.left_out[1].reason
    assert "window of 100" in fitted.left_out[1].reason
    assert (fitted.model, fitted.options.static, fitted.window) == ("m", "Busy.", 1000)


def test_a_window_is_filled_to_the_last_token():
    plan = Plan.of("m", (SMALL,))
    assert plan.fit(asked(max_tokens=10), {"p/small": 90}).targets == (SMALL,)
    with pytest.raises(ContextOverflow):
        plan.fit(asked(max_tokens=10), {"p/small": 91})
    assert plan.fit(asked(), {"p/small": 99}).targets == (SMALL,)
    with pytest.raises(ContextOverflow):
        plan.fit(asked(), {"p/small": 100})


def test_an_answer_that_a_target_cannot_write_leaves_it_out():
    fitted = Plan.of("m", (SMALL, LARGE)).fit(asked(max_tokens=60), {"p/small": 1, "p/large": 1})

    assert fitted.targets == (LARGE,)
    assert "at most 50 tokens, 60 were asked for" in fitted.left_out[0].reason


def test_when_nothing_is_left_the_first_reason_is_the_answer():
    with pytest.raises(Unsupported) as raised:
        Plan.of("m", (SMALL, LARGE)).fit(asked(max_tokens=60), {"p/small": 1, "p/large": 999})
    assert (raised.value.param, raised.value.status) == ("max_tokens", 400)
    with pytest.raises(ContextOverflow) as raised:
        Plan.of("m", (LARGE, SMALL)).fit(asked(max_tokens=60), {"p/small": 1, "p/large": 999})
    assert raised.value.param == "messages"
    assert "Shorten the prompt" in raised.value.hint


def test_an_input_limit_of_its_own_holds_where_a_model_has_one():
    plan = Plan.of("m", (target("gpt-5", window=400, output=128, most_input=272),))

    assert not plan.surely_serves(asked(bound=300, max_tokens=1))
    assert plan.fit(asked(max_tokens=1), {"p/gpt-5": 272}).targets
    with pytest.raises(ContextOverflow):
        plan.fit(asked(max_tokens=1), {"p/gpt-5": 273})


def test_the_first_target_is_the_baseline_whatever_is_left_out():
    plan = Plan.of("m", (SMALL, LARGE))
    assert plan.baseline is SMALL
    assert plan.fit(asked(max_tokens=60), {"p/small": 1, "p/large": 1}).baseline is SMALL
    native = structs.replace(asked(), native=("store",), dialect="responses")
    other = structs.replace(LARGE, dialect="responses")
    spoken = Plan.of("m", (SMALL, other)).speaking(native)
    assert (spoken.targets, spoken.baseline) == ((other,), SMALL)
    assert Plan.of("m", (SMALL, LARGE), baseline=UNKNOWN).fit(asked(), {"p/small": 1, "p/large": 1}).baseline is UNKNOWN


def test_a_model_may_name_another_baseline(routed):
    router = routed(
        CONFIG.replace("[models.smart]", 'baseline = "openai/gpt-4o"\n[models.smart]').replace(
            "[models.home]", 'baseline = "openai/gpt-4o"\n[models.home]'
        )
    )
    fast, smart, home = (router.plan(name, ANYONE) for name in ("fast", "smart", "home"))
    assert (fast.baseline.id, fast.baseline.prices[0].rates.input) == ("openai/gpt-4o", 9_000_000_000)
    assert smart.baseline is smart.targets[0]
    assert home.baseline is home.targets[0]


def test_a_target_is_found_by_its_name(router):
    assert router.find("openai/gpt-4o").prices[0].rates.input == 9_000_000_000
    assert router.find("openai/gpt-4o") is router.find("openai/gpt-4o")
    assert router.find("gone/gpt-4o") is None
    assert router.find("static") is None


def test_a_team_is_shown_the_models_that_it_may_use(router):
    shown = router.allowed(Who(team="web"))

    assert set(router.allowed(ANYONE)) == set(router.models)
    assert all(router.plan(name, Who(team="web")) for name in shown)


SIZES = st.none() | st.integers(0, 12)


@given(SIZES, SIZES, SIZES, SIZES, st.none() | st.integers(1, 12), st.none() | st.integers(1, 3))
def test_what_is_surely_served_and_what_it_may_write_is_as_each_limit_says(window, output, into, bound, most, choices):
    plan = Plan("m", (), window=window, output=output, input=into, longest=6)
    call = structs.replace(asked(), sampling=Sampling(max_tokens=most, n=choices), input_bound=bound)
    within = [output is None or (most or 1) <= output]
    if bound is None:  # pictures, say
        within += [window is None, into is None]
    else:
        within += [window is None or bound + (most or 1) <= window, into is None or bound <= into]
    assert plan.surely_serves(call) is all(within)
    fits = [size for size in range(-1, 40) if size < 0 or plan.surely_serves(structs.replace(call, input_bound=size))]
    assert min(plan.most_input(call), 39) == fits[-1]
    assert plan.output_bound(call) == min(most or 6, 6) * (choices or 1)
    assert plan.output_bound(structs.replace(call, operation="embed")) == 0
