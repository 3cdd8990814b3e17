"""The file `tokenizer.json` of the Hugging Face `tokenizers` library, as typed values: read, checked, written.

Covers what byte-pair encoding uses: byte-level vocabularies (GPT-2, Llama 3, Qwen2 and their kin) and SentencePiece-style
ones with byte fallback (Llama 2, Mistral). Anything else is refused with its place in the file; nothing is guessed. It
knows the form of the file only: `pretokenize.py`, `bpe.py`, `added.py` and `detokenize.py` say what the members do.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from penstock.engine.errors import BadModel


class Pattern(Struct, frozen=True, omit_defaults=True):
    """What to look for: a text as it stands, or a regular expression. Exactly one of both is given."""

    string: str | UnsetType = field(name="String", default=UNSET)
    regex: str | UnsetType = field(name="Regex", default=UNSET)

    def __post_init__(self) -> None:
        if (self.string is UNSET) == (self.regex is UNSET):
            raise ValueError("a pattern holds either String or Regex")


class Nfc(Struct, frozen=True, tag="NFC"):
    """Unicode normal form C."""


class Nfd(Struct, frozen=True, tag="NFD"):
    """Unicode normal form D."""


class Nfkc(Struct, frozen=True, tag="NFKC"):
    """Unicode normal form KC."""


class Nfkd(Struct, frozen=True, tag="NFKD"):
    """Unicode normal form KD."""


class Prepend(Struct, frozen=True, tag="Prepend"):
    """Puts a text before every text that is not empty."""

    prepend: str


class Replace(Struct, frozen=True, tag="Replace"):
    """Puts one text for another: a normalizer, and a step of a decoder as well."""

    pattern: Pattern
    content: str


class NormalizerSequence(Struct, frozen=True, tag="Sequence"):
    """Normalizers, one after the other."""

    normalizers: tuple["Normalizer", ...]


Normalizer = Nfc | Nfd | Nfkc | Nfkd | Prepend | Replace | NormalizerSequence

Behavior = Literal["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


class Split(Struct, frozen=True, tag="Split"):
    """Cuts where a pattern matches; the behavior says to which piece the match belongs."""

    pattern: Pattern
    behavior: Behavior
    invert: bool = False


class Digits(Struct, frozen=True, tag="Digits"):
    """Cuts numbers off, each digit on its own if so said."""

    individual_digits: bool = False


class ByteLevel(Struct, frozen=True, tag="ByteLevel"):
    """Writes each byte of UTF-8 as one printable character; as a decoder, reads it back."""

    add_prefix_space: bool = True
    trim_offsets: bool = True
    use_regex: bool = True


class Metaspace(Struct, frozen=True, tag="Metaspace"):
    """Writes spaces as a visible character and may put one before the text. Older files say `add_prefix_space`."""

    replacement: str = "\u2581"
    prepend_scheme: Literal["always", "never", "first"] | UnsetType = UNSET
    add_prefix_space: bool | UnsetType = UNSET
    split: bool = True

    @property
    def scheme(self) -> str:
        """When a space goes before the text, whichever of both ways the file uses to say so."""
        if self.prepend_scheme is UNSET:
            return "never" if self.add_prefix_space is False else "always"
        return self.prepend_scheme


class PreTokenizerSequence(Struct, frozen=True, tag="Sequence"):
    """Pre-tokenizers, each working on the pieces of the one before."""

    pretokenizers: tuple["PreTokenizer", ...]


PreTokenizer = Split | Digits | ByteLevel | Metaspace | PreTokenizerSequence


class ByteFallback(Struct, frozen=True, tag="ByteFallback"):
    """Reads tokens like `<0x0A>` as bytes."""


class Fuse(Struct, frozen=True, tag="Fuse"):
    """Joins the tokens' texts, so that what follows sees one text."""


class Strip(Struct, frozen=True, tag="Strip"):
    """Takes up to `start` characters from the beginning, and up to `stop` from the end."""

    content: str
    start: int
    stop: int


class DecoderSequence(Struct, frozen=True, tag="Sequence"):
    """Steps of a decoder, one after the other."""

    decoders: tuple["Decoder", ...]


Decoder = ByteLevel | Replace | ByteFallback | Fuse | Strip | DecoderSequence


class AddedToken(Struct, frozen=True):
    """A token that is matched in the text before anything else is done to it.

    special     a control token: not a part of anybody's text, and left out by `decode` unless asked for
    normalized  looked for in the normalized text rather than in the text as it came
    lstrip      takes the white space before it along; `rstrip` that after it
    single_word not matched inside a word
    """

    id: int
    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False


class Bpe(Struct, frozen=True, tag="BPE"):
    """Byte-pair encoding: texts of tokens to ids, and which pairs are joined, in the order of learning."""

    vocab: dict[str, int]
    merges: list[tuple[str, str] | str]
    dropout: float | None = None
    unk_token: str | None = None
    continuing_subword_prefix: str | None = None
    end_of_word_suffix: str | None = None
    fuse_unk: bool = False
    byte_fallback: bool = False
    ignore_merges: bool = False

    def pairs(self) -> list[tuple[str, str]]:
        """Give the merges as pairs; older files write them with a space between."""
        found = [pair if isinstance(pair, tuple) else tuple(pair.split(" ")) for pair in self.merges]
        if bad := next((pair for pair in found if len(pair) != 2), None):
            raise BadModel(f"tokenizer.json: the merge {' '.join(bad)!r} is not two tokens with one space between")
        return found  # type: ignore[return-value]  # mypy does not follow the check of lengths


class TokenizerFile(Struct, frozen=True):
    """The whole file. The post-processor is kept as it stands: `encode` never puts tokens around a text."""

    model: Bpe
    version: str = "1.0"
    truncation: None = None
    padding: None = None
    added_tokens: tuple[AddedToken, ...] = ()
    normalizer: Normalizer | None = None
    pre_tokenizer: PreTokenizer | None = None
    post_processor: Raw = Raw(b"null")
    decoder: Decoder | None = None


class _Lenient(Struct, frozen=True):
    """As `TokenizerFile`, but without the members that say how to cut batches, which are not our concern."""

    model: Bpe
    version: str = "1.0"
    added_tokens: tuple[AddedToken, ...] = ()
    normalizer: Normalizer | None = None
    pre_tokenizer: PreTokenizer | None = None
    post_processor: Raw = Raw(b"null")
    decoder: Decoder | None = None


def read(text: bytes) -> TokenizerFile:
    """Read the bytes of a `tokenizer.json`.

    Raises `BadModel` where they are no such file, or hold a kind of tokenizer that is not covered here.
    """
    try:
        found = msgspec.json.decode(text, type=_Lenient)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadModel(
            f"tokenizer.json cannot be used: {error}. Penstock reads byte-pair encoding only (model.type BPE), byte level "
            "or with byte fallback; check that the file is whole, or serve this model from another engine"
        ) from error
    model = found.model
    for member in ("continuing_subword_prefix", "end_of_word_suffix"):
        if getattr(model, member):
            raise BadModel(f"tokenizer.json: model.{member} is not supported; serve this model from another engine")
    if model.dropout:
        raise BadModel("tokenizer.json: model.dropout makes token ids a matter of chance; set it to null")
    return TokenizerFile(
        model=model,
        version=found.version,
        added_tokens=tuple(token for token in found.added_tokens if token.content),
        normalizer=found.normalizer,
        pre_tokenizer=found.pre_tokenizer,
        post_processor=found.post_processor,
        decoder=found.decoder,
    )


def write(file: TokenizerFile) -> bytes:
    """Write a `tokenizer.json` that the `tokenizers` library reads."""
    return msgspec.json.encode(file)


def texts(model: Bpe, added: tuple[AddedToken, ...]) -> Mapping[int, str]:
    """Give each id's text, added tokens first. Raises `BadModel` where an id is out of range or a text has two ids."""
    found: dict[int, str] = {}
    for text, number in (*model.vocab.items(), *((token.content, token.id) for token in added)):
        if not 0 <= number < 1 << 24:
            raise BadModel(f"tokenizer.json: the token {text!r} has the id {number}, which is out of range")
        if model.vocab.get(text, number) != number:
            raise BadModel(f"tokenizer.json: {text!r} is the token {model.vocab[text]} and the added token {number}")
        found[number] = text
    return found
