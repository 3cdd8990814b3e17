import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.wire.media import data_url, extension, media_type_of, read_data_url, standard_base64


@given(st.binary(), st.booleans(), st.booleans())
def test_base64_of_either_alphabet_becomes_standard(data, url_safe, padded):
    text = (base64.urlsafe_b64encode if url_safe else base64.b64encode)(data).decode()
    assert standard_base64(text if padded else text.rstrip("=")) == base64.b64encode(data).decode()


def test_line_breaks_in_base64_are_taken_out():
    assert standard_base64("QUJD\nREVG\n") == "QUJDREVG"


@pytest.mark.parametrize("text", ["?", "a", "QUJD=x", "ä", "Q===="])
def test_what_is_no_base64_is_none(text):
    assert standard_base64(text) is None


@given(st.binary())
def test_a_data_url_is_read_as_it_was_written(data):
    text = base64.b64encode(data).decode()
    assert read_data_url(data_url("image/png", text)) == ("image/png", text)


def test_parameters_of_a_data_url_are_left_out():
    assert read_data_url("data:text/plain;charset=utf-8;base64,QQ==") == ("text/plain", "QQ==")
    assert read_data_url("data:;base64,QQ==") == ("text/plain", "QQ==")


@pytest.mark.parametrize("url", ["https://x.test/a.png", "data:text/plain,hello", "data:;base64", "data:x;base64,QQ=="])
def test_other_urls_are_no_base64_data_urls(url):
    assert read_data_url(url) is None


def test_types_and_extensions_go_together():
    assert extension("application/pdf") == "pdf"
    assert extension("audio/x-thing; rate=1") == "thing"
    assert media_type_of("scan.PDF") == "application/pdf"
    assert media_type_of("jpg") == "image/jpeg"
    assert media_type_of("thing.unknown") is None
