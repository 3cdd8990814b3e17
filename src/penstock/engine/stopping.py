"""When text may go out: whole characters only, and nothing that may be the beginning of a stop string.

The last step before a token's text leaves the inference loop. Both classes hold the state of one generation, take what
comes piece by piece, and give the same text however it was cut into pieces.
"""

import codecs

from penstock.engine.tokenizer import Tokenizer


class StreamDecoder:
    """Ids one at a time to text, as soon as it is whole UTF-8. One per generation.

    All that it gives, put together, is `Tokenizer.decode` of the same ids; only of `<0x..>` tokens that are no UTF-8 it
    shows fewer U+FFFD, since it does not wait for the end of their run.
    """

    __slots__ = ("_bytes", "_left_out", "_spaces", "_token_bytes")

    def __init__(self, tokenizer: Tokenizer, *, special: bool = False) -> None:
        """Leave the text of control tokens out, or give it (`special`)."""
        self._token_bytes = tokenizer.token_bytes
        self._left_out = frozenset[int]() if special else tokenizer.special_ids
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")
        self._spaces = tokenizer.leading_spaces

    def push(self, id: int) -> str:  # noqa: A002  # the field's word for it
        """Take the next token; give the text that became whole with it."""
        if id in self._left_out:
            return ""
        return self._without_leading(self._bytes.decode(self._token_bytes(id)))

    def flush(self) -> str:
        """Give what is left at the end: U+FFFD for a character that never became whole."""
        return self._without_leading(self._bytes.decode(b"", final=True))

    def _without_leading(self, text: str) -> str:
        """Take the spaces away that the tokenizer put before the whole text."""
        while self._spaces and text:
            if not text.startswith(" "):
                self._spaces = 0
                break
            text = text[1:]
            self._spaces -= 1
        return text


class _Search:
    """How much of one stop string the text ends with, character by character (Knuth, Morris and Pratt, 1977)."""

    __slots__ = ("_borders", "_stop", "matched")

    def __init__(self, stop: str) -> None:
        self._stop = stop
        self._borders = [0] * len(stop)
        self.matched = 0
        length = 0
        for at in range(1, len(stop)):
            while length and stop[at] != stop[length]:
                length = self._borders[length - 1]
            length += stop[at] == stop[length]
            self._borders[at] = length

    def step(self, character: str) -> bool:
        """Take one more character; say whether the whole stop string has been seen now."""
        stop, length = self._stop, self.matched
        while length and stop[length] != character:
            length = self._borders[length - 1]
        self.matched = length + (stop[length] == character)
        return self.matched == len(stop)


class StopText:
    """Looks for stop strings in the text of one generation.

    The text ends before the stop string that is complete first; of several that end at one character, before the longest.
    What may still become a stop string is held back, and never more than that. Takes time in proportion to the text.
    """

    __slots__ = ("_held", "_searches", "_stopped")

    def __init__(self, stops: tuple[str, ...]) -> None:
        """Raise `ValueError` where a stop string is empty."""
        if "" in stops:
            raise ValueError("a stop string is empty: it would stop everything before it begins; leave it out")
        self._searches = [_Search(stop) for stop in stops]
        self._held = ""
        self._stopped = False

    def push(self, text: str) -> tuple[str, bool]:
        """Take more text; give the text that may go out, and whether a stop string was found. Nothing comes after one."""
        if self._stopped:
            return "", True
        if not self._searches:
            return text, False
        pending = self._held + text
        for at, character in enumerate(text, len(self._held) + 1):
            complete = [search.matched for search in self._searches if search.step(character)]
            if complete:
                self._stopped = True
                self._held = ""
                return pending[: at - max(complete)], True
        out = len(pending) - max(search.matched for search in self._searches)
        self._held = pending[out:]
        return pending[:out], False

    def flush(self) -> str:
        """Give what was held back, since nothing more comes."""
        held, self._held = self._held, ""
        return held
