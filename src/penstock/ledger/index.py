"""Where the balances of a table stand: one process's index of lines that others add as well.

Within an epoch lines are added one behind the other, so that the index reads on where it stopped. A line that it knows may
be gone, or another one by now; so it looks.
"""


class Index:
    """Finds lines of `size` words, `per_area` of them in an area, by the first word of each."""

    __slots__ = ("_epoch", "_found", "_per_area", "_seen", "_size")

    def __init__(self, size: int, per_area: int) -> None:
        self._size, self._per_area = size, per_area
        self._found: dict[int, int] = {}
        self._epoch = self._seen = 0

    def find(self, words: "memoryview[int]", key: tuple[int, int]) -> int:
        """Give the place of the line that begins with these two words, 0 if it is not known."""
        at = self._found.get(key[0], 0)
        return at if at and words[at] == key[0] and words[at + 1] == key[1] else 0

    def read_on(self, words: "memoryview[int]", areas: list[int], epoch: int, beyond: int) -> None:
        """Take in what was added since the last time: the lines of these areas before number `beyond`.

        Where an epoch began, lines that are kept from the one before may stand behind it as well: then it reads them all.
        """
        if epoch != self._epoch:
            self._found.clear()
            self._read(words, areas, 0, len(areas) * self._per_area)
        else:
            self._read(words, areas, self._seen, beyond)
        self._epoch, self._seen = epoch, beyond

    def _read(self, words: "memoryview[int]", areas: list[int], number: int, beyond: int) -> None:
        size = self._size
        while number < beyond:
            area, line = divmod(number, self._per_area)
            lines = min(self._per_area - line, beyond - number)
            at = areas[area] + line * size
            end = at + lines * size
            self._found.update(zip(words[at:end:size].tolist(), range(at, end, size), strict=True))
            number += lines
