"""Finds the configuration and turns it into one frozen `Config`, or into the list of everything that is wrong with it.

The only reader of the environment. The file is the one named, else `PENSTOCK_CONFIG`, else `./penstock.toml`, else there
is none and the built-in defaults hold: the embedded model, and every provider whose usual variable is set. A file without
providers keeps the built-in ones. Secrets are resolved here, which may take the time of a `cmd:`; so do not load on an
event loop. Nothing is connected to, and whether a host may be bound is for whoever binds it.
"""

import os
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from msgspec import Struct, json, structs

from penstock.document import Document, Wrong
from penstock.errors import ConfigError, Mistake
from penstock.forms import Known, check_key, forms
from penstock.plugins import PROVIDERS
from penstock.settings import (
    AlertSettings,
    BudgetSettings,
    Config,
    FeatureSettings,
    LedgerSettings,
    ModelSettings,
    Pins,
    PriceSettings,
    ProviderSettings,
    RateSettings,
    Secret,
    ServerSettings,
    ServiceSettings,
    Settings,
    SharedSettings,
    TeamSettings,
    UserSettings,
)
from penstock.target import Price, Rates, ServiceTier, Tier
from penstock.toml import MAX_BYTES, Toml, parse

__all__ = (
    "AlertSettings",
    "BudgetSettings",
    "Config",
    "FeatureSettings",
    "LedgerSettings",
    "ModelSettings",
    "Pins",
    "PriceSettings",
    "ProviderSettings",
    "Secret",
    "ServerSettings",
    "SharedSettings",
    "TeamSettings",
    "UserSettings",
    "catalog_text",
    "load",
)

Budgeted = TypeVar("Budgeted", ModelSettings, TeamSettings, FeatureSettings, UserSettings)

FILE = "penstock.toml"
BUILT_IN = "the built-in defaults"
HASH_DIGITS = 12
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
CLOUD_PREFIXES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "bedrock": ("AWS_", "HOME"),
        "vertex": ("GOOGLE_", "CLOUDSDK_", "GCE_", "HOME"),
        "azure": ("AZURE_", "IDENTITY_", "MSI_", "HOME"),
    }
)
"""How the variables begin in which each cloud keeps credentials, or says where they are."""

SERVICES = ("batch", "flex", "priority")
"""Tiers of service that an own price may have rates for."""

EMBEDDED = ProviderSettings(name="local", kind="local", free=True)
EMBEDDED_MODEL = ModelSettings(name="penstock-mini", targets=("local/penstock-mini",))


_SERVICE_KEYS = ("base_url", "api_key", "dialect", "vendor", "headers", "ca_file", "connect_s", "stream_usage")
_SPECIAL_KEYS = (
    *("path", "model", "context_tokens", "threads"),
    *("region", "profile", "project", "location", "credentials", "api_version"),
)


_PLACES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"region": ("AWS_REGION", "AWS_DEFAULT_REGION"), "location": ()}
)
"""Keys that only make an address, and the variables that stand for them."""
_EXAMPLES: Mapping[str, str] = MappingProxyType(
    {
        "base_url": '"https://my-resource.openai.azure.com"',
        "project": '"my-project"',
        "location": '"europe-west4"',
        "region": '"eu-central-1"',
        "model": '"./file.gguf"',
    }
)


class Kind(Struct, frozen=True):
    """What is known of a kind of provider beforehand.

    vendor    whose service it is, and so whose prices hold, unless `base_url` leads elsewhere
    variable  the usual environment variable of its key; None: it needs no key
    takes     keys that have a meaning for some kinds only, and for this one
    refuses   keys that have a meaning for all others
    needs     keys without which it cannot be reached; a place or a region may stand in `base_url`
    dialects  what it can be told to speak
    remote    it is asked over the network
    free      it runs in this process, so that a call costs nothing
    """

    vendor: str | None = None
    variable: str | None = None
    takes: tuple[str, ...] = ()
    refuses: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    dialects: tuple[str, ...] = ()
    remote: bool = True
    free: bool = False

    @property
    def unused(self) -> tuple[str, ...]:
        """Keys that mean nothing there."""
        special = (*(key for key in _SPECIAL_KEYS if key not in self.takes), *self.refuses)
        return special if self.remote else (*special, *_SERVICE_KEYS)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "openai": Kind(
            "openai", "OPENAI_API_KEY", dialects=("chat", "responses", "messages", "generate", "converse", "ollama")
        ),
        "anthropic": Kind("anthropic", "ANTHROPIC_API_KEY", dialects=("messages", "chat")),
        "gemini": Kind("google", "GEMINI_API_KEY", dialects=("generate", "chat")),
        "azure": Kind("openai", None, ("api_version",), needs=("base_url",), dialects=("chat", "responses")),
        "vertex": Kind(
            *("google", None, ("project", "location", "credentials")),
            needs=("project", "location"),
            dialects=("generate", "messages"),
        ),
        "bedrock": Kind("aws", None, ("region", "profile"), needs=("region",), dialects=("converse",)),
        "ollama": Kind(dialects=("ollama", "chat")),
        "local": Kind(None, None, ("model", "context_tokens", "threads"), remote=False, free=True),
        "llamacpp": Kind(None, None, ("model", "context_tokens", "threads"), needs=("model",), remote=False, free=True),
        "scripted": Kind(None, None, ("path",), ("concurrency",), remote=False),
    }
)
"""Kinds by name; a plugin's kind is not among them and is left alone. With a variable set, a kind is a
built-in provider of its own name. `OPENAI_BASE_URL` is not read: its users point it at a gateway such as this one."""


def load(path: str | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration; `environ` stands for the process's environment. Raises ConfigError with every mistake."""
    environ = os.environ if environ is None else environ
    source, data = _find(path, environ)
    text = parse(source, data)
    folder = (Path() if source == BUILT_IN else Path(source).parent).absolute()
    built_in, bad_keys = _built_in(environ)
    known = Known(
        providers=text.names("providers") or tuple(provider.name for provider in built_in),
        models=text.names("models") or (EMBEDDED_MODEL.name,),
        kinds=_kinds(text),
    )
    document = Document(source, text, forms(environ, folder, known))
    settings = document.read(Settings) or Settings()
    _check(document, settings, environ)
    if not settings.providers and not text.names("providers"):
        document.mistakes.extend(bad_keys)
        models = settings.models if text.names("models") else (EMBEDDED_MODEL,)
        settings = structs.replace(settings, providers=built_in, models=models)
    document.finish()
    return _config(source, settings, environ, folder)


def home(environ: Mapping[str, str] | None = None) -> Path:
    """Give the folder where state lives; `environ` stands for the process's environment."""
    environ = os.environ if environ is None else environ
    return Path(environ.get("PENSTOCK_HOME") or ".penstock").absolute()


def catalog_text(home: Path | None = None) -> bytes:
    """Give the packaged catalogue of models, TOML, and behind it the updates that were applied in a home."""
    packaged = files("penstock").joinpath("routing", "models.toml").read_bytes()
    applied = None if home is None else home / "models.toml"
    return packaged + b"\n" + applied.read_bytes() if applied is not None and applied.exists() else packaged


def stamp(provider: ProviderSettings) -> tuple[tuple[int, int] | None, ...]:
    """Give what tells whether the files that a provider was made of have changed: when, and their sizes."""
    found: list[tuple[int, int] | None] = []
    for path in (provider.path, provider.ca_file, provider.model, provider.credentials):
        try:
            seen = None if path is None else path.stat()
        except OSError:
            seen = None
        found.append(None if seen is None else (seen.st_mtime_ns, seen.st_size))
    return tuple(found)


# -- finding --


def _find(path: str | None, environ: Mapping[str, str]) -> tuple[str, bytes]:
    """Give the name and the content of the file that holds; nothing where the built-in defaults do."""
    named = path or environ.get("PENSTOCK_CONFIG") or ""
    if not named and not Path(FILE).exists():
        return BUILT_IN, b""
    source = named or FILE
    try:
        with Path(source).open("rb") as file:
            return source, file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "the path is not valid"
        told_by = "--config" if path else "PENSTOCK_CONFIG" if named else FILE
        raise ConfigError(source, (Mistake(told_by, f"cannot be read: {why}.", None, "Correct the path."),)) from None


def _kinds(text: Toml) -> tuple[str, ...]:
    """Kinds that can be built. Plugins are looked up only if the file names a kind that is none of ours."""
    ready = list(KINDS)
    asked = [text.get("providers", name, "kind") for name in text.names("providers")]
    if any(isinstance(kind, str) and kind not in KINDS for kind in asked):
        ready += [entry.name for entry in entry_points(group=PROVIDERS) if entry.name not in ready]
    return tuple(ready)


def _built_in(environ: Mapping[str, str]) -> tuple[tuple[ProviderSettings, ...], list[Mistake]]:
    """Give the providers that need no file, and what is wrong with the keys that the environment holds for them."""
    found, mistakes = [EMBEDDED], []
    for name, kind in KINDS.items():
        value = environ.get(kind.variable or "", "").strip()
        if not value:
            continue
        try:
            key = Secret(check_key(value), f"env:{kind.variable}")
            found.append(ProviderSettings(name=name, kind=name, api_key=key))
        except Wrong as wrong:
            mistakes.append(Mistake(kind.variable or "", wrong.message, None, wrong.suggestion))
    return tuple(found), mistakes


# -- what one field cannot tell --


def _check(document: Document, settings: Settings, environ: Mapping[str, str]) -> None:
    server = settings.server
    if (server.tls_cert is None) != (server.tls_key is None):
        given, missing = ("tls_cert", "tls_key") if server.tls_key is None else ("tls_key", "tls_cert")
        if not document.given("server", missing):
            document.wrong(("server", given), f"needs `{missing}` beside it.", "TLS takes a certificate and its key.")
    for provider in settings.providers:
        _check_provider(document, provider, environ)
    for model in settings.models:
        place = ("models", model.name)
        if not document.given(*place, "targets") and not document.given(*place, "ladder"):
            document.wrong(place, "`targets` is missing.", 'Example: targets = ["openai/gpt-4o-mini"]')
        elif document.given(*place, "targets", empty=True):
            document.wrong((*place, "targets"), "must name at least one target.", "Remove the model if it has none.")
        if model.when_busy == model.name:
            document.wrong((*place, "when_busy"), "must be another model.", "Name a cheaper one.")


def _check_provider(document: Document, provider: ProviderSettings, environ: Mapping[str, str]) -> None:
    kind = KINDS.get(provider.kind)
    if kind is None:
        return  # a plugin's own business
    place = ("providers", provider.name)
    if kind.variable and not (document.given(*place, "api_key") or document.given(*place, "base_url")):
        document.wrong(place, "`api_key` is missing.", f'Example: api_key = "env:{kind.variable}"')
    for key in kind.needs:
        told = document.given(*place, key) or (key in _PLACES and document.given(*place, "base_url"))
        if not told and not any(environ.get(name) for name in _PLACES.get(key, ())):
            document.wrong(place, f"`{key}` is missing.", f"Example: {key} = {_EXAMPLES[key]}")
    if kind.dialects and provider.dialect not in (None, *kind.dialects):
        what = f"the kind {provider.kind} does not speak {provider.dialect}."
        document.wrong((*place, "dialect"), what, f"It speaks: {', '.join(kind.dialects)}.")
    for key in kind.unused:
        if document.given(*place, key):
            document.wrong((*place, key), f"means nothing for the kind {provider.kind}.", "Remove it.")


# -- the values that everything else is built from --


def _config(source: str, settings: Settings, environ: Mapping[str, str], folder: Path) -> Config:
    proxies = tuple(
        (name, Secret(environ[name], f"env:{name}"))
        for upper in PROXY_VARIABLES
        for name in (upper, upper.lower())
        if environ.get(name)
    )
    return Config(
        source=source,
        home=home(environ),
        hash=_hash(settings, folder),
        server=settings.server,
        providers=tuple(
            structs.replace(
                provider,
                vendor=_vendor(provider),
                free=provider.free or KINDS.get(provider.kind, Kind()).free,
                proxy_environ=proxies,
                cloud_environ=_cloud(provider.kind, environ),
            )
            for provider in settings.providers
        ),
        models=tuple(map(_in_zone, settings.models)),
        teams=tuple(map(_in_zone, settings.teams)),
        features=tuple(map(_in_zone, settings.features)),
        prices=tuple((price.name, _price(price, settings, Path(source).name)) for price in settings.prices),
        ledger=settings.ledger,
        shared=settings.shared,
        users=_in_zone(settings.users),
        alerts=settings.alerts,
    )


def _in_zone(one: Budgeted) -> Budgeted:
    """Let a budget know the zone of whose it is."""
    return structs.replace(one, budget=structs.replace(one.budget, zone=one.zone))


def _cloud(kind: str, environ: Mapping[str, str]) -> tuple[tuple[str, Secret], ...]:
    """Give the variables that a cloud's credentials are found by."""
    prefixes = CLOUD_PREFIXES.get(kind, ())
    return tuple((name, Secret(value, f"env:{name}")) for name, value in environ.items() if name.startswith(prefixes))


def _vendor(provider: ProviderSettings) -> str | None:
    if provider.vendor is not None or provider.base_url is not None:
        return provider.vendor
    return KINDS.get(provider.kind, Kind()).vendor


def _price(price: PriceSettings, settings: Settings, source: str) -> Price:
    """Give an own price; where it names no discount, that of its provider is taken off."""
    names = [name for name in SERVICES if getattr(price, name) is not None]
    own, provider = price.discount_bp, price.name.partition("/")[0]
    discounts = {one.name: one.discount_bp or 0 for one in settings.providers}
    return Price(
        since=price.since,
        rates=_rates(price),
        tiers=_tiers(price),
        source=source,
        services=tuple(_service(name, getattr(price, name)) for name in names),
        discount_bp=discounts.get(provider, 0) if own is None else own,
        image_input=price.image_input,
        image_output=price.image_output,
    )


def _service(name: str, service: ServiceSettings) -> ServiceTier:
    return ServiceTier(name, _rates(service), _tiers(service), service.image_input, service.image_output)


def _tiers(service: ServiceSettings) -> tuple[Tier, ...]:
    return tuple(Tier(tier.above_input_tokens, _rates(tier)) for tier in service.tiers)


def _rates(rates: RateSettings) -> Rates:
    return Rates(**{name: getattr(rates, name) for name in Rates.__struct_fields__})


def _hash(settings: Settings, folder: Path) -> str:
    """Hash what the settings mean: not the order of tables, the comments, the place of the file or any secret."""

    def plain(value: Secret | Path) -> str:
        return value.reference if isinstance(value, Secret) else os.path.relpath(value, folder)

    tables = {
        name: tuple(sorted(table, key=lambda one: one.name)) if isinstance(table, tuple) else table
        for name, table in structs.asdict(settings).items()
    }
    return sha256(json.encode(tables, enc_hook=plain, order="deterministic")).hexdigest()[:HASH_DIGITS]
