"""Formats and media types go back and forth, and names of documents fit."""

import re

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from penstock.wire import bedrock_converse_media as media

MODEL = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))


def test_the_formats_are_those_of_the_service_model() -> None:
    assert set(MODEL.shape_for("ImageFormat").enum) == media.IMAGES
    assert set(MODEL.shape_for("DocumentFormat").enum) == media.DOCUMENTS
    assert set(MODEL.shape_for("AudioFormat").enum) == media.AUDIOS
    for form in MODEL.shape_for("VideoFormat").enum:
        assert media.video_format(media.video_type(form)) == form
    for form in media.DOCUMENTS:
        assert media.document_format(media.document_type(form), None) == form
    for form in media.IMAGES:
        assert media.image_format(f"image/{form}") == form


@pytest.mark.parametrize(
    ("media_type", "form"), [("image/jpg", "jpeg"), (None, "png"), ("image/bmp", None), ("IMAGE/PNG", "png")]
)
def test_pictures_of_other_formats_have_none(media_type: str | None, form: str | None) -> None:
    assert media.image_format(media_type) == form


@pytest.mark.parametrize(
    ("media_type", "name", "form"),
    [
        ("application/pdf", None, "pdf"),
        (None, "a.DOCX", "docx"),
        ("application/octet-stream", "a.csv", "csv"),
        ("text/x-python", "a.py", "txt"),
        ("application/json", None, "txt"),
        ("application/ld+json", None, "txt"),
        ("application/zip", "a.zip", None),
        (None, None, None),
    ],
)
def test_a_document_has_the_format_of_its_type_else_of_its_name(
    media_type: str | None, name: str | None, form: str | None
) -> None:
    assert media.document_format(media_type, name) == form


def test_what_is_not_known_yet_keeps_its_word() -> None:
    assert media.video_type("av3") == "video/av3"
    assert media.document_type("odt") == "application/odt"
    assert media.audio_format("x-aac") == "aac"
    assert media.audio_format("wav") == "wav"
    assert media.video_format(None) is None
    assert media.video_format("video/av3") is None


@pytest.mark.parametrize(
    ("name", "fitted"),
    [
        ("report.pdf", "report-pdf"),
        ("A (1) [x]-y", "A (1) [x]-y"),
        ("a   b\t\nc", "a b c"),
        ("", "document"),
        (None, "document"),
        ("  ", "document"),
        ("x" * 300, "x" * 200),
        ("hé/llo_1", "h-llo-1"),
    ],
)
def test_names_are_made_of_what_the_api_takes(name: str | None, fitted: str) -> None:
    assert media.document_name(name, set()) == fitted
    assert re.fullmatch(r"[A-Za-z0-9()\[\]-]+(?:\s[A-Za-z0-9()\[\]-]+)*", fitted)


def test_no_two_documents_have_one_name() -> None:
    taken: set[str] = set()
    names = [media.document_name(name, taken) for name in ("a", "a", "a", "x" * 200, "x" * 200)]
    assert names == ["a", "a (2)", "a (3)", "x" * 200, "x" * 196 + " (2)"]
    assert media.text_data("hé") == "aMOp"
