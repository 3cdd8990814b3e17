"""Vocabularies that the configuration points at: read, used by the line, and said to be wrong where they are."""

import logging

import pytest
from tests.e2e.model import write_model
from tests.tokens.test_vocabularies import tokenizer_json

from penstock import tokenizer_files
from penstock.call import Who
from penstock.config import catalog_text, load
from penstock.routing.catalog import read_catalog
from penstock.routing.router import Router
from penstock.target import Profile, Target
from penstock.tokenizer_files import load_tokenizer, read_tokenizer
from penstock.tokens.count import Count, count_text
from penstock.warming import warm


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(tokenizer_json())
    return path


def test_a_tokenizer_json_and_a_gguf_file_are_told_apart_by_their_bytes(file, tmp_path):
    gguf = write_model(tmp_path / "tokenizer.json.gguf")
    assert read_tokenizer(file).encode("hello") == [261]
    assert [piece.text for piece in read_tokenizer(gguf).pieces("the inn")] == [b"the", b" ", b"in", b"n"]


@pytest.mark.parametrize(
    ("content", "said"), [(b"{}", "cannot be used"), (b"GGUF", "cut short"), (None, "cannot be read")]
)
def test_a_file_that_cannot_be_used_says_so(tmp_path, content, said):
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_tokenizer(path)
    assert load_tokenizer(str(path)).endswith("Its models' prompts are estimated.")


def test_a_file_beyond_all_measure_is_not_read(file, monkeypatch):
    monkeypatch.setattr(tokenizer_files, "LONGEST_BYTES", 100)
    with pytest.raises(ValueError, match="longer than any"):
        read_tokenizer(file)


def test_a_vocabulary_that_everybody_knows_needs_no_file():
    assert load_tokenizer(None) == load_tokenizer("o200k") == ""


async def test_the_models_of_a_provider_are_counted_with_the_file_that_it_names(file, tmp_path):
    text = '[providers.box]\nkind = "scripted"\ntokenizer = "tokenizer.json"\n[models.a]\ntargets = ["box/gpt-4o"]\n'
    (tmp_path / "penstock.toml").write_text(text)
    config = load(str(tmp_path / "penstock.toml"), {"PENSTOCK_HOME": str(tmp_path / "home")})
    router = Router(config, read_catalog(catalog_text()), {"box": ""})
    target = router.plan("a", Who(admin=True)).targets[0]
    assert target.profile.context_tokens == 128_000, "all else is known of the model"
    assert count_text("hello", target.profile).certainty == "estimated", "it is not loaded yet"

    await warm((target,), {"box": object()})

    assert count_text("hello", target.profile) == Count(1, "exact", (1, 1))


async def test_a_file_that_cannot_be_used_is_a_line_in_the_log_and_its_models_are_estimated(tmp_path, caplog):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b"{}")
    target = Target("box/m", "box", "m", "", Profile(tokenizer=str(path)), free=True)
    with caplog.at_level(logging.WARNING, "penstock"):
        await warm((target,), {"box": object()})
    assert "prompts are estimated" in caplog.text
    assert count_text("hello", target.profile).certainty == "estimated"
