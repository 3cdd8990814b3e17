"""Reference tokenizers for every vocabulary: other people's engines, which share no line with the one that is tested.

OpenAI's tables come with bpe-openai and run in tiktoken; Mistral's come with mistral-common, which reads them with
sentencepiece and tiktoken. The tables of the other families are taken out of the engine under test and given to tiktoken,
sentencepiece or Hugging Face's tokenizers, with the split pattern, the normalizer and the scores that the publisher of the
model uses. So what is compared is how text becomes tokens: patterns, Unicode classes, merging, byte fallback.
"""

import gzip
import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import distribution
from itertools import pairwise
from typing import Any

import splintr
import tiktoken

from penstock.tokens.vocabularies import KNOWN

Encode = Callable[[str], list[int]]

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_LOWER, _UPPER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|"
    r"\s+(?!\S)|\s"
)
"""tiktoken, openai_public.py."""

O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?|"
    rf"\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_REST}"
)
"""tiktoken, openai_public.py."""

LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_REST}"
"""llama-models, llama3/tokenizer.py; also in tokenizer.json of GLM-4, Phi-4 and OLMo 2."""

QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
"""tokenization_qwen.py, which takes each digit on its own."""

_HAN = r"&&[^\p{Han}]"
KIMI = r"[\p{Han}]+|" + O200K.replace(r"\p{M}]", rf"\p{{M}}{_HAN}]").replace("/]*", "]*")
"""tokenization_kimi.py."""

_DEEPSEEK_TEXT = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
    + _REST
)
DEEPSEEK = (r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", _DEEPSEEK_TEXT)
"""tokenizer.json of DeepSeek V3: one split after the other."""

PATTERNS = {
    "cl100k": CL100K,
    "o200k": O200K,
    "o200k_harmony": O200K,
    "llama3": LLAMA3,
    "qwen2": QWEN2,
    "phi4": LLAMA3,
    "glm4": LLAMA3,
    "olmo2": LLAMA3,
    "kimi_k2": KIMI,
}
PUBLISHED = {"cl100k": "cl100k_base", "o200k": "o200k_base", "o200k_harmony": "o200k_base"}
"""Vocabularies whose tables another package brings along."""

ENGINES = dict.fromkeys(PATTERNS, "tiktoken") | {
    "deepseek_v3": "tokenizers",
    **dict.fromkeys(("mistral_v1", "mistral_v2", "mistral_v3"), "mistral-common"),
    **dict.fromkeys(("llama2", "codellama", "gemma2", "gemma3", "gemma4"), "sentencepiece"),
}
"""What each vocabulary is compared with."""


@cache
def reference(name: str) -> Encode:
    """Give the reference for a vocabulary: text without lone surrogates to ids, with nothing around them."""
    engine = ENGINES[name]
    if engine == "mistral-common":
        return _mistral(name)
    if engine == "sentencepiece":
        return _sentencepiece(name)
    if engine == "tokenizers":
        return _deepseek(name)
    encode = tiktoken.Encoding(name, pat_str=PATTERNS[name], mergeable_ranks=_ranks(name), special_tokens={}).encode
    ordinary: Encode = lambda text: encode(text, disallowed_special=())  # noqa: E731  two shapes of one thing
    if not KNOWN[name].nfc:
        return ordinary
    from tokenizers.normalizers import NFC

    normalize = NFC().normalize_str
    return lambda text: ordinary(normalize(text))


def _ranks(name: str) -> dict[bytes, int]:
    if name in PUBLISHED:
        path = distribution("bpe-openai").locate_file(f"bpe_openai/data/{PUBLISHED[name]}.tiktoken.gz")
        return read_ranks(gzip.decompress(path.read_bytes()))
    return {data: number for number, data in ordinary(name)}


def read_ranks(text: bytes) -> dict[bytes, int]:
    """Read a table in tiktoken's form: a token in base64 and its rank on each line."""
    import base64

    rows = (line.split() for line in text.splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in rows}


def ordinary(name: str) -> Iterator[tuple[int, bytes]]:
    """Give the tokens of a vocabulary of the engine that are no control tokens, with their bytes."""
    engine_name = KNOWN[name].engine
    engine = splintr.Tokenizer.from_pretrained(engine_name)
    control = set(engine.special_tokens().values())
    seen: set[bytes] = set()
    for number in range(splintr.base_vocab_size(engine_name)):
        if number in control:
            continue
        try:
            data = engine.decode_token_bytes(number)
        except ValueError:  # a gap in the table
            continue
        if data and data not in seen:
            seen.add(data)
            yield number, data


# -- mistral-common --


def _mistral(name: str) -> Encode:
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    made: dict[str, Callable[[], Any]] = {
        "mistral_v1": MistralTokenizer.v1,
        "mistral_v2": MistralTokenizer.v2,
        "mistral_v3": lambda: MistralTokenizer.v3(is_tekken=True),
    }
    encode = made[name]().instruct_tokenizer.tokenizer.encode
    return lambda text: encode(text, bos=False, eos=False)


# -- sentencepiece --

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
GEMMA_BYTES = {"gemma2": 217, "gemma3": 238, "gemma4": 238}
"""Id of the first token for a byte; what stands before it is control tokens and symbols that the publisher defined."""


GEMMA_TAIL = range(255_999, 262_144)
"""What Gemma has behind the learned tokens: images and tokens that are not used, yet matched."""
LLAMA_SIZE = 32_000
"""Code Llama has its infill tokens behind those of Llama 2."""
SPACE = "\u2581"
SYMBOL = re.compile(rf"</?[a-z]+\d*>|<2mass>|\[@BOS@\]|\[multimodal\]|\n+|{SPACE}+|\t+")
"""Tokens of Gemma that are matched as they stand before anything is merged; the others there are control tokens."""


def _sentencepiece(name: str) -> Encode:
    import sentencepiece

    engine_name = KNOWN[name].engine
    engine = splintr.Tokenizer.from_pretrained(engine_name)
    control = set(engine.special_tokens().values())
    first = GEMMA_BYTES.get(name, 3)
    pieces = []
    for number in range(splintr.base_vocab_size(engine_name)):
        data = engine.decode_token_bytes(number)
        text = data.decode("utf-8", "replace").replace(" ", SPACE)
        is_own = name in GEMMA_BYTES and (number < first or number in GEMMA_TAIL or not text.strip("\t"))
        if first <= number < first + 256:
            pieces.append((f"<0x{number - first:02X}>", 0.0, BYTE))
        elif number in control or not data or number >= LLAMA_SIZE * (name == "codellama") > 0:
            is_unknown = number == (3 if name in GEMMA_BYTES else 0)
            pieces.append((f"<control {number}>", 0.0, UNKNOWN if is_unknown else CONTROL))
        elif is_own:
            pieces.append((text, 0.0, USER_DEFINED if SYMBOL.fullmatch(text) else CONTROL))
        else:
            pieces.append((text, -1e9 if not text.strip(SPACE) else float(first + 256 - number), NORMAL))
    dummy_prefix = name not in GEMMA_BYTES
    processor = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model(pieces, dummy_prefix=dummy_prefix))
    return processor.encode


def sentencepiece_model(pieces: list[tuple[str, float, int]], *, dummy_prefix: bool) -> bytes:
    """Write a model file of sentencepiece (sentencepiece_model.proto): BPE with byte fallback, text as it stands."""
    import struct

    def number(value: int) -> bytes:
        out = bytearray()
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        return bytes([*out, value])

    def field(tag: int, data: bytes) -> bytes:
        return number(tag << 3 | 2) + number(len(data)) + data

    def flag(tag: int, value: int) -> bytes:
        return number(tag << 3) + number(value)

    rows = b"".join(
        field(1, field(1, text.encode()) + number(2 << 3 | 5) + struct.pack("<f", score) + flag(3, kind))
        for text, score, kind in pieces
    )
    at = {kind: next((i for i, one in enumerate(pieces) if one[2] == kind), 0) for kind in (UNKNOWN, CONTROL)}
    trainer = flag(3, 2) + flag(4, len(pieces)) + flag(35, 1) + flag(40, at[UNKNOWN])  # BPE, size, byte fallback, unk
    normalizer = field(1, b"identity") + flag(3, int(dummy_prefix)) + flag(4, 0) + flag(5, 1)
    return rows + field(2, trainer) + field(3, normalizer)


# -- tokenizers --


def _deepseek(name: str) -> Encode:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    letters = letters_of_bytes()
    ranks = {data: number for number, data in ordinary(name)}
    merges = [tuple(part.decode("latin-1").translate(letters) for part in pair) for pair in merges_of(ranks)]
    vocab = {data.decode("latin-1").translate(letters): number for data, number in ranks.items()}
    made = Tokenizer(models.BPE(vocab, merges))
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in DEEPSEEK]
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return lambda text: made.encode(text).ids


def letters_of_bytes() -> dict[int, str]:
    """Give the printable characters that stand for bytes in byte-level vocabularies."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + at) for at, byte in enumerate(others)}


def merges_of(ranks: dict[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """Give the merges of a table of ranks: what each token is made of by all merges before its own."""
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) == 1:
            continue
        parts = [token[at : at + 1] for at in range(len(token))]
        while len(parts) > 2:
            pairs = [(ranks.get(left + right, rank), at) for at, (left, right) in enumerate(pairwise(parts))]
            least, at = min(pairs)
            if least >= rank:
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            yield parts[0], parts[1]
