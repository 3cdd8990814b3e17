"""`penstock estimate`: what a load would cost a month on several models, and when a GPU of one's own would be cheaper."""

from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Annotated

import typer
from msgspec import Struct

from penstock.cli.command import NO, command
from penstock.cli.ledger import open_store, read_span
from penstock.cli.models import day, look_up
from penstock.cli.options import Config, Feature, Json, Team, Until
from penstock.cli.screen import money, note, print_json, print_table, say
from penstock.config import load
from penstock.errors import InvalidRequest
from penstock.ledger import estimates, history
from penstock.ledger.estimates import Bill, Gpu, Load, Repriced, SelfHosted
from penstock.ledger.periods import iso
from penstock.ledger.store import Filter
from penstock.settings import Config as Configuration
from penstock.target import NANO_PER_USD, Target, usd

NUMBERS = ("$/M in", "$/M out", "out/in", "a request", "a month", "all months", "breaks even at")
REPRICED = ("cost", "difference")
MOST = 10**12
_DIGITS = 32
_OTHER_VOCABULARY = (
    "Tokens are as the models of then counted them; another vocabulary counts the same text differently."
)


class Options(Struct, frozen=True):
    """The load; amounts and shares are text, so that they stay exact."""

    requests: Annotated[int | None, typer.Option(min=1, max=MOST, help="Requests a day.", show_default=False)] = None
    input_tokens: Annotated[int, typer.Option("--input", min=0, max=MOST, help="Input tokens of a request.")] = 1000
    output_tokens: Annotated[int, typer.Option("--output", min=0, max=MOST, help="Output tokens of a request.")] = 300
    cached: Annotated[str, typer.Option(help="Percent of the input that the provider has in its cache.")] = "0"
    batch: Annotated[str, typer.Option(help="Percent of the requests that are sent as batches.")] = "0"
    growth: Annotated[str, typer.Option(help="Percent more requests each month.")] = "0"
    months: Annotated[int, typer.Option(min=1, max=120, help="Months to look ahead.")] = 1
    days: Annotated[int, typer.Option(min=1, max=31, help="Days of a month.")] = 30


class Own(Struct, frozen=True):
    """A server of one's own, to compare with."""

    gpu_usd_per_hour: Annotated[
        str | None, typer.Option(help="What a GPU server of your own costs an hour.", show_default=False)
    ] = None
    gpu_tokens_per_s: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="Output tokens a second that it makes.", show_default=False)
    ] = None
    gpu_input_tokens_per_s: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST, help="Input tokens a second that it reads; else reading is free.", show_default=False
        ),
    ] = None
    gpu_use: Annotated[str, typer.Option(help="Percent of the time that it can be kept busy.")] = "100"


class Past(Struct, frozen=True):
    """What was, instead of what is assumed."""

    from_history: Annotated[bool, typer.Option("--from-history", help="Price the tries of the ledger instead.")] = False
    since: Annotated[str, typer.Option("--since", help="With --from-history: today, 30d, 2026-11-01 ...")] = "30d"
    until: Until = None
    feature: Feature = None
    team: Team = None
    todays_prices: Annotated[
        bool, typer.Option("--todays-prices", help="At today's prices, not at those of each call's day.")
    ] = False


@command
def estimate(
    models: Annotated[
        list[str] | None, typer.Argument(help="Models to compare; the configured ones if left out.")
    ] = None,
    options: Options = Options(),  # noqa: B008 - frozen
    own: Own = Own(),  # noqa: B008 - frozen
    past: Past = Past(),  # noqa: B008 - frozen
    config: Config = None,
    json: Json = False,
) -> None:
    """Say what a load would cost a month on several models.

    The load is averages (--requests, --input, --output), or what the ledger has (--from-history). With a GPU's price and
    speed it also says at how many requests a day a server of your own costs no more. Exit code 1 says that a price is
    missing.
    """
    configuration = load(config)
    targets = _targets(configuration, models)
    if past.from_history:
        _history(configuration, targets, past, json=json)
    elif options.requests is None:
        raise InvalidRequest("How many requests a day?", hint="Give --requests, or --from-history.")
    else:
        _forecast(targets, _load(options), _gpu(own), json=json)


def _targets(configuration: Configuration, names: list[str] | None) -> tuple[tuple[str, Target], ...]:
    asked = names or [model.name for model in configuration.models]
    return tuple((name, look_up(configuration, name)) for name in dict.fromkeys(asked))


def _load(options: Options) -> Load:
    return Load(
        options.requests or 0,
        options.input_tokens,
        options.output_tokens,
        percent(options.cached, "--cached"),
        percent(options.batch, "--batch"),
        percent(options.growth, "--growth", least=-100, most=1000),
        options.days,
        options.months,
    )


def _gpu(own: Own) -> Gpu | None:
    if own.gpu_usd_per_hour is None and own.gpu_tokens_per_s is None:
        return None
    if own.gpu_usd_per_hour is None or own.gpu_tokens_per_s is None:
        raise InvalidRequest("A GPU needs a price and a speed.", hint="Give --gpu-usd-per-hour and --gpu-tokens-per-s.")
    cost = dollars(own.gpu_usd_per_hour, "--gpu-usd-per-hour")
    return Gpu(cost, own.gpu_tokens_per_s, own.gpu_input_tokens_per_s, percent(own.gpu_use, "--gpu-use"))


def percent(text: str, option: str, *, least: int = 0, most: int = 100) -> int:
    """Read percent as basis points. Raises InvalidRequest for what is no number, out of range or finer than that."""
    points = _exact(text.strip().removesuffix("%"), option, least, most) * 100
    if points.denominator != 1:
        raise InvalidRequest(f"{option} {text[:32]!r} is finer than a hundredth of a percent.", hint="Round it.")
    return points.numerator


def dollars(text: str, option: str) -> int:
    """Read dollars as nano-dollars. Raises InvalidRequest for what is no amount, or finer than that."""
    nano = _exact(text.strip().removeprefix("$"), option, 0, 10**9) * NANO_PER_USD
    if nano.denominator != 1:
        raise InvalidRequest(f"{option} {text[:32]!r} is finer than a billionth of a dollar.", hint="Round it.")
    return nano.numerator


def _exact(text: str, option: str, least: int, most: int) -> Fraction:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or not least <= value <= most or value.adjusted() < -_DIGITS or len(text) > _DIGITS:
        raise InvalidRequest(f"{option} {text[:32]!r} is no number from {least} to {most}.", hint="Write 12.5, say.")
    return Fraction(value)


# -- a load --


def _forecast(targets: tuple[tuple[str, Target], ...], asked: Load, gpu: Gpu | None, *, json: bool) -> None:
    today = day()
    bills = [(name, estimates.bill(asked, target, today)) for name, target in targets]
    hosted = None if gpu is None else estimates.self_hosted(asked, gpu)
    equal = {name: None if gpu is None else estimates.break_even(asked, bill, gpu) for name, bill in bills}
    if json:
        print_json(_shape(asked, bills, hosted, equal))
    else:
        rows = [_row(name, bill, equal[name], gpu) for name, bill in bills]
        if hosted is not None:
            each = None if hosted.request is None else money(usd(hosted.request))
            rows.append((f"own GPU x {hosted.servers}", None, None, None, each, money(usd(hosted.month)), None, None))
        print_table(("model", *NUMBERS), rows, NUMBERS)
        _remarks(asked, bills, hosted)
    if any(bill.status == "unpriced" for _, bill in bills):
        raise typer.Exit(NO)


def _remarks(asked: Load, bills: list[tuple[str, Bill]], hosted: SelfHosted | None) -> None:
    say(f"{asked.requests} requests a month, {asked.input_tokens} tokens in and {asked.output_tokens} out each")
    if hosted is not None:
        say(f"one server of your own can do {hosted.capacity_per_day} such requests a day")
    for name, bill in bills:
        if asked.batch_bp and bill.price_since and not bill.batch:
            note(f"{name}: no price of batches is known; they are priced as ordinary requests")
        if bill.status == "unpriced":
            note(f'{name}: no price is known; give one: [prices."{bill.target}"]')


def _row(name: str, bill: Bill, equal: int | None, gpu: Gpu | None) -> tuple[object, ...]:
    breaks = "never" if gpu is not None and equal is None and bill.month else None
    return (
        *(name, _plain(bill.input_rate), _plain(bill.output_rate), _ratio(bill)),
        *(money(_plain(bill.request)), money(_plain(bill.month)), money(_plain(bill.total))),
        breaks if equal is None else f"{equal}/day",
    )


def _ratio(bill: Bill) -> str | None:
    return None if bill.ratio_percent is None else f"{bill.ratio_percent // 100}.{bill.ratio_percent % 100:02d}"


def _plain(nano: int | None) -> str | None:
    return None if nano is None else usd(nano)


def _shape(
    asked: Load, bills: list[tuple[str, Bill]], hosted: SelfHosted | None, equal: dict[str, int | None]
) -> dict[str, object]:
    return {
        "requests_per_day": asked.requests_per_day,
        "input_tokens": asked.input_tokens,
        "output_tokens": asked.output_tokens,
        "cached_percent": basis(asked.cached_bp),
        "batch_percent": basis(asked.batch_bp),
        "growth_percent": basis(asked.growth_bp),
        "days": asked.days,
        "months": asked.months,
        "models": [_model(name, bill, equal[name]) for name, bill in bills],
        "self_hosted": None
        if hosted is None
        else {
            "servers": hosted.servers,
            "capacity_requests_per_day": hosted.capacity_per_day,
            "request_usd": _plain(hosted.request),
            "month_usd": usd(hosted.month),
        },
    }


def _model(name: str, bill: Bill, equal: int | None) -> dict[str, object]:
    return {
        "model": name,
        "target": bill.target,
        "cost_status": bill.status,
        "price_since": bill.price_since or None,
        "input_usd_per_mtok": _plain(bill.input_rate),
        "output_usd_per_mtok": _plain(bill.output_rate),
        "output_input_ratio": _ratio(bill),
        "request_usd": _plain(bill.request),
        "month_usd": _plain(bill.month),
        "month_input_usd": _plain(bill.input),
        "month_cached_input_usd": _plain(bill.cached_input),
        "month_output_usd": _plain(bill.output),
        "months_usd": [usd(month) for month in bill.months],
        "total_usd": _plain(bill.total),
        "batch_priced": bill.batch,
        "break_even_requests_per_day": equal,
    }


def basis(points: int) -> str:
    """Write basis points as percent: 1250 -> "12.5"."""
    return usd(points * (NANO_PER_USD // 100))


# -- history --


def _history(configuration: Configuration, targets: tuple[tuple[str, Target], ...], past: Past, *, json: bool) -> None:
    span = read_span(past.since, past.until)
    with open_store(configuration) as store:
        tries = list(history.used(store, Filter(span, team=past.team, feature=past.feature)))
    found = estimates.reprice(tries, tuple(target for _, target in targets), day() if past.todays_prices else None)
    names = [name for name, _ in targets]
    actual = None if any(one.nano_usd is None for one in tries) else sum(one.nano_usd or 0 for one in tries)
    usages = [one.usage for one in tries]
    tokens = {
        "input_tokens": sum(usage.input_tokens for usage in usages),
        "cached_input_tokens": sum(usage.cached_input_tokens for usage in usages),
        "output_tokens": sum(usage.output_tokens for usage in usages),
    }
    if json:
        span_text = {"since": iso(span.since_ns), "until": iso(span.until_ns)}
        models = [_repriced(name, one, actual) for name, one in zip(names, found, strict=True)]
        print_json({**span_text, "tries": len(tries), **tokens, "cost_usd": _plain(actual), "models": models})
    else:
        rows: list[tuple[object, ...]] = [("as it was", money(_plain(actual)), None)]
        rows += [
            (name, money(_plain(one.nano_usd)), _less(one, actual)) for name, one in zip(names, found, strict=True)
        ]
        print_table(("model", *REPRICED), rows, REPRICED)
        say(f"{len(tries)} tries, {tokens['input_tokens']} tokens in and {tokens['output_tokens']} out")
        note(_OTHER_VOCABULARY)
        for name, one in zip(names, found, strict=True):
            if one.by_default:
                note(
                    f"{name}: {one.by_default} tries were served in a tier that has no price here; they count as by default"
                )
    if any(one.nano_usd is None for one in found):
        raise typer.Exit(NO)


def _less(one: Repriced, actual: int | None) -> str | None:
    if actual is None or one.nano_usd is None:
        return None
    change = one.nano_usd - actual
    return f"{'+' if change > 0 else ''}{usd(change)}"


def _repriced(name: str, one: Repriced, actual: int | None) -> dict[str, object]:
    known = actual is not None and one.nano_usd is not None
    return {
        "model": name,
        "target": one.target,
        "cost_usd": _plain(one.nano_usd),
        "cost_status": one.status,
        "tries_priced_by_default": one.by_default,
        "difference_usd": usd((one.nano_usd or 0) - (actual or 0)) if known else None,
    }
