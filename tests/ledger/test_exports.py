"""Exports: each shape is known by itself, figures are exact, and what cannot be read is told with its place."""

from contextlib import suppress
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import InvalidRequest
from penstock.ledger.exports import Said, read_export, summed

DAY_S = 1_790_812_800  # 2026-10-01


def read(text, name="export"):
    return read_export(text if isinstance(text, bytes) else text.encode(), name)


def page(*buckets, **more):
    return msgspec.json.encode({"object": "page", "data": buckets, "has_more": False, **more})


def usage_bucket(day, *results):
    start = DAY_S + day * 86_400
    return {"object": "bucket", "start_time": start, "end_time": start + 86_400, "results": results}


# -- usage and costs in buckets of seconds, as OpenAI's administration API gives them --


def test_a_page_of_usage():
    one = {
        "object": "organization.usage.completions.result",
        "input_tokens": 1000,
        "output_tokens": 500,
        "input_cached_tokens": 800,
        "input_uncached_tokens": 200,
        "num_model_requests": 5,
        "project_id": None,
        "model": "gpt-4o-2024-08-06",
        "batch": False,
    }
    two = {**one, "batch": True, "input_tokens": 10, "input_cached_tokens": 0, "num_model_requests": 1}
    assert read(page(usage_bucket(0, one, two), usage_bucket(1), usage_bucket(2, one))) == (
        Said("2026-10-01", "gpt-4o-2024-08-06", 6, 1010, 800, 1000),
        Said("2026-10-03", "gpt-4o-2024-08-06", 5, 1000, 800, 500),
    )


def test_usage_that_is_not_grouped_by_model():
    one = {"input_tokens": 7, "output_tokens": 5, "num_model_requests": 1, "model": None}
    assert read(page(usage_bucket(0, one))) == (Said("2026-10-01", "", 1, 7, None, 5),)


def test_embeddings_have_no_output():
    one = {"input_tokens": 7, "num_model_requests": 1, "model": "text-embedding-3-small"}
    (found,) = read(page(usage_bucket(0, one)))
    assert (found.input_tokens, found.output_tokens) == (7, None)


def test_costs_are_summed_over_their_lines_exactly():
    def line(item, value):
        return {"object": "organization.costs.result", "amount": {"value": value, "currency": "usd"}, "line_item": item}

    (found,) = read(page(usage_bucket(0, line("gpt-4o, input", 0.06), line("gpt-4o, output", 0.1))))
    assert (found.model, found.cost, found.cost_nano_usd) == ("gpt-4o", Fraction(16, 100), 160_000_000)
    assert found.input_tokens is None


def test_the_dust_of_binary_fractions_is_rounded_away():
    (found,) = read('{"data":[{"start_time":1790812800,"results":[{"amount":{"value":0.060000000000000005}}]}]}')
    assert found.cost_nano_usd == 60_000_000


def test_several_pages_in_one_list():
    one = {"input_tokens": 7, "output_tokens": 5, "model": "m"}
    first = msgspec.json.decode(page(usage_bucket(0, one), has_more=True))
    second = msgspec.json.decode(page(usage_bucket(0, one)))
    assert read(msgspec.json.encode([first, second])) == (Said("2026-10-01", "m", None, 14, None, 10),)


# -- buckets of RFC 3339 times, as Anthropic's administration API gives them --


def test_usage_whose_input_is_told_in_parts():
    result = {
        "uncached_input_tokens": 1500,
        "cache_creation": {"ephemeral_1h_input_tokens": 1000, "ephemeral_5m_input_tokens": 500},
        "cache_read_input_tokens": 200,
        "output_tokens": 500,
        "server_tool_use": {"web_search_requests": 10},
        "model": "claude-sonnet-4-5-20250929",
        "service_tier": "standard",
    }
    bucket = {"starting_at": "2026-10-01T00:00:00Z", "ending_at": "2026-10-02T00:00:00Z", "results": [result]}
    assert read(page(bucket)) == (Said("2026-10-01", "claude-sonnet-4-5-20250929", None, 3200, 200, 500),)


def test_costs_in_cents():
    result = {"amount": "123.45678", "currency": "USD", "model": "claude-sonnet-4-5", "description": "x"}
    bucket = {"starting_at": "2026-10-01T00:00:00Z", "results": [result]}
    (found,) = read(page(bucket))
    assert found.cost_nano_usd == 1_234_567_800


# -- CSV --


def test_the_console_that_names_its_columns_usage():
    text = (
        "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,"
        "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,"
        "usage_output_tokens,web_search_count,inference_geo,speed\n"
        '2026-10-01,claude-opus-5,"A, B",Default,standard,≤ 200k,100,20,30,50,7,0,global,\n'
    )
    assert read(text) == (Said("2026-10-01", "claude-opus-5", None, 200, 50, 7),)


def test_the_console_that_has_a_row_for_each_kind_of_token():
    text = (
        "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd\n"
        "2026-10-01,Claude Haiku 4.5,Default,k,message,≤ 200k,input_no_cache,0.05,0.05\n"
        "2026-10-01,Claude Haiku 4.5,Default,k,message,≤ 200k,output,0.02,0.02\n"
    )
    assert read(text) == (Said("2026-10-01", "claude haiku 4.5", cost=Fraction(7, 100)),)


def test_the_console_with_times_in_seconds_and_numbers_with_a_point():
    text = (
        "start_time\tend_time\tstart_time_iso\tnum_model_requests\tmodel\tinput_tokens\toutput_tokens\tinput_cached_tokens\n"
        "1790812800\t1790899200\t2026-10-01T00:00:00+00:00\t10.0\tgpt-4o-2024-08-06\t59200.0\t10646.0\t5760.0\n"
        "1790899200\t1790985600\t2026-10-02T00:00:00+00:00\t\t\t\t\t\n"
    )
    assert read(text) == (Said("2026-10-01", "gpt-4o-2024-08-06", 10, 59_200, 5760, 10_646),)


def test_the_console_with_amounts():
    text = "start_time,amount_value,amount_currency,line_item\n1790812800,0.8958740000000000,usd,\n1790899200,,,\n"
    assert read(text) == (Said("2026-10-01", "", cost=Fraction("0.895874")),)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_of_ones_own(separator):
    text = "Date,Model,Input,Cached,Output,Cost\r\n2026-10-01,M,10,4,5,$0.25\r\n2026/10/01,m,1,,2,1e-3\r\n"
    assert read("\ufeff" + text.replace(",", separator)) == (
        Said("2026-10-01", "m", None, 11, 4, 7, Fraction("0.251")),
    )


def test_thousands_may_be_set_apart():
    assert read('date,input\n2026-10-01,"1,234,567"\n')[0].input_tokens == 1_234_567


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2026-10-01", "2026-10-01"),
        ("20261001", "2026-10-01"),
        ("2026-10-01 23:30:00", "2026-10-01"),
        ("2026-10-01T23:30:00-05:00", "2026-10-02"),
        ("1790899199", "2026-10-01"),
        ("1790899200", "2026-10-02"),
    ],
)
def test_a_day_is_a_day_of_utc(day, expected):
    assert read(f"date,input\n{day},1\n")[0].day == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"\xff\xfe", "not UTF-8"),
        ("", "is empty"),
        ("   \n", "is empty"),
        ("a,b\n1,2\n", "no column of days"),
        ("date,colour\n2026-10-01,red\n", "none of figures"),
        ("date,input\n2026-10-01,many\n", "line 2: 'many' is no number"),
        ("date,input\n2026-10-01,-1\n", "no number of tokens"),
        ("date,input\n2026-10-01,1.5\n", "no number of tokens"),
        ("date,input\n2026-10-01,1e999999\n", "is no number"),
        ("date,input\n2026-10-01,nan\n", "is no number"),
        ("date,input\nsoon,1\n", "'soon' is no day"),
        ("date,input\n999999999999,1\n", "is no day"),
        ("input,model\n1,m\n", "no column of days"),
        ("date,input\n2026-10-01,1,2,3\n", "4 values for 2 columns"),
        ('date,input\n2026-10-01,"1\n', "not valid CSV"),
        ("date,cost,currency\n2026-10-01,1,EUR\n", "not in US dollars"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("{}", "no list `data`"),
        ("[3]", "no list `data`"),
        ('{"data":[3]}', "no list `results`"),
        ('{"data":[{"results":[3]}]}', "no object"),
        ('{"data":[{"results":[{"input_tokens":true}]}]}', "is no number"),
        ('{"data":[{"results":[{"input_tokens":1}]}]}', "is no day"),
        ('{"data":[],"has_more":true}', "more pages"),
    ],
)
def test_what_cannot_be_read_is_told(text, told):
    with pytest.raises(InvalidRequest) as caught:
        read(text)
    assert told in str(caught.value)
    assert str(caught.value).startswith("export")


def test_an_empty_export_says_nothing():
    assert read(page()) == ()
    assert read("date,input\n") == ()
    assert summed([None]) == ()


@settings(deadline=None)
@given(st.text(max_size=60) | st.text("date,input\n0123456789-;\"'\t{}[]:eE.", max_size=60) | st.binary(max_size=40))
def test_any_text_is_rows_or_a_mistake(text):
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    for beginning in (b"", b"date,input,cost\n2026-10-01,", b'{"data":[{"start_time":1790812800,"results":['):
        with suppress(InvalidRequest):
            assert isinstance(read(beginning + data), tuple)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["2026-10-01", "2026-10-02"]), st.sampled_from("mn"), st.integers(0, 10**9))))
def test_sums_are_those_of_the_rows(rows):
    text = "date,model,input\n" + "".join(f"{day},{model},{count}\n" for day, model, count in rows)
    found = read(text)
    assert sum(one.input_tokens for one in found) == sum(count for _, _, count in rows)
    assert len(found) == len({(day, model) for day, model, _ in rows})


# -- the providers' own libraries, for the shapes --


def test_a_page_as_openais_library_has_it():
    organization = pytest.importorskip("openai.types.admin.organization")
    result = {
        "object": "organization.usage.completions.result",
        "input_tokens": 1000,
        "output_tokens": 500,
        "input_cached_tokens": 800,
        "input_cache_write_tokens": 100,
        "num_model_requests": 5,
        "model": "gpt-5",
    }
    amount = {"object": "organization.costs.result", "amount": {"value": 0.06, "currency": "usd"}, "line_item": "gpt-5"}
    for kind, one in (
        (organization.UsageCompletionsResponse, result),
        (organization.UsageCostsResponse, amount),
    ):
        page = {"object": "page", "data": [usage_bucket(0, one)], "has_more": False, "next_page": None}
        found = read(kind.model_validate(page).model_dump_json())
        expected = (
            Said("2026-10-01", "gpt-5", 5, 1000, 800, 500)
            if one is result
            else Said("2026-10-01", "gpt-5", cost=Fraction(6, 100))
        )
        assert found == (expected,)


def test_a_bucket_as_anthropics_library_has_it():
    organization = pytest.importorskip("anthropic.types.beta.organization")
    times = {"starting_at": "2026-10-01T00:00:00Z", "ending_at": "2026-10-02T00:00:00Z"}
    used = {
        "uncached_input_tokens": 10,
        "cache_read_input_tokens": 5,
        "cache_creation": {"ephemeral_1h_input_tokens": 2, "ephemeral_5m_input_tokens": 1},
        "output_tokens": 7,
        "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
        "model": "claude-opus-5",
    }
    cost = {"amount": "12.5", "list_amount": "25", "currency": "USD", "model": "claude-opus-5"}
    for kind, one in (
        (organization.BetaAnalyticsUsageReportTimeBucket, used),
        (organization.BetaAnalyticsCostReportTimeBucket, cost),
    ):
        bucket = kind.model_validate({**times, "results": [one]}).model_dump_json()
        (found,) = read(f'{{"data": [{bucket}], "has_more": false}}')
        assert (found.day, found.model) == ("2026-10-01", "claude-opus-5")
        assert found.input_tokens == (18 if one is used else None)
        assert found.cost == (None if one is used else Fraction(125, 1000))
