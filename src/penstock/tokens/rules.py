"""What surrounds the text of a prompt, per family: role marks, tools, pictures, factors where no vocabulary is public.

Data and nothing else; `count.py` and `images.py` apply it. A profile's `family` picks the row. Every row says where it
comes from; what is a judgement rather than a published number says so, and its band is wide. Factors are in thousandths,
so that counting stays in integers.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from msgspec import Struct


class Estimate(Struct, frozen=True):
    """Counting with a vocabulary that is not the model's: its count times `factor`, between `low` and `high` (1/1000)."""

    vocabulary: str = "o200k"
    factor: int = 1_000
    low: int = 600
    high: int = 2_000
    source: str = "judgement: half to twice what GPT-4o's vocabulary gives"


class ChatRule(Struct, frozen=True):
    """Tokens that a chat template puts around text.

    base     once per prompt                        message  around each message, its role's word included
    roles    instead of `message` for these roles   name     per participant's name, besides the name's own text
    primer   what makes the model answer            hidden   the most that a template may add on its own, such as a default
                                                             system text; only the upper end of the band counts it
    exact    the rule is the provider's own and was seen to match what it bills for plain text
    """

    base: int = 0
    message: int = 4
    roles: tuple[tuple[str, int], ...] = ()
    name: int = 1
    primer: int = 3
    hidden: int = 64
    exact: bool = False
    source: str = "judgement: the order of magnitude of the published templates"


class ToolRule(Struct, frozen=True):
    """How tool definitions are written into a prompt.

    signature  one line per function and per property, with these tokens for what stands around them
    json       the definitions as JSON text, after `end` tokens of instructions
    """

    form: Literal["signature", "json"] = "json"
    function: int = 8
    properties: int = 0
    member: int = 0
    enum: int = 0
    enum_item: int = 0
    end: int = 16
    source: str = "judgement: most templates write tools as JSON"


class ImageRule(Struct, frozen=True):
    """Tokens of a picture of w x h pixels, always `base` on top of what the kind gives.

    tile   fit into `edge`, then the short side into `side`; `per` for each tile of `unit`; low detail costs `base` alone
    patch  one token per patch of `unit`, at most `cap` (the picture is shrunk to fit), times `factor`/1000
    area   one token per patch of `unit`, the picture shrunk to at most `edge` on its long side and `cap` tokens
    crop   `per` for each crop of two thirds of the short side, between 256 and `unit` pixels; one if it fits into `edge`
    flat   `per` whatever the size, with `cap` as the most
    """

    kind: Literal["tile", "patch", "area", "crop", "flat"]
    base: int = 0
    per: int = 1
    unit: int = 1
    edge: int = 0
    side: int = 0
    cap: int = 0
    factor: int = 1_000
    source: str = ""


class Rules(Struct, frozen=True):
    """All that is known about counting for one family."""

    chat: ChatRule = ChatRule()
    tools: ToolRule = ToolRule()
    image: ImageRule = ImageRule("flat", per=1_100, cap=16_000, source="judgement: no published rule was found")
    estimate: Estimate = Estimate()


_COOKBOOK = "OpenAI Cookbook, How to count tokens with tiktoken"
_VISION = "OpenAI docs, Images and vision: calculating costs"
_TEMPLATE = "chat template in tokenizer_config.json of the model on Hugging Face"
_MISTRAL = "mistral-common, instruct tokenizers"
_CLAUDE_VISION = "Claude docs, Vision: resolution and token cost"
_LOCAL = "google-genai LocalTokenizer, for the models that it lists"
_INGEST = "sammcj/ingest pull request 65: one text; band: judgement"

_CHAT = ChatRule(message=4, name=1, primer=3, hidden=0, exact=True, source=_COOKBOOK)
_CHAT_LIKELY = ChatRule(message=4, name=1, primer=3, source=f"{_COOKBOOK}, written for earlier models")
_CHAT_CLAUDE = ChatRule(base=3, message=4, primer=0, hidden=32)
_CHAT_GEMINI = ChatRule(base=1, message=0, primer=0, hidden=16, source=f"{_LOCAL}: the text of the parts alone")
_CHAT_GEMMA = ChatRule(base=1, message=5, primer=3, hidden=8, source=_TEMPLATE)
_CHAT_QWEN = ChatRule(message=5, primer=3, hidden=40, source=_TEMPLATE)
_CHAT_DEEPSEEK = ChatRule(
    base=1, message=1, roles=(("system", 0), ("assistant", 2)), primer=1, hidden=16, source=_TEMPLATE
)

_TOOLS_10 = ToolRule("signature", 10, 3, 3, -3, 3, 12, _COOKBOOK)
_TOOLS_7 = ToolRule("signature", 7, 3, 3, -3, 3, 12, _COOKBOOK)
_TOOLS_CLAUDE = ToolRule(end=346, source="Claude docs, Tool use: 346 tokens of system prompt with tool_choice auto")

_TILE_85 = ImageRule("tile", base=85, per=170, unit=512, edge=2_048, side=768, source=_VISION)
_TILE_2833 = ImageRule("tile", base=2_833, per=5_667, unit=512, edge=2_048, side=768, source=_VISION)
_TILE_75 = ImageRule("tile", base=75, per=150, unit=512, edge=2_048, side=768, source=_VISION)
_TILE_70 = ImageRule("tile", base=70, per=140, unit=512, edge=2_048, side=768, source=_VISION)
_PATCH_162 = ImageRule("patch", unit=32, cap=1_536, factor=1_620, source=_VISION)
_PATCH_172 = ImageRule("patch", unit=32, cap=1_536, factor=1_720, source=_VISION)
_PATCH_246 = ImageRule("patch", unit=32, cap=1_536, factor=2_460, source=_VISION)
_AREA = ImageRule("area", unit=28, edge=1_568, cap=1_568, source=_CLAUDE_VISION)
_AREA_LARGE = ImageRule("area", unit=28, edge=2_576, cap=4_784, source=_CLAUDE_VISION)
_CROP = ImageRule("crop", per=258, unit=768, edge=384, source="Gemini API docs, Image understanding")
_FLAT_GEMINI = ImageRule(
    "flat", per=1_090, cap=2_240, source="dataset card JOHNISKING/image-token-cost: 1,065 to 1,101"
)

_CL100K = Estimate("cl100k", 1_000, 900, 1_150, "tiktoken")
_O200K = Estimate("o200k", 1_000, 900, 1_150, "judgement: OpenAI has kept o200k since GPT-4o")

FAMILIES: Mapping[str, Rules] = MappingProxyType(
    {
        "gpt-3.5": Rules(_CHAT, _TOOLS_10, estimate=_CL100K),
        "gpt-4": Rules(_CHAT, _TOOLS_10, _TILE_85, _CL100K),
        "gpt-4o": Rules(_CHAT, _TOOLS_7, _TILE_85, _O200K),
        "gpt-4o-mini": Rules(_CHAT, _TOOLS_7, _TILE_2833, _O200K),
        "gpt-4.1": Rules(_CHAT_LIKELY, _TOOLS_7, _TILE_85, _O200K),
        "gpt-4.1-mini": Rules(_CHAT_LIKELY, _TOOLS_7, _PATCH_162, _O200K),
        "gpt-4.1-nano": Rules(_CHAT_LIKELY, _TOOLS_7, _PATCH_246, _O200K),
        "o-series": Rules(_CHAT_LIKELY, _TOOLS_7, _TILE_75, _O200K),
        "o4-mini": Rules(_CHAT_LIKELY, _TOOLS_7, _PATCH_172, _O200K),
        "gpt-5": Rules(_CHAT_LIKELY, _TOOLS_7, _TILE_70, _O200K),
        "gpt-5-mini": Rules(_CHAT_LIKELY, _TOOLS_7, _PATCH_162, _O200K),
        "gpt-5-nano": Rules(_CHAT_LIKELY, _TOOLS_7, _PATCH_246, _O200K),
        "gpt": Rules(_CHAT_LIKELY, _TOOLS_7, estimate=_O200K),
        "text-embedding": Rules(ChatRule(0, 0, (), 0, 0, 0, source="the text alone"), estimate=_CL100K),
        "gpt-oss": Rules(ChatRule(message=4, primer=2, hidden=160, source="OpenAI harmony format")),
        "claude": Rules(_CHAT_CLAUDE, _TOOLS_CLAUDE, _AREA, Estimate("o200k", 1_180, 950, 1_600, _INGEST)),
        "claude-4.7": Rules(_CHAT_CLAUDE, _TOOLS_CLAUDE, _AREA_LARGE, Estimate("o200k", 1_530, 1_150, 2_100, _INGEST)),
        "gemini": Rules(_CHAT_GEMINI, image=_CROP, estimate=Estimate("gemma3", 1_000, 900, 1_150, _LOCAL)),
        "gemini-3": Rules(_CHAT_GEMINI, image=_FLAT_GEMINI, estimate=Estimate("gemma4", 1_000, 850, 1_250, _LOCAL)),
        "gemma2": Rules(_CHAT_GEMMA),
        "gemma3": Rules(_CHAT_GEMMA),
        "gemma4": Rules(_CHAT_GEMMA),
        "llama2": Rules(ChatRule(base=1, message=8, hidden=8, source=_TEMPLATE)),
        "llama3": Rules(ChatRule(base=1, message=5, primer=4, hidden=48, source=_TEMPLATE)),
        "llama4": Rules(
            ChatRule(base=1, message=5, primer=4, hidden=48, source=_TEMPLATE),
            estimate=Estimate("o200k", 1_000, 800, 1_300, "judgement: a vocabulary of the same size"),
        ),
        "qwen": Rules(_CHAT_QWEN),
        "qwen3.5": Rules(
            _CHAT_QWEN, estimate=Estimate("qwen2", 1_000, 850, 1_200, "judgement: its vocabulary extends this one")
        ),
        "mistral-v1": Rules(
            ChatRule(base=1, message=7, roles=(("system", 2), ("assistant", 1)), primer=0, hidden=8, source=_MISTRAL)
        ),
        "mistral": Rules(
            ChatRule(base=1, message=2, roles=(("assistant", 1),), primer=0, hidden=8, source=_MISTRAL),
            estimate=Estimate("mistral_v3", 1_000, 850, 1_200, "judgement: later models extend Tekken"),
        ),
        "phi3": Rules(ChatRule(base=1, message=4, primer=2, hidden=8, source=_TEMPLATE)),
        "phi4": Rules(ChatRule(message=4, primer=3, hidden=8, source=_TEMPLATE)),
        "deepseek": Rules(_CHAT_DEEPSEEK),
        "deepseek-v4": Rules(
            _CHAT_DEEPSEEK, estimate=Estimate("deepseek_v3", 1_000, 850, 1_200, "judgement: V4 keeps V3's vocabulary")
        ),
        "glm": Rules(ChatRule(base=2, message=2, primer=1, hidden=16, source=_TEMPLATE)),
        "kimi": Rules(ChatRule(message=4, primer=3, hidden=32, source=_TEMPLATE)),
        "olmo": Rules(ChatRule(base=1, message=4, primer=3, hidden=8, source=_TEMPLATE)),
    }
)
"""Rows by family. What is not here is counted by `UNKNOWN`, whose band is wide."""

UNKNOWN = Rules()


def rules_for(family: str) -> Rules:
    """Give the row of a family, or the one for families that nothing is known about."""
    return FAMILIES.get(family, UNKNOWN)
