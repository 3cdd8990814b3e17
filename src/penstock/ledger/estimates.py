"""What models would cost: a month foreseen from averages, the break-even with a GPU of one's own, and history repriced.

Pure arithmetic. Everything is an exact integer (shares and growth are basis points) until the one rounding of each
amount, half up, to nano-dollars. Never asks what a price is: it is given a `Target`.
"""

from collections.abc import Iterable

from msgspec import Struct

from penstock.receipt import CostStatus, Usage
from penstock.target import BASIS_POINTS, TOKENS_PER_RATE, Rates, Target, cost, price_on, rates_for, service_of

SECONDS_PER_DAY = 86_400
HOURS_PER_DAY = 24
BATCH = "batch"


class Load(Struct, frozen=True):
    """What is asked of a model, on average. Shares are basis points: 2,500 is a quarter.

    cached_bp       of the input tokens: read from the provider's cache
    batch_bp        of the requests: sent as batches, where the model has a price for them
    growth_bp       how many more requests each month has than the one before
    """

    requests_per_day: int
    input_tokens: int
    output_tokens: int
    cached_bp: int = 0
    batch_bp: int = 0
    growth_bp: int = 0
    days: int = 30
    months: int = 1

    @property
    def requests(self) -> int:
        """Requests of the first month."""
        return self.requests_per_day * self.days


class Bill(Struct, frozen=True):
    """What a load costs on one model; amounts are nano-dollars, None where no price is known.

    input, cached_input and output   parts of the first month; each is rounded by itself
    months                           each month, with its growth; the first is `month`
    request_exact                    what a request costs, not rounded: a fraction
    ratio_percent                    the price of an output token in percent of an input token's; None if input is free
    batch                            whether batches have a price of their own
    """

    target: str
    status: CostStatus
    month: int | None = None
    request: int | None = None
    request_exact: tuple[int, int] = (0, 1)
    input: int | None = None
    cached_input: int | None = None
    output: int | None = None
    months: tuple[int, ...] = ()
    total: int | None = None
    input_rate: int | None = None
    output_rate: int | None = None
    ratio_percent: int | None = None
    price_since: str = ""
    batch: bool = False


def half_up(numerator: int, denominator: int) -> int:
    """Divide and round to the nearest integer, halves up."""
    return (2 * numerator + denominator) // (2 * denominator)


def bill(load: Load, target: Target, day: str) -> Bill:
    """Say what a load costs on a model at the prices of a day."""
    price = price_on(target.prices, day)
    if target.free:
        zeros = (0,) * load.months
        return Bill(target.id, "free", month=0, request=0, input=0, cached_input=0, output=0, months=zeros, total=0)
    if price is None:
        return Bill(target.id, "unpriced")
    rates = rates_for(price, load.input_tokens)
    batch = service_of(price, BATCH)
    shares = [(rates, BASIS_POINTS - load.batch_bp if batch else BASIS_POINTS)]
    if batch is not None:
        shares.append((rates_for(batch, load.input_tokens), load.batch_bp))
    parts = [0, 0, 0]  # of one request: tokens times rates times two shares
    for held, share in shares:
        for at, part in enumerate(_parts(load, held)):
            parts[at] += part * share
    one = sum(parts) * (BASIS_POINTS - price.discount_bp)
    whole = TOKENS_PER_RATE * BASIS_POINTS**3  # rates; the cached share, the share of batches, the discount
    months = tuple(_month(load, number, one, whole) for number in range(load.months))
    amounts = [half_up(part * (BASIS_POINTS - price.discount_bp) * load.requests, whole) for part in parts]
    return Bill(
        target.id,
        "estimated",
        month=months[0],
        request=half_up(one, whole),
        request_exact=(one, whole),
        input=amounts[0],
        cached_input=amounts[1],
        output=amounts[2],
        months=months,
        total=sum(months),
        input_rate=rates.input,
        output_rate=rates.output,
        ratio_percent=half_up(rates.output * 100, rates.input) if rates.input else None,
        price_since=price.since,
        batch=batch is not None,
    )


def _parts(load: Load, rates: Rates) -> tuple[int, int, int]:
    """Give plain input, cached input and output of one request, times rates, times basis points."""
    cached = rates.input if rates.cached_input is None else rates.cached_input
    return (
        load.input_tokens * (BASIS_POINTS - load.cached_bp) * rates.input,
        load.input_tokens * load.cached_bp * cached,
        load.output_tokens * BASIS_POINTS * rates.output,
    )


def _month(load: Load, number: int, one: int, whole: int) -> int:
    grown = (BASIS_POINTS + load.growth_bp) ** number
    return half_up(one * load.requests * grown, whole * BASIS_POINTS**number)


# -- a GPU of one's own --


class Gpu(Struct, frozen=True):
    """A server of one's own: what it costs, and what it does when it works.

    use_bp          how much of the time it is kept busy, at most: load has nights and peaks
    input_tokens_per_s  how fast it reads; None: reading takes no time worth counting
    """

    nano_usd_per_hour: int
    output_tokens_per_s: int
    input_tokens_per_s: int | None = None
    use_bp: int = BASIS_POINTS


class SelfHosted(Struct, frozen=True):
    """What the load needs of such servers. `month` and `request` are nano-dollars of the first month.

    capacity_per_day  requests that one server can do
    """

    servers: int
    capacity_per_day: int
    month: int
    request: int | None


def self_hosted(load: Load, gpu: Gpu) -> SelfHosted:
    """Say how many servers a load needs and what they cost; they are paid for day and night."""
    capacity = capacity_per_day(load, gpu)
    servers = max(1, -(-load.requests_per_day // capacity)) if capacity else 0
    month = server_month(load, gpu) * servers
    return SelfHosted(servers, capacity, month, half_up(month, load.requests) if load.requests and capacity else None)


def server_month(load: Load, gpu: Gpu) -> int:
    """Give what one server costs in a month, nano-dollars."""
    return gpu.nano_usd_per_hour * HOURS_PER_DAY * load.days


def capacity_per_day(load: Load, gpu: Gpu) -> int:
    """Give how many requests of this size one server can do in a day, whole ones; each token takes its turn."""
    into = gpu.input_tokens_per_s
    # seconds of a request = output / out_rate + input / in_rate, as a fraction
    seconds, per = load.output_tokens, gpu.output_tokens_per_s
    if into is not None:
        seconds, per = seconds * into + load.input_tokens * per, per * into
    return SECONDS_PER_DAY * gpu.use_bp * per // (max(seconds, 1) * BASIS_POINTS)


def break_even(load: Load, hosted: Bill, gpu: Gpu) -> int | None:
    """Give the least requests a day at which one server costs no more than the model does.

    None where that never happens: a full server still costs more for each request, or the model costs nothing.
    """
    one, whole = hosted.request_exact
    if not one:
        return None
    per_day = -(-server_month(load, gpu) * whole // (one * load.days))
    return per_day if per_day <= capacity_per_day(load, gpu) else None


# -- history --


class Used(Struct, frozen=True, gc=False):
    """A try as it was: the day (UTC) of its call, what it used, what it cost and in which tier of service it was served."""

    day: str
    usage: Usage
    nano_usd: int | None
    service_tier: str | None = None


class Repriced(Struct, frozen=True):
    """What the same tries would have cost elsewhere; None where a price is missing.

    `by_default` counts the tries whose tier of service has no price there, so that they are priced as by default.
    """

    target: str
    status: CostStatus
    nano_usd: int | None
    by_default: int = 0


def reprice(tries: Iterable[Used], targets: tuple[Target, ...], day: str | None = None) -> tuple[Repriced, ...]:
    """Price tries again, each by its own usage, at every target: at the prices of its day, or of the one given.

    What was served in a tier (batch, flex, priority) is priced in that tier where the target has a price for it. Tokens are taken as they were counted; another model's vocabulary would count the same text differently.
    """
    sums, by_default = [0] * len(targets), [0] * len(targets)
    unpriced: set[int] = set()
    for one in tries:
        when = day or one.day
        for at, target in enumerate(targets):
            found = cost(one.usage, target, when, one.service_tier)
            if found.nano_usd is None:
                unpriced.add(at)
            else:
                sums[at] += found.nano_usd
                by_default[at] += one.service_tier is not None and not _has_tier(target, when, one.service_tier)
    return tuple(
        Repriced(target.id, "unpriced", None)
        if at in unpriced
        else Repriced(target.id, "free" if target.free else "estimated", sums[at], by_default[at])
        for at, target in enumerate(targets)
    )


def _has_tier(target: Target, day: str, service_tier: str) -> bool:
    price = price_on(target.prices, day)
    return target.free or price is None or service_of(price, service_tier) is not None
