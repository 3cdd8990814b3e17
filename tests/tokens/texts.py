"""Texts on which tokenizers are known to disagree, and long ones that are known to hurt them."""
# ruff: noqa: RUF001  letters that look like others are the point

import base64
from random import Random

_LATIN = (
    "the| The|ION|hello| world|a|B| a| B|don't|DON'T|I'M|we'Ll|x'S|'s|'re|'VE|'|’s|ß|ﬁ|é|e\u0301|ª|ʰ|ſ|İ|ı|\u212a|ǅ|ǈ"
)
_SPACES = "\r\n|\r|\n| \n|\n\n\n| |   |\t|\xa0|\u3000|\x85|\u2028|\x00|\ufeff|\u200d|\u0301|\ue000|\u0378|\u00ad"
_CONTROL = "<|endoftext|> <|im_start|> [INST] <s> <bos> <start_of_turn> [/SYSTEM_PROMPT] <think>"
_NUMBERS = "1 123 1234567 ٣ ५६७ ½ Ⅷ"
_SCRIPTS = "日本語 中文字符 。 ， カタカナ ひらがな 한국어 العربية हिन्दी ไทย 𐍈 😀 👍🏽 👩‍👩‍👧"
_SIGNS = "/ // _ __init__ :// !!! ... == {} @ # $ % - |"
WORDS = (*_LATIN.split("|"), *_SPACES.split("|"), *f"{_CONTROL} {_NUMBERS} {_SCRIPTS} {_SIGNS}".split(" "))

LONG_S = "'\u017f"

KINDS = ("one letter", "spaces", "line ends", "base64", "letters", "digits", "punctuation", "Chinese", "emoji", "marks")


def fuzz_text(rng: Random, words: int = 24) -> str:
    """A short text in which scripts, contractions, line ends and look-alikes of control tokens collide."""
    return "".join(rng.choice(WORDS) for _ in range(rng.randrange(1, words)))


def near_prose(rng: Random, words: int = 24) -> str:
    """Words with a space before them, and now and then what `fuzz_text` gives."""
    return "".join(rng.choice((" some", " words", " and\n", fuzz_text(rng, 3))) for _ in range(rng.randrange(1, words)))


def adversarial(kind: str, size: int) -> str:
    """A text of `size` characters without much to hold on to."""
    rng = Random(20)
    match kind:
        case "one letter" | "spaces" | "line ends":
            return {"one letter": "a", "spaces": " ", "line ends": "\n"}[kind] * size
        case "base64":
            return base64.b64encode(rng.randbytes(size)).decode()[:size]
        case "marks":
            return "e\u0301" * (size // 2)
        case _:
            letters = {
                "letters": "abcdefghijklmnopqrstuvwxyz",
                "digits": "0123456789",
                "punctuation": "!?.,;-_/\\[]{}'",
                "Chinese": "".join(map(chr, range(0x4E00, 0x9FA5))),
                "emoji": "".join(map(chr, range(0x1F300, 0x1F600))),
            }
            return "".join(rng.choices(letters[kind], k=size))
