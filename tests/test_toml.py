"""TOML text to values and lines: what the locator finds in a text, and what the parser refuses."""

import tomllib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import ConfigError
from penstock.toml import DEEPEST_KEY, MAX_BYTES, locate, parse


def refusal(data):
    with pytest.raises(ConfigError) as caught:
        parse("some.toml", data)
    (mistake,) = caught.value.mistakes
    return mistake


def test_tables_and_keys_have_the_lines_they_stand_on():
    text = '# first\n\n[server]\nport = 1\n\n[models.fast]\ntargets = ["a/b"]\n[models."a.b"]\nstatic = "x"\n'

    assert locate(text) == {
        ("server",): 3,
        ("server", "port"): 4,
        ("models",): 6,
        ("models", "fast"): 6,
        ("models", "fast", "targets"): 7,
        ("models", "fast", "targets", 0): 7,
        ("models", "a.b"): 8,
        ("models", "a.b", "static"): 9,
    }


def test_items_of_a_list_over_several_lines_have_their_own_lines():
    lines = locate("a = [\n  1, # one\n\n  [2,\n   3],\n  { b = 4, c.d = [5] },\n]\nz = 1")

    assert lines["a", 0] == 2
    assert lines["a", 1] == 4
    assert lines["a", 1, 1] == 5
    assert lines["a", 2, "b"] == lines["a", 2, "c", "d", 0] == 6
    assert lines["z",] == 8


def test_lists_of_tables_are_told_apart():
    lines = locate("[[rules]]\na = 1\n[rules.more]\nb = 2\n[[rules.inner]]\n[[rules.inner]]\nd = 1\n[[rules]]\na = 2\n")

    assert lines["rules", 0, "a"] == 2
    assert lines["rules", 0, "more", "b"] == 4
    assert lines["rules", 0, "inner", 1, "d"] == 7
    assert lines["rules", 1] == 8
    assert lines["rules", 1, "a"] == 9


@pytest.mark.parametrize(
    "value",
    [
        '"plain # [x] = {"',
        r'"a \" b"',
        r'"\\"',
        "'literal # \"'",
        "''",
        '""',
        '"""\n[not]\na = 1 # no\n"""',
        '""""one quote inside"" and at the end"""""',
        r'"""a \""" b"""',
        "'''\nit's\n[x]\n'''",
        "''''quoted'''''",
        "1979-05-27 07:32:00",
        "1979-05-27T07:32:00Z",
        "07:32:00",
        "-1_000.5e-3",
        "0xff",
        "true",
        "{}",
        "[]",
        "[ [ ], [ '#' ], ]",
        "{ a = '}', \"b\" = [ '}' ] }",
    ],
)
def test_no_value_leads_the_locator_astray(value):
    text = f"[t]\nfirst = {value}\n'after' = 1 # {value.splitlines()[0]}\n"
    tomllib.loads(text)

    lines = locate(text)

    assert lines["t", "after"] == text[: text.index("'after'")].count("\n") + 1
    assert {path[1] for path in lines if len(path) > 1} == {"first", "after"}


def write(table, path, out, known):
    """Write a table as TOML, one key a line, and note the lines: the reverse of the locator."""
    for key, value in table.items():
        name = '"' + "".join(f"\\u{ord(c):04x}" for c in key) + '"' if not key.isalnum() or not key.isascii() else key
        if isinstance(value, dict):
            continue
        out.append(f"{name} = {value}")
        known[(*path, key)] = "\n".join(out).count("\n") + 1 - value.count("\n")
    for key, value in table.items():
        if isinstance(value, dict):
            header = ".".join('"' + "".join(f"\\u{ord(c):04x}" for c in part) + '"' for part in (*path, key))
            out.append(f"  [ {header} ] # header")
            known[(*path, key)] = "\n".join(out).count("\n") + 1
            write(value, (*path, key), out, known)


KEYS = st.text(st.characters(max_codepoint=0x7FF, exclude_categories=["Cs"]), max_size=5)
VALUES = st.sampled_from(['"""\n[x]\n"""', "1", "[\n1,\n2]", "'#'", '"\\""', "'''\n'''", "[[1], [\n]]"])


@given(st.recursive(st.dictionaries(KEYS, VALUES, max_size=4), lambda inner: st.dictionaries(KEYS, inner | VALUES)))
def test_the_locator_finds_what_was_written(table):
    out, known = [], {}
    write(table, (), out, known)
    text = "\n".join(out)
    tomllib.loads(text)

    found = locate(text)

    assert {path: line for path, line in found.items() if all(isinstance(part, str) for part in path)} == known


@given(st.text(st.sampled_from("a.=[]{}\"'#\n ,1"), max_size=25))
def test_the_locator_reads_whatever_the_parser_reads(text):
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return

    lines = locate(text)

    assert {path[0] for path in lines} == set(table)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


def test_fractions_are_decimals_and_exact():
    assert parse("x", b"a = 0.1\nb = 1e400\nc = 1").table == {"a": Decimal("0.1"), "b": Decimal("1e400"), "c": 1}


def test_an_exponent_beyond_all_bounds_is_not_a_number():
    assert parse("x", b"a = 1e99999999999999999999").table["a"].is_nan()


def test_a_byte_order_mark_is_skipped():
    assert parse("x", b"\xef\xbb\xbfa = 1").lines == {("a",): 1}


def test_a_syntax_error_tells_its_line_and_the_usual_cause():
    mistake = refusal(b"[server]\nhost = localhost\n")

    assert (mistake.line, mistake.message) == (2, "Invalid value.")
    assert "quotes" in mistake.suggestion


def test_a_syntax_error_at_the_end_tells_the_last_line():
    assert refusal(b"a = 1\nb = [1,\n").line == 3


def test_a_table_that_stands_twice_is_refused():
    mistake = refusal(b"[a.b]\n[c]\n[a.b]\n")

    assert mistake.line == 3
    assert "twice" in mistake.message


def test_bytes_that_are_no_text_are_refused_with_their_line():
    assert (refusal(b"a = 1\n# \xff").line, refusal(b"\xff").line) == (2, 1)


@pytest.mark.parametrize(
    "data",
    [
        b"a = " + b"[" * 100_000,
        b"a = " + b"[" * 5_000 + b"]" * 5_000,
        b"a = " + b"{a=" * 100_000,
        b"a = " + b"1" * 5_000,
        b"a = 1" + b" " * MAX_BYTES,
        b"a = 2024-02-30",
        b"\x00",
    ],
    ids=["open lists", "deep lists", "deep tables", "a long number", "a large file", "no such day", "a zero byte"],
)
def test_hostile_texts_are_refused(data):
    refusal(data)


def test_a_key_with_very_many_steps_is_read_without_its_line():
    key = ".".join("a" * (DEEPEST_KEY + 1))

    assert max(map(len, locate(f"{key} = 1\nb = 1"))) <= DEEPEST_KEY
    assert parse("x", f"{key} = 1\nb = 1".encode()).lines["b",] == 2


def test_values_are_found_by_their_path():
    text = parse("x", b"[models.fast]\nstatic = 'a'\n[models.b]\n")

    assert text.get("models", "fast", "static") == "a"
    assert text.get("models", "fast", "static", "deeper") is None
    assert text.get("nothing", "here") is None
    assert text.names("models") == ("fast", "b")
    assert text.names("nothing") == ()
