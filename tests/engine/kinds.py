"""Tokenizers of every kind that the engine reads, made by the `tokenizers` library itself, and texts that are hard on them."""

import argparse
import inspect
import random
from collections.abc import Iterator
from functools import cache

import msgspec
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

PROSE = """The gate holds the water back until somebody asks for it; then it's opened, a little, and we'll see what comes.
Wer das Wasser hält, hält auch die Mühle. Où est-ce que l'eau va? ¿Por qué no ahora? Größe, naïve, façade, Ελλάδα, Москва,
今日は水が多いです。明日はどうでしょうか。 물이 흐른다 강으로. यह पानी है १२३. مرحبا بالعالم שלום. 1234567 12 3.14159 2026-11-21
👩‍👩‍👧 🎉🎉 ½ Ⅷ e\u0301 \u00e9 don't DON'T I'd we've they're
"""

PIECES = (
    *("a", "b", "the ", " water", "don't", "DON'T", "I'LL", "'s", "'S", "'\u017f", "x've", "ab", "abc", "hello world"),
    *("\r\n", "\n", "\r", "\n\n\n", " ", "  ", "     ", "\t", "\u00a0", "\u3000", "\u0085", "\u2028", "\x00", "\x1c"),
    *("<|end|>", "<|en", "|>", "<s>", "</s>", "<mask>", "<sep>", "<0x41>", "<unk>", "[X]", "word", "\u2581", "\u2581\u2581"),
    *("1", "23", "4567890123", "\u0967\u0968\u0969", "\u00bd", "\u2167", "\u01c5", "\u017f", "\u0130", "\u0301", "e\u0301"),
    *("\u1100\u1161", "\ud55c\uad6d", "\u6c34", "\u65e5\u672c", "\ue000", "\U0001f469\u200d\U0001f467", "\U0001f600", "\U00020000"),
    *("\u05e9\u05dc\u05d5\u05dd", "\u0645\u0631", "_", "-", "...", "!?", "/*", '{"k": 1}', "\u00df", "\ufb03", "\u212b", "\U0010fffd"),
)  # fmt: skip


def corpus() -> list[str]:
    return [PROSE] * 20 + inspect.getsource(argparse).splitlines(keepends=True)


def fuzz(count: int, seed: int, extra: tuple[str, ...] = ()) -> Iterator[str]:
    rng = random.Random(seed)
    pieces = (*PIECES, *extra)
    for _ in range(count):
        yield "".join(rng.choices(pieces, k=rng.randrange(1, 14)))


def _trained(tokenizer: Tokenizer, size: int, special: list[str], alphabet: list[str]) -> Tokenizer:
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def gpt2(*, prefix: bool = False) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    made.decoder = decoders.ByteLevel()
    return _trained(made, 900, ["<|end|>"], pre_tokenizers.ByteLevel.alphabet())


def split_then_bytes(pattern: str) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )  # fmt: skip
    made.decoder = decoders.ByteLevel()
    return _trained(made, 1100, ["<|end|>", "<s>"], pre_tokenizers.ByteLevel.alphabet())


def llama3() -> Tokenizer:
    """Every fifth merge is taken away, so that whole words are found in the vocabulary or not at all."""
    file = msgspec.json.decode(split_then_bytes(LLAMA3).to_str())
    file["model"]["ignore_merges"] = True
    del file["model"]["merges"][::5]
    return Tokenizer.from_str(msgspec.json.encode(file).decode())


def qwen2() -> Tokenizer:
    made = split_then_bytes(QWEN2)
    made.normalizer = normalizers.NFC()
    return made


def digits() -> Tokenizer:
    made = gpt2()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return made


def sentencepiece(*, every_byte: bool = True) -> Tokenizer:
    """As Llama 2 and Mistral: spaces as marks, unknown characters as bytes, or as one <unk> where a byte is missing."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    codes = [f"<0x{byte:02X}>" for byte in range(256)]
    _trained(made, 900, ["<unk>", "<s>", "</s>", *codes], [])
    file = msgspec.json.decode(made.to_str())
    file["added_tokens"] = file["added_tokens"][:3]
    file["pre_tokenizer"] = None
    if not every_byte:
        del file["model"]["vocab"]["<0x80>"]
    made = Tokenizer.from_str(msgspec.json.encode(file).decode())
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return made


def metaspace(scheme: str, *, split: bool) -> Tokenizer:
    made = sentencepiece()
    made.normalizer = None
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    return made


def added(made: Tokenizer) -> Tokenizer:
    """Tokens of every combination of flags, some of them the beginning of others."""
    made.add_special_tokens(
        [
            AddedToken("<mask>", lstrip=True, normalized=False),
            AddedToken("<sep>", rstrip=True, normalized=False),
            AddedToken("<|en", special=True),
            AddedToken("[X]", lstrip=True, rstrip=True, single_word=True),
        ]
    )
    made.add_tokens(
        [
            AddedToken("word", single_word=True),
            AddedToken("ab", normalized=False),
            AddedToken("abc", normalized=False, rstrip=True),
            AddedToken("e\u0301", normalized=True),
            AddedToken("\u212b", normalized=False),
            AddedToken("hello world", normalized=True, lstrip=True),
            AddedToken("don", single_word=True, normalized=False),
        ]
    )
    return made


_MAKERS = {
    "gpt2": gpt2,
    "gpt2 with a space before": lambda: gpt2(prefix=True),
    "llama3": llama3,
    "qwen2": qwen2,
    "digits": digits,
    "sentencepiece": sentencepiece,
    "sentencepiece without a byte": lambda: sentencepiece(every_byte=False),
    "metaspace first": lambda: metaspace("first", split=False),
    "metaspace always": lambda: metaspace("always", split=True),
    "metaspace never": lambda: metaspace("never", split=True),
    "gpt2 with added tokens": lambda: added(gpt2()),
    "qwen2 with added tokens": lambda: added(qwen2()),
    "sentencepiece with added tokens": lambda: added(sentencepiece()),
    "metaspace with added tokens": lambda: added(metaspace("first", split=False)),
}

NAMES = tuple(_MAKERS)


@cache
def _file(name: str) -> str:
    return _MAKERS[name]().to_str()


def make(name: str) -> Tokenizer:
    """Make a tokenizer of a kind, trained once."""
    return Tokenizer.from_str(_file(name))
