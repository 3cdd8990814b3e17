"""Bounded decompression: every coding, cut anywhere, and never more than the limit."""

import tracemalloc
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.providers.inflate import CODINGS, Inflate

WINDOWS = {"gzip": 31, "zlib": 15, "raw deflate": -15}


def pack(data: bytes, window: int) -> bytes:
    packer = zlib.compressobj(wbits=window)
    return packer.compress(data) + packer.flush()


@given(st.sampled_from(sorted(WINDOWS.values())), st.binary(max_size=500), st.lists(st.integers(0, 500), max_size=5))
def test_a_body_may_be_cut_anywhere(window: int, data: bytes, cuts: list[int]) -> None:
    packed = pack(data, window)
    places = sorted({0, len(packed), *(cut for cut in cuts if cut < len(packed))})
    inflate = Inflate(len(data))
    got = b"".join(inflate.feed(packed[a:b]) for a, b in pairwise(places))
    assert got == data
    assert inflate.finished


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_a_body_that_just_fits_passes_and_one_byte_more_does_not(window: int) -> None:
    packed = pack(b"0" * 1000, window)
    assert Inflate(1000).feed(packed) == b"0" * 1000
    with pytest.raises(OverflowError, match="999"):
        Inflate(999).feed(packed)


def test_a_bomb_costs_no_more_than_its_limit() -> None:
    bomb = pack(b"0" * 50_000_000, 31)
    tracemalloc.start()
    try:
        with pytest.raises(OverflowError):
            Inflate(100_000).feed(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_the_limit_holds_over_all_pieces_together() -> None:
    packed = pack(bytes(range(256)) * 40, 31)
    inflate = Inflate(5000)
    pieces = (packed[at : at + 10] for at in range(0, len(packed), 10))
    with pytest.raises(OverflowError):
        b"".join(map(inflate.feed, pieces))


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_a_body_cut_short_is_not_finished(window: int) -> None:
    packed = pack(b"hello" * 100, window)
    for end in range(1, len(packed)):
        inflate = Inflate(1000)
        inflate.feed(packed[:end])
        assert not inflate.finished


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x1f\x8bnot gzip", b"x\x9cnot zlib"])
def test_a_body_that_is_not_compressed_is_refused(data: bytes) -> None:
    with pytest.raises(zlib.error):
        Inflate(1000).feed(data)


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(zlib.error, match="follow"):
        Inflate(1000).feed(pack(b"hello", 31) + b"x")


def test_an_empty_body_is_finished() -> None:
    assert Inflate(10).finished


def test_the_codings_are_named_in_lower_case() -> None:
    assert {b"gzip", b"x-gzip", b"deflate"} == CODINGS
