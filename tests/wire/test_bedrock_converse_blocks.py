"""Parts become blocks, in the client's own form for clients of this API, and named where there is no block for them."""

from typing import Any

import pytest
from msgspec.json import decode, encode

from penstock.call import Audio, Citation, File, Foreign, Image, Part, Reasoning, Refusal, Text, ToolResult, ToolUse
from penstock.wire.bedrock_converse_blocks import BlockWriter, arguments, merge, tool_id
from penstock.wire.tool_ids import fitted

CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
LLAMA = "meta.llama4-scout-17b-instruct-v1:0"
POINT = {"cachePoint": {"type": "default"}}
PIXEL = Image(data="YQ==", media_type="image/png")


def write(*parts: Part, model: str = CLAUDE, own: bool = False) -> tuple[Any, set[str]]:
    writer = BlockWriter(model, own=own)
    return decode(encode(writer.parts(parts))), writer.dropped


def sized(kind: str, form: str, **source: Any) -> list[Any]:
    return [{kind: {"format": form, "source": source}}]


@pytest.mark.parametrize(
    ("part", "blocks", "dropped"),
    [
        (Text("a"), [{"text": "a"}], set()),
        (Text(""), [], set()),
        (Text(" \n"), [], set()),
        (Text("a", (("x", b"1"),), (Citation("u"),), "1h"), [{"text": "a"}, {"cachePoint": {"type": "default", "ttl": "1h"}}], {"x", "citations"}),
        (Refusal("no"), [{"text": "no"}], set()),
        (Refusal(""), [], set()),
        (PIXEL, sized("image", "png", bytes="YQ=="), set()),
        (Image(data="YQ==", media_type="image/jpeg", detail="high", cache="5m"), [*sized("image", "jpeg", bytes="YQ=="), POINT], {"detail"}),
        (Image(data="YQ==", media_type="image/bmp"), [], {"image"}),
        (Image(url="https://example.com/a.png"), [], {"image"}),
        (Image(url="s3://b/k.png"), sized("image", "png", s3Location={"uri": "s3://b/k.png"}), set()),
        (Image(file_id="file-1"), [], {"image"}),
        (Audio("YQ==", "mp3"), sized("audio", "mp3", bytes="YQ=="), set()),
        (Audio("YQ=="), sized("audio", "wav", bytes="YQ=="), set()),
        (Audio("YQ==", "pcm16"), [], {"audio"}),
        (Audio(id="audio_1", transcript="said"), [{"text": "said"}], set()),
        (Audio(id="audio_1"), [], {"audio"}),
        (File("a.pdf", "YQ==", "application/pdf"), [{"document": {"name": "a-pdf", "source": {"bytes": "YQ=="}, "format": "pdf"}}], set()),
        (File("a", "YQ==", "video/mp4"), sized("video", "mp4", bytes="YQ=="), set()),
        (File("a", "YQ==", "video/av3"), [], {"file"}),
        (File("a", "YQ==", "image/webp"), sized("image", "webp", bytes="YQ=="), set()),
        (File("a", "YQ==", "audio/wav"), sized("audio", "wav", bytes="YQ=="), set()),
        (File("a.zip", "YQ==", "application/zip"), [], {"file"}),
        (File(url="https://example.com/a.pdf", media_type="application/pdf"), [], {"file"}),
        (File(file_id="s3://b/a.pdf", media_type="application/pdf"), [{"document": {"name": "document", "source": {"s3Location": {"uri": "s3://b/a.pdf"}}, "format": "pdf"}}], set()),
        (Foreign("messages", "web_search", b"{}"), [], {"web_search"}),
        (Foreign("converse", "searchResult", b'{"searchResult":{}}'), [], {"searchResult"}),
        (ToolUse("t", "f", '{"a":1}', cache="5m"), [{"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": 1}}}, POINT], set()),
        (ToolUse("a|b", "x.y", "[1]", extra=(("z", b"1"),)), [{"toolUse": {"toolUseId": fitted("a|b"), "name": fitted("x.y"), "input": {"input": "[1]"}}}], {"z"}),
        (ToolUse("t", "f", "free text", "custom"), [{"toolUse": {"toolUseId": "t", "name": "f", "input": {"input": "free text"}}}], set()),
        (Reasoning("h", "s", signer="anthropic"), [{"reasoningContent": {"reasoningText": {"text": "h", "signature": "s"}}}], set()),
        (Reasoning("", "YQ==", redacted=True, signer="anthropic"), [{"reasoningContent": {"redactedContent": "YQ=="}}], set()),
        (Reasoning("h", "s", signer="openai"), [], {"reasoning"}),
        (Reasoning("h"), [], {"reasoning"}),
    ],
)  # fmt: skip
def test_a_part_of_another_api(part: Part, blocks: list[Any], dropped: set[str]) -> None:
    found, named = write(part)
    assert found == blocks
    assert named == dropped


@pytest.mark.parametrize(
    ("part", "blocks"),
    [
        (Text("", cache="5m"), [{"text": ""}, POINT]),
        (Text("a", (("guardContent", b'{"qualifiers":["query"]}'),)), [{"guardContent": {"text": {"text": "a", "qualifiers": ["query"]}}}]),
        (Text("ab", (), (Citation("u", start=0, end=1),)), [{"citationsContent": {"content": [{"text": "a"}], "citations": [{"location": {"web": {"url": "u"}}}]}}, {"text": "b"}]),
        (Image(data="YQ==", media_type="image/newest"), sized("image", "newest", bytes="YQ==")),
        (Image(file_id="s3://b/k", extra=(("bucketOwner", b'"1"'),)), sized("image", "png", s3Location={"uri": "s3://b/k", "bucketOwner": "1"})),
        (Image(data="YQ==", media_type="image/png", extra=(("guardContent", b"{}"), ("x", b"1"))), [{"guardContent": {"image": {"format": "png", "source": {"bytes": "YQ=="}, "x": 1}}}]),
        (Audio("YQ==", "newest"), sized("audio", "newest", bytes="YQ==")),
        (File(data="YQ==", media_type="video/newest"), sized("video", "newest", bytes="YQ==")),
        (File("A_b.c", "YQ==", "application/odt", extra=(("context", b'"c"'),)), [{"document": {"name": "A_b.c", "source": {"bytes": "YQ=="}, "format": "odt", "context": "c"}}]),
        (File("n", "YQ==", "text/plain", extra=(("source", b'{"text":"a"}'), ("format", b'"md"'))), [{"document": {"name": "n", "source": {"text": "a"}, "format": "md"}}]),
        (File("n", None, "text/csv", file_id="s3://b/k", extra=(("bucketOwner", b'"1"'),)), [{"document": {"name": "n", "source": {"s3Location": {"uri": "s3://b/k", "bucketOwner": "1"}}, "format": "csv"}}]),
        (Foreign("converse", "searchResult", b'{"searchResult":{}}'), [{"searchResult": {}}]),
        (ToolUse("t", "f", "[1]", extra=(("z", b"1"),)), [{"toolUse": {"toolUseId": "t", "name": "f", "input": [1], "z": 1}}]),
        (Reasoning("h", "s", extra=(("x", b"1"),), signer="anthropic"), [{"reasoningContent": {"reasoningText": {"text": "h", "signature": "s"}, "x": 1}}]),
    ],
)  # fmt: skip
def test_a_part_of_a_client_of_this_api(part: Part, blocks: list[Any]) -> None:
    assert write(part, own=True) == (blocks, set())


def test_signatures_and_marks_go_to_models_that_have_them() -> None:
    thought = Reasoning("h", "s", signer="anthropic")
    assert write(thought, Text("a", cache="5m"), model=LLAMA) == ([{"text": "a"}], {"reasoning", "cache"})
    assert write(Text("a", cache="5m"), model="amazon.nova-pro-v1:0") == ([{"text": "a"}, POINT], set())
    assert write(thought, model="arn:aws:bedrock:eu-west-1:1:application-inference-profile/x")[1] == set()
    assert write(Reasoning("h", "s", signer="openai"), own=True) == ([], {"reasoning"})


def test_an_unsigned_thought_comes_back_to_any_model_but_a_claude() -> None:
    written = [{"reasoningContent": {"reasoningText": {"text": "h"}}}]
    assert write(Reasoning("h"), own=True, model=LLAMA) == (written, set())
    assert write(Reasoning("h"), own=True) == ([], {"reasoning"})


def test_an_assistants_turn_holds_no_pictures_sound_or_files() -> None:
    writer = BlockWriter(CLAUDE, own=False)
    assert writer.said(PIXEL) == writer.said(File("n", "YQ==", "application/pdf")) == []
    assert writer.said(Audio("YQ==", transcript="said")) == [{"text": "said"}]
    assert writer.said(Text("a")) == [{"text": "a"}]
    assert writer.dropped == {"image", "file"}


def test_an_answer_of_a_tool_holds_what_it_may_and_the_rest_follows() -> None:
    parts = (Text("a", cache="1h"), PIXEL, Audio("YQ==", "wav"), Text(""), Foreign("x", "y", b"{}"))
    blocks, dropped = write(ToolResult("t", parts, is_error=True, extra=(("z", b"1"),)))
    assert blocks == [
        {
            "toolResult": {
                "toolUseId": "t",
                "status": "error",
                "content": [{"text": "a"}, *sized("image", "png", bytes="YQ==")],
            }
        },
        {"cachePoint": {"type": "default", "ttl": "1h"}},
        *sized("audio", "wav", bytes="YQ=="),
    ]
    assert dropped == {"y", "z"}
    own = ToolResult("t", (Foreign("converse", "searchResult", b'{"searchResult":{}}'),), cache="5m")
    blocks, _ = write(own, own=True)
    assert blocks == [{"toolResult": {"toolUseId": "t", "content": [{"searchResult": {}}]}}, POINT]


def test_a_mark_behind_a_tool() -> None:
    assert BlockWriter(CLAUDE, own=False).tool_cache("5m") == [POINT]
    assert BlockWriter(CLAUDE, own=False).tool_cache(None) == []


@pytest.mark.parametrize(
    ("text", "kind", "own", "value"),
    [
        ("", "function", False, {}),
        (" ", "custom", False, {"input": " "}),
        ('{"a":1}', "function", False, {"a": 1}),
        ('{"a":', "function", False, {"input": '{"a":'}),
        ("7", "function", False, {"input": "7"}),
        ("7", "function", True, 7),
        ("\ud800", "function", False, None),
        ("[" * 9999, "function", False, {"input": "[" * 9999}),
    ],
)
def test_arguments_are_an_object_whatever_the_model_wrote(text: str, kind: str, own: Any, value: Any) -> None:
    written = arguments(text, kind, own=own)
    if value is None:
        assert written == {"input": text}
    else:
        assert decode(encode(written)) == value


def test_ids_and_members() -> None:
    assert tool_id("a.b:c-d_1") == "a.b:c-d_1"
    assert tool_id("") != ""
    assert len(tool_id("x" * 99)) <= 64
    assert decode(encode(merge({"a": {"b": 1}}, (("a", b'{"b":2,"c":3}'), ("d", b"4"))))) == {
        "a": {"b": 1, "c": 3},
        "d": 4,
    }
