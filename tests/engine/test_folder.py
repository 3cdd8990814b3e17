"""A whole folder becomes a model, or is refused with what is wrong with it."""

import json

import pytest
from tests.engine.random_models import LLAMA, SPECIAL, TEMPLATE, write_folder

from penstock.engine.errors import BadModel
from penstock.engine.folder import load, mini
from penstock.engine.tokenizer import train

MESSAGES = [{"role": "user", "content": "the cat"}]
RENDERED = "<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "small", LLAMA)


def refused(folder):
    with pytest.raises(BadModel) as caught:
        load(folder)
    return str(caught.value)


def change(folder, name, **members):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | members))


def test_a_folder_has_all_that_answering_takes(folder):
    model = load(folder)

    assert (model.name, model.window, model.config.layers) == ("small", 512, 3)
    assert model.template.render(MESSAGES) == RENDERED
    assert model.tokenizer.decode(model.tokenizer.encode(RENDERED, special=True), special=True) == RENDERED
    assert model.transformer.cache(8).bound == 8


def test_the_name_is_the_folders_also_where_it_is_given_relatively(folder, monkeypatch):
    monkeypatch.chdir(folder)

    assert load(type(folder)()).name == "small"


def test_stop_tokens_come_from_all_the_places_where_models_name_them(folder):
    assert load(folder).eos_ids == {1, 2, 3}, "config.json, generation_config.json, and the end of turn of the template"

    (folder / "generation_config.json").unlink()
    change(folder, "tokenizer_config.json", eos_token=None)
    change(folder, "config.json", eos_token_id=None)
    assert load(folder).eos_ids == frozenset()


def test_begin_and_end_tokens_reach_the_template(folder):
    change(folder, "tokenizer_config.json", chat_template="{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}")

    assert load(folder).template.render(MESSAGES) == "<|begin_of_text|>the cat<|im_end|>"


def test_a_template_of_several_is_the_default_one(folder):
    named = [{"name": "rag", "template": "no"}, {"name": "default", "template": "yes"}]
    change(folder, "tokenizer_config.json", chat_template=named)
    assert load(folder).template.render(MESSAGES) == "yes"

    change(folder, "tokenizer_config.json", chat_template=named[:1])
    assert load(folder).template is None


def test_a_template_in_a_file_of_its_own_goes_first(folder):
    (folder / "chat_template.jinja").write_text("mine: " + TEMPLATE)

    assert load(folder).template.render(MESSAGES) == "mine: " + RENDERED


def test_a_model_without_chat_has_no_template_and_needs_no_further_files(folder):
    (folder / "tokenizer_config.json").unlink()
    (folder / "generation_config.json").unlink()
    model = load(folder)

    assert model.template is None
    assert model.eos_ids == {1}


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()

    assert refused(folder) == f"{folder} lacks {name}: fetch the model's whole folder."


def test_a_missing_folder_is_named(tmp_path):
    assert f"There is no folder {tmp_path / 'none'}" in refused(tmp_path / "none")


def test_missing_weights_are_told(folder):
    (folder / "model.safetensors").unlink()

    assert "holds neither model.safetensors nor model.safetensors.index.json" in refused(folder)


def test_a_file_that_cannot_be_read_is_named(folder):
    (folder / "generation_config.json").unlink()
    (folder / "generation_config.json").mkdir()

    assert "generation_config.json cannot be read: Is a directory" in refused(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_a_damaged_file_is_named(folder, name):
    (folder / name).write_text("{")

    assert f"{name} is not as it should be" in refused(folder)


def test_a_damaged_template_file_is_named(folder):
    (folder / "chat_template.jinja").write_bytes(b"\xff")

    assert "chat_template.jinja is not UTF-8" in refused(folder)


@pytest.mark.parametrize("vocab_size", [280, 284])
def test_a_tokenizer_of_another_model_is_refused(folder, vocab_size):
    change(folder, "config.json", vocab_size=vocab_size)

    assert f"tokenizer.json has ids up to 284, but config.json speaks of {vocab_size} tokens" in refused(folder)


def test_control_tokens_beyond_the_model_are_borne_with(tmp_path):
    """Some fine-tuned models come with a padding token that the model itself has no row for."""
    folder = write_folder(tmp_path / "small", LLAMA | {"vocab_size": 290})
    tokenizer = json.loads(train(["the cat"], 270, SPECIAL).to_json())
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer["added_tokens"].append({"id": 290, "content": "<pad>"} | special)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))

    assert load(folder).tokenizer.size == 291


def test_the_small_model_of_the_package_has_a_place():
    assert mini().name == "mini"
    assert mini().parent.name == "engine"
