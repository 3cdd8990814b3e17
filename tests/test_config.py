"""From a file, or none, to one frozen Config, or to everything that is wrong with it."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock import config as module
from penstock.config import catalog_text, load
from penstock.errors import ConfigError
from penstock.settings import AlertSettings, BudgetSettings, Secret, ServerSettings, TeamSettings
from penstock.target import Price, Rates, ServiceTier, Tier

DOCS = Path(__file__).parents[1] / "docs"
CANARY = "sk-canary-0123456789"
ENVIRON = {"OPENAI_API_KEY": CANARY}


@pytest.fixture
def write(tmp_path):
    def write(text, environ=ENVIRON, name="penstock.toml"):
        path = tmp_path / name
        path.write_text(text)
        return load(str(path), environ)

    return write


@pytest.fixture
def mistakes(write):
    def mistakes(text, environ=ENVIRON):
        with pytest.raises(ConfigError) as caught:
            write(text, environ)
        assert CANARY not in str(caught.value)
        return [str(mistake) for mistake in caught.value.mistakes]

    return mistakes


BOX = '[providers.box]\nkind = "openai"\nbase_url = "http://127.0.0.1:9000/v1"\n'


# -- finding the file --


def test_without_a_file_the_demonstration_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load(None, {})

    assert config.source == "the built-in defaults"
    assert config.home == tmp_path / ".penstock"
    assert [(p.name, p.kind, p.free, p.path) for p in config.providers] == [("local", "local", True, None)]
    assert config.model("penstock-mini").targets == ("local/penstock-mini",)


def test_without_a_file_a_usual_variable_brings_its_provider(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load(None, {"OPENAI_API_KEY": f" {CANARY}\n", "ANTHROPIC_API_KEY": "x", "OPENAI_BASE_URL": "http://here/"})

    assert [provider.name for provider in config.providers] == ["local", "openai", "anthropic"]
    openai = config.provider("openai")
    assert (openai.kind, openai.vendor, openai.base_url) == ("openai", "openai", None)
    assert openai.api_key.reveal() == CANARY


def test_an_empty_usual_variable_brings_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert load(None, {"OPENAI_API_KEY": " "}).provider("openai") is None


def test_a_usual_variable_that_cannot_be_a_key_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load(None, {"OPENAI_API_KEY": f"{CANARY}\nx"})

    assert "OPENAI_API_KEY" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_the_named_file_wins_over_the_variable_and_that_over_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("penstock.toml", "variable.toml", "named.toml"), 1):
        (tmp_path / name).write_text(f"[server]\nport = {number}\n")

    assert load(None, {}).server.port == 1
    assert load(None, {"PENSTOCK_CONFIG": "variable.toml"}).server.port == 2
    assert load("named.toml", {"PENSTOCK_CONFIG": "variable.toml"}).server.port == 3
    assert load(str(tmp_path / "named.toml"), {}).source == str(tmp_path / "named.toml")


@pytest.mark.parametrize("path", ["nope.toml", ".", "a\0b", "x" * 5000])
def test_a_file_that_cannot_be_read_is_told(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="--config: cannot be read"):
        load(path, {})


def test_a_variable_that_names_no_file_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="PENSTOCK_CONFIG: cannot be read: No such file"):
        load(None, {"PENSTOCK_CONFIG": "nope.toml"})


def test_the_process_environment_is_read_if_none_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PENSTOCK_CONFIG", str(tmp_path / "c.toml"))
    (tmp_path / "c.toml").write_text("[server]\nport = 9\n")
    config = load()

    assert (config.home, config.server.port) == (tmp_path / "home", 9)


def test_a_file_without_providers_keeps_the_built_in_ones(write):
    config = write("[server]\nport = 1\n")
    assert [provider.name for provider in config.providers] == ["local", "openai"]
    assert [model.name for model in config.models] == ["penstock-mini"]

    config = write('[models.fast]\ntargets = ["openai/gpt-4o-mini", "local/penstock-mini"]\n')
    assert [provider.name for provider in config.providers] == ["local", "openai"]
    assert [model.name for model in config.models] == ["fast"]


def test_a_file_with_providers_has_those_alone(write):
    config = write(BOX)

    assert [provider.name for provider in config.providers] == ["box"]
    assert config.models == ()


def test_the_catalogue_is_packaged():
    if (Path(module.__file__).parent / "routing" / "models.toml").exists():
        assert tomllib.loads(catalog_text().decode())


def test_loading_brings_in_no_provider_and_no_server():
    loaded = "import sys, penstock.config; print([m for m in sys.modules if m.startswith('penstock.')])"
    told = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout

    assert "penstock.config" in told
    assert not re.search(r"penstock\.(providers|server|wire|ledger|routing|gateway)", told)


# -- what becomes of it --


def test_the_example_of_the_documentation_is_a_configuration(write):
    example = re.search(r"```toml\n(.*?)```", (DOCS / "configuration.md").read_text(), re.DOTALL)[1]
    config = write(example)

    assert set(tomllib.loads(example)) == set(module.Settings.__struct_fields__)
    assert config.server == ServerSettings()
    assert config.provider("box").concurrency == 32
    assert config.model("fast").targets == ("openai/gpt-4o-mini-2024-07-18", "box/qwen2.5-7b")
    assert config.team("web") == TeamSettings(
        name="web",
        models=("fast", "smart"),
        budget=BudgetSettings(20 * 10**9, 300 * 10**9, "Europe/Berlin"),
        rpm=600,
        tpm=200_000,
        concurrency=50,
        zone="Europe/Berlin",
    )
    assert config.feature("invoices").pins == module.Pins("fast", 0.0, None, 7, 500)
    assert config.feature("invoices").budget == BudgetSettings(5 * 10**9, None, "UTC")
    assert config.prices == (
        ("box/qwen2.5-7b", Price("1970-01-01", Rates(20_000_000, 60_000_000, 5_000_000), (), "penstock.toml")),
    )
    assert (config.ledger_url, config.ledger.sync, config.shared_url) == ("sqlite", "process", "memory")


def test_prices_have_days_and_tiers(write):
    config = write(f"""{BOX}
        [prices."box/a/b"]
        since = 2026-11-01
        input = 1
        output = 2.5
        reasoning = 3
        tiers = [{{ above_input_tokens = 200_000, input = 2, output = 5, cached_input = 0 }}]
    """)

    tier = Tier(200_000, Rates(2 * 10**9, 5 * 10**9, 0))
    rates = Rates(10**9, 2_500_000_000, reasoning=3 * 10**9)
    assert config.prices == (("box/a/b", Price("2026-11-01", rates, (tier,), "penstock.toml")),)


def test_prices_have_tiers_of_service_pictures_and_a_discount(write):
    config = write(f"""{BOX}
        [prices."box/a"]
        input = 1
        output = 2
        image_input = 0.5
        image_output = 30
        discount = 12.5
        batch = {{ input = 0.5, output = 1, image_output = 15 }}
        [prices."box/a".priority]
        input = 2
        output = 4
        cached_input = 0.2
        tiers = [{{ above_input_tokens = 1000, input = 3, output = 6 }}]
    """)

    usd = 10**9
    batch = ServiceTier("batch", Rates(usd // 2, usd), (), None, 15 * usd)
    priority = ServiceTier("priority", Rates(2 * usd, 4 * usd, usd // 5), (Tier(1000, Rates(3 * usd, 6 * usd)),))
    assert config.prices == (
        (
            "box/a",
            Price("1970-01-01", Rates(usd, 2 * usd), (), "penstock.toml", (batch, priority), 1250, usd // 2, 30 * usd),
        ),
    )


def test_an_own_price_has_its_providers_discount_unless_it_names_one_itself(write):
    config = write(f"""{BOX}
        discount = 10
        [providers.other]
        kind = "openai"
        base_url = "http://127.0.0.1:1"
        [prices."box/a"]
        input = 1
        output = 1
        [prices."box/b"]
        input = 1
        output = 1
        discount = 0
        [prices."box/c"]
        input = 1
        output = 1
        discount = -5
        [prices."other/a"]
        input = 1
        output = 1
    """)

    assert config.provider("box").discount_bp == 1000
    assert {name: price.discount_bp for name, price in config.prices} == {
        "box/a": 1000,
        "box/b": 0,
        "box/c": -500,
        "other/a": 0,
    }


def test_budgets_of_models_and_users_are_in_their_zones(write):
    config = write(f"""{BOX}
        [models.fast]
        targets = ["box/a"]
        budget_usd = {{ day = 1, soft = true }}
        zone = "Asia/Tokyo"
        baseline = "box/big"
        [models.plain]
        targets = ["box/a"]
        [users]
        budget_usd = {{ month = 0.5 }}
        zone = "Europe/Berlin"
    """)

    fast, plain = config.models
    assert (fast.budget, fast.baseline) == (BudgetSettings(10**9, None, "Asia/Tokyo", soft=True), "box/big")
    assert (plain.budget, plain.baseline) == (BudgetSettings(), None)
    assert config.users.budget == BudgetSettings(None, 500_000_000, "Europe/Berlin")


def test_alerts_are_as_they_are_said(write):
    assert write("").alerts == AlertSettings(None, (50, 80, 100), 3)
    config = write(
        '[alerts]\nwebhook = "env:HOOK"\nbudget_percent = [90, 120]\nburn_rate = 0\n',
        {**ENVIRON, "HOOK": "https://hooks.example/x"},
    )
    assert config.alerts == AlertSettings(Secret("https://hooks.example/x", "env:HOOK"), (90, 120), None)
    assert "hooks.example" not in repr(config)
    assert write("[alerts]\nbudget_percent = []\n").alerts.budget_percent == ()


def test_every_mistake_of_money_is_told_with_its_place(mistakes):
    told = mistakes(f"""{BOX}discount = 12.345
[models.fast]
targets = ["box/a"]
budget_usd = {{ soft = true }}
baseline = "bix/a"
zone = "Mars"
[teams.web]
budget_usd = {{ day = 5, soft = 1, week = 3 }}
[users]
budget_usd = 5
[alerts]
webhook = "https://hooks.example/canary"
budget_percent = [80, 50, 1001, 80]
burn_rate = 1.5
[prices."box/a"]
input = 1
output = 1
discount = 101
image_input = -1
batch = {{ input = 1 }}
flex = 5
tiers = [{{ above_input_tokens = 9, input = 1, output = 1 }}, {{ above_input_tokens = 9, input = 2, output = 2 }}]
""")

    begin = [
        "line 4, providers.box.discount: is finer than a hundredth of a percent.",
        "line 7, models.fast.budget_usd.soft: needs `day` or `month` beside it.",
        "line 8, models.fast.baseline: there is no provider `bix`. Did you mean `box/a`?",
        "line 9, models.fast.zone: is no time zone that this machine knows.",
        "line 11, teams.web.budget_usd.soft: must be true or false, not a whole number.",
        "line 11, teams.web.budget_usd.week: unknown key.",
        "line 13, users.budget_usd: must be a table, not a whole number.",
        "line 15, alerts.webhook: must be a reference to a secret, never the secret itself.",
        "line 16, alerts.budget_percent[2]: is out of range: must be a whole number from 1 to 1000.",
        "line 16, alerts.budget_percent[3]: stands here twice.",
        "line 17, alerts.burn_rate: must be a whole number from 0 to 1000.",
        'line 21, prices."box/a".discount: is out of range: must be percent from -100 to 100.',
        'line 22, prices."box/a".image_input: is out of range',
        'line 23, prices."box/a".batch: `output` is missing.',
        'line 24, prices."box/a".flex: must be a table, not a whole number.',
    ]
    assert [one[: len(start)] for one, start in zip(told, begin, strict=False)] == begin
    assert len(told) == len(begin)
    assert "canary" not in "".join(told)


SAME_TIER = "\n[[prices.'box/a'.tiers]]\nabove_input_tokens = 9\ninput = 1\noutput = 1"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[alerts]\nbudget_percent = [80, 50]", "line 2, alerts.budget_percent: must ascend."),
        (
            f"{BOX}[prices.'box/a']\ninput = 1\noutput = 1" + 2 * SAME_TIER,
            'prices."box/a".tiers: each must begin above the one before.',
        ),
    ],
)
def test_what_contradicts_itself_is_told(mistakes, text, told):
    (one,) = mistakes(text)
    assert told in one


def test_prices_hold_at_a_vendor_and_not_behind_another_address(write):
    config = write(f"""{BOX}
        [providers.openai]
        kind = "openai"
        api_key = "env:OPENAI_API_KEY"
        [providers.proxy]
        kind = "openai"
        base_url = "https://proxy.example/v1"
        vendor = "openai"
        [providers.fake]
        kind = "scripted"
    """)

    assert {p.name: p.vendor for p in config.providers} == {
        "box": None,
        "openai": "openai",
        "proxy": "openai",
        "fake": None,
    }


def test_proxies_come_from_the_environment_and_are_secret(write):
    environ = {"HTTPS_PROXY": f"http://u:{CANARY}@proxy:3128", "no_proxy": "localhost", "ALL_PROXY": "", "PROXY": "x"}
    box = write(BOX, environ).provider("box")

    assert [(name, value.reveal()) for name, value in box.proxy_environ] == [
        ("HTTPS_PROXY", f"http://u:{CANARY}@proxy:3128"),
        ("no_proxy", "localhost"),
    ]
    assert CANARY not in repr(box)


def test_files_are_found_beside_the_configuration(write, tmp_path):
    (tmp_path / "replies.toml").write_text("")
    (tmp_path / "key").write_text(CANARY)
    config = write(
        '[providers.a]\nkind = "scripted"\npath = "replies.toml"\n[providers.b]\nkind = "openai"\napi_key = "file:key"\n'
    )

    assert config.provider("a").path == tmp_path / "replies.toml"
    assert config.provider("b").api_key.reveal() == CANARY


def test_a_kind_of_a_plugin_is_welcome(write, monkeypatch):
    found = EntryPoints((EntryPoint("parrot", "parrot:Provider", "penstock.providers"),))
    monkeypatch.setattr(module, "entry_points", lambda group: found.select(group=group))
    config = write('[providers.polly]\nkind = "parrot"\npath = "penstock.toml"\n')

    assert (config.provider("polly").kind, config.provider("polly").vendor) == ("parrot", None)


# -- the hash --


def test_the_hash_tells_what_is_meant_and_not_how_it_is_written(write):
    plain = write(f"{BOX}[models.a]\ntargets = ['box/x']\n[models.b]\ntargets = ['box/y']\n")
    again = write(f"# more\n[models.b]\ntargets = ['box/y']\n[models.a]\ntargets = ['box/x']\npolicy = 'order'\n{BOX}")
    other = write(f"{BOX}[models.a]\ntargets = ['box/x']\n[models.b]\ntargets = ['box/z']\n")

    assert plain.hash == again.hash
    assert plain.hash != other.hash
    assert re.fullmatch(r"[0-9a-f]{12}", plain.hash)


def test_the_hash_knows_references_and_no_secrets(write):
    text = '[providers.openai]\nkind = "openai"\napi_key = "env:{}"\n'
    one = write(text.format("A"), {"A": "first", "B": "first"})
    turned = write(text.format("A"), {"A": "second", "HTTPS_PROXY": "http://x"})
    moved = write(text.format("B"), {"A": "first", "B": "first"})

    assert one.hash == turned.hash
    assert one.hash != moved.hash


def test_the_hash_is_the_same_in_another_folder(tmp_path):
    hashes = set()
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "r.toml").write_text("")
        (tmp_path / name / "penstock.toml").write_text('[providers.a]\nkind = "scripted"\npath = "r.toml"\n')
        hashes.add(load(str(tmp_path / name / "penstock.toml"), {}).hash)

    assert len(hashes) == 1


# -- mistakes --


def test_all_mistakes_are_told_at_once(mistakes):
    told = mistakes(f"""
[server]
port = "8420"
dedline_s = 3
tls_cert = "penstock.toml"

[providers.openai]
kind = "openai"
api_key = "{CANARY}"

[providers.other]
kind = "openai"
api_key = "env:OTHER_KEY"

[providers.third]
kind = "openai"

[providers.claude]
kind = "anthropic"

[providers.fake]
kind = "scripted"
base_url = "http://127.0.0.1:1"

[models.fast]
targets = ["opnai/gpt", "fake/x", "fake/x"]

[models.auto]
policy = "cascade"
ladder = ["fast"]
quality = 0.9

[models.none]

[models.empty]
targets = []

[teams.web]
models = ["fats"]
budget_usd = {{ day = 0.00000000001 }}
zone = "Europe/Berln"

[features.f]
model = "nope"

[prices."box/x"]
input = 1
output = 1

[ledger]
url = "postgresql://u:{CANARY}@h/d"

[shared]
url = "redis://:{CANARY}@h"
""")

    begin = [
        "line 3, server.port: must be a whole number from 0 to 65535, not text. Example: port = 8420",
        "line 4, server.dedline_s: unknown key. Did you mean `deadline_s`?",
        "line 5, server.tls_cert: needs `tls_key` beside it.",
        "line 9, providers.openai.api_key: must be a reference to a secret, never the secret itself.",
        "line 13, providers.other.api_key: provider `other` needs the environment variable OTHER_KEY",
        'line 15, providers.third: `api_key` is missing. Example: api_key = "env:OPENAI_API_KEY"',
        "line 18, providers.claude: `api_key` is missing.",
        "line 23, providers.fake.base_url: means nothing for the kind scripted.",
        "line 26, models.fast.targets[0]: there is no provider `opnai`. Did you mean `openai/gpt`?",
        "line 26, models.fast.targets[2]: stands here twice.",
        "line 29, models.auto.policy: `cascade` is planned and not in this version.",
        "line 30, models.auto.ladder: `ladder` is planned and not in this version.",
        "line 31, models.auto.quality: `quality` is planned and not in this version.",
        "line 33, models.none: `targets` is missing.",
        "line 36, models.empty.targets: must name at least one target.",
        "line 39, teams.web.models[0]: there is no model `fats`. Did you mean `fast`?",
        "line 40, teams.web.budget_usd.day: is finer than a billionth of a dollar",
        "line 41, teams.web.zone: is no time zone that this machine knows.",
        "line 44, features.f.model: there is no model `nope`.",
        'line 46, prices."box/x": there is no provider `box`.',
        "line 51, ledger.url: `postgresql:` is planned and not in this version.",
        "line 54, shared.url: `redis:` is planned and not in this version.",
    ]
    assert len(told) == len(begin)
    for one, start in zip(told, begin, strict=True):
        assert one.startswith(start)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('kind = "azure"', "line 1, providers.p: `base_url` is missing. Example: base_url ="),
        ('kind = "vertex"\nlocation = "eu"', "line 1, providers.p: `project` is missing. Example: project ="),
        ('kind = "vertex"\nproject = "p"', "line 1, providers.p: `location` is missing. Example: location ="),
        ('kind = "bedrock"', "line 1, providers.p: `region` is missing. Example: region ="),
        ('kind = "llamacpp"', "line 1, providers.p: `model` is missing. Example: model ="),
        (
            'kind = "azure"\nbase_url = "https://h"\ndialect = "messages"',
            "line 4, providers.p.dialect: the kind azure does not speak messages. It speaks: chat, responses.",
        ),
        ('kind = "bedrock"\nregion = "EU/x"', "line 3, providers.p.region: is not of the shape"),
        ('kind = "vertex"\nlocation = "eu"\nproject = "p/../q"', "line 4, providers.p.project: is not of the shape"),
    ],
)
def test_what_a_kind_cannot_do_without_or_with_is_told_with_its_line(mistakes, text, told):
    (one,) = mistakes(f"[providers.p]\n{text}", {})
    assert one.startswith(told)


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ('kind = "bedrock"', {"AWS_REGION": "eu-central-1"}),
        ('kind = "bedrock"\nbase_url = "http://127.0.0.1:1"', {}),
        ('kind = "vertex"\nproject = "p"\nbase_url = "http://127.0.0.1:1"', {}),
    ],
)
def test_a_region_may_come_from_elsewhere(write, text, environ):
    assert write(f"[providers.p]\n{text}", environ).providers[0].name == "p"


def test_a_syntax_error_is_one_mistake_with_its_line(mistakes):
    assert mistakes("[server]\nhost = localhost\nport = x\n") == [
        "line 2, TOML: Invalid value. Text stands in quotes; numbers, true and false do not."
    ]


def test_tls_needs_both_of_its_files(write, mistakes, tmp_path):
    (tmp_path / "a.pem").write_text("")

    assert "line 2, server.tls_key: needs `tls_cert`" in mistakes('[server]\ntls_key = "a.pem"\n')[0]
    assert write('[server]\ntls_key = "a.pem"\ntls_cert = "a.pem"\n').server.tls_cert == tmp_path / "a.pem"
    assert len(mistakes('[server]\ntls_key = "a.pem"\ntls_cert = "b.pem"\n')) == 1


def test_a_wrong_key_is_not_told_as_a_missing_one(mistakes):
    assert len(mistakes('[providers.a]\nkind = "openai"\napi_key = "env:NOPE"\n')) == 1
    assert len(mistakes('[providers.a]\nkind = "openai"\nbase_url = "nope"\n')) == 1
    assert len(mistakes("[models.a]\ntargets = 3\n")) == 1


def test_a_provider_that_is_wrong_is_still_known_to_targets(mistakes):
    assert len(mistakes('[providers.a]\nkind = "nope"\n[models.m]\ntargets = ["a/x"]\n')) == 1


def test_a_table_of_tables_that_is_none_is_told(mistakes):
    assert "line 1, providers: must be a list" in mistakes("providers = 3\n")[0]
    assert "Write [models.a]." in mistakes("[models]\na = 3\n")[0]


FRAGMENTS = [
    *(
        "[server]",
        "[providers.a]",
        "[models.m]",
        "[teams.t]",
        "[features.f]",
        '[prices."a/b"]',
        "[[rules]]",
        "[ledger]",
    ),
    *("[providers]", "[models]", "providers = 3", "models = []", "[prices]"),
    *("port = ", "kind = ", "base_url = ", "api_key = ", "targets = ", "budget_usd = ", "models = ", "zone = "),
    *("headers = ", "input = ", "output = ", "tiers = ", "url = ", "host = ", "since = ", "path = ", "tls_key = "),
    *('"openai"', '"scripted"', '"a/b"', '["a/b"]', '["a/b", "a/b"]', "3", "1e999999999", "nan", "{ day = 1 }", '"m"'),
    *(f'"{CANARY}"', f'"env:{CANARY}"', '"env:OPENAI_API_KEY"', '"http://x"', f'"http://u:{CANARY}@x"', "2026-01-01"),
    *('"postgresql://x"', "[[]]", "[{}]", "{}", '""', "true", "'''\n'''", "\n", "\n", "\n", "\n"),
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join))
def test_any_file_is_a_configuration_or_mistakes_and_never_leaks(tmp_path, text):
    path = tmp_path / "penstock.toml"
    path.write_text(text)

    try:
        told = repr(load(str(path), ENVIRON))
    except ConfigError as error:
        told = f"{error}{error.mistakes}"

    assert CANARY not in told
