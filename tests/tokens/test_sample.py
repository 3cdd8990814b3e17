"""Estimates of long texts: near the truth in every language, and quick however long the text is."""

from random import Random
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.call import Call, Content, Foreign, Image, Message, Reasoning, Sampling, Text, Tool, ToolResult, ToolUse
from penstock.target import Profile
from penstock.tokens import sample
from penstock.tokens.count import NONE, count_call, count_text
from penstock.tokens.sample import WINDOW_CHARS, WINDOWS, by_bytes, call_by_bytes, sampled, sampled_call
from tokens.texts import KINDS, adversarial, prose

GPT = Profile(family="gpt-4o", tokenizer="o200k")

PROSE = {
    "English": "The weather is very nice today, so let us go for a walk in the park. Artificial intelligence is changing how we "
    "live, and many companies use large language models to work more efficiently than before.",
    "German": "Das Wetter ist heute sehr schön, also gehen wir im Park spazieren. Die künstliche Intelligenz verändert unsere "
    "Lebensweise, und viele Unternehmen verwenden große Sprachmodelle, um effizienter zu arbeiten.",
    "French": "Il fait très beau aujourd'hui, allons nous promener dans le parc. L'intelligence artificielle change notre façon "
    "de vivre, et de nombreuses entreprises utilisent de grands modèles de langage.",
    "Russian": "Сегодня очень хорошая погода, давайте прогуляемся в парке. Технологии искусственного интеллекта меняют наш образ "
    "жизни, и многие компании используют большие языковые модели.",
    "Arabic": "الطقس جميل جدا اليوم، لنذهب في نزهة إلى الحديقة. تقنيات الذكاء الاصطناعي تغير أسلوب حياتنا، وتستخدم شركات كثيرة "
    "نماذج لغوية كبيرة.",
    "Hindi": "आज मौसम बहुत अच्छा है, इसलिए हम पार्क में टहलने चलें। कृत्रिम बुद्धिमत्ता हमारे जीने के तरीके को बदल रही है।",
    "Thai": "วันนี้อากาศดีมาก เราไปเดินเล่นในสวนสาธารณะกันเถอะ ปัญญาประดิษฐ์กำลังเปลี่ยนวิถีชีวิตของเรา",
    "Chinese": "今天天气很好,我们一起去公园散步吧。人工智能技术正在改变我们的生活方式,许多公司都在使用大型语言模型来提高工作效率。",
    "Japanese": "今日は天気がとても良いので、公園へ散歩に行きましょう。人工知能の技術は私たちの生活を変えつつあります。",
    "Korean": "오늘은 날씨가 아주 좋아서 공원에 산책하러 갑시다. 인공지능 기술은 우리의 생활 방식을 바꾸고 있습니다.",
    "Python": "def total(rows):\n    result = 0\n    for row in rows:\n        if row.cost is not None:\n            result += row.cost\n"
    "    return result\n",
    "JSON": '{"id": "call_17", "items": [{"name": "apple", "price": 1.25, "tags": ["fruit", "red"]}], "total": null}',
    "spaces": "    " * 60,
    "emoji": "😀👍🏽 ❤️ 🎉 ",
}


def test_classes_of_bytes_are_nearer_than_a_quarter_of_the_length(capsys):
    lines, better, mean = [], 0, {"bytes/4": 0.0, "by_bytes": 0.0}
    for name, once in PROSE.items():
        text = once * 20
        true, size = count_text(text, GPT).n, len(text.encode())
        old, new = size / 4 / true - 1, by_bytes(text.encode()) / true - 1
        lines.append(
            f"  {name:9} {size:6} bytes, {true:5} tokens: bytes/4 {100 * old:+6.0f} %, by class {100 * new:+4.0f} %"
        )
        better += abs(new) <= abs(old)
        if name != "spaces":  # which would drown all others
            mean["bytes/4"] += abs(old) / (len(PROSE) - 1)
            mean["by_bytes"] += abs(new) / (len(PROSE) - 1)
        assert -0.3 <= new <= 1
    with capsys.disabled():
        print(
            "",
            *lines,
            f"  nearer for {better} of {len(PROSE)}; mean error {mean['bytes/4']:.0%} -> {mean['by_bytes']:.0%}",
            sep="\n",
        )
    assert better >= 10
    assert mean["by_bytes"] < mean["bytes/4"] / 2


def test_no_text_has_no_tokens_and_every_other_has_one():
    assert by_bytes(b"") == 0
    assert by_bytes(b" ") == 1
    assert by_bytes(b"\xff") == 1
    assert sampled("", GPT) == NONE


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_have_an_estimate(data):
    assert (by_bytes(data) > 0) == bool(data)


def milli_of(character):
    """Give the thousandths of a token that a character is estimated as."""
    if ord(character) < 128:
        if character.isalnum():
            return sample.MILLI_PER_DIGIT if character.isdigit() else sample.MILLI_PER_LETTER
        if character == "\n":
            return sample.MILLI_PER_LINE
        return sample.MILLI_PER_SPACE if character in " \t\r\v\f" else sample.MILLI_PER_SIGN
    first, *others = character.encode()
    if len(others) == 2:
        return sample.MILLI_PER_CJK if 0xE3 <= first < 0xEE else sample.MILLI_PER_THREE_BYTES
    return sample.MILLI_PER_TWO_BYTES if len(others) == 1 else sample.MILLI_PER_FOUR_BYTES


@given(st.text(st.characters(codec="ascii"), max_size=60) | st.text(max_size=60))
def test_a_text_in_ascii_is_estimated_as_any_other_character_by_character(text):
    assert by_bytes(text.encode()) == -(-sum(map(milli_of, text)) // 1_000)
    assert by_bytes(text.encode()) <= -(-len(text.encode()) * sample.MILLI_PER_BYTE // 1_000)


def test_a_sample_is_near_the_whole_and_a_short_text_is_counted(capsys):
    rng, worst = Random(5), 0.0
    for _ in range(20):
        text = "\n\n".join(prose(rng) for _ in range(60))
        count, true = sampled(text, GPT), count_text(text, GPT)
        assert count.certainty == "estimated"
        assert count.band[0] <= true.n <= count.band[1]
        worst = max(worst, abs(count.n / true.n - 1))
    with capsys.disabled():
        print(f"\nsamples of 20 long texts of several languages: {worst:.1%} off at the worst")
    short = "word " * (WINDOWS * WINDOW_CHARS // 5)
    assert sampled(short, GPT) == count_text(short, GPT)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_takes_as_long_for_a_megabyte_as_for_a_page(kind):
    text = adversarial(kind, 1_000_000)
    began = perf_counter()
    assert sampled(text, GPT).n > 1_000
    by_bytes(text.encode("utf-8", "surrogatepass"))
    assert perf_counter() - began < 0.5, "some milliseconds are usual"


def test_a_call_is_estimated_with_all_that_is_text_in_it():
    messages = (
        Message("system", (Text("Be brief. " * 2_000),)),
        Message("user", (Text("What is the weather? " * 1_000), Image(url="https://example.com/a.png"))),
        Message("assistant", (Reasoning("Let me see. " * 200), ToolUse("1", "weather", '{"city": "Rome"}'))),
        Message("user", (ToolResult("1", (Text("It is sunny. " * 800),)),)),
    )
    tools = (
        Tool("weather", "Tells the weather", b'{"type":"object"}'),
        Tool("none"),
        Foreign("chat", "search", b'{"q":1}'),
    )
    call = Call("chat", "m", Sampling(), lambda: Content(messages, tools=tools))
    true = count_call(call, GPT)
    text = true.n - true.buckets.images.n
    count = sampled_call(call, GPT)
    assert count.certainty == "estimated"
    assert count.n == pytest.approx(text, rel=0.03)
    assert count.band[0] <= text <= count.band[1]
    assert call_by_bytes(call, GPT) == pytest.approx(text, rel=0.3)
