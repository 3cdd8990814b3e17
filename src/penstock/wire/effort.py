"""How hard a model should think, between the two ways of saying it. Pure.

One is a word (OpenAI, Ollama, newer models of Claude), the other a number of tokens (Gemini, Claude). The numbers are this gateway's own choice where a provider names none; a word and its number go back and forth unchanged.
"""

from typing import Final

_TOKENS: Final = {
    "none": 0,
    "minimal": 1_024,
    "low": 2_048,
    "medium": 8_192,
    "high": 24_576,
    "xhigh": 32_768,
    "max": 65_536,
}
_WORDS: Final = ("minimal", "low", "medium", "high", "xhigh", "max")


def tokens_for(effort: str) -> int | None:
    """Give the thinking tokens that a word stands for; None for a word that nobody knows."""
    return _TOKENS.get(effort.lower())


def effort_for(tokens: int) -> str:
    """Give the word for a number of thinking tokens: the least that allows as many, `max` beyond all of them."""
    if tokens <= 0:
        return "none"
    return next((word for word in _WORDS if tokens <= _TOKENS[word]), "max")
