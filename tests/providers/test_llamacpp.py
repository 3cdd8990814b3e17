"""A GGUF file on the real llama.cpp, in this process."""

import asyncio
import builtins
import subprocess
import sys
import time

import pytest
from tests.e2e.model import write_model

from penstock.errors import ConfigError, UpstreamMissing, UpstreamRejected
from penstock.providers.llamacpp import LlamaCppProvider
from penstock.reply import fold
from penstock.settings import ProviderSettings
from penstock.target import Target
from penstock.wire.registry import dialect

pytest.importorskip("xllamacpp", reason="the extra penstock[llamacpp] is not installed")

TARGET = Target("gguf/tiny", "gguf", "tiny", "chat")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def settings(model, **more):
    return ProviderSettings(name="gguf", kind="llamacpp", model=model, **({"context_tokens": 256, "threads": 1} | more))


def call(text="hi", stream="false"):
    body = '{"model":"tiny","messages":[{"role":"user","content":"%s"}],"max_tokens":6,"temperature":0,"stream":%s}'
    return dialect("chat").read_request((body % (text, stream)).encode())


async def events(provider, asked):
    exchange = await provider.send(asked, TARGET, asyncio.get_running_loop().time() + 30)
    found = []
    while (chunk := await exchange.read()) is not None:
        found += chunk.events
    exchange.close()
    return exchange, found


async def test_a_file_answers_whole_and_streamed_in_its_own_bytes(model):
    provider = LlamaCppProvider(settings(model))
    try:
        await provider.warm()
        exchange, whole = await events(provider, call())
        _, streamed = await events(provider, call(stream="true"))
        assert await provider.count(call(), TARGET, 0.0) is None
    finally:
        await provider.close()

    assert exchange.lane == "verbatim"
    used, again = fold(whole).usage, fold(streamed).usage
    assert (used.input_tokens, used.output_tokens) == (again.input_tokens, again.output_tokens) == (19, 6)
    assert again.cached_input_tokens > used.cached_input_tokens == 0, "llama.cpp keeps the prompt"
    assert fold(whole).choices[0].finish == "length"


async def test_two_first_calls_load_the_model_once_and_an_overflow_is_llama_cpps_own(model):
    provider = LlamaCppProvider(settings(model, concurrency=1, threads=None))
    try:
        first, second = await asyncio.gather(events(provider, call()), events(provider, call()))
        with pytest.raises(UpstreamRejected, match="context"):
            await provider.send(call("word " * 900), TARGET, asyncio.get_running_loop().time() + 30)
    finally:
        await provider.close()
        await provider.close()

    assert fold(first[1]).choices == fold(second[1]).choices


async def test_a_broken_file_is_found_when_it_is_loaded(tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    provider = Slow(settings(tmp_path / "broken.gguf"))
    errors = []
    for _ in range(3):
        with pytest.raises(UpstreamMissing, match=r"cannot load broken\.gguf") as caught:
            await provider.warm()
        errors.append(caught.value)
    await provider.close()

    assert provider.loads == 1, "it was tried again, and would be with every call"
    assert len({id(error) for error in errors}) == 3


class Slow(LlamaCppProvider):
    """Takes its time to load, and counts."""

    loads = 0
    ended = 0

    def _load(self, key):
        self.loads += 1
        time.sleep(0.05)
        loaded = super()._load(key)
        self.ended += 1
        return loaded


async def test_a_caller_that_goes_while_the_model_loads_does_not_lose_it(model):
    provider = Slow(settings(model))
    gone = asyncio.create_task(provider.send(call(), TARGET, asyncio.get_running_loop().time() + 30))
    await asyncio.sleep(0.01)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    try:
        _, found = await events(provider, call())
        assert fold(found).usage.output_tokens == 6
        assert provider.loads == 1
    finally:
        await provider.close()


HASTY = """
import sys
from pathlib import Path
from penstock.providers.llamacpp import LlamaCppProvider
from penstock.settings import ProviderSettings
settings = ProviderSettings(name="gguf", kind="llamacpp", model=Path(sys.argv[1]), context_tokens=256, threads=1)
for _ in range(60):
    LlamaCppProvider(settings)._load("key")
"""


def test_a_model_that_is_let_go_as_soon_as_it_is_loaded_ends(model):
    """In a process of its own: one that does not end holds the interpreter's lock for ever."""
    subprocess.run([sys.executable, "-c", HASTY, str(model)], check=True, timeout=60)


async def test_closing_while_the_model_loads_ends_it_too(model):
    provider = Slow(settings(model))
    gone = asyncio.create_task(provider.warm())
    await asyncio.sleep(0.01)
    gone.cancel()
    await provider.close()
    assert (provider.loads, provider.ended) == (1, 1)
    assert provider._server is None


@pytest.mark.parametrize(
    ("content", "said"), [(b"not one", "is no GGUF file"), (None, "cannot be read"), ("missing", "`model` is missing")]
)
def test_what_is_no_gguf_file_is_a_mistake_of_the_configuration(tmp_path, content, said):
    path = tmp_path / "m.gguf"
    if isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        LlamaCppProvider(settings(None if content == "missing" else path))


def test_without_the_extra_the_configuration_says_how_to_install_it(model, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "xllamacpp":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'penstock\[llamacpp\]'"):
        LlamaCppProvider(settings(model))
