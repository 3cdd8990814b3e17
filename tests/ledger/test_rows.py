import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.ledger import rows
from penstock.ledger.records import Intent
from penstock.ledger.rows import COLUMNS, adapted, clip, receipt_of, row_of
from penstock.receipt import Attempt, Receipt, Usage

counts = st.integers(0, 2**53 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


usages = st.builds(
    Usage,
    **{
        field.name: counts if field.type is int else st.sampled_from(["provider", "counted", "estimated", "none"])
        for field in msgspec.structs.fields(Usage)
    },
)


def by_type(field):
    kind = msgspec.inspect.type_info(field.type)
    options = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
    found = []
    for option in options:
        match option:
            case msgspec.inspect.NoneType():
                found.append(st.none())
            case msgspec.inspect.BoolType():
                found.append(st.booleans())
            case msgspec.inspect.IntType():
                found.append(counts)
            case msgspec.inspect.StrType():
                found.append(texts.filter(bool) if len(options) > 1 else texts)  # an empty text means: not there
            case msgspec.inspect.LiteralType(values=values):
                found.append(st.sampled_from(values))
            case msgspec.inspect.VarTupleType(item_type=msgspec.inspect.StrType()):
                found.append(st.lists(texts, max_size=3).map(tuple))
            case msgspec.inspect.VarTupleType():
                found.append(st.lists(attempts, max_size=3).map(tuple))
            case msgspec.inspect.StructType():
                found.append(usages)
            case _:
                raise AssertionError(f"{field.name} has a type that this test does not know: {option}")
    return st.one_of(found)


attempts = st.builds(Attempt, **{field.name: by_type(field) for field in msgspec.structs.fields(Attempt)})
receipts = st.builds(
    Receipt,
    **{field.name: by_type(field) for field in msgspec.structs.fields(Receipt) if field.name != "id"},
    id=st.uuids().map(str),
)


@settings(deadline=None)
@given(receipts)
def test_every_field_of_a_receipt_survives_being_a_row(receipt):
    row = row_of(receipt)
    assert len(row) == len(COLUMNS)
    assert receipt_of(row) == receipt


@settings(deadline=None)
@given(receipts)
def test_a_row_holds_what_sql_binds_quickly_and_no_float(receipt):
    values = dict(zip(COLUMNS, row_of(receipt), strict=True))
    maybe = {values.pop("cost_nano_usd"), values.pop("ttft_us"), values.pop("try_ttft_us")}
    assert {type(value) for value in values.values()} == {bytearray, int, str}
    assert {type(value) for value in maybe} <= {int, type(None)}


def test_the_fields_of_tries_and_usages_keep_their_places():
    """The view `tries` and rows on people's disks know them by place: add new ones at the end."""
    assert Attempt.__struct_fields__[:16] == (
        *("target", "kind", "status", "http_status", "error", "retry_after_ms", "started_us", "ttft_us", "total_us"),
        *("usage", "cost_nano_usd", "cost_status", "price_version", "response_id", "response_model", "fingerprint"),
    )
    assert Usage.__struct_fields__[:11] == (
        *("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "cache_write_1h_tokens"),
        *("reasoning_tokens", "audio_input_tokens", "audio_output_tokens", "accepted_prediction_tokens"),
        *("rejected_prediction_tokens", "source"),
    )


def test_a_row_from_before_a_column_existed_can_be_read(make):
    row = dict(zip(COLUMNS, row_of(make.receipt()), strict=True))
    old = receipt_of(adapted({"id": row["id"], "model": "fast", "tries": None, "prompt": None, "gone": 5}))
    assert old == Receipt(
        old.id, 0, "", "fast", "", 0, usage=Usage(source=""), cost_nano_usd=None, cost_status="", cache=""
    )


only_tries = receipts.flatmap(
    lambda receipt: attempts.map(
        lambda attempt: msgspec.structs.replace(
            receipt,
            tries=(
                msgspec.structs.replace(
                    attempt,
                    target=receipt.target or "t/m",
                    kind="first",
                    status=receipt.status,
                    http_status=receipt.http_status,
                    error=receipt.error,
                    retry_after_ms=None,
                    usage=receipt.usage,
                    cost_nano_usd=receipt.cost_nano_usd,
                    cost_status=receipt.cost_status,
                ),
            ),
        )
    )
)


@settings(deadline=None)
@given(only_tries)
def test_the_only_try_that_says_what_its_receipt_says_is_not_written_twice(receipt):
    row = row_of(receipt)
    assert receipt_of(row) == receipt
    assert (row[COLUMNS.index("tries")] == "") == (receipt.target is not None)


@pytest.mark.parametrize(
    "differing",
    [
        *({"target": "else/where"}, {"kind": "retry"}, {"status": "error"}, {"http_status": 201}, {"error": "broken"}),
        *({"retry_after_ms": 0}, {"usage": None}, {"usage": Usage(1)}, {"cost_nano_usd": 0}, {"cost_nano_usd": None}),
        *({"cost_status": "estimated"}, {"fingerprint": ""}, {"service_tier": ""}),
    ],
)
def test_a_try_that_says_anything_else_is_written_whole(make, differing):
    receipt = make.receipt()
    receipt = msgspec.structs.replace(receipt, tries=(msgspec.structs.replace(receipt.tries[0], **differing),))
    row = row_of(receipt)
    assert row[COLUMNS.index("tries")].startswith("[[")
    assert receipt_of(row) == receipt


def test_what_routing_saved_may_be_negative_and_what_is_absurd_is_clipped(make):
    assert receipt_of(row_of(make.receipt(routing_saved_nano_usd=-7))).routing_saved_nano_usd == -7
    clipped = receipt_of(row_of(make.receipt(routing_saved_nano_usd=-(10**30), cache_saved_nano_usd=-1)))
    assert (clipped.routing_saved_nano_usd, clipped.cache_saved_nano_usd) == (1 - 2**53, 0)


@pytest.mark.parametrize("field", ["started_us", "ttft_us", "total_us"])
@pytest.mark.parametrize("figure", [-1, 2**63])
def test_absurd_times_of_a_try_are_clipped(make, field, figure):
    receipt = make.receipt()
    receipt = msgspec.structs.replace(receipt, tries=(msgspec.structs.replace(receipt.tries[0], **{field: figure}),))
    assert getattr(receipt_of(row_of(receipt)).tries[0], field) == (0 if figure < 0 else 2**53 - 1)


def test_an_empty_text_is_one_that_is_not_there(make):
    receipt = receipt_of(row_of(make.receipt(team="", prompt="", config_hash="")))
    assert (receipt.team, receipt.prompt, receipt.config_hash) == (None, None, "")


def test_tries_written_before_a_field_existed_take_its_default(make):
    row = dict(zip(COLUMNS, row_of(make.receipt()), strict=True))
    row["tries"] = '[["box/qwen","retry","ok",200,null,null,0,null,0,[7]]]'
    (attempt,) = receipt_of(tuple(row.values())).tries
    assert attempt == Attempt("box/qwen", "retry", http_status=200, usage=Usage(7))


@pytest.mark.parametrize("field", ["input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens"])
@pytest.mark.parametrize("figure", [-1, 2**53, 2**63, 10**40])
def test_figures_that_would_break_every_sum_are_clipped(make, field, figure):
    row = row_of(make.receipt(usage=Usage(**{field: figure})))
    assert dict(zip(COLUMNS, row, strict=True))[field] == (0 if figure < 0 else 2**53 - 1)


@pytest.mark.parametrize("cost", [-1, 2**53])
def test_costs_that_would_break_every_sum_are_clipped(make, cost):
    row = row_of(make.receipt(cost_nano_usd=cost))
    assert dict(zip(COLUMNS, row, strict=True))["cost_nano_usd"] == (0 if cost < 0 else 2**53 - 1)


def test_clipping_bounds_texts_lists_and_numbers_at_every_depth_and_keeps_the_rest(make):
    huge = "x" * 10_000
    usage = Usage(input_tokens=10**30, source="counted")
    receipt = make.receipt(
        model="\ud800" + huge,
        user=huge,
        streamed=True,
        session=None,
        dropped=(huge,) * 100,
        usage=usage,
        tries=(Attempt("box/qwen", usage=usage, error=huge),) * 100,
    )
    clipped = clip(receipt, Receipt)
    assert clipped.model == "?" + "x" * 255
    assert clipped.user == "x" * 256
    assert clipped.streamed is True
    assert clipped.session is None
    assert clipped.dropped == ("x" * 256,) * 32
    assert clipped.usage == Usage(input_tokens=2**53 - 1, source="counted")
    assert len(clipped.tries) == 32
    assert clipped.tries[0].usage == clipped.usage
    assert (clipped.id, clipped.started_ns) == (receipt.id, receipt.started_ns)
    assert receipt_of(row_of(clipped)) == clipped


def test_clipping_knows_intents_too(make):
    intent = make.intent(session="s" * 999, hold_nano_usd=None)
    assert clip(intent, Intent).session == "s" * 256
    assert clip(intent, Intent).hold_nano_usd is None


def test_what_is_rare_takes_no_room_where_there_is_none_of_it(make):
    assert row_of(make.receipt())[COLUMNS.index("more")] == ""
    assert row_of(make.receipt())[COLUMNS.index("tries")] == ""
    assert row_of(make.receipt(tries=()))[COLUMNS.index("tries")] == "[]"
    more = row_of(make.receipt(dropped=("seed",), usage=Usage(cache_write_tokens=3)))[COLUMNS.index("more")]
    assert more == '{"cache_write_tokens":3,"dropped":["seed"]}'
    assert rows.receipt_of(row_of(make.receipt(dropped=("seed",)))).dropped == ("seed",)
