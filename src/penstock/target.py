"""Where a call can go, what that place can do, and what it costs.

Money is integer nano-dollars (1e-9 USD). A rate is nano-dollars per million tokens, so that $0.0375 per million is the
integer 37,500,000 and no price needs a fraction. A cost is summed in exact integers and rounded once, half up, to whole
nano-dollars; a ceiling is rounded up. A discount is whole basis points (1/100 %) of the sum, taken before the rounding.
"""

from msgspec import Struct

from penstock.receipt import CostStatus, Usage

NANO_PER_USD = 1_000_000_000
TOKENS_PER_RATE = 1_000_000
BASIS_POINTS = 10_000
"""One whole."""

STANDARD_SERVICE = frozenset({"", "auto", "default", "standard", "on_demand"})
"""What providers call the service that a list price is for: no tier of service at all."""


class Rates(Struct, frozen=True, gc=False):
    """Nano-dollars per million tokens. None means: as `input` (or `output`)."""

    input: int
    output: int
    cached_input: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None


class Tier(Struct, frozen=True, gc=False):
    """Other rates for a call whose whole input exceeds `above_input_tokens` (Gemini's and Claude's long contexts)."""

    above_input_tokens: int
    rates: Rates


class ServiceTier(Struct, frozen=True):
    """What calls cost that were served otherwise than by default: `batch`, `flex` or `priority`, as the reply says."""

    name: str
    rates: Rates
    tiers: tuple[Tier, ...] = ()
    image_input: int | None = None
    image_output: int | None = None


class Price(Struct, frozen=True):
    """Rates with the day from which they hold (ISO date, UTC) and the source that says so.

    `image_input` and `image_output` are the rates of tokens of pictures, whatever tier the input falls into.
    `discount_bp` are basis points off everything that this price says; a negative discount is a surcharge.
    """

    since: str
    rates: Rates
    tiers: tuple[Tier, ...] = ()
    source: str = ""
    services: tuple[ServiceTier, ...] = ()
    discount_bp: int = 0
    image_input: int | None = None
    image_output: int | None = None


class Profile(Struct, frozen=True):
    """Dated facts about a model. None means: not known, so nothing is decided by it.

    `context_tokens` is the window of input and output together unless `input_tokens` says how much may be input;
    `capabilities` are of: vision, audio, files, tools, parallel_tools, json, json_schema, reasoning, logprobs, seed,
    prompt_cache, streaming. `tokenizer` names a vocabulary of `tokens/vocabularies.py`. Dates are ISO.
    """

    name: str = ""
    family: str = ""
    tokenizer: str | None = None
    context_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    capabilities: frozenset[str] = frozenset()
    released: str | None = None
    retires: str | None = None
    successor: str | None = None
    source: str = ""
    as_of: str = ""


class Target(Struct, frozen=True):
    """One model at one provider. `id` is `provider/model`, as users write it; `prices` are sorted by `since`.

    `strict`: what it cannot express is refused, rather than left out.
    """

    id: str
    provider: str
    model: str
    dialect: str
    profile: Profile = Profile()
    prices: tuple[Price, ...] = ()
    free: bool = False
    strict: bool = False


class Cost(Struct, frozen=True, gc=False):
    """What a try or a call cost. `nano_usd` is None exactly when the status is `unpriced`."""

    nano_usd: int | None
    status: CostStatus
    price_version: str = ""


FREE = Cost(0, "free")
UNPRICED = Cost(None, "unpriced")


def price_on(prices: tuple[Price, ...], day: str) -> Price | None:
    """Give the price that holds on an ISO day; before the first known one holds the first."""
    found = None
    for price in prices:
        if found is None or price.since <= day:
            found = price
    return found


def rates_for(price: Price | ServiceTier, input_tokens: int) -> Rates:
    """Give the rates of the tier that an input of this many tokens falls into."""
    rates, above = price.rates, -1
    for tier in price.tiers:
        if above < tier.above_input_tokens < input_tokens:
            rates, above = tier.rates, tier.above_input_tokens
    return rates


def service_of(price: Price, service_tier: str | None) -> Price | ServiceTier | None:
    """Find what holds for calls that were served so: the price itself by default; None where nobody gave a price."""
    if service_tier is None or service_tier in STANDARD_SERVICE:
        return price
    for service in price.services:
        if service.name == service_tier:
            return service
    return None


def cost(usage: Usage, target: Target, day: str, service_tier: str | None = None) -> Cost:
    """Price a usage. Cached, written, audio and image tokens are subsets of input; reasoning, audio and image of output.

    `service_tier` is what the reply says; one without a price costs as by default, and is estimated.
    """
    if target.free:
        return FREE
    prices = target.prices
    price = prices[0] if len(prices) == 1 else price_on(prices, day)
    if price is None:
        return UNPRICED
    exact = usage.source == "provider"
    held: Price | ServiceTier = price
    if service_tier is not None:
        found = service_of(price, service_tier)
        held, exact = (price, False) if found is None else (found, exact)
    into = usage.input_tokens
    r = rates_for(held, into) if held.tiers else held.rates
    total = into * r.input + usage.output_tokens * r.output
    if (  # else all tokens are plain
        usage.cached_input_tokens
        or usage.reasoning_tokens
        or usage.cache_write_tokens
        or usage.cache_write_1h_tokens
        or usage.audio_input_tokens
        or usage.audio_output_tokens
        or usage.image_input_tokens
        or usage.image_output_tokens
    ):
        total += _differences(usage, held, r)
        if total < 0:  # tokens that are of two kinds at once, such as cached pictures, for which there is no rate
            total, exact = 0, False
    off = price.discount_bp
    nano = discounted(total, off) if off else (total + TOKENS_PER_RATE // 2) // TOKENS_PER_RATE
    return Cost(nano, "exact" if exact else "estimated", price.since)


Plain = tuple[int, int, int, int, int, int, int]
"""What the tokens of nearly every call cost, of which only input, cached input, output and reasoning are counted.

The rates of input and output; what a cached token costs more than one of the input, and one of reasoning more than one of
the output; up to how many input tokens all of that holds; what is added to the sum, and by what it is divided then.
"""
_ALL_TOKENS = 1 << 62


def plain(target: Target, day: str, service_tier: str | None) -> Plain | None:
    """Give what `cost` goes by for such calls; None where there is no price.

    It holds where the sum is not below 0. Where a discount takes everything that cannot be seen, so there it never holds.
    """
    if target.free:
        return (0, 0, 0, 0, _ALL_TOKENS, 0, 1)
    price = price_on(target.prices, day)
    if price is None:
        return None
    held = service_of(price, service_tier) or price
    r, rest = held.rates, BASIS_POINTS - price.discount_bp
    most = min([tier.above_input_tokens for tier in held.tiers if tier.above_input_tokens >= 0], default=_ALL_TOKENS)
    cached = 0 if r.cached_input is None else r.cached_input - r.input
    reasoning = 0 if r.reasoning is None else r.reasoning - r.output
    whole = TOKENS_PER_RATE * BASIS_POINTS
    if rest == BASIS_POINTS:
        rest, whole = 1, TOKENS_PER_RATE
    rates = (r.input * rest, r.output * rest, cached * rest, reasoning * rest)
    return (*rates, most if rest > 0 else -1, whole // 2, whole)


def discounted(total: int, discount_bp: int) -> int:
    """Turn a sum of tokens times rates into whole nano-dollars: the discount off, then rounded once, half up."""
    whole = TOKENS_PER_RATE * BASIS_POINTS
    return (total * (BASIS_POINTS - discount_bp) + whole // 2) // whole


def _differences(usage: Usage, held: Price | ServiceTier, r: Rates) -> int:
    """Sum up what the parts of input and output cost more or less than plain tokens.

    A rate that is not given is that of plain tokens; an hour's cache write without one costs what a short one does.
    """
    more = 0
    if usage.cached_input_tokens and r.cached_input is not None:
        more += usage.cached_input_tokens * (r.cached_input - r.input)
    if usage.cache_write_tokens and r.cache_write is not None:
        more += usage.cache_write_tokens * (r.cache_write - r.input)
    hour = r.cache_write if r.cache_write_1h is None else r.cache_write_1h
    if usage.cache_write_1h_tokens and hour is not None:
        more += usage.cache_write_1h_tokens * (hour - r.input)
    if usage.audio_input_tokens and r.audio_input is not None:
        more += usage.audio_input_tokens * (r.audio_input - r.input)
    if usage.reasoning_tokens and r.reasoning is not None:
        more += usage.reasoning_tokens * (r.reasoning - r.output)
    if usage.audio_output_tokens and r.audio_output is not None:
        more += usage.audio_output_tokens * (r.audio_output - r.output)
    if usage.image_input_tokens and held.image_input is not None:
        more += usage.image_input_tokens * (held.image_input - r.input)
    if usage.image_output_tokens and held.image_output is not None:
        more += usage.image_output_tokens * (held.image_output - r.output)
    return more


Ceiling = tuple[int, int]
"""The dearest rates that an input and an output token can have, nano-dollars per million."""


def ceilings(targets: tuple[Target, ...], day: str) -> tuple[Ceiling, ...] | None:
    """Give the dearest rates that the tiers of these targets have on a day; None if one of the targets has no price.

    They are independent of a call, so that they are worked out once a day. A provider may serve a call better than was
    asked for, so every tier of service counts; a discount is taken off.
    """
    found: list[Ceiling] = []
    for target in targets:
        if target.free:
            continue
        price = price_on(target.prices, day)
        if price is None:
            return None
        rest = BASIS_POINTS - price.discount_bp
        found += [(-(-into * rest // BASIS_POINTS), -(-out * rest // BASIS_POINTS)) for into, out in _dearest(price)]
    kept: list[Ceiling] = []
    for one in sorted(set(found), reverse=True):
        if not kept or one[1] > kept[-1][1]:  # else there is one that is at least as dear both ways
            kept.append(one)
    return tuple(kept[::-1])


def _dearest(price: Price) -> list[Ceiling]:
    """Give the dearest rates of each tier, of each tier of service."""
    found: list[Ceiling] = []
    held: tuple[Price | ServiceTier, ...] = (price, *price.services)
    for one in held:
        for r in (one.rates, *(tier.rates for tier in one.tiers)):
            into = (r.input, r.cached_input, r.cache_write, r.cache_write_1h, r.audio_input, one.image_input)
            out = (r.output, r.reasoning, r.audio_output, one.image_output)
            found.append((max(rate or 0 for rate in into), max(rate or 0 for rate in out)))
    return found


def most(input_tokens: int, output_tokens: int, of: tuple[Ceiling, ...]) -> int:
    """Give the most that a call of at most so many tokens can cost, in nano-dollars rounded up."""
    if len(of) == 1:  # as nearly always
        ((into, out),) = of
        return -(-(input_tokens * into + output_tokens * out) // TOKENS_PER_RATE)
    dearest = 0
    for into, out in of:
        total = input_tokens * into + output_tokens * out
        if total > dearest:  # noqa: PLR1730 - quicker than max(), and this is done for every call
            dearest = total
    return -(-dearest // TOKENS_PER_RATE)


def usd(nano_usd: int) -> str:
    """Write nano-dollars as an exact decimal string of dollars, without trailing zeros: 1500000 -> "0.0015"."""
    if 0 < nano_usd < NANO_PER_USD:  # as nearly every call costs
        return "0." + str(NANO_PER_USD + nano_usd)[1:].rstrip("0")
    sign, nano = ("-", -nano_usd) if nano_usd < 0 else ("", nano_usd)
    whole, rest = divmod(nano, NANO_PER_USD)
    return f"{sign}{whole}" + (f".{rest:09d}".rstrip("0") if rest else "")
