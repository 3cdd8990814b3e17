"""The documentation says all there is, and nothing that is not: links, commands, keys, codes, metrics, headers, rules."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from architecture.rules import RULES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    page for page in sorted(ROOT.rglob("*.md")) if not any(part[0] == "." for part in page.relative_to(ROOT).parts)
]

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
HEADER = re.compile(r"x-penstock-[a-z]+(?:-[a-z]+)*")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def anchors(page: Path) -> set[str]:
    """The anchors of a page as GitHub makes them."""
    titles = HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def missing(page: str, names: set[str]) -> list[str]:
    """The names that a page does not have in code type, alone or with more around them."""
    text = (DOCS / page).read_text(encoding="utf-8")
    code = "\n".join([*re.findall(r"`([^`\n]+)`", FENCE.sub("", text)), *(block for _, block in FENCE.findall(text))])
    return sorted(name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", code))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)

    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_example_is_well_formed(page: Path) -> None:
    check = {"toml": tomllib.loads, "python": ast.parse, "json": msgspec.json.decode}

    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in check:
            check[language](block)


def test_every_page_can_be_reached_from_the_index() -> None:
    seen: set[Path] = set()
    todo = [DOCS / "index.md"]
    while todo:
        page = todo.pop()
        if page in seen or not page.exists():
            continue  # a link to nowhere is the business of the test above
        seen.add(page)
        links = (link.partition("#")[0] for link in LINK.findall(without_code(page.read_text(encoding="utf-8"))))
        todo += [(page.parent / link).resolve() for link in links if link.endswith(".md") and ":" not in link]

    assert not {name_of(page) for page in PAGES if page.is_relative_to(DOCS)} - {name_of(page) for page in seen}


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = [int(page.name[:4]) for page in sorted((DOCS / "decisions").glob("*.md"))]

    assert numbers == list(range(1, len(numbers) + 1))


def commands(group: Any, prefix: str) -> Iterator[str]:
    for name, command in getattr(group, "commands", {}).items():
        yield f"{prefix} {name}"
        yield from commands(command, f"{prefix} {name}")


def test_every_command_has_a_section() -> None:
    import typer

    from penstock import cli

    app = next(value for value in vars(cli).values() if isinstance(value, typer.Typer))
    titles = [title.replace("`", "") for title in HEADING.findall((DOCS / "cli.md").read_text(encoding="utf-8"))]
    known = set(commands(typer.main.get_command(app), "penstock"))

    assert known
    assert not {name for name in known if not any(re.search(rf"\b{name}\b", title) for title in titles)}


def keys(struct: Any, table: str) -> Iterator[tuple[str, str]]:
    """(table, key) for each key that a file may have, from the types of `penstock.settings`."""
    for field in struct.fields:
        extra = (field.type.extra or {}) if isinstance(field.type, msgspec.inspect.Metadata) else {}
        if extra.get("derived"):
            continue
        yield table, field.encode_name
        for inner in structs(field.type):
            yield from keys(inner, f"{table}.{field.encode_name}".strip("."))


def structs(kind: Any) -> Iterator[Any]:
    match kind:
        case msgspec.inspect.StructType():
            yield kind
        case msgspec.inspect.Metadata(type=inner) | msgspec.inspect.VarTupleType(item_type=inner):
            yield from structs(inner)
        case msgspec.inspect.UnionType(types=kinds):
            for inner in kinds:
                yield from structs(inner)
        case _:
            pass


def test_every_configuration_key_is_documented() -> None:
    from penstock.settings import Settings

    known = {key for _, key in keys(msgspec.inspect.type_info(Settings), "")}

    assert {"server", "port", "api_key", "targets", "budget_usd", "day"} <= known
    assert not missing("configuration.md", known)


def test_every_error_code_is_documented() -> None:
    from penstock.errors import PenstockError

    kinds = [PenstockError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    codes = {kind.code for kind in kinds}

    assert "invalid_api_key" in codes
    assert not missing("errors.md", codes)


def test_every_metric_is_documented() -> None:
    from penstock.telemetry.metrics import Metrics

    names = set(re.findall(r"^# TYPE (\S+)", Metrics().exposition().decode(), re.MULTILINE))

    assert names
    assert not missing("metrics.md", names)


def test_every_header_of_ours_is_documented() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    names = set(HEADER.findall(source))

    assert "x-penstock-call" in names
    assert not missing("http.md", names)


def test_the_architecture_names_files_that_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[\w<>]+/)*\w+\.py)`", text))
    package = ROOT / "src" / "penstock"

    assert named
    assert not {path for path in named if not ((package / path).exists() or (ROOT / path).exists())}


def test_every_rule_that_is_enforced_is_written_down() -> None:
    written = set(re.findall(r"^(\d+)\. ", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), re.MULTILINE))
    enforced = {re.match(r"Rule (\d+)", rule.__doc__ or "")[1] for rule in RULES}

    assert written == enforced
