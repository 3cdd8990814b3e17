"""TOML to structs: every mistake at once, with its line, its key and what was probably meant."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct, field, inspect

from penstock.document import Document, Form, Wrong, expected, nearest, write_key, write_value
from penstock.errors import ConfigError, Mistake
from penstock.toml import parse


class Colour:
    """A type of its own, read by its form."""


class Tint(Struct, frozen=True):
    """Nested."""

    depth: Annotated[int, Meta(ge=1, le=9)] = 1
    strong: bool = False


class Pot(Struct, frozen=True):
    """In a table of tables."""

    name: Annotated[str, Meta(extra={"form": "lower", "derived": True})]
    volume_l: Annotated[float, Meta(gt=0)]


class Shop(Struct, frozen=True):
    """A bit of everything."""

    title: Annotated[str, Meta(min_length=1)] = "shop"
    size: Literal["small", "large"] | Annotated[int, Meta(ge=1)] = "small"
    shade: Annotated[Literal["grey"], Meta(extra={"later": ("red", "blue:")})] = "grey"
    gloss: Annotated[float | None, Meta(extra={"later": ("",)})] = None
    brands: Annotated[tuple[str, ...], Meta(extra={"unique": True}, examples=[["a", "b"]])] = ()
    tint: Annotated[Tint, Meta(examples=[{"depth": 2}])] = field(default=Tint(), name="tint_of")
    tints: tuple[Tint, ...] = ()
    pots: tuple[Pot, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    colour: Colour | None = None
    words: Annotated[str | tuple[str, ...], Meta(examples=["one"])] | None = None
    coat: Annotated[str, Meta(extra={"form": "lower"}, examples=["matt"])] | None = None
    code: Annotated[str, Meta(pattern=r"^[a-z]{1,3}$", examples=["abc"])] | None = None
    rate: float = 1.5
    secret: Annotated[str, Meta(extra={"derived": True})] = "not a key"


def lower(raw, path):
    if not isinstance(raw, str) or not raw.islower():
        raise Wrong("must be lower case.")
    return raw


def colour(raw, path):
    raise Wrong("is no colour.", f"It stands at {write_key(path)}.")


FORMS = {"lower": Form("lower case", lower), Colour: Form("a colour", colour)}


def read(text, cls=Shop):
    document = Document("shop.toml", parse("shop.toml", text.encode()), FORMS)
    return document.read(cls), [str(mistake) for mistake in sorted(document.mistakes, key=lambda m: m.line or 0)]


def only_mistake(text, cls=Shop):
    _, mistakes = read(text, cls)
    assert len(mistakes) == 1, mistakes
    return mistakes[0]


def test_an_empty_text_gives_the_defaults():
    assert read("") == (Shop(), [])


def test_everything_arrives_in_its_field():
    shop, mistakes = read("""
        title = "x"
        size = 3
        brands = ["b", "a"]
        tint_of = { depth = 9, strong = true }
        tints = [{ depth = 2 }, {}]
        labels = { k = "v", "l l" = "w" }
        words = ["one", "two"]
        coat = "matt"
        rate = 2
        [pots.first]
        volume_l = 0.5
        [pots.second]
        volume_l = 3
    """)

    assert mistakes == []
    assert shop == Shop(
        title="x",
        size=3,
        brands=("b", "a"),
        tint=Tint(9, True),
        tints=(Tint(2), Tint()),
        labels=(("k", "v"), ("l l", "w")),
        words=("one", "two"),
        coat="matt",
        rate=2.0,
        pots=(Pot("first", 0.5), Pot("second", 3.0)),
    )
    assert isinstance(shop.rate, float)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("titel = 1", "line 1, titel: unknown key. Did you mean `title`?"),
        ("tint_of = { weight = 1 }", "line 1, tint_of.weight: unknown key. Known here: depth, strong."),
        ("secret = 'x'", "line 1, secret: unknown key. Known here: title, size, shade, gloss, brands, "),
        ("\ntitle = 1", 'line 2, title: must be text, not a whole number. Example: title = "shop"'),
        ("title = ' '", 'line 1, title: must not be empty. Example: title = "shop"'),
        ("rate = '2'", "line 1, rate: must be a number, not text. Example: rate = 1.5"),
        ("rate = true", "line 1, rate: must be a number, not true or false. Example: rate = 1.5"),
        ("rate = nan", "line 1, rate: is out of range: must be a number. Example: rate = 1.5"),
        ("rate = -inf", "line 1, rate: is out of range"),
        ("rate = 1e400", "line 1, rate: is out of range"),
        ("rate = 1e99999999999999999999", "line 1, rate: is out of range"),
        ("rate = 2024-01-01", "line 1, rate: must be a number, not a date or time."),
        ("tint_of = { depth = 2.0 }", "line 1, tint_of.depth: must be a whole number from 1 to 9, not a number."),
        ("tint_of = { depth = 0 }", "tint_of.depth: is out of range: must be a whole number from 1 to 9."),
        ("tint_of = { depth = 10 }", "tint_of.depth: is out of range: must be a whole number from 1 to 9."),
        ("tint_of = { depth = true }", "tint_of.depth: must be a whole number from 1 to 9, not true or false."),
        (f"tint_of = {{ depth = 0x{'f' * 5000} }}", "tint_of.depth: is out of range"),
        ("tint_of = { strong = 1 }", "tint_of.strong: must be true or false, not a whole number."),
        ("tint_of = 3", "tint_of: must be a table, not a whole number. Example: tint_of = { depth = 2 }"),
        ("size = 'larg'", 'size: must be "large" or "small". Did you mean "large"?'),
        ("size = 'zzz'", 'size: must be "large" or "small".'),
        ('code = "a/../b"', 'line 1, code: is not of the shape [a-z]{1,3}. Example: code = "abc"'),
        ('code = "ab\\n"', "line 1, code: is not of the shape"),
        ("size = 0", "size: is out of range: must be a whole number of at least 1."),
        ("size = 1.5", 'size: must be "large" or "small" or a whole number of at least 1, not a number.'),
        ("shade = 'gray'", 'shade: must be "grey".'),
        ("shade = 'red'", 'shade: `red` is planned and not in this version. It has: "grey".'),
        ("shade = 'blue:secret'", "shade: `blue:` is planned and not in this version."),
        ("shade = 'reddish'", 'shade: must be "grey".'),
        ("shade = 'blues'", 'shade: must be "grey".'),
        ("gloss = 'x'", "gloss: `gloss` is planned and not in this version. Remove it."),
        ("brands = 'a'", 'brands: must be a list, each text, not text. Example: brands = ["a", "b"]'),
        ("brands = ['a', 3]", "brands[1]: must be text, not a whole number."),
        ("brands = ['a', 'b', 'a']", "brands[2]: stands here twice. Remove one of them."),
        ("tints = [{}, { dept = 1 }]", "tints[1].dept: unknown key. Did you mean `depth`?"),
        ("pots = ['x']", "pots: must be a list, each a table, not a list."),
        ("pots = { a = 3 }", "pots.a: must be a table, not a whole number. Write [pots.a]."),
        ("[pots.a]", "line 1, pots.a: `volume_l` is missing."),
        ("[pots.a]\nvolume_l = 0", "line 2, pots.a.volume_l: is out of range: must be a number above 0."),
        ("[pots.A]\nvolume_l = 1", "line 1, pots.A: must be lower case."),
        ("labels = { a = 1 }", "labels.a: must be text, not a whole number."),
        ("labels = ['a']", "labels: must be a table of texts, not a list."),
        ("colour = 'x'", "colour: is no colour. It stands at colour."),
        ("coat = 'X'", 'coat: must be lower case. Example: coat = "matt"'),
        ("words = 3", 'words: must be text or a list, each text, not a whole number. Example: words = "one"'),
    ],
)
def test_a_mistake_says_where_what_and_what_was_meant(text, says):
    assert says in only_mistake(text)


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines():
    document = Document("shop.toml", parse("x", b"rate = 'x'\n[pots.a]\n[pots.b]\nvolume_l = 'y'\n[tints_of]\n"), FORMS)
    document.read(Shop)
    document.wrong(("nowhere",), "has no line.")

    with pytest.raises(ConfigError) as caught:
        document.finish()

    assert caught.value.source == "shop.toml"
    assert [mistake.line for mistake in caught.value.mistakes] == [None, 1, 2, 4, 5]


def test_what_has_no_mistake_passes():
    Document("x", parse("x", b""), FORMS).finish()


def test_ranges_include_their_ends():
    assert read("tint_of = { depth = 1 }")[1] == read("tint_of = { depth = 9 }")[1] == []
    assert read("rate = 1e300")[1] == []
    assert "out of range" in only_mistake("rate = 1.1e300")


def test_no_repetition_is_seen_among_items_that_are_wrong():
    _, mistakes = read("brands = [1, 2]")

    assert len(mistakes) == 2
    assert "twice" not in "".join(mistakes)


class Pair(Struct, frozen=True):
    """Two keys that exclude each other."""

    a: int | None = None
    b: int | None = None

    def contradictions(self) -> Iterator[Mistake]:
        """Say so."""
        if self.a is not None and self.b is not None:
            yield Mistake("b", "and `a` exclude each other.", None, "Remove one.")
            yield Mistake("", "is too full.")


class Pairs(Struct, frozen=True):
    """Several."""

    of: tuple[Pair, ...] = ()


def test_a_struct_tells_its_contradictions_at_their_places():
    _, mistakes = read("[[of]]\na = 1\n[[of]]\na = 1\nb = 2\n", Pairs)

    assert mistakes == ["line 3, of[1]: is too full.", "line 5, of[1].b: and `a` exclude each other. Remove one."]


def test_a_struct_with_a_wrong_key_is_not_asked_for_contradictions():
    assert "unknown key" in only_mistake("[[of]]\na = 1\nb = 2\nlonger = 3\n", Pairs)


def test_a_required_key_that_is_wrong_leaves_its_table_out():
    document = Document("x", parse("x", b"volume_l = 'x'"), FORMS)

    assert document.read(Pot) is None
    assert len(document.mistakes) == 1


def test_what_was_given_is_known_even_if_it_is_wrong():
    document = Document("x", parse("x", b"title = 1\nbrands = []"), FORMS)

    assert document.given("title")
    assert not document.given("rate")
    assert document.given("brands", empty=True)
    assert not document.given("title", empty=True)
    assert not document.given("rate", empty=True)


TREES = st.recursive(
    st.one_of(
        st.integers(-(10**20), 10**20),
        st.booleans(),
        st.text(max_size=5),
        st.decimals(),
        st.dates(),
        st.times(),
        st.sampled_from(["small", "red", "blue:x", "matt"]),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*Shop.__struct_encode_fields__, *Pot.__struct_fields__, "depth", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*Shop.__struct_encode_fields__, "", "x"]), TREES, max_size=5))
def test_whatever_a_file_holds_becomes_a_struct_or_mistakes(table):
    text = parse("x", b"")
    text.table.update(table)
    document = Document("x", text, FORMS)

    shop = document.read(Shop)

    assert document.mistakes or isinstance(shop, Shop)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ((), "(top level)"),
        (("a", "b"), "a.b"),
        (("prices", "box/qwen", "input"), 'prices."box/qwen".input'),
        (("rules", 0, "text"), "rules[0].text"),
        (("a\n\x1b[31m",), r'"a\n\u001b[31m"'),
        (("x" * 1000,), '"' + "x" * 100 + '..."'),
    ],
)
def test_keys_are_written_as_in_a_file(path, key):
    assert write_key(path) == key


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (1, "1"),
        (120.0, "120"),
        (0.15, "0.15"),
        (Decimal("0.1"), "0.1"),
        ('a"b', r'"a\"b"'),
        (["a", 1], '["a", 1]'),
        ({"a b": 1, "c": {}}, '{ "a b" = 1, c = {} }'),
    ],
)
def test_values_are_written_as_in_a_file(value, text):
    assert write_value(value) == text


def test_the_nearest_name_is_found_without_regard_to_case():
    assert nearest("Tilte", ["title", "rate"]) == "title"
    assert nearest("zzz", ["title"]) is None
    assert nearest(3, ["title"]) is None
    assert nearest("a" * 1_000_000, ["title"]) is None


def test_what_is_expected_can_be_told_of_any_type():
    fields = {field.name: field.type for field in inspect.type_info(Shop).fields}

    assert expected(fields["colour"], FORMS) == "a colour"
    assert expected(fields["coat"], FORMS) == "lower case"
    assert expected(fields["tints"], FORMS) == "a list, each a table"
    assert expected(inspect.type_info(Annotated[float, Meta(gt=0, le=5)]), FORMS) == "a number above 0 and at most 5"
