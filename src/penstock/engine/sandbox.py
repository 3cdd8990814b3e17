"""The place where chat templates run: what they may touch, and how much they may do.

A chat template is a program that comes with a model from the internet. It is compiled for Jinja's immutable sandbox and
given plain data and a few functions, so it reaches no Python object, no file, no clock and no chance.

It cannot run for ever or blow up either, since every render has `Fuel`. Jinja has no `while`, so work comes from loops,
calls and growing values, and each pays before it is done: a loop for its iterations times the size of its body, a call of
a macro for the largest macro, and every text or list that is made for its whole size, however often parts of it recur.
The syntax tree is rewritten so that no loop, list or concatenation escapes this. A filter that can grow a text beyond
its input pays in advance; those that no chat template needs for that are left out.
"""

import re
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import BlockReference, Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from penstock.engine import fuel as metered
from penstock.engine.fuel import STEP, WIDEST, Fuel, OutOfFuel, fuel_of

_EACH, _CONCAT, _MADE, _WEIGHED = " each", " ~", " made", " weighed"
"""Our filters in a rewritten tree; the blank keeps templates from naming them by accident."""

LEFT_OUT = frozenset(
    (
        *("batch", "center", "filesizeformat", "format", "pprint", "random", "round", "slice", "striptags", "urlize"),
        *("wordwrap", "xmlattr"),
    )
)
"""Filters of Jinja that chat templates do not need, and that grow values, or bring chance."""

STRUCTURAL = frozenset(
    (
        *("count", "d", "default", "dictsort", "first", "groupby", "items", "join", "last", "length", "list", "map"),
        *("max", "min", "reject", "rejectattr", "replace", "reverse", "select", "selectattr", "sort", "tojson"),
        *("unique",),
    )
)
"""Filters that do not write their input out as text, or pay for it themselves."""

TEXT_METHODS = frozenset(
    (
        *("capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha", "isascii", "isdecimal"),
        *("isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "lower", "lstrip", "partition"),
        *("removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split"),
        *("splitlines", "startswith", "strip", "swapcase", "title", "upper"),
    )
)
"""The methods of texts that templates may call; the others grow texts, or lead elsewhere."""

MOST_BITS = 4096
"""The largest number that a template may compute."""

_WIDE_PERCENT = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(?:\d{3,}|\*|\d*\.(?:\d{3,}|\*))")
_WIDE_BRACES = re.compile(r"\{[^{}]*(?:\d{3}|\{)")


class Refused(jinja2.TemplateError):
    """The template itself said that it cannot write these messages."""


class SafeNamespace(Namespace):
    """A namespace without names that begin with an underscore, which could lead to Python's own."""

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        attributes = dict(*args, **kwargs)
        for name in attributes:
            _check_name(name)
        super().__init__(attributes)

    def __setitem__(self, name: str, value: object) -> None:
        _check_name(name)
        super().__setitem__(name, value)


class Generation(Extension):
    """The tag that marks what the assistant says; it changes nothing of the text."""

    tags = frozenset(("generation",))  # type: ignore[assignment]  # Jinja only looks into it

    def parse(self, parser: Parser) -> nodes.Node:
        """Read the tag's body, which is a scope of its own."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class Metering(NodeTransformer):
    """Rewrites a syntax tree so that loops, concatenations, comparisons, filters and new lists pay for what they do."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802  # Jinja finds the method by this name
        """Let a loop pay for its iterations, each by the size of the body."""
        weight = weight_of(node)
        self.generic_visit(node)
        node.iter = _filter(node.iter, _EACH, nodes.Const(weight))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        """Let `~` pay for its text."""
        self.generic_visit(node)
        return _filter(nodes.List(node.nodes), _CONCAT)

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        """Let a filter pay for what it is given, where it may write that out, and for what it makes."""
        self.generic_visit(node)
        if node.node is not None and node.name not in STRUCTURAL:
            node.node = _weighed(node.node)
        return _filter(node, _MADE)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        """Let a comparison pay for both sides."""
        self.generic_visit(node)
        node.expr = _weighed(node.expr)
        for operand in node.ops:
            operand.expr = _weighed(operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        """Let a slice pay for what it copies."""
        self.generic_visit(node)
        return _filter(node, _MADE) if isinstance(node.arg, nodes.Slice) else node

    def _literal(self, node: nodes.List | nodes.Dict | nodes.Tuple) -> nodes.Node:
        """Let a list that is made pay for all that is in it; what is assigned to (`for a, b in`) makes nothing."""
        self.generic_visit(node)
        return node if getattr(node, "ctx", "load") != "load" else _weighed(node)

    visit_List = visit_Dict = visit_Tuple = _literal  # noqa: N815


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja as chat templates know it: blocks trimmed, `break` and `continue`, `tojson`, `raise_exception`."""

    intercepted_binops = frozenset(("+", "*", "%", "**"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # constants would be computed before there is any fuel
            finalize=metered.put_out,
            extensions=(Generation, loopcontrols),
        )
        self.macro_weight = STEP
        self.globals = {
            "range": self.globals["range"],
            "dict": _dict,
            "namespace": SafeNamespace,
            "cycler": self.globals["cycler"],
            "joiner": self.globals["joiner"],
            "raise_exception": _raise_exception,
        }
        self.filters = {name: made for name, made in self.filters.items() if name not in LEFT_OUT}
        self.filters |= {_EACH: metered.each, _CONCAT: metered.concat, _MADE: metered.made, _WEIGHED: metered.weighed}
        self.filters |= {name: getattr(metered, name) for name in ("tojson", "indent", "replace", "join")}

    def load(self, source: str) -> jinja2.Template:
        """Compile a template, so that it is metered. Raises what Jinja and Python raise on bad source."""
        tree = self.parse(source)
        bodies = tree.find_all((nodes.Macro, nodes.CallBlock, nodes.Block, nodes.For))
        self.macro_weight = max(map(weight_of, bodies), default=STEP)
        code = self.compile(Metering().visit(tree))
        return self.template_class.from_code(self, code, self.make_globals(None))

    def call(self, context: Context, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function, a macro or a text's method, for fuel."""
        fuel = fuel_of(context)
        fuel.spend(self.macro_weight if isinstance(called, Macro | BlockReference) else STEP)
        owner = getattr(called, "__self__", None)
        if isinstance(owner, str):
            args = _paid(fuel, owner, called.__name__, args)
        if isinstance(called, LoopContext):
            args = tuple(metered.each(context, children, self.macro_weight) for children in args)
        fuel.weigh(tuple(kwargs.values()))
        return metered.made(context, super().call(context, called, *args, **kwargs))

    def call_filter(
        self,
        name: str,
        value: Any,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        context: Context | None = None,
        eval_ctx: nodes.EvalContext | None = None,
    ) -> Any:
        """Call a filter that another filter (`map`) names, for fuel."""
        if context is None:
            raise SecurityError(f"the filter {name!r} may not be used here")
        fuel_of(context).weigh(value)
        return metered.made(context, super().call_filter(name, value, args, kwargs, context, eval_ctx))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute `+`, `*`, `%` or `**`, for fuel that is paid before anything grows."""
        fuel = fuel_of(context)
        if operator == "%":
            if isinstance(left, str) and _WIDE_PERCENT.search(left):
                raise SecurityError(f"{left!r} formats wider than {WIDEST} characters")
            fuel.weigh(right)
        elif isinstance(left, int) and isinstance(right, int) and operator != "+":
            bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
            if bits > MOST_BITS:
                raise OutOfFuel(f"{operator} makes a number of more than {MOST_BITS} bits")
        elif operator == "*":
            for many, times in ((left, right), (right, left)):
                if isinstance(times, int) and isinstance(many, Sized):
                    fuel.spend(len(many) * max(times, 0))
        elif isinstance(left, Sized) and isinstance(right, Sized):
            fuel.spend(len(left) + len(right))
        return metered.made(context, super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Give the safe form of a text's `format`, unless it would write very wide."""
        safe = super().wrap_str_format(value)
        if safe is not None and _WIDE_BRACES.search(value.__self__.replace("{{", "").replace("}}", "")):
            raise SecurityError(f"{value.__self__!r} formats wider than {WIDEST} characters")
        return safe


def weight_of(node: nodes.Node) -> int:
    """Give the cost of running the body of a loop or a macro once: its nodes and its text."""
    return (
        STEP
        + sum(1 for _ in node.find_all(nodes.Node))
        + sum(len(part.data) for part in node.find_all(nodes.TemplateData))
    )


def _filter(node: nodes.Node | None, name: str, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(cast("nodes.Expr | None", node), name, list(args), [], None, None)


def _weighed(node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.Const) else _filter(node, _WEIGHED)


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    """Make a dictionary; a function, since the class itself would hand its methods out."""
    return dict(*args, **kwargs)


def _raise_exception(message: object) -> None:
    raise Refused(str(message))


def _check_name(name: object) -> None:
    if not isinstance(name, str) or name.startswith("_"):
        raise SecurityError(f"the name {name!r} may not be stored in a namespace")


def _paid(fuel: Fuel, text: str, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Let a method of a text pay in advance, or refuse it; give the arguments to call it with."""
    if name not in TEXT_METHODS:
        raise SecurityError(f"the method {name!r} of a text may not be called")
    fuel.spend(len(text))
    if name == "join" and args:
        parts = list(args[0])
        fuel.weigh(parts)
        fuel.spend(len(parts) * len(text))
        return (parts, *args[1:])
    if name == "replace" and len(args) > 1:
        metered.pay_for_replacing(fuel, text, str(args[0]), str(args[1]))
    return args
