"""GGUF models in this process: the real llama.cpp (PyPI `xllamacpp`, the extra `penstock[llamacpp]`).

llama.cpp runs with its own threads, its own batching and its own server, which listens on loopback under a key that nobody
else knows; it is spoken to as any other server of OpenAI's dialect, so that streams, disconnects and errors are the same.
It is loaded with the first call, or when the gateway warms up. Place in the line: over `http.py`.
"""

import asyncio
from contextlib import suppress
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

from msgspec import structs

from penstock.call import Call
from penstock.errors import ConfigError, Mistake, UpstreamFailed, UpstreamMissing
from penstock.plugins import Exchange
from penstock.providers.http import HttpProvider
from penstock.settings import ProviderSettings, Secret
from penstock.target import Target

SLOTS = 4
CONTEXT_TOKENS = 8192
"""The window of each slot where none is set: all of a large model's window may not fit into memory."""
MAGIC = b"GGUF"


class LlamaCppProvider:
    """One GGUF file. Raises ConfigError where it is none, or where the extra is missing."""

    dialect = "chat"

    def __init__(self, settings: ProviderSettings) -> None:
        """Look at the beginning of the file; it is loaded with the first call."""
        self._settings = settings
        self._path = _checked(settings)
        self._server: Any = None
        self._http: HttpProvider | None = None
        self._loading: asyncio.Task[HttpProvider] | None = None  # one for all calls, whoever of them goes

    async def send(self, call: Call, target: Target, deadline: float) -> Exchange:
        """Send the call to llama.cpp and wait until its reply begins. Raises an UpstreamError."""
        return await (await self._provider()).send(call, target, deadline)

    async def count(self, call: Call, target: Target, deadline: float) -> int | None:
        """Give None: llama.cpp's dialect here has no such question."""
        return await (await self._provider()).count(call, target, deadline)

    async def warm(self) -> None:
        """Load the model, so that the first call need not wait for it. Raises UpstreamMissing where that is not possible."""
        await self._provider()

    async def close(self) -> None:
        """Close the connections, then end llama.cpp."""
        loading, self._loading = self._loading, None
        if loading is not None:
            with suppress(UpstreamFailed):
                await (await loading).close()
        server, self._server, self._http = [self._server], None, None
        if server[0] is not None:
            await asyncio.to_thread(server.clear)  # the last reference, which ends its threads; it may take a while

    async def _provider(self) -> HttpProvider:
        if self._http is None:
            if self._loading is None:
                self._loading = asyncio.create_task(self._begin())
            try:
                self._http = await asyncio.shield(self._loading)
            except UpstreamFailed as error:
                raise UpstreamMissing(error.message) from None  # each call has its own; another try would fail as well
        return self._http

    async def _begin(self) -> HttpProvider:
        """Start llama.cpp, and give what speaks to it."""
        key = token_urlsafe(24)
        self._server, address = await asyncio.to_thread(self._load, key)
        return HttpProvider(
            structs.replace(
                self._settings,
                kind="openai",
                base_url=f"{address}/v1",
                api_key=Secret(key, "llama.cpp"),
                model=None,
                proxy_environ=(),
            )
        )

    def _load(self, key: str) -> tuple[Any, str]:
        """Start llama.cpp on the file; give it and its address."""
        import xllamacpp

        settings = self._settings
        slots = min(SLOTS, settings.concurrency)
        params = xllamacpp.CommonParams()
        params.model.path = str(self._path)
        params.model_alias = {settings.name}
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        params.api_keys = [key]
        params.n_parallel = slots
        params.n_ctx = slots * (settings.context_tokens or CONTEXT_TOKENS)
        params.use_jinja = True
        params.ui = False
        params.warmup = False
        params.endpoint_metrics = True
        params.verbosity = -1  # it would write every request to the standard error
        if settings.threads is not None:
            params.cpuparams.n_threads = settings.threads
            params.cpuparams_batch.n_threads = settings.threads
        try:
            server = xllamacpp.Server(params)
            server.handle_metrics()  # what answers is at work: one that is let go before never ends, and nothing else goes on
        except (RuntimeError, ValueError) as error:
            raise UpstreamFailed(f"llama.cpp cannot load {self._path.name}: {error}") from error
        return server, server.listening_address


def _checked(settings: ProviderSettings) -> Path:
    place = f"providers.{settings.name}"
    path = settings.model
    if path is None:
        raise ConfigError(
            "the configuration", (Mistake(place, "`model` is missing.", None, 'Example: model = "./file.gguf"'),)
        )
    try:
        with path.open("rb") as file:
            is_gguf = file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror}."
        raise ConfigError("the configuration", (Mistake(f"{place}.model", what),)) from None
    if not is_gguf:
        what = f"{path} is no GGUF file."
        hint = 'A folder as it comes from the Hugging Face hub is for kind = "local".'
        raise ConfigError("the configuration", (Mistake(f"{place}.model", what, None, hint),))
    try:
        import xllamacpp  # noqa: F401 - is it there?
    except ImportError:
        hint = "Install the extra: pip install 'penstock[llamacpp]'."
        raise ConfigError("the configuration", (Mistake(place, "needs the package xllamacpp.", None, hint),)) from None
    return path
