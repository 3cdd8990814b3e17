"""The official OpenAI client, unchanged, straight to a real model and through penstock: equal but for ids and times."""

import http.client
import json
from urllib.parse import urlsplit

import openai
import pytest

HI = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hi to Zoë 👋"}]
TOOL = {
    "type": "function",
    "function": {"name": "find", "parameters": {"type": "object", "properties": {"q": {"type": "string"}}}},
}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"ok": {"type": "boolean"}},
            "required": ["ok"],
            "additionalProperties": False,
        },
    },
}
CASES = {
    "plain": {},
    "several tokens": {"max_tokens": 40, "seed": 7},
    "sampled with a seed": {"temperature": 1.0, "seed": 3, "top_p": 0.9},
    "logprobs": {"logprobs": True, "top_logprobs": 3},
    "stop": {"stop": ["a", "e"]},
    "penalties": {"presence_penalty": 0.5, "frequency_penalty": 0.5},
    "json schema": {"response_format": SCHEMA, "max_tokens": 64},
    "tools offered": {"tools": [TOOL], "tool_choice": "none"},
    "parts": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}]
    },
    "a member of the server's own": {"extra_body": {"min_p": 0.1, "cache_prompt": False}},
}


@pytest.fixture(scope="module")
def direct(llama):
    with openai.OpenAI(base_url=llama, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def through(gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def same(value):
    """A reply without what differs between any two: ids, times, and how long the model took."""
    plain = value.model_dump()
    for name in ("id", "created", "timings"):
        plain.pop(name, None)
    if plain.get("usage"):
        plain["usage"].pop("prompt_tokens_details", None)  # how much was still in the model server's cache
    return plain


def ask(client, model, options, **more):
    settings = {"model": model, "messages": HI, "max_tokens": 12, "temperature": 0, "seed": 1} | options | more
    return client.chat.completions.create(**settings)


@pytest.mark.parametrize("case", CASES)
def test_a_whole_reply_is_the_same_through_penstock(direct, through, case):
    straight = ask(direct, "tiny", CASES[case])
    routed = ask(through, "fast", CASES[case])

    assert same(routed) == same(straight)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_is_the_same_through_penstock(direct, through, case, usage):
    asked = {"stream": True} | ({"stream_options": {"include_usage": True}} if usage else {})
    straight = [same(chunk) for chunk in ask(direct, "tiny", CASES[case], **asked)]
    routed = [same(chunk) for chunk in ask(through, "fast", CASES[case], **asked)]

    assert routed == straight
    assert bool(routed[-1]["usage"]) == usage


def test_several_choices_and_the_raw_headers_arrive(through):
    reply = through.chat.completions.with_raw_response.create(model="fast", messages=HI, max_tokens=3, n=2)

    assert reply.headers["x-penstock-target"] == "box/tiny"
    assert reply.headers["x-penstock-lane"] == "verbatim"
    assert float(reply.headers["x-penstock-cost-usd"]) > 0
    assert len(reply.parse().choices) == 2


def test_the_models_own_refusal_of_a_prompt_that_is_too_long_arrives(direct, through):
    long = {"messages": [{"role": "user", "content": "x" * 5000}]}
    with pytest.raises(openai.BadRequestError) as straight:
        ask(direct, "tiny", long)
    with pytest.raises(openai.BadRequestError) as routed:
        ask(through, "fast", long)

    assert routed.value.body == straight.value.body
    assert routed.value.body["type"] == "exceed_context_size_error"


def test_models_are_listed_and_found(through):
    assert [model.id for model in through.models.list()] == ["fast"]
    assert through.models.retrieve("fast").id == "fast"
    with pytest.raises(openai.NotFoundError, match="fast"):
        through.models.retrieve("fsat")


@pytest.mark.parametrize("through_target", [False, True])
def test_a_model_can_be_asked_for_by_its_target(gateway, through, through_target):
    reply = ask(through, "box/tiny" if through_target else "fast", {})

    assert reply.usage.completion_tokens == 12


def test_an_async_client_streams_and_may_leave_early(gateway):
    import asyncio

    async def leave():
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none") as client:
            stream = await client.chat.completions.create(model="fast", messages=HI, max_tokens=1000, stream=True)
            async for _ in stream:
                break
            await stream.close()

    asyncio.run(leave())
    wait_until(lambda: receipts(gateway)[0]["status"] == "cancelled")
    newest = receipts(gateway)[0]
    assert newest["usage"]["source"] in {"counted", "estimated"}
    assert newest["cost_status"] == "estimated"


def test_every_call_left_a_receipt_that_spend_adds_up(gateway, through):
    before = spend(gateway)["total"]
    reply = ask(through, "fast", {})
    wait_until(lambda: spend(gateway)["total"]["calls"] == before["calls"] + 1)
    after, newest = spend(gateway)["total"], receipts(gateway)[0]

    assert after["input_tokens"] - before["input_tokens"] == reply.usage.prompt_tokens
    assert after["output_tokens"] - before["output_tokens"] == reply.usage.completion_tokens
    assert newest["status"] == "ok"
    assert newest["cost_status"] == "exact"
    nano = reply.usage.prompt_tokens * 150 + reply.usage.completion_tokens * 600
    assert newest["cost_usd"] == f"{nano / 1e9:.9f}".rstrip("0")


def spend(gateway):
    return json.loads(gateway.command("spend", "--since", "today", "--by", "model", "--json"))


def receipts(gateway):
    return json.loads(gateway.command("calls", "--json"))["calls"]


def wait_until(holds):
    import time

    for _ in range(50):
        if holds():
            return
        time.sleep(0.02)
    pytest.fail("it did not come true")


def raw_reply(base, body):
    address = urlsplit(base)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=20)
    connection.request("POST", f"{address.path}/chat/completions", body, {"content-type": "application/json"})
    reply = connection.getresponse()
    data = reply.read()
    connection.close()
    return reply, data
