"""The catalogue against genai-prices as an oracle, its rows against themselves, and the names that models go by."""

from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock
from penstock.errors import ConfigError
from penstock.receipt import Usage
from penstock.routing.catalog import Catalog, Entry, nearest, read_catalog
from penstock.target import Price, Rates, Target, Tier, cost, price_on
from penstock.tokens.rules import FAMILIES
from penstock.tokens.vocabularies import KNOWN

TEXT = (Path(penstock.__file__).parent / "routing" / "models.toml").read_bytes()
TODAY = "2026-11-21"
ORACLE_DAY = "2026-11-10"
"""The day of the release of genai-prices that the rows were taken from."""


@cache
def catalog() -> Catalog:
    return read_catalog(TEXT)


def entry(name: str) -> Entry:
    found = catalog().find(name)
    assert found is not None, name
    return found


def priced() -> list[str]:
    return [entry.id for entry in catalog().entries if entry.prices]


# -- prices: the oracle --

NOT_IN_THE_ORACLE = {
    "gpt-6.2-sol": "released a week after the oracle; OpenAI's page of the model",
    "gpt-6.2-astra": "released a week after the oracle; LiteLLM's announcement and OpenAI's rule for long contexts",
}
OTHER_BEFORE = {
    "gpt-4o": (
        "2024-10-02",
        "until then the alias stood for gpt-4o-2024-05-13, at 5 and 15 dollars; the oracle has no history",
    ),
    "gpt-4o-2024-08-06": ("2024-10-01", "cached input had no price of its own yet; the oracle has no history"),
    "gpt-4o-mini": ("2024-10-01", "cached input had no price of its own yet; the oracle has no history"),
}
"""By model: the day from which it agrees with the oracle, and why it does not before."""

USAGES = (
    Usage(input_tokens=1_000_003),
    Usage(output_tokens=777_777),
    Usage(input_tokens=100_000, output_tokens=3_001),
    Usage(input_tokens=128_001, output_tokens=3_001),
    Usage(input_tokens=200_001, output_tokens=3_001),
    Usage(input_tokens=272_001, output_tokens=3_001),
    Usage(input_tokens=90_000, cached_input_tokens=70_003, output_tokens=5),
    Usage(input_tokens=290_000, cached_input_tokens=270_003, output_tokens=5),
    Usage(input_tokens=90_000, cache_write_tokens=30_001),
    Usage(input_tokens=90_000, cache_write_tokens=30_001, cache_write_1h_tokens=40_007, cached_input_tokens=1_009),
    Usage(input_tokens=290_000, cache_write_tokens=130_001, cache_write_1h_tokens=40_007, cached_input_tokens=1_009),
    Usage(input_tokens=90_000, audio_input_tokens=33_333),
)


def oracle_nano_usd(model: str, vendor: str, usage: Usage, day: str) -> Decimal:
    from genai_prices import Usage as TheirUsage
    from genai_prices import calc_price

    theirs = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cached_input_tokens,
        "cache_write_tokens": usage.cache_write_tokens + usage.cache_write_1h_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "input_audio_tokens": usage.audio_input_tokens,
    }
    noon = datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=UTC)
    said = TheirUsage(**{name: n for name, n in theirs.items() if n})
    return calc_price(said, model, provider_id=vendor, genai_request_timestamp=noon).total_price * 10**9


def disagreements(entry: Entry, day: str) -> list[str]:
    target = Target(entry.id, entry.vendor, entry.id, "chat", entry.profile, entry.prices)
    found = []
    for usage in USAGES:
        price = price_on(entry.prices, day)
        if usage.cache_write_1h_tokens and price is not None and price.rates.cache_write_1h is None:
            continue  # nobody but Anthropic knows such writes
        ours, theirs = cost(usage, target, day).nano_usd, oracle_nano_usd(entry.id, entry.vendor, usage, day)
        if ours is None or abs(ours - theirs) > Decimal("0.5"):
            found.append(f"{usage}: {ours}, not {theirs}")
    return found


@pytest.mark.parametrize("model", sorted(set(priced()) - set(NOT_IN_THE_ORACLE)))
def test_every_price_is_that_of_the_oracle(model):
    assert disagreements(entry(model), ORACLE_DAY) == []


@pytest.mark.parametrize("model", sorted(set(priced()) - set(NOT_IN_THE_ORACLE)))
def test_the_history_of_every_price_is_that_of_the_oracle(model):
    found = entry(model)
    agrees_from = OTHER_BEFORE.get(model, ("", ""))[0]
    for price in found.prices:
        if price.since >= agrees_from:
            assert disagreements(found, price.since) == []
        else:
            assert disagreements(found, price.since), f"{model} agrees with the oracle by now: take it off the list"


def test_the_list_of_what_the_oracle_does_not_know_is_no_longer_than_it_has_to_be():
    for model in NOT_IN_THE_ORACLE:
        with pytest.raises(LookupError):
            oracle_nano_usd(model, "openai", USAGES[0], ORACLE_DAY)


def test_gpt_4o_has_the_price_of_its_day():
    prices = entry("gpt-4o").prices
    assert [(price.since, price.rates.input, price.rates.output) for price in prices] == [
        ("2024-05-13", 5 * 10**9, 15 * 10**9),
        ("2024-10-02", 25 * 10**8, 10 * 10**9),
    ]
    assert price_on(prices, "2024-06-01") == prices[0]
    assert entry("gpt-4o-2024-05-13").prices[-1].rates.output == 15 * 10**9


def test_a_long_context_costs_more_where_the_vendor_says_so():
    rates = entry("claude-sonnet-4-5").prices[0]
    assert rates.tiers == (Tier(200_000, Rates(6 * 10**9, 225 * 10**8, 6 * 10**8, 75 * 10**8, 12 * 10**9)),)


def test_open_weights_have_no_price():
    for found in catalog().entries:
        if "open weights" in found.profile.source:
            assert found.prices == (), found.id


# -- the rows --


def test_the_catalogue_is_read_within_the_time_that_a_start_has_for_it():
    began = perf_counter()
    for _ in range(3):
        read_catalog(TEXT)
    assert (perf_counter() - began) / 3 < 0.2, "17 ms are usual"


@pytest.mark.parametrize("found", catalog().entries, ids=lambda found: found.id)
def test_every_row_says_where_it_comes_from_and_holds_together(found):
    profile = found.profile
    assert profile.source
    assert "2026-01-01" <= profile.as_of <= TODAY
    assert profile.family in FAMILIES
    assert profile.tokenizer is None or profile.tokenizer in KNOWN
    for day in filter(None, (profile.released, profile.retires, *(price.since for price in found.prices))):
        assert date(2022, 1, 1) <= date.fromisoformat(day) <= date(2028, 1, 1)
    assert all(price.source for price in found.prices)
    if profile.context_tokens:
        assert max(profile.input_tokens or 0, profile.output_tokens or 0) <= profile.context_tokens
    assert not profile.released or not profile.released > TODAY


@pytest.mark.parametrize("found", catalog().entries, ids=lambda found: found.id)
def test_whoever_retires_has_a_successor_and_the_last_of_the_line_still_serves(found):
    if found.profile.retires is None:
        assert found.profile.successor is None
        return
    step = found
    while step.profile.retires is not None and step.profile.retires <= "2027-06-01":
        assert step.profile.successor is not None, step.id
        step = entry(step.profile.successor)
    assert step.id != found.id


def test_every_family_has_its_rules():
    named = {found.profile.family for found in catalog().entries}
    families = {
        found.id
        for found in (catalog().find(f"{cover}-x") for cover in ("gpt-9", "claude-9", "gemini-9", "qwen2"))
        if found
    }
    assert named | families <= set(FAMILIES)


# -- names --


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("gpt-5", "gpt-5"),
        ("gpt-5-mini", "gpt-5-mini"),
        ("gpt-4-turbo", "gpt-4-turbo"),
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("gpt-4o-mini", "gpt-4o-mini"),
        ("gpt-4", "gpt-4"),
        ("gpt-3.5-turbo", "gpt-3.5-turbo"),
        ("claude-opus-4-5", "claude-opus-4-5"),
        ("claude-sonnet-4-5", "claude-sonnet-4-5"),
        ("claude-4.5-sonnet", "claude-sonnet-4-5"),
        ("claude-3-5-sonnet", "claude-3-5-sonnet-20241022"),
        ("claude-3-opus", "claude-3-opus-20240229"),
        ("claude-3-sonnet", "claude-3-sonnet-20240229"),
        ("claude-3-haiku", "claude-3-haiku-20240307"),
        ("claude-3-5-haiku-20241022", "claude-3-5-haiku-20241022"),
        ("gemini-1.5-pro", "gemini-1.5-pro"),
        ("gemini-1.5-flash", "gemini-1.5-flash"),
        ("llama-3-8b", "llama-3-8b"),
        ("llama-3-70b", "llama-3-70b"),
        ("llama-3.1-8b", "llama-3.1-8b"),
        ("llama-3.1-70b", "llama-3.1-70b"),
        ("llama-3.1-405b", "llama-3.1-405b"),
        ("gemma-2-9b", "gemma-2-9b"),
        ("qwen2.5-7b", "qwen2.5-7b"),
        ("qwen2.5-72b", "qwen2.5-72b"),
        ("mistral-7b", "mistral-7b"),
        ("phi-3", "phi-3-mini-4k"),
        ("gpt-5.6", "gpt-5.6-sol"),
        ("gpt-6-luna", "gpt-6-luna"),
        ("claude-opus-5-5", "claude-opus-5-5"),
        ("gemini-3.8-flash", "gemini-3.8-flash"),
        ("GPT-4o ", "gpt-4o"),
    ],
)
def test_the_models_that_people_speak_of_are_found(name, found):
    assert entry(name).id == found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("meta-llama/Meta-Llama-3-70B-Instruct", "llama-3-70b"),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "qwen2.5-7b"),
        ("bartowski/Qwen2.5-7B-Instruct-GGUF", "qwen2.5-7b"),
        ("google/gemma-2-9b-it", "gemma-2-9b"),
        ("microsoft/Phi-3-mini-4k-instruct", "phi-3-mini-4k"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b-v0.3"),
        ("llama3.1:8b-instruct-q4_K_M", "llama-3.1-8b"),
        ("gemma2:9b", "gemma-2-9b"),
        ("anthropic.claude-3-haiku-20240307-v1:0", "claude-3-haiku-20240307"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
        ("meta.llama3-1-70b-instruct-v1:0", "llama-3.1-70b"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("openai/gpt-4o:extended", "gpt-4o"),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc", "gpt-4o-mini"),
    ],
)
def test_another_name_finds_the_facts_and_no_price(name, found):
    other = entry(name)
    assert (other.id.removesuffix(":extended"), other.prices) == (found, ())
    assert other.profile.family in FAMILIES


@pytest.mark.parametrize(
    ("name", "family", "tokenizer"),
    [
        ("gpt-4o-audio-preview", "gpt-4o", "o200k"),
        ("gpt-7-nova", "gpt", None),
        ("claude-opus-9", "claude-4.7", None),
        ("claude-opus-4-2", "claude", None),
        ("gemini-9-pro", "gemini-3", None),
        ("llama-3.1-nemotron-70b-instruct", "llama3", "llama3"),
        ("qwen2.5-math-72b", "qwen", "qwen2"),
        ("mistral-large-latest", "mistral", None),
    ],
)
def test_of_an_unknown_model_the_family_is_known(name, family, tokenizer):
    found = entry(name)
    assert (found.profile.family, found.profile.tokenizer, found.prices) == (family, tokenizer, ())
    assert found.profile.context_tokens is None


@pytest.mark.parametrize("name", ["", "whatever", "gpt", "x" * 10_000, "/", ":", "ft:", "ft:x", "\ud800"])
def test_what_is_no_model_is_not_found(name):
    assert catalog().find(name) is None


def test_a_dated_id_that_nobody_listed_is_its_model():
    assert entry("gpt-5.4-2026-12-24") is entry("gpt-5.4")
    assert entry("claude-opus-4-8-20260528") is entry("claude-opus-4-8")
    assert entry("gemini-2.5-pro-003") is entry("gemini-2.5-pro")


def test_a_vendor_narrows_the_search():
    assert catalog().find("gpt-4o", "openai") is entry("gpt-4o")
    assert catalog().find("gpt-4o", "anthropic") is None
    assert catalog().find("openai/gpt-4o", "anthropic") is None
    assert catalog().find("gpt-9", "anthropic") is None
    assert catalog().find("claude-9", "anthropic") is not None


@given(st.text(max_size=300))
def test_any_name_is_found_or_not(name):
    found = catalog().find(name)
    assert found is None or found.profile.family in FAMILIES


def test_the_nearest_names_are_the_likeliest_misspelt():
    names = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "Fast")
    assert nearest("gpt4o", names)[0] == "gpt-4o"
    assert nearest("claude-sonet-4-5", names, 1) == ("claude-sonnet-4-5",)
    assert nearest("fsat", names) == ("Fast",)
    assert nearest("zzzzzz", names) == ()
    assert nearest("gpt-4o" * 1_000, names) == ()


# -- mistakes --

FAMILY = '[[families]]\nname = "f"\nvendor = "v"\nsource = "s"\nas_of = 2026-01-01\n'
MODEL = '[[models]]\nid = "m"\nvendor = "v"\nfamily = "f"\nsource = "s"\nas_of = 2026-01-01\n'


def read(*rows: str) -> Catalog:
    return read_catalog("\n".join((FAMILY, *rows)).encode())


def price(text: str) -> str:
    return f"{MODEL}prices = [{{ {text} }}]\n"


def test_the_least_row_is_a_model():
    found = read(MODEL).find("m")
    assert found is not None
    assert (found.id, found.vendor, found.profile.name, found.profile.as_of) == ("m", "v", "m", "2026-01-01")


def test_money_is_read_exactly():
    found = read(price("since = 2026-01-01, input = 0.000000001, output = 1234.567890123")).find("m")
    assert found is not None
    assert found.prices == (Price("2026-01-01", Rates(1, 1_234_567_890_123)),)


@pytest.mark.parametrize(
    ("text", "row", "says"),
    [
        (MODEL + MODEL, "models.m", "two rows of this id"),
        (MODEL + MODEL.replace('"m"', '"n"') + 'aliases = ["M"]\n', "models.n", "also that of m"),
        (MODEL + "colour = 1\n", "models.m", "unknown field `colour`"),
        (MODEL + 'can = ["fly"]\n', "models.m", "Invalid enum value 'fly'"),
        (MODEL + "context = 0\n", "models.m", "context"),
        (MODEL + 'released = "soon"\n', "models.m", "released"),
        (MODEL + "released = 2026-02-30\n", "m", "Invalid date"),
        (MODEL + "released = 2026-13-01\n", "m", "after a statement"),
        (MODEL + "released = 2026-02-01\nretires = 2026-01-31\n", "models.m.retires", "not after"),
        (MODEL + 'successor = "gone"\n', "models.m.successor", "no model 'gone'"),
        (MODEL + 'successor = "m"\n', "models.m.successor", "back to this model"),
        (MODEL.replace('"f"', '"other"'), "models.m.family", "no family 'other'"),
        (MODEL.replace('id = "m"\n', ""), "models.0", "missing required field `id`"),
        (FAMILY, "families", "claim 'f'"),
        (MODEL + "x = [\n", "m", "Invalid value"),
        ("[other]\n", "other", "not known here"),
        ("models = 3\n", "", ""),
        (price("since = 2026-01-01, input = 0.0000000001, output = 1"), "models.m.prices[0].input", "whole number"),
        (price("since = 2026-01-01, input = 1, output = -1"), "models.m.prices[0].output", "no price"),
        (price("since = 2026-01-01, input = nan, output = 1"), "models.m.prices[0].input", "no price"),
        (price("since = 2026-01-01, input = 1e30, output = 1"), "models.m.prices[0].input", "no price"),
        (price("since = 2026-01-01, input = 1"), "models.m", "missing required field `output`"),
        (
            price(
                "since = 2026-01-01, input = 1, output = 1, tiers = [{ above = 5, input = 0.0000000001, output = 1 }]"
            ),
            "models.m.prices[0].tiers[0].input",
            "whole number",
        ),
        (
            price(
                "since = 2026-01-01, input = 1, output = 1, tiers = [{ above = 5, input = 1, output = 1 }, { above = 5, input = 1, output = 1 }]"
            ),
            "models.m.prices[0].tiers",
            "above the one before",
        ),
        (
            price("since = 2026-01-01, input = 1, output = 1 }, { since = 2026-01-01, input = 1, output = 1"),
            "models.m.prices",
            "later day",
        ),
    ],
)
def test_a_mistake_names_its_row(text, row, says):
    with pytest.raises(ConfigError) as caught:
        read_catalog(text.encode() if text == "models = 3\n" else f"{FAMILY}{text}".encode())
    mistakes = caught.value.mistakes
    assert any(row in mistake.key and says in mistake.message for mistake in mistakes), mistakes


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        read(MODEL + "colour = 1\n", MODEL.replace('"m"', '"n"') + "context = 0\n")
    assert [mistake.key for mistake in caught.value.mistakes] == ["models.m", "models.n"]


def test_a_circle_of_successors_is_a_mistake_of_each_of_them():
    with pytest.raises(ConfigError) as caught:
        read(MODEL + 'successor = "n"\n', MODEL.replace('"m"', '"n"') + 'successor = "m"\n')
    assert len(caught.value.mistakes) == 2


@given(st.binary(max_size=200))
def test_any_text_is_a_catalogue_or_a_list_of_mistakes(text):
    with suppress(ConfigError):
        assert read_catalog(text).entries == ()
