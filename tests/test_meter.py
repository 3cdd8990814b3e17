"""What a meter sees of a reply."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import UpstreamFailed
from penstock.meter import KEEP_BYTES, LOOK_BYTES, LOOSE_BYTES, NEVER, Meter
from penstock.receipt import Usage
from penstock.reply import (
    Ended,
    Failed,
    Finished,
    LogprobsDelta,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    Told,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
)
from penstock.target import Profile
from penstock.tokens.sample import by_bytes


def metered(*events):
    meter = Meter()
    meter.observe(events)
    return meter


def test_a_start_is_not_yet_content():
    meter = metered(Started(id="x"), Started(id="y"))
    assert not meter.begun
    assert meter.start.id == "x"


def test_text_thought_and_refusal_are_content_and_are_kept_for_counting():
    meter = metered(TextDelta("a"), ReasoningDelta("b"), RefusalDelta("c"))
    assert meter.begun
    assert meter.text == ["a", "b", "c"]


def test_a_tool_call_is_content_and_its_name_and_arguments_are_kept():
    meter = metered(ToolUseStarted(0, "id", "find"), ToolUseDelta(0, '{"q":1}'))
    assert meter.begun
    assert meter.text == ["find", '{"q":1}']


def test_other_content_counts_as_begun():
    assert metered(LogprobsDelta(())).begun


def test_the_first_finish_and_the_last_usage_hold():
    meter = metered(Finished("stop"), Finished("length", choice=1), UsageReported(Usage(1)), UsageReported(Usage(2)))
    assert meter.finish == "stop"
    assert meter.usage == Usage(2)


def test_the_end_and_a_failure_are_seen():
    assert metered(Ended()).ended
    error = UpstreamFailed("cut")
    meter = metered(Failed(error))
    assert meter.error is error
    assert not meter.begun


def test_what_is_kept_is_bounded_and_the_rest_is_counted():
    meter = metered(TextDelta("x" * KEEP_BYTES), TextDelta("y" * 7))
    assert len(meter.text) == 1
    assert meter.beyond == 7


def test_many_pieces_of_text_are_joined_to_few_and_stay_the_same_text():
    meter = Meter()
    words = [f"{number} " for number in range(1300)]
    for word in words:
        meter.observe((TextDelta(word),))
    assert "".join(meter.text) == "".join(words)
    assert meter.kept == len("".join(words))
    assert len(meter.text) == 2 + 1300 - 2 * 512


EVENTS = st.sampled_from(
    (
        *(
            Started(id="x"),
            Started(id="y"),
            Finished("stop"),
            Finished("length"),
            Ended(),
            TextDelta(""),
            TextDelta("é"),
        ),
        *(UsageReported(Usage(1, 2)), UsageReported(Usage(3, 4), "flex"), ReasoningDelta("b"), RefusalDelta("c")),
        *(ToolUseStarted(0, "id", "find"), ToolUseDelta(0, "{}"), LogprobsDelta(()), Failed(UpstreamFailed("cut"))),
    )
)
WHOLE = (Started(id="x"), Finished("stop"), UsageReported(Usage(1, 2), "flex"), Ended())


def seen(meter):
    state = [name for name, value in vars(Meter).items() if not (name.startswith("__") or callable(value))]
    values = {name: getattr(meter, name) for name in (*state, *vars(meter))}
    return {**values, "error": str(meter.error), "usage": meter.usage, "kept": meter.kept}


@given(st.lists(EVENTS, max_size=6), st.booleans(), st.booleans())
def test_a_chunk_of_many_events_is_seen_as_many_chunks_of_one(events, whole, watched):
    events += WHOLE if whole else ()
    at_once, one_by_one, in_two = Meter(), Meter(), Meter()
    if watched:
        for meter in (at_once, one_by_one, in_two):
            meter.watch(2, 3, 1)
    at_once.observe(tuple(events))
    for event in events:
        one_by_one.observe((event,))
    in_two.observe(tuple(events[:-4]))
    in_two.observe(tuple(events[-4:]))
    assert seen(at_once) == seen(one_by_one) == seen(in_two)


def test_what_need_not_be_seen_ends_at_the_limit_or_where_no_text_is_kept_or_pieces_are_counted():
    meter = metered(TextDelta("ab"))
    for limit, unseen in ((-1, -1), (700, 700), (NEVER, 2 + LOOSE_BYTES)):
        meter.limit = limit
        assert meter.unseen == unseen
    meter.observe((TextDelta("x" * KEEP_BYTES),))
    assert (meter.unseen, meter.beyond) == (KEEP_BYTES, 0)
    meter.observe((TextDelta("y"),))
    assert (meter.unseen, meter.beyond) == (KEEP_BYTES, 1)


def test_pieces_that_nobody_has_counted_are_joined_with_the_next_one():
    meter, counted = metered(TextDelta("begun")), metered(TextDelta("begun"))
    for number in range(3):
        for word in map(str, range(1_000)):
            counted.observe((TextDelta(word),))
            meter.passed += len(word)
            meter.text.append(word)
        for one in (meter, counted):
            one.observe((TextDelta("."),))
        assert len(meter.text) == number + 1
        assert "".join(meter.text) == "".join(counted.text)
        assert meter.output_tokens(ANY) == counted.output_tokens(ANY)


def test_a_reply_in_one_piece_is_seen_at_once():
    meter = metered(*WHOLE)
    assert (meter.begun, meter.ended, meter.start, meter.finish) == (True, True, WHOLE[0], "stop")
    assert (meter.usage, meter.tier, meter.text) == (Usage(1, 2), "flex", [])


# -- how far a reply may go --


ANY = Profile()
OURS = Profile("gpt-4o", tokenizer="o200k")


def test_text_is_measured_in_bytes_whatever_its_script():
    meter = metered(TextDelta("abc"), TextDelta("日本"), ReasoningDelta("é"))
    assert (meter.passed, meter.kept, meter.beyond) == (3 + 6 + 2, 11, 0)


def test_what_came_out_is_counted_with_the_vocabulary_or_by_the_bytes():
    meter = metered(TextDelta(" international" * 10))
    assert meter.output_tokens(OURS) == 10
    assert metered(TextDelta(" international" * 10)).output_tokens(ANY) == by_bytes(b" international" * 10)
    meter = metered(TextDelta(" international" * 10), UsageReported(Usage(1, 12)), TextDelta(" international" * 10))
    assert meter.output_tokens(OURS) == 12 + 10
    assert metered(Started()).output_tokens(OURS) == 0


@given(
    st.lists(
        st.lists(st.sampled_from(("a", " word", "7", "é", "日本", "\n", "}")), max_size=30), min_size=1, max_size=8
    )
)
def test_text_is_counted_once_however_often_it_is_looked_at(looks):
    """A look may find one token more than there is, for what it cuts through."""
    meter = metered(TextDelta("x"))
    for pieces in looks:
        meter.observe(tuple(TextDelta(piece) for piece in pieces))
        meter.output_tokens(ANY)
    exact = by_bytes("".join(meter.text).encode())
    assert exact <= meter.output_tokens(ANY) <= exact + len(looks)


def test_what_was_counted_is_not_counted_again():
    meter = metered(TextDelta(" international" * 10))
    assert meter.output_tokens(OURS) == 10
    meter.observe((TextDelta(" international" * 3),))
    assert [meter.output_tokens(OURS), meter.output_tokens(OURS)] == [13, 13]


def test_it_is_looked_at_once_at_the_beginning_and_then_at_the_limit_that_was_set():
    meter = metered(TextDelta("a" * 40))
    assert meter.passed > meter.limit
    meter.watch(100, 200, 20)
    assert meter.limit == 40 + 180, "of a short text each byte may be a token"
    meter.observe((TextDelta("a" * 180),))
    assert not meter.passed > meter.limit
    meter.observe((TextDelta("a"),))
    assert meter.passed > meter.limit


def test_some_bytes_pass_between_two_looks():
    meter = metered(TextDelta("a" * 40))
    meter.watch(100, 21, 20)
    assert meter.limit == 40 + 64


def test_the_next_look_is_where_all_may_be_used_up_by_the_densest_text_that_there_is():
    known, other = metered(TextDelta("a" * 40)), metered(TextDelta("a" * 40))
    assert (known.most_tokens(OURS), other.most_tokens(ANY)) == (40, 28)
    for meter in (known, other):
        meter.watch(100, 200, 20, 30)
    assert known.limit == 40 + 210, "a token for each byte"
    assert other.limit == 40 + 300, "as it would be estimated, where the vocabulary is not public"


def test_no_more_can_have_come_out_than_was_reported_and_the_most_for_each_byte_since():
    assert metered(TextDelta("abc")).most_tokens(OURS) == 3
    assert metered(TextDelta("abc"), UsageReported(Usage(9, 1)), TextDelta("é")).most_tokens(OURS) == 1 + 2
    assert metered(TextDelta("abc"), UsageReported(Usage(9, 1)), TextDelta("é")).most_tokens(ANY) == 1 + 2


@given(st.lists(st.tuples(st.integers(0, 700), st.sampled_from(("a", " word", "日本"))), max_size=5))
def test_pieces_that_were_counted_are_not_looked_at_again_and_the_count_is_the_same(steps):
    meter, other = metered(TextDelta("x")), metered(TextDelta("x"))
    for count, text in steps:
        for one in (meter, other):
            for _ in range(count):
                one.observe((TextDelta(text),))
        other._pieces = 0  # the whole text is put together
        assert meter.output_tokens(ANY) == other.output_tokens(ANY)
        assert (meter._told, meter._at) == (other._told, other._at)
        assert meter._pieces == len(meter.text)


PIECES = st.lists(st.sampled_from(("a", " word", "7", "{", "é", "日本", "\n", " " * 40, "😀")), max_size=400)


@given(PIECES, PIECES, st.integers(0, 500), st.integers(0, 500), st.sampled_from((ANY, OURS)))
def test_whatever_text_comes_no_more_than_is_held_has_come_out_before_the_next_look(
    pieces, others, room, spare, profile
):
    meter = metered(TextDelta("x"), *map(TextDelta, pieces))
    meter.most_tokens(profile)
    used = meter.output_tokens(profile)
    meter.watch(100, used + room, used, spare)
    begin, said = meter.passed, "x" + "".join(pieces)
    for other in others:
        said += other
        meter.observe((TextDelta(other),))
        if meter.passed > max(meter.limit, begin + LOOK_BYTES):
            return
        if meter.passed > begin + LOOK_BYTES:
            assert metered(TextDelta(said)).output_tokens(profile) <= used + room + spare + 1


@given(st.lists(PIECES, min_size=1, max_size=5), st.integers(0, 300), st.integers(0, 100))
def test_what_goes_on_is_watched_as_by_somebody_who_counts_it(chunks, room, spare):
    alone, told = metered(TextDelta("x")), metered(TextDelta("x"))
    for meter in (alone, told):
        meter.watch(100, room, meter.most_tokens(ANY), spare)
    for chunk in chunks:
        for meter in (alone, told):
            meter.observe(tuple(map(TextDelta, chunk)))
        used = told.output_tokens(ANY)
        assert alone.goes_on(ANY) == (used <= room and spare > 0)
        if used > room or not spare:
            return
        told.watch(100, room, used, spare)
        assert alone.limit == told.limit


def test_a_report_says_how_much_of_the_limit_is_left():
    meter = metered(TextDelta("a" * 40))
    meter.watch(100, 20, 10)
    meter.observe((UsageReported(Usage(100, 2)),))
    assert meter.limit == 40 + 18
    meter.observe((UsageReported(Usage(100, 21)),))
    assert meter.passed > meter.limit


def test_an_input_that_is_larger_than_foreseen_has_to_be_looked_at():
    meter = metered(TextDelta("a"))
    meter.watch(100, 20, 0)
    meter.observe((UsageReported(Usage(101, 0)),))
    assert meter.passed > meter.limit
    meter.observe((UsageReported(Usage(101, 0)),))
    assert meter.passed > meter.limit, "until somebody has"
    meter.watch(101, 500, 0)
    assert meter.limit == 1 + 500


def test_a_first_report_before_anybody_has_looked_does_not_put_the_look_off():
    meter = metered(UsageReported(Usage(10, 1)), TextDelta("a"))
    assert meter.passed > meter.limit


def test_without_a_limit_nothing_has_to_be_looked_at():
    meter = metered(TextDelta("a"))
    meter.watch(NEVER, NEVER, 0)
    meter.observe((TextDelta("a" * 1_000_000), UsageReported(Usage(10**12, 10**12))))
    assert not meter.passed > meter.limit


def test_a_report_counts_for_what_passed_before_it_unless_the_reply_is_complete():
    early = UsageReported(Usage(10, 1))
    assert metered(early).usage == Usage(10, 1)
    assert metered(early, TextDelta("a")).usage is None
    assert metered(early, TextDelta("")).usage == Usage(10, 1)
    assert metered(TextDelta("a"), early).usage == Usage(10, 1)
    assert metered(early, TextDelta("a"), Ended()).usage == Usage(10, 1)


def test_the_meter_of_a_reply_that_told_all_of_itself_is_that_of_its_events():
    told = Told(b"{}", "1", "m", "stop", 10, 5, "fp", "flex")
    assert vars(Meter.of(told)) == vars(metered(*told.events))
    assert Meter.of(told).usage == Usage(10, 5)
    assert vars(Meter.of(None)) == vars(Meter())
