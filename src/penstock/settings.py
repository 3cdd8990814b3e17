"""What a configuration says, as frozen values: the schema of `penstock.toml` and the `Config` that everything is built from.

Every field is a key of the file unless it is marked as derived; `document.py` reads the file by these types, ranges and
examples, and `docs/configuration.md` is compared with them. Nothing here reads, resolves or decides; `config.py` does.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from hmac import compare_digest
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from msgspec import Meta, Struct, field

from penstock.errors import Mistake
from penstock.target import Price


class Secret:
    """A credential: only `reveal` gives it. It never shows in repr, str, tracebacks, encodings or pickles.

    `reference` says where it comes from (`env:NAME`, `file:/path`, `cmd:...`), which is no secret.
    """

    __slots__ = ("_value", "reference")

    def __init__(self, value: str, reference: str) -> None:
        self._value = value
        self.reference = reference

    def reveal(self) -> str:
        """Give the plain text, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        same = compare_digest(self._value.encode(), other._value.encode())
        return same and self.reference == other.reference

    def __hash__(self) -> int:
        return hash(self.reference)

    def __reduce__(self) -> NoReturn:
        raise TypeError("A secret is not pickled or copied: hand over the settings that refer to it.")


Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Limit = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Usd = Annotated[int, Meta(extra={"form": "usd"}, examples=[20])]
Rate = Annotated[int, Meta(extra={"form": "rate"}, examples=[0.15])]
Percent = Annotated[int, Meta(extra={"form": "percent"}, examples=[12.5])]
"""Basis points; in the file percent."""
Name = Annotated[str, Meta(extra={"form": "name", "derived": True})]
ModelName = Annotated[str, Meta(extra={"form": "model name"})]
Known = Annotated[str, Meta(extra={"form": "model"})]
TargetName = Annotated[str, Meta(extra={"form": "target"})]
Priority = Literal["low", "normal", "high"]
Zone = Annotated[str, Meta(extra={"form": "zone"}, examples=["Europe/Berlin"])]


class ServerSettings(Struct, frozen=True):
    """`[server]`: how this process listens, and what one request may take.

    `sharers` are the workers that share out the limits of keys, which no configuration names.
    """

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8420
    deadline_s: Seconds = 120.0
    drain_s: Annotated[float, Meta(ge=0, le=86_400)] = 30.0
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    queue: Annotated[int, Meta(ge=0, le=1_000_000)] = 1000
    queue_s: Annotated[float, Meta(ge=0, le=86_400)] = 2.0
    idempotency_s: Annotated[float, Meta(ge=0, le=2_678_400)] = 86_400.0
    max_body_bytes: Annotated[int, Meta(ge=1024, le=1_073_741_824)] = 20 * 1024 * 1024
    max_connections: Limit = 10_000
    keepalive_s: Seconds = 75.0
    busy_poll_s: Annotated[float, Meta(ge=0, le=0.1)] = 0.0005
    tls_cert: Annotated[Path, Meta(examples=["tls/server.pem"])] | None = None
    tls_key: Annotated[Path, Meta(examples=["tls/server.key"])] | None = None
    sharers: Annotated[int, Meta(extra={"derived": True})] = 1


class ProviderSettings(Struct, frozen=True):
    """`[providers.<name>]`: a place that answers calls.

    `vendor` is whose list prices hold there. `proxy_environ` are the proxy variables of the environment, secret since
    they may hold a password; `cloud_environ` those in which AWS, Google and Azure keep credentials.
    """

    name: Name
    kind: Annotated[str, Meta(extra={"form": "kind"}, examples=["openai"])]
    base_url: Annotated[str, Meta(extra={"form": "url"}, examples=["http://127.0.0.1:9000/v1"])] | None = None
    api_key: Annotated[Secret, Meta(examples=["env:OPENAI_API_KEY"])] | None = None
    dialect: (
        Annotated[Literal["chat", "responses", "messages", "generate", "converse", "ollama"], Meta(examples=["chat"])]
        | None
    ) = None
    vendor: Annotated[str, Meta(min_length=1, examples=["openai"])] | None = None
    free: bool = False
    discount_bp: Percent | None = field(default=None, name="discount")
    concurrency: Limit = 1000
    rpm: Annotated[Limit, Meta(examples=[3_000])] | None = None
    tpm: Annotated[Limit, Meta(examples=[2_000_000])] | None = None
    retries: Annotated[int, Meta(ge=0, le=10)] = 2
    probe_s: Seconds = 5.0
    slow_s: Annotated[Seconds, Meta(examples=[10])] | None = None
    on_disconnect: Literal["cancel", "drain"] = "cancel"
    connect_s: Seconds = 5.0
    first_byte_s: Seconds = 60.0
    idle_s: Seconds = 30.0
    stream_usage: bool = True
    headers: Annotated[
        tuple[tuple[str, Annotated[str, Meta(extra={"form": "header"})]], ...], Meta(examples=[{"x-team": "web"}])
    ] = ()
    ca_file: Annotated[Path, Meta(examples=["tls/corporate-ca.pem"])] | None = None
    path: Annotated[Path, Meta(examples=["replies.toml"])] | None = None
    model: Annotated[Path, Meta(extra={"form": "file or folder"}, examples=["models/tiny.gguf"])] | None = None
    tokenizer: Annotated[Path, Meta(examples=["tokenizer.json"])] | None = None
    context_tokens: Annotated[int, Meta(ge=16, le=10_000_000, examples=[8192])] | None = None
    threads: Annotated[int, Meta(ge=1, le=1024, examples=[4])] | None = None
    region: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,64}$", examples=["eu-central-1"])] | None = None
    profile: Annotated[str, Meta(min_length=1, examples=["production"])] | None = None
    project: Annotated[str, Meta(pattern=r"^[a-z0-9.:-]{1,64}$", examples=["my-project"])] | None = None
    location: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,64}$", examples=["europe-west4"])] | None = None
    credentials: Annotated[Path, Meta(examples=["service-account.json"])] | None = None
    api_version: Annotated[str, Meta(pattern=r"^[a-z0-9.-]{1,64}$", examples=["2024-10-21"])] | None = None
    proxy_environ: Annotated[tuple[tuple[str, Secret], ...], Meta(extra={"derived": True})] = ()
    cloud_environ: Annotated[tuple[tuple[str, Secret], ...], Meta(extra={"derived": True})] = ()


class BudgetSettings(Struct, frozen=True):
    """`budget_usd`: what may be spent per calendar day and month of `zone`. None means: no limit.

    A `soft` budget refuses nobody: it is told of.
    """

    day_nano_usd: Usd | None = field(default=None, name="day")
    month_nano_usd: Annotated[Usd, Meta(examples=[300])] | None = field(default=None, name="month")
    zone: Annotated[str, Meta(extra={"derived": True})] = "UTC"
    soft: bool = False

    def contradictions(self) -> Iterable[Mistake]:
        """Give what makes no sense within it."""
        if self.soft and self.day_nano_usd is None and self.month_nano_usd is None:
            yield Mistake("soft", "needs `day` or `month` beside it.", None, "Example: { day = 20, soft = true }")


class ModelSettings(Struct, frozen=True):
    """`[models.<name>]`: a name that clients ask for, and the targets behind it in fallback order.

    `baseline` is what the savings of routing are told against; None means the first target.
    """

    name: Annotated[ModelName, Meta(extra={"derived": True})]
    targets: Annotated[tuple[TargetName, ...], Meta(extra={"unique": True}, examples=[["openai/gpt-4o-mini"]])] = ()
    static: Annotated[str, Meta(min_length=1, examples=["We are busy, please try again in a minute."])] | None = None
    strict: bool = False
    when_busy: Annotated[Known, Meta(examples=["openai/gpt-4o-mini"])] | None = None
    cache_s: Annotated[Seconds, Meta(examples=[300])] | None = None
    stale_s: Annotated[Seconds, Meta(examples=[86_400])] | None = None
    continues: bool = field(default=False, name="continue")
    rpm: Annotated[Limit, Meta(examples=[600])] | None = None
    tpm: Annotated[Limit, Meta(examples=[200_000])] | None = None
    concurrency: Annotated[Limit, Meta(examples=[50])] | None = None
    policy: Annotated[
        Literal["order"], Meta(extra={"later": ("weighted", "cheapest", "fastest", "complexity", "cascade")})
    ] = "order"
    ladder: Annotated[tuple[str, ...], Meta(extra={"later": ("",)}, examples=[["fast", "smart"]])] = ()
    quality: Annotated[float, Meta(extra={"later": ("",)}, examples=[0.98])] | None = None
    budget: Annotated[BudgetSettings, Meta(examples=[{"day": 50}])] = field(default=BudgetSettings(), name="budget_usd")
    zone: Zone = "UTC"
    baseline: Annotated[TargetName, Meta(examples=["openai/gpt-4o"])] | None = None


class TeamSettings(Struct, frozen=True):
    """`[teams.<name>]`: what a group of keys may use and spend. No `models` means all; None means: no limit."""

    name: Name
    models: Annotated[tuple[Known, ...], Meta(extra={"unique": True}, examples=[["fast"]])] = ()
    budget: Annotated[BudgetSettings, Meta(examples=[{"day": 20, "month": 300}])] = field(
        default=BudgetSettings(), name="budget_usd"
    )
    rpm: Annotated[Limit, Meta(examples=[600])] | None = None
    tpm: Annotated[Limit, Meta(examples=[200_000])] | None = None
    concurrency: Annotated[Limit, Meta(examples=[50])] | None = None
    priority: Priority = "normal"
    zone: Zone = "UTC"


class Pins(Struct, frozen=True):
    """What a feature fixes; None leaves the request's own value. `max_tokens` is a cap, the others are exact."""

    model: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None


class FeatureSettings(Struct, frozen=True):
    """`[features.<name>]`: a use case, what is pinned for it and what it may spend."""

    name: Name
    model: Annotated[Known, Meta(examples=["fast"])] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2, examples=[0])] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1, examples=[0.9])] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1, examples=[7])] | None = None
    max_tokens: Annotated[Limit, Meta(examples=[500])] | None = None
    budget: Annotated[BudgetSettings, Meta(examples=[{"day": 5}])] = field(default=BudgetSettings(), name="budget_usd")
    rpm: Annotated[Limit, Meta(examples=[60])] | None = None
    tpm: Annotated[Limit, Meta(examples=[50_000])] | None = None
    concurrency: Annotated[Limit, Meta(examples=[10])] | None = None
    priority: Annotated[Priority, Meta(examples=["high"])] | None = None
    zone: Zone = "UTC"

    @property
    def pins(self) -> Pins | None:
        """What is pinned, or None if nothing is."""
        pins = Pins(self.model, self.temperature, self.top_p, self.seed, self.max_tokens)
        return None if pins == Pins() else pins


class UserSettings(Struct, frozen=True):
    """`[users]`: what each single user may spend, whoever that is."""

    budget: Annotated[BudgetSettings, Meta(examples=[{"day": 1}])] = field(default=BudgetSettings(), name="budget_usd")
    zone: Zone = "UTC"


class AlertSettings(Struct, frozen=True):
    """`[alerts]`: when people are told of money, and where. A `burn_rate` of None is never told of."""

    webhook: Annotated[Secret, Meta(extra={"form": "webhook"}, examples=["env:ALERT_WEBHOOK"])] | None = None
    budget_percent: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=1000)], ...], Meta(extra={"unique": True}, examples=[[50, 80, 100]])
    ] = (50, 80, 100)
    burn_rate: Annotated[int, Meta(extra={"form": "times"})] | None = 3

    def contradictions(self) -> Iterable[Mistake]:
        """Give what makes no sense within it."""
        if list(self.budget_percent) != sorted(self.budget_percent):
            yield Mistake("budget_percent", "must ascend.", None, "Example: budget_percent = [50, 80, 100]")


class LedgerSettings(Struct, frozen=True):
    """`[ledger]`: where receipts and budgets are kept, and against what a call's intent is durable."""

    url: Annotated[Literal["sqlite"], Meta(extra={"later": ("postgresql:", "postgres:")})] = "sqlite"
    sync: Literal["process", "power"] = "process"


class SharedSettings(Struct, frozen=True):
    """`[shared]`: where replicas share limits, holds and cache."""

    url: Annotated[Literal["memory"], Meta(extra={"later": ("redis:", "rediss:")})] = "memory"


class RateSettings(Struct, frozen=True):
    """US dollars per million tokens; what is not given costs as much as `input` (or `output`)."""

    input: Rate
    output: Annotated[Rate, Meta(examples=[0.6])]
    cached_input: Annotated[Rate, Meta(examples=[0.075])] | None = None
    cache_write: Annotated[Rate, Meta(examples=[0.19])] | None = None
    cache_write_1h: Annotated[Rate, Meta(examples=[0.3])] | None = None
    reasoning: Annotated[Rate, Meta(examples=[0.6])] | None = None
    audio_input: Annotated[Rate, Meta(examples=[10])] | None = None
    audio_output: Annotated[Rate, Meta(examples=[20])] | None = None


class TierSettings(RateSettings, frozen=True, kw_only=True):
    """One of a price's `tiers`: other rates for a call whose whole input exceeds `above_input_tokens`."""

    above_input_tokens: Annotated[Limit, Meta(examples=[200_000])]


class ServiceSettings(RateSettings, frozen=True, kw_only=True):
    """Rates of one tier of service. Tokens of pictures cost the same, however long the input is."""

    image_input: Annotated[Rate, Meta(examples=[0.5])] | None = None
    image_output: Annotated[Rate, Meta(examples=[30])] | None = None
    tiers: Annotated[
        tuple[TierSettings, ...], Meta(examples=[[{"above_input_tokens": 200_000, "input": 0.3, "output": 1.2}]])
    ] = ()

    def contradictions(self) -> Iterable[Mistake]:
        """Give what makes no sense within it."""
        starts = [tier.above_input_tokens for tier in self.tiers]
        if starts != sorted(set(starts)):
            yield Mistake("tiers", "each must begin above the one before.", None, "Put them in order.")


Service = Annotated[ServiceSettings, Meta(examples=[{"input": 0.075, "output": 0.3}])]


class PriceSettings(ServiceSettings, frozen=True, kw_only=True):
    """`[prices."provider/model"]`: own rates, instead of all that the catalogue knows of that target's price."""

    name: Annotated[TargetName, Meta(extra={"derived": True})]
    since: Annotated[str, Meta(extra={"form": "day"}, examples=["2026-11-01"])] = "1970-01-01"
    batch: Service | None = None
    flex: Service | None = None
    priority: Annotated[ServiceSettings, Meta(examples=[{"input": 0.26, "output": 1.05}])] | None = None
    discount_bp: Percent | None = field(default=None, name="discount")


class Settings(Struct, frozen=True):
    """The whole file."""

    server: ServerSettings = ServerSettings()
    providers: tuple[ProviderSettings, ...] = ()
    models: tuple[ModelSettings, ...] = ()
    teams: tuple[TeamSettings, ...] = ()
    features: tuple[FeatureSettings, ...] = ()
    prices: tuple[PriceSettings, ...] = ()
    ledger: LedgerSettings = LedgerSettings()
    shared: SharedSettings = SharedSettings()
    users: UserSettings = UserSettings()
    alerts: AlertSettings = AlertSettings()


class Config(Struct, frozen=True, dict=True):
    """A configuration without mistakes, secrets resolved.

    source  the file that it came from, or words for the built-in defaults
    home    where state lives
    hash    stands on every receipt: 12 hexadecimal digits over all that the settings say, secrets left out
    prices  by target, `provider/model`
    """

    source: str
    home: Path
    hash: str
    server: ServerSettings
    providers: tuple[ProviderSettings, ...]
    models: tuple[ModelSettings, ...]
    teams: tuple[TeamSettings, ...]
    features: tuple[FeatureSettings, ...]
    prices: tuple[tuple[str, Price], ...]
    ledger: LedgerSettings
    shared: SharedSettings
    users: UserSettings = UserSettings()
    alerts: AlertSettings = AlertSettings()

    @property
    def ledger_url(self) -> str:
        """Where the ledger is kept."""
        return self.ledger.url

    @property
    def shared_url(self) -> str:
        """Where replicas share their counters."""
        return self.shared.url

    @cached_property
    def _providers(self) -> Mapping[str, ProviderSettings]:
        return {one.name: one for one in self.providers}

    @cached_property
    def _models(self) -> Mapping[str, ModelSettings]:
        return {one.name: one for one in self.models}

    @cached_property
    def _teams(self) -> Mapping[str, TeamSettings]:
        return {one.name: one for one in self.teams}

    @cached_property
    def _features(self) -> Mapping[str, FeatureSettings]:
        return {one.name: one for one in self.features}

    def provider(self, name: str) -> ProviderSettings | None:
        """Find a provider by its name."""
        return self._providers.get(name)

    def model(self, name: str) -> ModelSettings | None:
        """Find a model by the name that clients ask for."""
        return self._models.get(name)

    def team(self, name: str) -> TeamSettings | None:
        """Find a team by its name."""
        return self._teams.get(name)

    def feature(self, name: str) -> FeatureSettings | None:
        """Find a feature by its name."""
        return self._features.get(name)
