"""A template may do what chat templates do, and no more; and it always comes to an end, soon."""

import time

import jinja2
import pytest
from jinja2.exceptions import SecurityError

from penstock.engine.fuel import FUEL, Fuel, OutOfFuel
from penstock.engine.sandbox import LEFT_OUT, Refused, Sandbox, weight_of

UNITS = 1_000_000


def render(source: str, **variables: object) -> str:
    return Sandbox().load(source).render({**variables, FUEL: Fuel(UNITS)})


PLAIN = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])  # noqa: S701


@pytest.mark.parametrize(
    "source",
    [
        "{% for x in items %}{{ loop.index }}/{{ loop.length }} {{ x ~ ':' ~ 1 }}{% if loop.last %}.{% endif %}\n{% endfor %}",
        "{% for x in items if x != 'b' %}{{ x }}{% else %}none{% endfor %}",
        "{% for x in items %}{% if x == 'b' %}{% continue %}{% endif %}{{ x }}{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}",
        "{% for k, v in table.items() %}{{ k }}={{ v }};{% endfor %}{% for k, v in [(1, 2), (3, 4)] %}{{ k * v }}{% endfor %}",
        "{% for x in items recursive %}{{ x }}{% if loop.depth < 3 %}({{ loop(['y']) }}){% endif %}{% endfor %}",
        "{% for x in items|map('upper')|select('ne', 'B') %}{{ x }}{{ loop.revindex }}{% endfor %}",
        "{% for x in 'abc' %}{{ x }}{% endfor %}{% for x in nothing %}{% else %}empty{% endfor %}",
        "{% set ns = namespace(a=1, b='x') %}{% for x in items %}{% set ns.a = ns.a + 1 %}{% endfor %}{{ ns.a }}{{ ns.b }}",
        "{% macro show(x, y='d') %}<{{ x }}{{ y }}{{ caller() if caller else '' }}>{% endmacro %}{{ show(1) }}{% call show(2, y=3) %}in{% endcall %}",
        "{% set x %}a{{ items[0] }}{% endset %}{{ x }}{% set y | trim %}  b {% endset %}{{ y }}{% filter upper %}abc{% endfilter %}",
        "{{ items[1:] }}{{ items[::-1]|join(', ') }}{{ 'abc'[-1] }}{{ items|length }}{{ items|first }}{{ items|last }}",
        "{{ {'a': [1, 2.5, none, true]} }}{{ ('x', 'y') }}{{ [] }}{{ {} }}{{ (1,) }}",
        "{{ 'a,b'.split(',') }}{{ 'aXb'.replace('X', 'y') }}{{ '-'.join(items) }}{{ ' a '.strip() }}{{ 'a'.upper() }}",
        "{{ '%s-%03d' % ('a', 3) }}{{ '{} {:>5}{{}}'.format('a', 3) }}{{ 7 % 4 }}{{ 2 ** 10 }}{{ 3 * 4 }}{{ 'ab' * 2 }}{{ 2 * [1] }}",
        "{{ 'a' + 'b' }}{{ [1] + [2] }}{{ 1 + 2.5 }}{{ (1, 2) + (3,) }}{{ 'a' in 'abc' }}{{ 1 < 2 <= 2 }}{{ 'x' not in items }}",
        "{{ '-'.join(items|map('upper')) }}{{ ''.join(items|select('ne', 'a')) }}{{ items|map('upper')|join('+') }}",
        "{{ table.get('k', 'd') }}{{ table['k'] }}{{ table.k }}{{ table.nope|default('d') }}{{ nope is defined }}",
        "{{ items|tojson|length }}{{ items|unique|list }}{{ items|sort(reverse=true) }}{{ table|dictsort }}{{ table|items|list }}",
        "{{ 'a\nb'|indent(2) }}{{ 'x'|replace('x', 'y') }}{{ 'the end'|title }}{{ '3'|int + 1 }}{{ '<'|e }}{{ [3, 1]|max }}",
        "{{ range(3)|list }}{{ range(1, 9, 3)|list }}{{ dict(a=1) }}{{ dict([('b', 2)]) }}",
        "{% set c = cycler('o', 'e') %}{% set j = joiner(', ') %}{% for x in items %}{{ j() }}{{ c.next() }}{% endfor %}",
        "{% block a %}in{% endblock %}{{ self.a() }}",
        "{{ items|selectattr('k')|list if false else items|reject('equalto', 'a')|list }}{{ table|length }}",
        "{{ [{'k': 1, 'v': 'a'}, {'k': 2, 'v': 'b'}]|selectattr('k', 'equalto', 2)|map(attribute='v')|join }}",
        "{{ '\u00e9' ~ 1 ~ none ~ [1] }}{{ '%d%%' % 3 }}{{ 'in 2024'|string }}{{ 5|string * 2 }}",
    ],
)  # fmt: skip
def test_templates_give_what_plain_jinja_gives(source: str) -> None:
    given = {"items": ["a", "b", "c"], "table": {"k": "v", "b": 1}}

    assert render(source, **given) == PLAIN.from_string(source).render(given)


def test_the_generation_tag_changes_nothing_and_is_a_scope_of_its_own() -> None:
    source = "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}"

    assert render(source) == "21"


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999)|map('string') %}x{% endfor %}{% endfor %}",
        "{% set n = namespace(x='a') %}{% for a in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x='a') %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x='a') %}{% for a in range(99) %}{% set n.x = '%s%s' % (n.x, n.x) %}{% endfor %}",
        "{% set n = namespace(x='a') %}{% for a in range(99) %}{% set n.x = '{0}{0}'.format(n.x) %}{% endfor %}",
        "{% set n = namespace(x='a') %}{% for a in range(99) %}{% set n.x = [n.x, n.x]|join %}{% endfor %}",
        "{% set n = namespace(x='a') %}{% for a in range(99) %}{% set n.x = ''.join([n.x, n.x]) %}{% endfor %}",
        "{% set n = namespace(x='aa') %}{% for a in range(99) %}{% set n.x = n.x.replace('a', n.x) %}{% endfor %}",
        "{% set n = namespace(x='aa') %}{% for a in range(99) %}{% set n.x = n.x|replace('a', n.x) %}{% endfor %}",
        "{% set n = namespace(x=['a']) %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x=['a']) %}{% for a in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}",
        "{% set n = namespace(x=['a']) %}{% for a in range(99) %}{% set n.x = (n.x, n.x) %}{% endfor %}",
        "{% set n = namespace(x=['a']) %}{% for a in range(99) %}{% set n.x = {1: n.x, 2: n.x} %}{% endfor %}",
        "{% set n = namespace(x=['a']) %}{% for a in range(99) %}{% set n.x = dict(a=n.x, b=n.x) %}{% endfor %}",
        "{% set n = namespace(x='a') %}{% for a in range(99) %}{% set z %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = z %}{% endfor %}",
        "{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}{% set n = namespace(x='a') %}{% for a in range(99) %}{% set n.x = twice(n.x) %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(30) }}",
        "{% for x in [1, 2] recursive %}{% if loop.depth < 30 %}{{ loop([1, 2]) }}{% endif %}{% endfor %}",
        "{% set x = 'a' * 1000000000 %}",
        "{{ 1000000000 * [1] }}",
        "{{ 9 ** (9 ** 9) }}",
        "{% set n = namespace(x=9) %}{% for a in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
        "{{ (['x' * 1000] * 100000)|string }}",
        "{{ (['x' * 1000] * 100000)|join }}",
        "{{ ['x' * 1000] * 100000 }}",
        "{{ (['x' * 1000] * 100000) ~ '' }}",
        "{{ [['x' * 1000] * 100000]|map('string')|list }}",
        "{{ '%s' % [['x' * 1000] * 100000] }}",
        "{% set x = 'a' * 100000 %}{% for a in range(999) %}{{ x == 'b' }}{% endfor %}",
        "{% set x = 'a' * 100000 %}{% for a in range(999) %}{% if 'b' in x %}{% endif %}{% endfor %}",
        "{% set x = 'a' * 100000 %}{% for a in range(999) %}{% set y = x[1:] %}{% endfor %}",
        "{% set x = 'a' * 100000 %}{% for a in range(999) %}{% set y = x.upper() %}{% endfor %}",
        "{% set x = 'a' * 100000 %}{% for a in range(999) %}{% set y = x|upper %}{% endfor %}",
        "{% macro f() %}" + "{% set x = 1 %}" * 999 + "{% endmacro %}{% for a in range(999) %}{% set y = f() %}{% endfor %}",
        "{% for x in [1] recursive %}{% if loop.depth is lt(3) %}{{ loop(range(999)) }}{% endif %}{% endfor %}",
        "{% for a in range(9999) %}" + "x" * 10_000 + "{% endfor %}",
    ],
)  # fmt: skip
def test_what_loops_or_grows_without_end_is_stopped_soon(source: str) -> None:
    start = time.process_time()
    with pytest.raises(OutOfFuel):
        render(source)

    assert time.process_time() - start < 10, "less than a second where nothing else runs"


@pytest.mark.parametrize(
    "source",
    [
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% block a %}{{ self.a() }}{% endblock %}",
    ],
)
def test_what_calls_itself_without_end_is_stopped(source: str) -> None:
    with pytest.raises((RecursionError, OutOfFuel)):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ items.__class__.__base__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ range.__globals__.x }}",
        "{{ dict.__globals__.x }}",
        "{{ '{0.__class__.__mro__}'.format(1) }}",
        "{{ items.append(1) }}",
        "{{ items.pop() }}",
        "{{ table.update({}) }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ namespace(__class__=1) }}",
        "{{ namespace({1: 2}) }}",
        "{{ ''.encode('utf-8') }}",
        "{{ 'a'.ljust(9) }}",
        "{{ 'a'.encode() }}",
        "{{ 'a'.translate({}) }}",
        "{{ '%1000d' % 1 }}",
        "{{ '%*d' % (1000, 1) }}",
        "{{ '%.1000f' % 1 }}",
        "{{ '%(a)1000d' % {'a': 1} }}",
        "{{ '{:1000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 1000) }}",
        "{{ items|tojson(indent=1000) }}",
        "{{ 'a'|indent(1000) }}",
    ],
)  # fmt: skip
def test_what_leads_out_of_the_sandbox_or_writes_very_wide_is_refused(source: str) -> None:
    with pytest.raises(SecurityError):
        render(source, items=["a"], table={"k": "v"})


@pytest.mark.parametrize(
    "source",
    ["{{ ''|attr('__class__')|attr('__mro__') }}", "{{ '{x.__class__}'.format_map({'x': 1}) }}", "{{ ''.__doc__ }}"],
)
def test_what_leads_out_of_the_sandbox_gives_nothing_where_it_is_not_refused(source: str) -> None:
    assert not render(source)


@pytest.mark.parametrize("name", ["lipsum", "strftime_now", "open", "__import__", "fuel", "environment", "context"])
def test_other_names_are_not_known(name: str) -> None:
    assert render("{{ " + name + " is defined }}") == "False"


@pytest.mark.parametrize("source", ["{% include 'x' %}", "{% extends 'x' %}", "{% import 'os' as o %}"])
def test_there_are_no_other_templates(source: str) -> None:
    with pytest.raises((TypeError, jinja2.TemplateError)):
        render(source)


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_filters_that_grow_texts_or_bring_chance_are_left_out(name: str) -> None:
    with pytest.raises(jinja2.TemplateSyntaxError, match=f"No filter named '{name}'"):
        render("{{ 'a'|" + name + " }}")


def test_filters_are_called_by_other_filters_only_in_a_render() -> None:
    with pytest.raises(SecurityError, match="may not be used here"):
        Sandbox().call_filter("upper", "a")


def test_a_template_can_say_that_it_refuses_the_messages() -> None:
    with pytest.raises(Refused, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


def test_a_body_weighs_its_nodes_and_its_text() -> None:
    parse = Sandbox().parse

    assert weight_of(parse("{% for a in b %}" + "x" * 500 + "{% endfor %}")) > 500
    assert weight_of(parse("")) < weight_of(parse("{{ a }}")) < weight_of(parse("{{ a + b }}"))
