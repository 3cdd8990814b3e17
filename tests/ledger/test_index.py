"""The index of a table's lines: reads on, begins anew with an epoch, and never believes what is gone."""

from array import array

from penstock.ledger.index import Index

SIZE, PER_AREA = 3, 4


def table(areas):
    return memoryview(array("q", [0] * (SIZE * PER_AREA * areas))).cast("b").cast("q")


def put(words, at, key):
    words[at], words[at + 1] = key


def test_lines_are_found_once_they_were_read_and_not_before():
    words, index = table(2), Index(SIZE, PER_AREA)
    areas = [SIZE * PER_AREA, 0]
    places = [areas[0] + 3, areas[1], areas[1] + 3]
    put(words, areas[0], (5, 50))
    for number, at in enumerate(places):
        put(words, at, (10 + number, number))

    index.read_on(words, areas, 0, 2)
    assert index.find(words, (5, 50)) == areas[0]
    assert index.find(words, (10, 0)) == places[0]
    assert index.find(words, (12, 2)) == 0
    index.read_on(words, areas, 0, 6)
    assert index.find(words, (12, 2)) == places[2]


def test_a_line_that_is_gone_or_another_one_by_now_is_not_found():
    words, index = table(1), Index(SIZE, PER_AREA)
    put(words, 3, (7, 70))
    index.read_on(words, [0], 0, 4)
    assert index.find(words, (7, 70)) == 3
    assert index.find(words, (7, 71)) == 0, "the second number counts as well"
    words[3] = 8
    assert index.find(words, (7, 70)) == 0


def test_a_new_epoch_begins_the_index_anew():
    words, index = table(1), Index(SIZE, PER_AREA)
    put(words, 3, (7, 70))
    index.read_on(words, [0], 0, 4)
    put(words, 3, (8, 80))
    index.read_on(words, [0], 0, 4)
    assert index.find(words, (8, 80)) == 0, "nothing was added, as far as it knows"
    index.read_on(words, [0], 1, 1)
    assert index.find(words, (8, 80)) == 3, "what is kept stands behind the end as well"
    put(words, 6, (9, 90))
    index.read_on(words, [0], 1, 3)
    assert index.find(words, (9, 90)) == 6
