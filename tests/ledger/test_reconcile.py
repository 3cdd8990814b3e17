"""The ledger against an export: what agrees is within, what differs is told to the token and the nano-dollar."""

from fractions import Fraction

import pytest

from penstock.ledger.exports import Said
from penstock.ledger.reconcile import Side, Tolerance, compare, dollars, ledger_side, plain, total
from penstock.receipt import Attempt, Usage

DAY, NEXT = "2026-10-01", "2026-10-02"
EXACT = Tolerance()


def attempt(target="openai/gpt-4o", model="gpt-4o-2024-08-06", usage=None, cost=4000, status="exact"):
    usage = Usage(1000, 100, cached_input_tokens=400) if usage is None else usage
    return Attempt(target, usage=usage, cost_nano_usd=cost, cost_status=status, response_model=model)


def said(day=DAY, model="gpt-4o-2024-08-06", tokens=(1000, 400, 100), cost=Fraction(4, 10**6), requests=1):
    return Said(day, model, requests, *tokens, cost)


def sides(*tries, provider=None):
    return ledger_side(tries, provider)


def test_what_agrees_is_within_without_any_tolerance():
    (line,) = compare(sides((DAY, attempt())), [said()], EXACT)
    assert line.within
    assert line.difference == Side(0, 0, 0, 0, 0)
    assert line.ledger == Side(1, 1000, 400, 100, 4000)


@pytest.mark.parametrize(
    ("other", "more"),
    [
        (said(tokens=(999, 400, 100)), ("input_tokens", 1)),
        (said(tokens=(1000, 401, 100)), ("cached_input_tokens", -1)),
        (said(tokens=(1000, 400, 99)), ("output_tokens", 1)),
        (said(cost=Fraction(4001, 10**9)), ("cost_nano_usd", -1)),
    ],
)
def test_one_token_or_one_nano_dollar_is_told(other, more):
    (line,) = compare(sides((DAY, attempt())), [other], Tolerance() if more[0] != "cost_nano_usd" else EXACT)
    name, count = more
    if name == "cost_nano_usd":
        other = said(cost=Fraction(4001, 10**9))
        (line,) = compare(sides((DAY, attempt())), [other], EXACT)
    assert not line.within
    assert getattr(line.difference, name) == count


def test_requests_are_told_and_never_decide():
    (line,) = compare(sides((DAY, attempt())), [said(requests=3)], EXACT)
    assert (line.difference.requests, line.within) == (-2, True)


def test_only_figures_that_the_export_has_are_compared():
    (line,) = compare(sides((DAY, attempt())), [Said(DAY, "gpt-4o-2024-08-06", output_tokens=100)], EXACT)
    assert line.within
    assert (line.difference.input_tokens, line.difference.cost_nano_usd) == (None, None)


def test_a_tolerance_is_a_share_of_the_export_or_an_amount():
    ledger, export = sides((DAY, attempt(cost=4040))), [said()]
    assert not compare(ledger, export, Tolerance(99))[0].within
    assert compare(ledger, export, Tolerance(100))[0].within
    assert not compare(ledger, export, Tolerance(0, 39))[0].within
    assert compare(ledger, export, Tolerance(0, 40))[0].within


def test_money_within_an_amount_does_not_excuse_tokens():
    (line,) = compare(sides((DAY, attempt())), [said(tokens=(1001, 400, 100))], Tolerance(0, 10**9))
    assert not line.within


def test_what_only_one_of_them_has_is_a_difference():
    lines = compare(sides((DAY, attempt(model="a"))), [said(model="b")], EXACT)
    assert [(line.model, line.within) for line in lines] == [("a", False), ("b", False)]
    assert [line.difference.input_tokens for line in lines] == [1000, -1000]
    assert total(lines, EXACT).difference.input_tokens == 0


def test_days_outside_the_export_are_not_compared():
    lines = compare(sides((DAY, attempt()), (NEXT, attempt())), [said()], EXACT)
    assert [line.day for line in lines] == [DAY]
    both = compare(sides((DAY, attempt()), (NEXT, attempt())), [said(), said("2026-10-03")], EXACT)
    assert [(line.day, line.within) for line in both] == [(DAY, True), (NEXT, False), ("2026-10-03", False)]


def test_tries_at_other_providers_are_left_out():
    tries = ((DAY, attempt()), (DAY, attempt("box/gpt-4o")))
    assert sides(*tries, provider="openai")[DAY, "gpt-4o-2024-08-06"].requests == 1
    assert sides(*tries)[DAY, "gpt-4o-2024-08-06"].requests == 2


def test_without_a_model_in_the_answer_the_one_that_was_asked_for_stands():
    assert list(sides((DAY, attempt("azure/My-Deployment", "")))) == [(DAY, "my-deployment")]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06"),
        ("claude-haiku-4-5-20251001", "claude haiku 4.5"),
        ("claude-haiku-4-5", "claude-haiku-4-5-20251001"),
    ],
)
def test_another_name_of_the_same_model_is_recognised(ours, theirs):
    (line,) = compare(sides((DAY, attempt(model=ours))), [said(model=theirs)], EXACT)
    assert (line.model, line.within) == (theirs, True)


def test_two_names_that_are_alike_are_not_guessed_between():
    export = [said(model="gpt-4o-2024-08-06"), said(model="gpt-4o-2024-05-13")]
    lines = compare(sides((DAY, attempt(model="gpt-4o"))), export, EXACT)
    assert len(lines) == 3
    assert not any(line.within for line in lines)


def test_two_of_our_names_for_one_of_theirs_are_summed():
    tries = ((DAY, attempt(model="claude-haiku-4-5")), (DAY, attempt(model="claude-haiku-4-5-20251001")))
    (line,) = compare(
        sides(*tries), [said(model="claude haiku 4.5", tokens=(2000, 800, 200), cost=Fraction(8, 10**6))], EXACT
    )
    assert (line.within, line.ledger.requests) == (True, 2)


def test_an_export_that_names_no_model_is_compared_by_day():
    tries = ((DAY, attempt()), (DAY, attempt(model="other")))
    (line,) = compare(sides(*tries), [Said(DAY, "", cost=Fraction(8, 10**6))], EXACT)
    assert (line.model, line.within, line.ledger.cost_nano_usd) == ("", True, 8000)


def test_estimates_and_missing_prices_are_counted():
    died = Attempt("openai/gpt-4o", cost_nano_usd=9000, cost_status="estimated", response_model="m")
    unknown = Attempt("openai/gpt-4o", cost_nano_usd=None, cost_status="unpriced", response_model="m")
    side = sides((DAY, died), (DAY, unknown))[DAY, "m"]
    assert side == Side(2, 0, 0, 0, 9000, 1, 1)


def test_an_export_that_says_nothing_is_compared_with_nothing():
    assert compare(sides((DAY, attempt())), [], EXACT) == ()


def test_the_total_is_the_sum_of_the_lines():
    lines = compare(sides((DAY, attempt()), (NEXT, attempt())), [said(), said(NEXT, tokens=(1, 2, 3))], EXACT)
    whole = total(lines, EXACT)
    assert (whole.ledger.input_tokens, whole.export.input_tokens) == (2000, 1001)
    assert whole.difference.input_tokens == 999
    assert not whole.within
    assert total((), EXACT).within


def test_names_are_written_plainly():
    assert plain(" Claude Haiku 4.5 ") == "claude-haiku-4-5"
    assert plain("gpt-4o-2024-08-06") == "gpt-4o"
    assert dollars(None) is None
    assert dollars(1_500_000) == "0.0015"
