"""Who answers is data: rule 10 of ARCHITECTURE.md, as far as it speaks of provider names."""

import ast
from collections.abc import Iterator

from architecture.state import bindings
from architecture.tree import Module, Tree, breach, modules, unique

PROVIDERS = {
    *("openai", "azure", "anthropic", "gemini", "vertex", "bedrock", "ollama", "llamacpp", "google", "aws", "mistral"),
    *("groq", "deepseek", "openrouter", "together", "fireworks", "cohere", "xai", "vllm"),
}
WORDS_TOO = {"local", "scripted"}
"""Kinds of providers that are ordinary words as well: a breach where the other side speaks of a provider or a kind."""


def provider_names(tree: Tree) -> list[str]:
    """Rule 10: who answers is data; only the providers and their dialects know a provider by name."""
    constants = {name: value for module in modules(tree) for name, value in _constants(module)}
    found = []
    for module in modules(tree):
        if module.room in {"providers", "wire"}:
            continue
        for node in ast.walk(module.syntax):
            found += [
                breach(module.path, part.lineno, 10, f"compares with the provider name {name!r}")
                for part, beside in _compared(node)
                for name in _providers(module, part, beside, constants)
            ]
    return unique(found)


def _constants(module: Module) -> Iterator[tuple[str, str]]:
    """Dotted name -> text of the string constants of a module and of its classes (enums among them)."""
    for scope in [module.syntax, *(node for node in module.syntax.body if isinstance(node, ast.ClassDef))]:
        prefix = module.name if scope is module.syntax else f"{module.name}.{getattr(scope, 'name', '')}"
        for statement in getattr(scope, "body", []):
            for name, value, _ in bindings(statement):
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield f"{prefix}.{name}", value.value


def _compared(node: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """Pairs of an expression and the text of what it is compared with."""
    match node:
        case ast.Compare(left=left, comparators=rights):
            sides = [left, *rights]
            for side in sides:
                yield side, " ".join(ast.unparse(other) for other in sides if other is not side)
        case ast.Match(subject=subject, cases=cases):
            for pattern in (inner for case in cases for inner in ast.walk(case.pattern)):
                if isinstance(pattern, ast.MatchValue):
                    yield pattern.value, ast.unparse(subject)
        case ast.Call(func=ast.Attribute(value=value, attr="startswith" | "endswith" | "removeprefix"), args=[arg, *_]):
            yield arg, ast.unparse(value)
        case _:
            pass


def _providers(module: Module, part: ast.expr, beside: str, constants: dict[str, str]) -> Iterator[str]:
    """The provider names in one side of a comparison: literal, in a tuple, or behind a constant."""
    match part:
        case ast.Constant(value=str(text)):
            name = text.lower().rstrip("/:.-")
            about_providers = any(word in beside.lower() for word in ("provider", "kind", "dialect", "vendor"))
            if name in PROVIDERS or (name in WORDS_TOO and about_providers):
                yield text
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
            for inner in parts:
                yield from _providers(module, inner, beside, constants)
        case ast.Dict(keys=keys):
            for key in filter(None, keys):
                yield from _providers(module, key, beside, constants)
        case ast.Call(args=[inner]):
            yield from _providers(module, inner, beside, constants)
        case ast.Name() | ast.Attribute():
            name = module.resolve(part) or f"{module.name}.{ast.unparse(part)}"
            if name in constants:
                yield from _providers(module, ast.Constant(constants[name]), beside, constants)
        case _:
            pass


RULES = (provider_names,)
