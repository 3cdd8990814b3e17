"""The pages on the configuration and on scripts against the structs that read them: key by key, example by example."""

import re
from pathlib import Path

import pytest
from msgspec import inspect

from penstock.config import KINDS, load
from penstock.document import Form, expected, keys_of, unwrap, write_value
from penstock.forms import Known, forms
from penstock.providers.script import Rule, Script, Tokens, ToolCall, read_script
from penstock.settings import (
    AlertSettings,
    BudgetSettings,
    Config,
    FeatureSettings,
    LedgerSettings,
    ModelSettings,
    PriceSettings,
    ProviderSettings,
    RateSettings,
    ServerSettings,
    SharedSettings,
    TeamSettings,
    TierSettings,
    UserSettings,
)

DOCS = Path(__file__).parents[1] / "docs"

STRUCTS = {
    ("configuration.md", "[server]"): ServerSettings,
    ("configuration.md", "[providers.<name>]"): ProviderSettings,
    ("configuration.md", "[models.<name>]"): ModelSettings,
    ("configuration.md", "[teams.<name>]"): TeamSettings,
    ("configuration.md", "budget_usd"): BudgetSettings,
    ("configuration.md", "[features.<name>]"): FeatureSettings,
    ("configuration.md", '[prices."<provider>/<model>"]'): PriceSettings,
    ("configuration.md", "tiers"): TierSettings,
    ("configuration.md", "[users]"): UserSettings,
    ("configuration.md", "[alerts]"): AlertSettings,
    ("configuration.md", "[ledger]"): LedgerSettings,
    ("configuration.md", "[shared]"): SharedSettings,
    ("scripted.md", "The file"): Script,
    ("scripted.md", "[[rules]]"): Rule,
    ("scripted.md", "tool_calls"): ToolCall,
    ("scripted.md", "usage"): Tokens,
}
UNITS = {
    "tokens_per_s": "words per second",
    "_ms": "milliseconds",
    "_s": "seconds",
    "_bytes": "bytes",
    "rpm": "requests per minute",
    "tpm": "tokens per minute",
    "_tokens": "tokens",
}
FORMS = {**forms({}, Path(), Known()), "arguments": Form("a table or text", lambda raw, _: raw)}


def rows(page, title):
    """The rows of the tables of keys in one section: key -> type, unit, default, example, meaning."""
    sections = re.split(r"^#+ ", (DOCS / page).read_text(), flags=re.MULTILINE)
    section = next(part for part in sections if part.splitlines()[:1] in ([title], [f"`{title}`"]))
    found = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 6 and cells[0].startswith("`"):
            found[cells[0].strip("`")] = cells[1:]
    return found


def fields(struct):
    """The keys that a section has to tell; the rates of a tier are those of the price before it."""
    known = keys_of(inspect.type_info(struct))
    before = keys_of(inspect.type_info(RateSettings)) if struct is TierSettings else {}
    return {key: field for key, field in known.items() if key not in before}


def unit(key, field):
    money = {"usd": "USD", "rate": "USD per million tokens"}.get(unwrap(field.type)[1].get("form"))
    return money or next((unit for end, unit in UNITS.items() if key.endswith(end)), "")


def default(field):
    if field.required:
        return "required"
    return f"`{write_value(field.default)}`" if isinstance(field.default, bool | int | float | str) else "none"


@pytest.mark.parametrize(("page", "title"), STRUCTS)
def test_every_key_is_documented_as_it_is(page, title):
    told = rows(page, title)
    known = fields(STRUCTS[page, title])

    assert {key: cells[:3] for key, cells in told.items()} == {
        key: [expected(field.type, FORMS), unit(key, field), default(field)] for key, field in known.items()
    }
    assert all(cells[4] for cells in told.values())


FILES = (
    "tokenizer.json",
    "models/tiny.gguf",
    "service-account.json",
    "tls/server.pem",
    "tls/server.key",
    "tls/corporate-ca.pem",
    "replies.toml",
)
BESIDE = {
    "[server]": ("[server]", {"tls_key": "'tls/server.key'", "tls_cert": "'tls/server.pem'"}),
    "[providers.<name>]": ("[providers.box]", {"kind": "'openai'", "base_url": "'http://127.0.0.1:1'"}),
    "[models.<name>]": ("[models.fast]", {"targets": "['openai/a']"}),
    "[teams.<name>]": ("[teams.web]", {}),
    "budget_usd": ("[teams.web.budget_usd]", {"day": "1"}),
    "[users]": ("[users]", {}),
    "[alerts]": ("[alerts]", {}),
    "[features.<name>]": ("[features.f]", {}),
    '[prices."<provider>/<model>"]': ("[prices.'openai/a']", {"input": "1", "output": "1"}),
    "tiers": ("[prices.'openai/a']\ninput = 1\noutput = 1\n[[prices.'openai/a'.tiers]]", {"input": "1", "output": "1"}),
    "[ledger]": ("[ledger]", {}),
    "[shared]": ("[shared]", {}),
    "The file": ("", {"rules": "[{ text = 'a' }]"}),
    "[[rules]]": ("[[rules]]", {"text": "'a'"}),
    "tool_calls": ("[[rules]]\n[[rules.tool_calls]]", {"name": "'a'"}),
    "usage": ("[[rules]]\ntext = ''\n[rules.usage]", {"input_tokens": "1", "output_tokens": "1"}),
}
"""The table that an example of a section belongs to, and the keys that it needs beside it."""

BESIDE_KEY = {
    "path": {"kind": "'scripted'"},
    "status": {},
    "retry_after_s": {"status": "429"},
    "message": {"status": "429"},
    "after_chunks": {"text": "'a'", "fault": "'reset'"},
    "pause_ms": {"text": "'a'", "fault": "'pause'"},
}
PROVIDER_KEY = {
    "model": {"kind": "'llamacpp'"},
    "context_tokens": {"kind": "'local'"},
    "threads": {"kind": "'local'"},
    "region": {"kind": "'bedrock'"},
    "profile": {"kind": "'bedrock'", "region": "'eu-central-1'"},
    "project": {"kind": "'vertex'", "location": "'global'"},
    "location": {"kind": "'vertex'", "project": "'acme'"},
    "credentials": {"kind": "'vertex'", "project": "'acme'", "location": "'global'"},
    "api_version": {"kind": "'azure'", "base_url": "'http://127.0.0.1:1'"},
}
"""The same, for keys that only some kinds of providers have."""

PLANNED = {"ladder", "quality"}
WEBHOOK = {"ALERT_WEBHOOK": "https://hooks.example/1?sig=x"}
EXAMPLES = [
    pytest.param(page, title, key, cells[3].strip("`"), id=f"{title} {key}")
    for page, title in STRUCTS
    for key, cells in rows(page, title).items()
    if key not in PLANNED
]


@pytest.mark.parametrize(("page", "title", "key", "example"), EXAMPLES)
def test_every_example_loads(page, title, key, example, tmp_path):
    assert example.startswith(f"{key} = ")
    header, beside = BESIDE[title]
    beside_key = PROVIDER_KEY | BESIDE_KEY if header == "[providers.box]" else BESIDE_KEY
    others = {name: value for name, value in beside_key.get(key, beside).items() if name != key}
    text = "\n".join([header, example, *(f"{name} = {value}" for name, value in others.items()), ""])

    if page == "scripted.md":
        read_script("example.toml", text.encode())
        return
    if header != "[models.fast]":
        target = "box/a" if header == "[providers.box]" else "openai/a"
        text += f"[models.fast]\ntargets = ['{target}']\n"
    (tmp_path / "tls").mkdir()
    (tmp_path / "models").mkdir()
    for name in FILES:
        (tmp_path / name).touch()
    (tmp_path / "penstock.toml").write_text(text)

    assert isinstance(load(str(tmp_path / "penstock.toml"), {"OPENAI_API_KEY": "a-key", **WEBHOOK}), Config)


def test_the_scripts_in_the_page_on_scripts_are_good(tmp_path):
    configuration, script = re.findall(r"```toml\n(.*?)```", (DOCS / "scripted.md").read_text(), re.DOTALL)
    (tmp_path / "replies.toml").write_text(script)
    (tmp_path / "penstock.toml").write_text(configuration)

    assert load(str(tmp_path / "penstock.toml"), {}).provider("fake").path == tmp_path / "replies.toml"
    assert len(read_script("replies.toml", script.encode()).rules) == 6


def test_the_kinds_and_what_is_planned_are_told():
    text = (DOCS / "configuration.md").read_text()

    for name, kind in KINDS.items():
        assert f"`{name}`" in text
        assert (f"| `{name}` | `{name}` | `{kind.variable}` is set |" in text) == bool(kind.variable)
    for struct in (ProviderSettings, ModelSettings):
        for key, field in fields(struct).items():
            for planned in unwrap(field.type)[1].get("later", ()):
                assert f"`{planned or key}`" in text
