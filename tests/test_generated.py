"""Pages against the program: the help of every command as it is now, every code with its status, every option of the library."""

import importlib.util
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from penstock import Options
from penstock.errors import PenstockError
from penstock.server.admin import ROUTES, openapi

DOCS = Path(__file__).parents[1] / "docs"


def page(name):
    return (DOCS / name).read_text(encoding="utf-8")


def rows(name):
    """The cells of every row of every table of a page."""
    lines = [line for line in page(name).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def load(name):
    """A script of the documentation, as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script():
    return load("generate")


def test_the_picture_is_as_its_script_draws_it():
    drawn = load("picture").draw()

    assert drawn == page("line.svg"), "run .venv/bin/python docs/picture.py"
    assert ET.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"


def test_the_picture_loads_nothing_from_elsewhere_and_knows_dark_pages():
    addresses = re.findall(r"https?://[^\s\"']+", page("line.svg"))

    assert set(addresses) == {"http://www.w3.org/2000/svg"}
    assert "prefers-color-scheme: dark" in page("line.svg")


def test_the_page_of_commands_is_as_the_program_says(script):
    assert script.generate(page("cli.md")) == page("cli.md"), "run .venv/bin/python docs/generate.py"


def test_every_command_is_on_the_page_once(script):
    assert sorted(script.BLOCK.findall(page("cli.md"))) == sorted(script.commands())


def test_a_page_that_is_behind_is_brought_up_to_date(script):
    behind = page("cli.md").replace("Serve until a signal ends it.", "Serve for ever.")

    assert behind != page("cli.md")
    assert script.generate(behind) == page("cli.md")


def test_every_code_stands_with_its_status_and_what_the_line_does_then():
    kinds = [PenstockError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    ours = [kind for kind in kinds if kind.__module__ == "penstock.errors"]
    told = {(row[0].strip("`"), row[1]) for row in rows("errors.md")}
    then = {row[0].strip("`"): row[2] for row in rows("errors.md") if len(row) == 5}

    assert {(kind.code, str(kind.default_status)) for kind in ours} <= told
    upstream = {kind.code: kind.then for kind in ours if kind.code.startswith("upstream_")}
    assert {code: then[code] for code in upstream} == upstream


def test_every_code_of_the_protocol_stands_with_its_status():
    source = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS.parent / "src/penstock/server").glob("*.py"))
    said = set(re.findall(r'Refused\(\s*(\d{3}|\w+), "(\w+)"', source))
    told = {(row[1], row[0].strip("`")) for row in rows("errors.md")}

    assert len(said) >= 8
    assert {(status, code) for status, code in said if status.isdigit()} <= told


def test_every_option_of_the_library_is_told():
    told = " ".join(row[0] for row in rows("library.md"))

    assert not [name for name in Options.__annotations__ if f"`{name}`" not in told]


def test_every_operation_of_the_control_plane_is_told_with_its_parameters():
    told = {row[0].strip("`"): row[1] for row in rows("http.md")}

    for operation in ROUTES:
        words = told[f"{operation.method} {operation.path}"]
        assert all(f"`{parameter.name}`" in words for parameter in operation.parameters)
    assert set(openapi()["paths"]) == {operation.path for operation in ROUTES}
