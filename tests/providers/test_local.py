"""The embedded model as a provider: answers, usage, cancellation, bounds; the loop never waits for it."""

import asyncio
import subprocess
import sys
import time

import pytest
from msgspec import structs
from tests.engine.random_models import LLAMA, write_folder

from penstock.call import Call, Content, Image, Message, Sampling, Text
from penstock.errors import ConfigError, ContextOverflow, Inexpressible, UpstreamOverloaded, UpstreamTimeout
from penstock.providers.local import SLOTS, WAITING, LocalProvider
from penstock.reply import Ended, Finished, Started, UsageReported, fold
from penstock.settings import ProviderSettings
from penstock.target import Target

TARGET = Target("local/tiny", "local", "tiny", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("models") / "tiny", LLAMA)


@pytest.fixture
async def provider(folder):
    one = LocalProvider(ProviderSettings(name="local", kind="local", model=folder, context_tokens=256))
    await one.warm()
    yield one
    await one.close()


def call(text="the cat", parts=None, **sampling):
    content = Content((Message("user", parts or (Text(text),)),))
    return Call("chat", "tiny", Sampling(**sampling), lambda: content)


async def events(provider, asked):
    exchange = await provider.send(asked, TARGET, 0.0)
    found = []
    while (chunk := await exchange.read()) is not None:
        found += chunk.events
    exchange.close()
    return found


async def test_an_answer_begins_ends_and_says_what_it_used(provider):
    found = await events(provider, call(temperature=0.0, max_tokens=8))
    whole = fold(found)

    assert isinstance(found[0], Started)
    assert isinstance(found[-1], Ended)
    assert (whole.model, whole.choices[0].finish, whole.ended) == ("tiny", "length", True)
    assert whole.usage.output_tokens == 8
    assert whole.usage.input_tokens == await provider.count(call(), TARGET, 0.0)
    assert whole.usage.source == "provider"


async def test_usage_counts_every_choice(provider):
    whole = fold(await events(provider, call(seed=1, n=3, max_tokens=5)))

    assert len(whole.choices) == 3
    assert whole.usage.output_tokens <= 15
    assert all(choice.finish in {"stop", "length"} for choice in whole.choices)


async def test_many_calls_at_once_are_all_answered(provider):
    replies = await asyncio.gather(*(events(provider, call(seed=number, max_tokens=6)) for number in range(30)))

    assert all(any(isinstance(event, UsageReported) for event in found) for found in replies)
    again = await events(provider, call(seed=7, max_tokens=6))
    assert fold(again).choices[0].text == fold(replies[7]).choices[0].text


async def test_a_closed_answer_stops_within_a_token(provider):
    exchange = await provider.send(call(temperature=0.0, max_tokens=200), TARGET, 0.0)
    exchange.close()
    exchange.close()

    assert await provider._worker.run(lambda engine: engine._batch.active) == 0


async def test_a_call_that_is_cancelled_while_it_waits_is_forgotten(provider):
    task = asyncio.create_task(provider.send(call(max_tokens=200), TARGET, 0.0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await provider._worker.run(lambda engine: engine._batch.active) == 0


async def test_what_does_not_fit_is_a_clear_error_before_anything_is_answered(provider):
    with pytest.raises(ContextOverflow, match="context window holds 256"):
        await provider.send(call("the cat " * 300), TARGET, 0.0)
    with pytest.raises(Inexpressible, match="text only"):
        await provider.send(call(parts=(Image(url="https://x.test/a.png"),)), TARGET, 0.0)


async def test_more_than_may_wait_is_refused(provider):
    hold = asyncio.Event()
    tasks = [asyncio.create_task(provider.send(call(max_tokens=2), TARGET, 0.0)) for _ in range(SLOTS + WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(UpstreamOverloaded):
        await provider.send(call(), TARGET, 0.0)
    hold.set()
    for exchange in await asyncio.gather(*tasks):
        exchange.close()


async def test_a_call_that_finds_no_time_ends_by_itself(folder):
    settings = ProviderSettings(name="local", kind="local", model=folder, first_byte_s=1e-6)
    one = LocalProvider(settings)
    with pytest.raises(UpstreamTimeout, match="found no time"):
        await one.send(call(), TARGET, 0.0)
    await one.close()


async def test_a_read_that_waits_is_told_when_the_model_ends(provider):
    exchange = await provider.send(call(max_tokens=200, temperature=0.0), TARGET, 0.0)

    async def drain():
        while await exchange.read() is not None:
            pass

    task = asyncio.create_task(drain())
    await asyncio.sleep(0)
    await provider.close()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    assert outcome is None or "was closed" in str(outcome)


async def test_the_end_may_come_with_the_first_token(provider):
    found = await events(provider, call(temperature=0.0, max_tokens=1))
    assert [type(event) for event in found[-3:]] == [Finished, UsageReported, Ended]


def test_a_folder_that_is_no_model_is_a_mistake_of_the_configuration(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no config.json in .* use kind = .llamacpp"):
        LocalProvider(ProviderSettings(name="local", kind="local", model=tmp_path))


def test_numpy_is_not_loaded_before_the_first_call():
    program = (
        "import sys, penstock, penstock.gateway, penstock.client, penstock.providers.local, penstock.server.serve\n"
        "from penstock.settings import ProviderSettings\n"
        "penstock.providers.local.LocalProvider(ProviderSettings(name='l', kind='local'))\n"
        "assert not {'numpy', 'jinja2', 'regex'} & set(sys.modules), 'loaded'"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("whose", ["the call's", "the target's"])
async def test_what_it_cannot_do_is_refused_where_the_caller_or_the_model_is_strict(provider, whose):
    content = Content((Message("user", (Text("the cat"),)),), extra=(("tool_choice", b'"auto"'),))
    asked = Call("chat", "tiny", Sampling(max_tokens=1), lambda: content, strict=whose == "the call's")
    target = structs.replace(TARGET, strict=whose == "the target's")
    with pytest.raises(Inexpressible) as caught:
        await provider.send(asked, target, 0.0)
    assert "tool_choice" in caught.value.message
    assert caught.value.param == "tool_choice"
    loose = structs.replace(asked, strict=False)
    assert (await provider.send(loose, TARGET, 0.0)).dropped == ("tool_choice",)


async def test_a_prompt_that_no_window_holds_is_refused_before_it_is_read(provider):
    huge = call("xy z" * 250_000)
    began = time.perf_counter()
    with pytest.raises(ContextOverflow) as caught:
        await provider.send(huge, TARGET, 0.0)
    assert "1000000 characters" in caught.value.message
    assert await provider.count(huge, TARGET, 0.0) is None
    assert time.perf_counter() - began < 0.2
