"""Vocabularies of the user's own: a `tokenizer.json` of Hugging Face or the head of a GGUF file, made ready for the engine.

What was seen to give the same tokens as the reference (`tokenizers`, llama.cpp) is read; anything else is refused with what
it is, and nothing is guessed. Control tokens are left out beforehand, so that none is matched in what a user writes; tokens
that were added as ordinary ones stay, and are matched there as the reference does.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal

import msgspec
from msgspec import Struct

from penstock.tokens.gguf import CONTROL, UNKNOWN, UNUSED, USER_DEFINED, GgufVocabulary

MODELS = ("BPE", "Unigram", "WordPiece")
NORMALIZERS = ("NFC", "NFD", "NFKC", "NFKD", "Prepend", "Replace", "Lowercase", "BertNormalizer", "Sequence")
PRE_TOKENIZERS = ("ByteLevel", "Split", "Digits", "Metaspace", "BertPreTokenizer", "Sequence")

LONGEST_SYMBOL = 128
"""Characters of a symbol that are looked at."""

SENTINEL = "\U0010ffff"
"""What stands before a text where the engine would put a space there, and the vocabulary does not want one."""

_WORDS = re.compile(r"\\[wWbB]")
_LETTER_SPACE = re.compile("[A-Za-z\u00c0-\uffff]\u2581")
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_ENDS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_ENDS}"
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_LOWER, _UPPER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_WORD = r"[^\r\n\p{L}\p{N}]?"
_O200K = (
    rf"{_WORD}{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|{_WORD}{_UPPER}+{_LOWER}*{_CONTRACTIONS}?|\p{{N}}{{1,3}}|"
    rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_ENDS}"
)
_TEKKEN = _O200K.replace(f"{_CONTRACTIONS}?", "").replace(r"\p{N}{1,3}", r"\p{N}")
_DEEPSEEK = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
    + _ENDS,
)

_GGUF_LOWER, _GGUF_UPPER = r"[\p{L}&&[^A-Z]]", r"[\p{L}&&[^a-z]]"
_GGUF_O200K = _O200K.replace(_LOWER, _GGUF_LOWER).replace(_UPPER, _GGUF_UPPER)
_GGUF_TEKKEN = _TEKKEN.replace(_LOWER, _GGUF_LOWER).replace(_UPPER, _GGUF_UPPER)
"""As llama.cpp has them, which tells the case of ASCII letters alone and takes no mark for a part of a word."""

GGUF_SPLITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "gpt-2": (_GPT2,),
        "llama-bpe": (_LLAMA3,),
        "llama3": (_LLAMA3,),
        "llama-v3": (_LLAMA3,),
        "dbrx": (_LLAMA3,),
        "smaug-bpe": (_LLAMA3,),
        "chatglm-bpe": (_LLAMA3,),
        "glm4": (_LLAMA3,),
        "qwen2": (_QWEN2,),
        "deepseek-r1-qwen": (_QWEN2,),
        "gpt-4o": (_GGUF_O200K,),
        "llama4": (_GGUF_O200K,),
        "tekken": (_GGUF_TEKKEN,),
        "deepseek-v3": _DEEPSEEK,
        "smollm": (r"\p{N}", _GPT2),
        "starcoder": (r"\p{N}", _GPT2),
        "refact": (r"\p{N}", _GPT2),
        "command-r": (r"\p{N}", _GPT2),
    }
)
"""How llama.cpp cuts text before it merges bytes, by the name that a GGUF file gives; as in its llama-vocab.cpp."""

_WHOLE_WORDS = frozenset({"llama-bpe", "llama3", "llama-v3", "tekken", "gpt-4o", "llama4"})
"""Where a word that is a token is taken as that, whatever the merges would make of it."""

_SURE_WORDS = frozenset({_GPT2, _LLAMA3, _QWEN2, _O200K, _TEKKEN, _GGUF_O200K, _GGUF_TEKKEN, _DEEPSEEK[2]})

Cut = Literal["word", "space", "dropped space", "nowhere"]
"""Where a text may be cut without changing its tokens.

word           after a letter and before a character that is neither letter, mark nor apostrophe: every GPT-style split
               pattern ends its word there, and none of them looks back from the next one
space          after a letter and before a space: no token of the vocabulary holds a letter and then a space
dropped space  the same, but the vocabulary puts a space before every text, so the space itself is left out
nowhere        nothing is known about the vocabulary
"""


class _Added(Struct, frozen=True):
    content: str
    special: bool = False


class _File(Struct):
    """A `tokenizer.json`, as far as it has to be looked into; the rest goes to the engine as it stands."""

    model: msgspec.Raw
    version: str = "1.0"
    added_tokens: list[msgspec.Raw] = []
    normalizer: Any = None
    pre_tokenizer: Any = None
    post_processor: Any = None
    decoder: msgspec.Raw = msgspec.Raw(b"null")


class _Model(Struct):
    type: str = ""
    vocab: msgspec.Raw = msgspec.Raw(b"{}")
    dropout: float | None = None
    continuing_subword_prefix: str | None = None
    end_of_word_suffix: str | None = None


class OwnVocabulary(Struct, frozen=True):
    """What the engine needs: a `tokenizer.json`, or the pieces and scores of SentencePiece's BPE, and where text may be cut.

    `symbols` are ordinary tokens that are matched as they stand, of `pieces`; `prefix` goes before every text.
    """

    cut: Cut
    tokenizer_json: bytes = b""
    pieces: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    symbols: tuple[tuple[str, int], ...] = ()
    prefix: str = ""
    nfc: bool = False
    is_loose: bool = False
    """Rare and unknown characters are cut otherwise than in the reference: text with any beyond ASCII is an estimate."""


def from_tokenizer_json(text: bytes) -> OwnVocabulary:
    """Read a `tokenizer.json`. Raises ValueError, which says what in it cannot be used."""
    try:
        file = msgspec.json.decode(text, type=_File)
        model = msgspec.json.decode(file.model, type=_Model)
        added = [msgspec.json.decode(raw, type=_Added) for raw in file.added_tokens]
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"This tokenizer.json cannot be used: {error}. Check that it is the whole file.") from error
    if model.type not in MODELS:
        raise ValueError(
            f"This tokenizer.json cannot be used: its model is {model.type or 'of no type'}, {_known(MODELS)}."
        )
    if model.dropout or model.continuing_subword_prefix not in (None, "", "##") or model.end_of_word_suffix:
        raise ValueError("This tokenizer.json cannot be used: dropout and marks of a word's end are not supported.")
    _check(file.normalizer, "normalizers", "normalizer", NORMALIZERS)
    _check(file.pre_tokenizer, "pretokenizers", "pre_tokenizer", PRE_TOKENIZERS)
    for step in _parts(file.pre_tokenizer, "pretokenizers"):
        _check_split(step)
    file.post_processor = None
    control = frozenset(token.content for token in added if token.special)
    file.added_tokens = [raw for raw, token in zip(file.added_tokens, added, strict=True) if not token.special]
    cut: Cut = "nowhere"
    if model.type == "BPE":
        is_bytes = any(part["type"] == "ByteLevel" for part in _parts(file.pre_tokenizer, "pretokenizers"))
        try:
            cut = _cut_of_bytes(file) if is_bytes else _cut_of_pieces(file, control)
        except msgspec.DecodeError as error:
            raise ValueError(
                f"This tokenizer.json cannot be used: {error}. Check that it is the whole file."
            ) from error
    nfc = [part["type"] for part in _parts(file.normalizer, "normalizers")] == ["NFC"]
    return OwnVocabulary(cut, msgspec.json.encode(file), nfc=nfc, is_loose=model.type != "BPE")


def from_gguf(vocabulary: GgufVocabulary) -> OwnVocabulary:
    """Make what llama.cpp makes of a GGUF file's vocabulary. Raises ValueError where it is of a kind that is not supported."""
    if vocabulary.model == "llama":
        return _from_pieces(vocabulary)
    if vocabulary.model != "gpt2":
        raise ValueError(
            f"This GGUF file cannot be used: its vocabulary is of the kind {vocabulary.model!r}, {_known(('gpt2', 'llama'))}."
        )
    splits = GGUF_SPLITS.get(vocabulary.pre)
    if splits is None:
        raise ValueError(
            f"This GGUF file cannot be used: its pre-tokenizer is {vocabulary.pre!r}, {_known(tuple(GGUF_SPLITS))}."
        )
    isolated = [{"type": "Split", "pattern": {"Regex": one}, "behavior": "Isolated", "invert": False} for one in splits]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    tokens = vocabulary.tokens
    content = {
        "version": "1.0",
        "added_tokens": [
            {"id": at, "content": token, **flags}
            for at, (token, kind) in enumerate(zip(tokens, vocabulary.kinds, strict=True))
            if kind == USER_DEFINED and token
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*isolated, level]},
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "ignore_merges": vocabulary.pre in _WHOLE_WORDS,
            "vocab": {token: at for at, token in enumerate(tokens)},
            "merges": [pair.split(" ", 1) for pair in vocabulary.merges if " " in pair],
        },
    }
    cut: Cut = "word" if splits[-1] in _SURE_WORDS else "nowhere"
    return OwnVocabulary(cut, msgspec.json.encode(content))


def _from_pieces(vocabulary: GgufVocabulary) -> OwnVocabulary:
    """Take SentencePiece's pieces; those that no text may become get a name that none holds."""
    if not vocabulary.scores:
        raise ValueError("This GGUF file cannot be used: its vocabulary has no scores.")
    pieces, symbols = [], []
    for at, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True)):
        is_hidden = kind in (CONTROL, UNKNOWN, UNUSED)
        pieces.append(f"{SENTINEL}{at}" if is_hidden and at else token)
        if kind == USER_DEFINED and token:
            symbols.append((token.replace("\u2581", " "), at))
    scores = vocabulary.scores
    cut: Cut = "nowhere" if any(map(_LETTER_SPACE.search, pieces)) else "space"
    if vocabulary.space_prefix:
        cut = "dropped space" if cut == "space" else cut
        return OwnVocabulary(cut, pieces=tuple(pieces), scores=scores, symbols=tuple(symbols))
    pieces += [SENTINEL, f"\u2581{SENTINEL}"]
    scores += (0.0, 1e30)
    return OwnVocabulary(cut, pieces=tuple(pieces), scores=scores, symbols=tuple(symbols), prefix=SENTINEL)


def pattern_of(symbols: Iterable[str]) -> str:
    """Make a regular expression that finds the longest of these texts at a place, in a time that does not grow with their number."""
    tree: dict[str, Any] = {}
    for symbol in symbols:
        node = tree
        for char in symbol[:LONGEST_SYMBOL]:
            node = node.setdefault(char, {})
        node[""] = None
    return _branches(tree)


def _branches(node: dict[str, Any]) -> str:
    parts = [re.escape(char) + _branches(rest) for char, rest in node.items() if char]
    if not parts:
        return ""
    return f"(?:{'|'.join(parts)}){'?' if '' in node else ''}"


def _known(names: tuple[str, ...]) -> str:
    return f"supported are {', '.join(names)}"


def _parts(part: Any, inner: str) -> Iterator[Mapping[str, Any]]:
    """Give the steps of a normalizer or a pre-tokenizer, those of sequences in place of them."""
    todo = [part]
    while todo:
        one = todo.pop(0)
        if one is None:
            continue
        if not isinstance(one, Mapping) or not isinstance(one.get("type"), str):
            raise ValueError("This tokenizer.json cannot be used: a step in it has no type.")  # noqa: TRY004 - of the file
        if one["type"] == "Sequence":
            rest = one.get(inner)
            todo[:0] = rest if isinstance(rest, list) else []
        else:
            yield one


def _check(part: Any, inner: str, name: str, known: tuple[str, ...]) -> None:
    for one in _parts(part, inner):
        if one["type"] not in known:
            raise ValueError(f"This tokenizer.json cannot be used: its {name} is {one['type']!r}, {_known(known)}.")


def _check_split(step: Mapping[str, Any]) -> None:
    """Refuse patterns that the engine was seen to understand otherwise: its words are not those of Hugging Face's engine."""
    if step["type"] != "Split":
        return
    pattern, behavior = step.get("pattern"), step.get("behavior")
    regex = pattern.get("Regex") if isinstance(pattern, Mapping) else None
    if isinstance(regex, str) and (_WORDS.search(regex) or behavior not in ("Isolated", "Removed", "Contiguous")):
        raise ValueError(
            f"This tokenizer.json cannot be used: its split pattern {regex!r} ({behavior}) has \\w or \\b in it, or splits "
            "otherwise than Isolated, Removed or Contiguous."
        )


def _cut_of_bytes(file: _File) -> Cut:
    """Say where texts may be cut: behind words, where the split pattern is one that is known to end them there."""
    steps = list(_parts(file.pre_tokenizer, "pretokenizers"))
    if steps[-1]["type"] != "ByteLevel" or steps[-1].get("add_prefix_space") or _changes_spaces(file):
        return "nowhere"
    pattern = steps[-2].get("pattern") if len(steps) > 1 else None
    regex = pattern.get("Regex") if isinstance(pattern, Mapping) else None
    return "word" if (_GPT2 if steps[-1].get("use_regex", True) else regex) in _SURE_WORDS else "nowhere"


def _cut_of_pieces(file: _File, control: frozenset[str]) -> Cut:
    """Say where texts may be cut, and hide the control tokens, which the engine would keep apart in the text of a user."""
    model = msgspec.json.decode(file.model, type=dict[str, msgspec.Raw])
    vocab = msgspec.json.decode(model.get("vocab", b"{}"), type=dict[str, int])
    if not vocab:
        raise ValueError(
            "This tokenizer.json cannot be used: its vocabulary is empty. Check that it is the whole file."
        )
    merges = msgspec.json.decode(model.get("merges", b"[]"), type=list[tuple[str, str] | str])
    control -= {pair.replace(" ", "", 1) if isinstance(pair, str) else "".join(pair) for pair in merges}
    model["vocab"] = msgspec.Raw(
        msgspec.json.encode({SENTINEL + token if token in control else token: at for token, at in vocab.items()})
    )
    unknown = msgspec.json.decode(model.get("unk_token", b"null"), type=str | None)
    if unknown in control:
        model["unk_token"] = msgspec.Raw(msgspec.json.encode(SENTINEL + unknown))
    file.model = msgspec.Raw(msgspec.json.encode(model))
    if any(map(_LETTER_SPACE.search, vocab)):
        return "nowhere"
    names = [part["type"] for part in _parts(file.normalizer, "normalizers")]
    steps = [part["type"] for part in _parts(file.pre_tokenizer, "pretokenizers")]
    if names == ["Prepend", "Replace"] and not steps:
        return "dropped space"
    return "space" if names == ["Replace"] and steps in ([], ["Split"]) else "nowhere"


def _changes_spaces(file: _File) -> bool:
    return any(part["type"] not in ("NFC", "NFD", "NFKC", "NFKD") for part in _parts(file.normalizer, "normalizers"))
