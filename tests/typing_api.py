"""The types of the library as its users see them. Never run: `test_typing.py` has mypy check it, strictly.

A line with `type: ignore` must be an error; mypy's strict mode complains where it is none.
"""

from collections.abc import AsyncGenerator, Generator
from contextlib import closing
from pathlib import Path

from penstock import (
    Answer,
    AsyncGateway,
    Attempt,
    Chunk,
    Event,
    Foresight,
    Gateway,
    Image,
    Message,
    Options,
    OutputFormat,
    PenstockError,
    Receipt,
    Reply,
    Text,
    TextDelta,
    Tool,
    ToolUse,
    Usage,
)


def use_a_gateway(prompt: str) -> None:
    with Gateway("penstock.toml") as gateway:
        answer: Answer = gateway.ask(prompt, model="fast", feature="demo", temperature=0, stop=["a"], max_tokens=5)
        text: str = answer.text
        usage: Usage = answer.usage
        cost: str | None = answer.cost_usd
        receipt: Receipt = answer.receipt
        tries: tuple[Attempt, ...] = receipt.tries
        reply: Reply = answer.reply
        events: Generator[Event, None, None] = gateway.stream(prompt)
        chunks: Generator[Chunk, None, None] = gateway.chunks(prompt)
        plan: Foresight = gateway.plan(prompt, team="web")
    print(
        text,
        usage.input_tokens + 1,
        cost,
        tries[0].target.upper(),
        reply.choices,
        list(events),
        list(chunks),
        plan.steps,
    )


def read_events(gateway: Gateway) -> str:
    with closing(gateway.stream("Hi")) as events:
        return "".join(event.text for event in events if isinstance(event, TextDelta))


def make_gateways(path: Path) -> tuple[Gateway, AsyncGateway]:
    return Gateway(path), AsyncGateway(config=None)


def ask_with_messages(gateway: Gateway) -> Answer:
    gateway.ask([{"role": "user", "content": "Hi"}])
    gateway.ask([Message("user", (Text("What is this?"), Image(url="https://example.com/a.png")))])
    gateway.ask("Now?", tools=[Tool("now", "The time.", b"{}")], output=OutputFormat("json"))
    options: Options = {"temperature": 0.5, "logit_bias": {"42": 1}}
    return gateway.ask("Hi", **options)


def read_tool_uses(answer: Answer) -> list[str]:
    return [part.arguments for choice in answer.reply.choices for part in choice.parts if isinstance(part, ToolUse)]


def handle(error: PenstockError) -> tuple[str, int, str]:
    return error.code, error.status, error.call_id


async def use_an_asynchronous_gateway() -> None:
    async with AsyncGateway() as gateway:
        answer: Answer = await gateway.ask("Hi", deadline_s=2.5)
        events: AsyncGenerator[Event, None] = gateway.stream("Hi", user="ann")
        async for event in events:
            if isinstance(event, TextDelta):
                print(event.text.upper(), event.choice + 1)
        async for chunk in gateway.chunks("Hi"):
            receipt: Receipt | None = chunk.receipt
            print(receipt)
        plan: Foresight = await gateway.plan("Hi")
        print(answer, plan.static)


def wrong(gateway: Gateway) -> None:
    gateway.ask(5)  # type: ignore[arg-type]
    gateway.ask("Hi", model=5)  # type: ignore[arg-type]
    gateway.ask("Hi", temperature="hot")  # type: ignore[arg-type]
    gateway.ask("Hi", tempreture=1)  # type: ignore[call-arg]
    gateway.ask("Hi", "fast")  # type: ignore[call-arg]
    cost: float = gateway.ask("Hi").cost_usd  # type: ignore[assignment]
    text: str = gateway.stream("Hi").text  # type: ignore[attr-defined]
    print(cost, text)
    for _ in AsyncGateway().stream("Hi"):  # type: ignore[attr-defined]
        pass
