import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Oracle

from engine import kinds
from penstock.engine.stopping import StopText, StreamDecoder
from penstock.engine.tokenizer import Tokenizer, train


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    return train(kinds.corpus(), 600, ("<|end|>",))


@pytest.fixture(scope="module")
def marked() -> Tokenizer:
    return Tokenizer.from_json(kinds.make("sentencepiece").to_str().encode())


def streamed(tokenizer: Tokenizer, ids: list[int], *, special: bool = False) -> list[str]:
    decoder = StreamDecoder(tokenizer, special=special)
    return [*(decoder.push(token) for token in ids), decoder.flush()]


@settings(deadline=None)
@given(st.data())
def test_streamed_text_is_the_decoded_text_for_any_ids(ours: Tokenizer, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, ours.size), max_size=12))

    assert "".join(streamed(ours, ids)) == ours.decode(ids)
    assert "".join(streamed(ours, ids, special=True)) == ours.decode(ids, special=True)


def test_streamed_text_is_the_encoded_text(ours: Tokenizer, marked: Tokenizer) -> None:
    for text in kinds.fuzz(500, seed=31):
        for tokenizer in (ours, marked):
            ids = tokenizer.encode(text)
            assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids)
        assert "".join(streamed(ours, ours.encode(text))) == text


def test_streamed_text_is_that_of_the_tokenizers_library(marked: Tokenizer) -> None:
    oracle = Oracle.from_str(marked.to_json().decode())
    for text in kinds.fuzz(500, seed=32):
        ids = oracle.encode(text, add_special_tokens=False).ids
        assert "".join(streamed(marked, ids)) == oracle.decode(ids)


def test_a_character_goes_out_when_its_last_byte_is_there(ours: Tokenizer) -> None:
    ids = ours.encode("\U0001f9ff")
    texts = streamed(ours, ids)

    assert len(ids) > 1
    assert texts == [*[""] * (len(ids) - 1), "\U0001f9ff", ""]


def test_a_character_that_never_became_whole_is_replaced_at_the_end(ours: Tokenizer) -> None:
    ids = ours.encode("\U0001f9ff")[:-1]

    assert streamed(ours, ids)[-1] == "\ufffd"


def test_the_space_that_was_put_before_the_text_is_taken_away_once(marked: Tokenizer) -> None:
    ids = marked.encode("the the")

    assert streamed(marked, ids)[0].startswith("t")
    assert "".join(streamed(marked, ids)) == "the the"
    assert "".join(streamed(marked, marked.encode("  a"))) == "  a"
    assert "".join(streamed(marked, marked.encode("b the")[1:])) == "the"
    unmarked = [token for token in range(marked.size) if marked.token_bytes(token) == b"t"]
    assert "".join(streamed(marked, [unmarked[-1], *ids])) == "t the the"


def test_control_tokens_give_text_only_when_asked_for(ours: Tokenizer) -> None:
    ids = ours.encode("a<|end|>b", special=True)

    assert streamed(ours, ids) == ["a", "", "b", ""]
    assert streamed(ours, ids, special=True) == ["a", "<|end|>", "b", ""]


def first_to_end(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    """The definition itself: the stop string that is complete first, of several there the longest."""
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))], True
    return text, False


@settings(deadline=None)
@given(
    st.lists(st.text("ab", max_size=5), max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=9), max_size=4).map(tuple),
)
def test_at_every_split_everything_goes_out_but_the_stop_string(pieces: list[str], stops: tuple[str, ...]) -> None:
    text = "".join(pieces)
    expected, stopped = first_to_end(text, stops)
    search = StopText(stops)
    out = ""
    found = False
    for piece in pieces:
        more, found = search.push(piece)
        out += more

        assert expected.startswith(out), "a part of a stop string went out"
    out += search.flush()

    assert (out, found) == (expected, stopped and bool(pieces))


@settings(deadline=None)
@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=3).map(tuple))
def test_no_more_is_held_back_than_may_become_a_stop_string(text: str, stops: tuple[str, ...]) -> None:
    search = StopText(stops)
    out, stopped = search.push(text)
    if not stopped:
        held = text[len(out) :]
        longest = max(length for stop in stops for length in range(len(stop)) if text.endswith(stop[:length]))
        assert len(held) == longest


@settings(deadline=None)
@given(st.text("ab", max_size=40), st.text("ab", min_size=4, max_size=12))
def test_a_stop_string_is_found_wherever_it_comes_after_parts_of_itself(text: str, stop: str) -> None:
    for before in (text, text + stop[: len(stop) // 2], stop[:-1] + text):
        whole = before + stop
        assert StopText((stop,)).push(whole) == (whole[: whole.index(stop)], True)


def test_without_stop_strings_text_passes() -> None:
    search = StopText(())

    assert search.push("abc") == ("abc", False)
    assert search.flush() == ""


def test_nothing_comes_after_a_stop_string() -> None:
    search = StopText(("END",))

    assert search.push("one EN") == ("one ", False)
    assert search.push("D two") == ("", True)
    assert search.push("three") == ("", True)
    assert search.flush() == ""


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(ValueError, match="a stop string is empty"):
        StopText(("a", ""))


def test_a_long_stop_string_that_nearly_comes_again_and_again_takes_linear_time() -> None:
    search = StopText(("a" * 5_000 + "b",))
    out = "".join(search.push("a")[0] for _ in range(50_000))

    assert len(out) == 45_000
    assert search.flush() == "a" * 5_000
