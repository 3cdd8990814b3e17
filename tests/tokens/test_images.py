"""Picture rules against the examples that the providers print, and sizes from the heads of real picture files."""

import base64
import io
import struct
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.tokens.images import picture_tokens, size_of, tokens
from penstock.tokens.rules import FAMILIES, ImageRule

TILE = FAMILIES["gpt-4o"].image
PATCH = ImageRule("patch", unit=32, cap=1_536)
AREA, LARGE = FAMILIES["claude"].image, FAMILIES["claude-4.7"].image
CROP, FLAT = FAMILIES["gemini"].image, FAMILIES["gemini-3"].image
KINDS = (TILE, FAMILIES["gpt-5-mini"].image, AREA, LARGE, CROP, FLAT)


def picture(form: str, size: tuple[int, int], **options: object) -> str:
    """A real picture file of this size, as base64."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = io.BytesIO()
        Image.new("RGB", size, (200, 30, 30)).save(out, form, **options)
    return base64.b64encode(out.getvalue()).decode()


@pytest.mark.parametrize(
    ("rule", "width", "height", "detail", "expected"),
    [
        (TILE, 1024, 1024, "high", 765),  # the examples of OpenAI's page
        (TILE, 2048, 4096, "high", 1105),
        (TILE, 4096, 8192, "low", 85),
        (TILE, 512, 512, None, 255),
        (TILE, 768, 768, None, 765),
        (PATCH, 1024, 1024, None, 1024),
        (PATCH, 1800, 2400, None, 1452),
        (AREA, 200, 200, None, 64),  # those of Claude's
        (AREA, 1000, 1000, None, 1296),
        (AREA, 1920, 1080, None, 1560),
        (AREA, 3840, 2160, None, 1560),
        (LARGE, 1920, 1080, None, 2691),
        (LARGE, 3840, 2160, None, 4784),
        (CROP, 384, 384, None, 258),  # those of Gemini's
        (CROP, 960, 540, None, 1548),
        (FLAT, 3000, 2000, None, 1090),
    ],
)
def test_a_picture_costs_what_its_provider_says(rule, width, height, detail, expected):
    assert tokens(rule, width, height, detail) == expected


def test_a_factor_is_applied_to_patches_and_rounded_up():
    assert tokens(FAMILIES["gpt-5-mini"].image, 1024, 1024) == 1659


@given(st.sampled_from(KINDS), st.integers(1, 2**32), st.integers(1, 2**32))
def test_no_picture_costs_nothing_and_none_costs_more_than_its_cap(rule, width, height):
    n = tokens(rule, width, height)
    assert n > 0
    if rule.kind in ("area", "patch"):
        assert n <= -(-rule.cap * rule.factor // 1_000)


@pytest.mark.parametrize("size", [(1, 1), (640, 480), (3000, 17), (5000, 4000)])
@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("PNG", {}),
        ("GIF", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"exif": b"Exif\0\0" + b"\x01" * 60_000}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 10}),
        ("WEBP", {"quality": 10, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
    ],
)
def test_the_size_is_read_from_the_head_of_a_real_file(form, options, size):
    assert size_of(picture(form, size, **options)) == size


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 0, 10),
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 2**31, 10),
        b"RIFF\0\0\0\0WEBPVP8?" + bytes(20),
        b"\xff\xd8",
        b"\xff\xd8" + b"\xff" * 5_000,
        b"\xff\xd8\xff\xe0\0\0" * 2_000,
        b"\xff\xd8\xff\xe0\0\x10" + bytes(14) + b"\0\0\0\0\0\0\0\0\0\0",
        b"%PDF-1.7",
    ],
)
def test_what_says_no_size_has_none(content):
    assert size_of(base64.b64encode(content).decode()) is None


def test_a_jpeg_may_have_fill_bytes_before_a_marker():
    frame = b"\xff\xff\xff\xc0\0\x11\x08" + struct.pack(">HH", 20, 30) + bytes(12)
    assert size_of(base64.b64encode(b"\xff\xd8" + frame).decode()) == (30, 20)


@given(st.text(max_size=200))
def test_what_is_no_base64_has_no_size(data):
    assert size_of(data) is None


@given(
    st.sampled_from([b"\xff\xd8", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"RIFFxxxxWEBP", b"GIF89a"]), st.binary(max_size=60)
)
def test_any_bytes_have_a_size_or_none(start, rest):
    size = size_of(base64.b64encode(start + rest).decode())
    assert size is None or min(size) > 0


@pytest.mark.parametrize("rule", KINDS)
def test_the_band_of_a_picture_that_nobody_sent_holds_every_picture(rule):
    low, likely, high = picture_tokens(rule, None, None)
    assert low <= likely <= high
    for size in ((1, 1), (300, 300), (1024, 768), (4096, 2048), (2048, 4096), (4096, 4096)):
        assert low <= tokens(rule, *size) <= high


def test_low_detail_has_a_band_of_one_number():
    assert picture_tokens(TILE, None, "low") == (85, 85, 85)


def test_a_picture_of_known_size_has_a_narrow_band():
    assert picture_tokens(TILE, picture("PNG", (1024, 1024)), "high") == (688, 765, 841)
