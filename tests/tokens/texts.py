"""Texts on which tokenizers are known to disagree, and long ones that are known to hurt them."""
# ruff: noqa: RUF001  letters that look like others are the point

import base64
import unicodedata
from collections.abc import Callable, Sequence
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

KINDS = (
    *("one letter", "spaces", "line ends", "base64", "letters", "digits", "punctuation", "Chinese", "emoji", "marks"),
    *("scripts", "surrogates", "control"),
)


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
        case "scripts":
            return "".join("aж字क🙂"[at % 5] for at in range(size))
        case "surrogates":
            return "\ud800" * size
        case "control":
            return "<|" * (size // 2)
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


# -- the corpus of the exactness tests --

SCRIPTS = (
    *((0x20, 0x7E), (0xA0, 0x17F), (0x180, 0x24F), (0x250, 0x2FF), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x58A)),
    *((0x591, 0x5F4), (0x600, 0x6FF), (0x900, 0x97F), (0x980, 0x9FE), (0xB80, 0xBFA), (0xE01, 0xE5B), (0xF00, 0xFD4)),
    *((0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137C), (0x13A0, 0x13F5), (0x1780, 0x17F9), (0x1E00, 0x1FFE)),
    *((0x2000, 0x206F), (0x2070, 0x20BF), (0x2100, 0x218B), (0x2190, 0x23FF), (0x2460, 0x27BF), (0x2C00, 0x2C5F)),
    *((0x3000, 0x303F), (0x3041, 0x30FF), (0x3400, 0x34FF), (0x4E00, 0x9FA5), (0xA000, 0xA48C), (0xA640, 0xA69F)),
    *((0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xF900, 0xFAD9), (0xFB00, 0xFB4F), (0xFE00, 0xFE2F), (0xFF01, 0xFFEF)),
    *((0x10330, 0x1034A), (0x10400, 0x1044F), (0x1D400, 0x1D7FF), (0x1F300, 0x1F6FF), (0x1F900, 0x1F9FF)),
    *((0x20000, 0x200FF), (0xE0020, 0xE007F), (0xF0000, 0xF00FF)),
)
"""First and last code points of blocks: letters with and without case, marks, numbers of every kind, signs, emoji."""

SPECIAL = (
    *(
        "<|endoftext|>",
        "<|endofprompt|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|im_sep|>",
        "<|eot_id|>",
        "<|begin_of_text|>",
    ),
    *(
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<s>",
        "</s>",
        "<unk>",
        "<pad>",
        "<bos>",
        "<eos>",
        "[INST]",
        "[/INST]",
    ),
    *("[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[SYSTEM_PROMPT]", "<<SYS>>", "<start_of_turn>", "<end_of_turn>", "[gMASK]"),
    *("<sop>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>"),
    *(
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "<0x0A>",
        "<0xFF>",
    ),
    *("<|channel|>", "<|message|>", "<|start|>", "<|fim_prefix|>", "<PRE>", "<unused7>", "<mask>", "<table>", "</td>"),
    *(
        "<b>",
        "</h2>",
        "<code>",
        "<div>",
        "<html>",
        "</ul>",
        "<img>",
        "<h1>",
        "[multi]",
        "<|",
        "|>",
        "<<",
        "\u2581",
        "\u2581\u2581",
    ),
)
"""Control tokens and symbols as a user may write them."""

_MARKS = "".join(
    map(chr, (*range(0x300, 0x330), 0x338, 0x345, 0x35C, 0x20D7, 0x20E3, 0xFE0E, 0xFE0F, 0x64B, 0x93C, 0xE48))
)
_CONTROLS = "".join(
    map(chr, (*range(32), *range(0x7F, 0xA0), 0x200B, 0x200C, 0x200D, 0x200E, 0x202E, 0x2060, 0xFEFF, 0xFFFD))
)
_BLANKS = " \t\n\r\v\f\x85\xa0\u1680\u2000\u2003\u2009\u2028\u2029\u202f\u205f\u3000"
_EMOJI = ("😀", "👍🏽", "👩\u200d👩\u200d👧", "❤️", "🏳️\u200d🌈", "🇩🇪", "1️⃣", "☺", "🧑🏿\u200d🚀")
_CODE = (
    *(
        "def f(x):\n    return x\n",
        "if (a != b) {\n\t\tc += 1;\n}\n",
        "#include <vector>\r\n",
        "SELECT * FROM t WHERE id=1;",
    ),
    *(
        '{"key": [1, 2.5e-3, null]}',
        "https://example.com/a?b=c&d=%20#e",
        "user.name@example.org",
        "C:\\\\dir\\file.txt",
        "a->b",
    ),
    *(
        "// Note: don't",
        "x = {**y, 'z': 1}",
        '<div class="a">',
        "camelCaseName",
        "SNAKE_CASE_NAME",
        "0xDEADBEEF",
        "\\u00e9",
    ),
)
_NUMBERS_OF_ALL_KINDS = (
    "0",
    "42",
    "2026",
    "3.14159",
    "1,234,567",
    "1e-9",
    "٠١٢٣",
    "०१२",
    "½",
    "Ⅻ",
    "①",
    "²",
    "一二三",
    "１２３",
)


def _marked(rng: Random) -> str:
    return "".join(rng.choice("aeinosu日あअ") + "".join(rng.choices(_MARKS, k=rng.randrange(1, 4))) for _ in range(3))


def _of_a_script(rng: Random) -> str:
    first, last = rng.choice(SCRIPTS)
    return "".join(chr(rng.randint(first, last)) for _ in range(rng.randrange(1, 12)))


def _in_a_form(rng: Random) -> str:
    text = unicodedata.normalize(rng.choice(("NFC", "NFD", "NFKD")), "Ångström façade ﬁancé Việt Nam 각하 ")
    return text[: rng.randrange(1, 40)]


def _repeated(*pieces: str, most: int) -> Callable[[Random], str]:
    return lambda rng: rng.choice(pieces) * rng.randrange(1, most)


def _mixed(pieces: Sequence[str], most: int) -> Callable[[Random], str]:
    return lambda rng: "".join(rng.choices(pieces, k=rng.randrange(1, most)))


_STRETCHES = (
    _of_a_script,
    _mixed(_BLANKS, 12),
    _repeated(*_BLANKS, most=70),
    _marked,
    _mixed(SPECIAL, 2),
    _repeated(*_EMOJI, most=4),
    _mixed(_CONTROLS, 5),
    _mixed(_CODE, 2),
    _repeated(*_NUMBERS_OF_ALL_KINDS, most=6),
    _in_a_form,
    lambda rng: "".join(chr(rng.randrange(0xD800, 0xE000)) for _ in range(rng.randrange(1, 3))),
    _repeated("a", "!", "=", "-", "é", "字", "ab", ". ", "\r\n", "'s", most=60),
    lambda rng: fuzz_text(rng, 6),
)


def corpus(rng: Random) -> str:
    """A text of many kinds at once: scripts, emoji, marks, both normal forms, controls, surrogates, code, blanks, numbers."""
    return "".join(rng.choice(_STRETCHES)(rng) for _ in range(rng.randrange(1, 9)))


_LANGUAGES = (
    (
        "the of and to in is that for it with as was on be at by this have from or one had not but what "
        "all were when we there can an your which their said if do will each about how up out them then "
        "she many some so these would other into has more"
    ),
    (
        "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an "
        "werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war "
        "haben nur oder aber vor zur bis mehr durch man sein wurde"
    ),
    (
        "и в не на я быть он с что а по это она этот к но они мы весь который из у то за свой ее так от "
        "о для ты же все тот мочь вы"
    ),
    "的 一 是 不 了 在 人 有 我 他 这 中 大 来 上 国 个 到 说 们 为 子 和 你 地 出 道 也 时 年 得 就 那 要 下 以 生 会 自 着 去 之 过",
    "これ は それ が の を に へ と で も から まで する いる ある なる ない 人 日 年 大 学 生 私 時間 今日 明日 会社 電車 東京 日本",
    "이 그 저 것 수 있 하 등 되 보 않 없 나 사람 주 아니 같 우리 때 년 가 한 지 대하 오 말 일 위하 때문 그것 두 말하 알 그러나",
    ("في من على أن إلى التي عن هذا مع كان الذي ما هذه بين كل بعد ذلك لا قد هو أو قال عند لم يكن حتى منذ غير إن"),
    (
        "return if else for while def class import self None True False int str list dict print() x = y "
        "+ 1; { } [0] == != -> # Note"
    ),
)
"""Frequent words of some languages, and of code."""


def prose(rng: Random) -> str:
    """A text of a page or less in one language, now and then with a second one in it."""
    words = rng.choice(_LANGUAGES).split(" ")
    gap = "" if words[0] in ("的", "これ") else " "
    said = [rng.choice(words) for _ in range(rng.randrange(80, 400))]
    if rng.random() < 0.2:
        said += rng.choices(rng.choice(_LANGUAGES).split(" "), k=40)
    return gap.join(said) + "."
