"""Reads a whole model folder, as it comes from the Hugging Face hub, into something that can answer.

    config.json, generation_config.json           what is computed, and which tokens end an answer
    tokenizer.json, tokenizer_config.json         text to ids; the chat template and the texts of its first and last token
    chat_template.jinja, or in the file above     how messages become a prompt
    model.safetensors, or several with an index   the weights

Opens files (with `weights.py` the only place that does) and puts the parts together; each part checks itself.
"""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import msgspec

from penstock.engine.config import Config, decode_json, id_set, read_config
from penstock.engine.errors import BadModel
from penstock.engine.template import ChatTemplate
from penstock.engine.tokenizer import Tokenizer
from penstock.engine.transformer import Transformer
from penstock.engine.weights import Weights


@dataclass(frozen=True, slots=True)
class Model:
    """A model that is ready to answer. `window` is in tokens; `template` is None where the folder has none."""

    name: str
    config: Config
    tokenizer: Tokenizer
    template: ChatTemplate | None
    transformer: Transformer
    eos_ids: frozenset[int]
    window: int


class _Added(msgspec.Struct):
    """A token that is written with its properties rather than as a text."""

    content: str


class _NamedTemplate(msgspec.Struct):
    name: str
    template: str


class _TokenizerConfig(msgspec.Struct):
    bos_token: str | _Added | None = None
    eos_token: str | _Added | None = None
    chat_template: str | list[_NamedTemplate] | None = None


class _GenerationConfig(msgspec.Struct):
    eos_token_id: int | list[int] | None = None


def mini() -> Path:
    """Give the folder of the small model that comes with the package."""
    return Path(str(resources.files(__package__) / "mini"))


def load(folder: Path) -> Model:
    """Read a model folder. BadModel says what is wrong with it and what to do."""
    if not folder.is_dir():
        raise BadModel(f"There is no folder {folder}: give the folder that holds the model's config.json.")
    config = read_config(_read(folder, "config.json"))
    tokenizer = Tokenizer.from_json(_read(folder, "tokenizer.json"))
    _check_vocabulary(tokenizer, config.vocab_size)
    words = decode_json(_read(folder, "tokenizer_config.json", b"{}"), _TokenizerConfig, "tokenizer_config.json")
    generation = decode_json(
        _read(folder, "generation_config.json", b"{}"), _GenerationConfig, "generation_config.json"
    )
    bos, eos = _text(words.bos_token), _text(words.eos_token)
    eos_ids = config.eos_ids | id_set(generation.eos_token_id) | id_set(tokenizer.special.get(eos))
    source = _template(folder, words)
    return Model(
        name=folder.resolve().name,
        config=config,
        tokenizer=tokenizer,
        template=None if source is None else ChatTemplate(source, bos=bos, eos=eos),
        transformer=Transformer(config, Weights.open(folder)),
        eos_ids=eos_ids,
        window=config.window,
    )


def _read(folder: Path, name: str, otherwise: bytes | None = None) -> bytes:
    """Read one of the folder's files; `otherwise` stands for one that need not be there."""
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError as error:
        if otherwise is not None:
            return otherwise
        raise BadModel(f"{folder} lacks {name}: fetch the model's whole folder.") from error
    except OSError as error:
        raise BadModel(f"{folder / name} cannot be read: {error.strerror or error}.") from error


def _check_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Refuse a tokenizer with more tokens than the model has; control tokens that were added for training may be beyond."""
    beyond = range(vocab_size, tokenizer.size)
    if len(beyond) > len(tokenizer.special_ids) or not tokenizer.special_ids.issuperset(beyond):
        raise BadModel(
            f"tokenizer.json has ids up to {tokenizer.size - 1}, but config.json speaks of {vocab_size} tokens: "
            "they are not of the same model."
        )


def _text(token: str | _Added | None) -> str:
    return token.content if isinstance(token, _Added) else token or ""


def _template(folder: Path, words: _TokenizerConfig) -> str | None:
    """Give the chat template: a file of its own goes first; of several, the one named default."""
    own = _read(folder, "chat_template.jinja", b"")
    if own:
        try:
            return own.decode()
        except UnicodeDecodeError as error:
            raise BadModel(f"chat_template.jinja is not UTF-8: {error}. Fetch the file again.") from error
    if isinstance(words.chat_template, list):
        named = {one.name: one.template for one in words.chat_template}
        return named.get("default")
    return words.chat_template
