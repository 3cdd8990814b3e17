"""Added tokens: those found in the text itself, before it is normalized, cut and merged.

Cuts a text into added tokens and the sections between them. Control tokens are matched only where the caller says that
the text may hold them: a template's text may, a user's may not. The rules are those of the `tokenizers` library: of the
tokens that begin at one place the longest wins; first those that are looked for in the text as it came, then, in what is
left, those that are looked for in the normalized text.
"""

import re
from collections.abc import Iterator, Sequence

from penstock.engine.pretokenize import TextStep, compile_regex
from penstock.engine.tokenizer_file import AddedToken

WORD_CHARACTER = r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]"
"""What belongs to a word in the sense of Unicode Technical Standard 18."""


class _Matcher:
    """Finds some of the added tokens. Made once; `find` may run in several threads."""

    __slots__ = ("_pattern", "_space", "_tokens", "_word")

    def __init__(self, tokens: dict[str, AddedToken]) -> None:
        self._space, self._word = compile_regex(r"\s"), compile_regex(WORD_CHARACTER)
        longest_first = sorted(tokens, key=len, reverse=True)
        self._tokens = tokens
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if tokens else None

    def find(self, text: str, *, special: bool) -> list[str | int]:
        """Give the texts between the tokens, none of them empty, and the tokens' ids, in order."""
        if self._pattern is None:
            return [text]
        found: list[str | int] = []
        end = 0
        for match in self._pattern.finditer(text):
            token = self._tokens[match.group()]
            start, stop = match.span()
            if (token.special and not special) or (token.single_word and self._inside_word(text, start, stop)):
                continue
            if token.lstrip:
                start = self._without_space_before(text, start)
            if token.rstrip:
                stop = self._with_space_after(text, stop)
            if start > end:
                found.append(text[end:start])
            found.append(token.id)
            end = stop
        if end < len(text):
            found.append(text[end:])
        return found

    def _inside_word(self, text: str, start: int, stop: int) -> bool:
        beside = (text[start - 1 : start], text[stop : stop + 1])
        return any(self._word.match(character) for character in beside)

    def _without_space_before(self, text: str, start: int) -> int:
        while start and self._space.match(text[start - 1]):
            start -= 1
        return start

    def _with_space_after(self, text: str, stop: int) -> int:
        while stop < len(text) and self._space.match(text[stop]):
            stop += 1
        return stop


class AddedTokens:
    """All added tokens of a tokenizer."""

    __slots__ = ("_as_came", "_normalize", "_normalized")

    def __init__(self, tokens: Sequence[AddedToken], normalize: TextStep) -> None:
        self._normalize = normalize
        self._as_came = _Matcher({token.content: token for token in tokens if not token.normalized})
        self._normalized = _Matcher({normalize(token.content): token for token in tokens if token.normalized})

    def cut(self, text: str, *, special: bool) -> Iterator[tuple[str | int, bool]]:
        """Give normalized sections of the text, or ids, in order, each with whether the text begins with it."""
        first = True
        for section in self._as_came.find(text, special=special):
            if isinstance(section, int):
                yield section, first
                first = False
                continue
            for part in self._normalized.find(self._normalize(section), special=special):
                yield part, first
                first = False
