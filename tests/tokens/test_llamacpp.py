"""llama.cpp on GGUF files with real vocabularies: the same tokens of a text, and the same number for the prompt of a chat."""

import mmap
from random import Random

import pytest

from penstock.call import Call, Content, Message, Sampling, Text
from penstock.target import Profile
from penstock.tokens.count import count_call
from penstock.tokens.vocabularies import Tokenizer, from_gguf_file, give
from tokens.gguf_models import bundled, llamacpp, sentencepieces, write_model
from tokens.test_exactness import well_formed
from tokens.texts import corpus

pytest.importorskip("xllamacpp", reason="the extra penstock[llamacpp] is not installed")

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + "
    "message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
PHI4 = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '<|im_sep|>' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)
MISTRAL_V7 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ '[SYSTEM_PROMPT]' + message['content'] + '[/SYSTEM_PROMPT]' }}{% elif message['role'] == 'user' %}"
    "{{ '[INST]' + message['content'] + '[/INST]' }}{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL_V1 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
)
DEEPSEEK = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] }}"
    "{% elif message['role'] == 'user' %}{{ '<\uff5cUser\uff5c>' + message['content'] }}"
    "{% else %}{{ '<\uff5cAssistant\uff5c>' + message['content'] + '<\uff5cend\u2581of\u2581sentence\uff5c>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<\uff5cAssistant\uff5c>' }}{% endif %}"
)
"""As the models' own tokenizer_config.json have them, without tools and defaults."""

FAMILIES = {
    "qwen": (lambda: bundled("qwen2", "qwen2"), CHATML),
    "llama3": (lambda: bundled("llama3", "llama-bpe", bos="<|begin_of_text|>"), LLAMA3),
    "phi4": (lambda: bundled("phi4", "dbrx"), PHI4),
    "mistral": (
        lambda: bundled("mistral_v3", "tekken", bos="<s>", eos="</s>", more=("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")),
        MISTRAL_V7,
    ),
    "mistral-v1": (lambda: sentencepieces(space_prefix=True), MISTRAL_V1),
    "deepseek": (
        lambda: bundled("deepseek_v3", "deepseek-v3", bos="<\uff5cbegin\u2581of\u2581sentence\uff5c>"),
        DEEPSEEK,
    ),
    "gpt-2": (lambda: bundled("cl100k", "gpt-2"), CHATML),
    "gpt-4o": (lambda: bundled("o200k", "gpt-4o"), CHATML),
    "smollm": (lambda: bundled("cl100k", "smollm"), CHATML),
    "no prefix": (lambda: sentencepieces(space_prefix=False), CHATML),
}


QUICK = ("qwen", "mistral-v1", "no prefix")
"""Those that every run tries: writing and loading the others takes some seconds each."""


@pytest.fixture(
    scope="module",
    params=[name if name in QUICK else pytest.param(name, marks=pytest.mark.soak) for name in FAMILIES],
)
def both(request, tmp_path_factory):
    """A family, our tokenizer of its GGUF file, and llama.cpp with the file."""
    made, template = FAMILIES[request.param]
    path = write_model(tmp_path_factory.mktemp("gguf") / "model.gguf", made(), template)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        mine = from_gguf_file(view)
        view.release()
    with llamacpp(path) as theirs:
        yield request.param, mine, theirs


def compare(name: str, mine: Tokenizer, theirs, texts: int, seed: int) -> list[str]:
    rng, differing, doubted = Random(seed), [], 0
    for _ in range(texts):
        text = well_formed(corpus(rng)).replace("\0", "")
        tally, true = mine.count(text), theirs.tokenize(text)
        if mine.encode(text) != true:
            if abs(tally.n - len(true)) <= tally.slack:
                doubted += 1
            else:
                differing.append(text)
    print(f"{name}: compared {texts} with llama.cpp, differing {len(differing)}, within a slack {doubted}, seed {seed}")
    return differing


def test_the_vocabulary_of_a_gguf_file_gives_the_tokens_of_llama_cpp(both):
    assert compare(*both, 200, seed=3) == []


@pytest.mark.soak
def test_the_vocabulary_of_a_gguf_file_gives_the_tokens_of_llama_cpp_on_many_texts(both):
    assert compare(*both, 20_000, Random().randrange(1 << 32)) == []


# -- chats --

ROLES = ("user", "assistant")
SAID = (
    "Hello there!",
    "What is the capital of France? Answer in one word, please.",
    "def add(a, b):\n    return a + b",
    "今天天气很好,我们一起去公园散步吧。",
    "Let's go, it's 12:30 already; don't be late :-)",
    '{"city": "Rome", "days": [1, 2, 3]}',
    "Größe: 12,5 m² - naïve café",
)


def conversations(rng: Random) -> list[dict[str, str]]:
    """A chat that ends with the user, with or without a system text."""
    turns = [{"role": ROLES[at % 2], "content": rng.choice(SAID)} for at in range(rng.randrange(4) * 2 + 1)]
    return [{"role": "system", "content": rng.choice(SAID)}, *turns] if rng.random() < 0.5 else turns


def counted(messages: list[dict[str, str]], profile: Profile):
    said = tuple(Message(one["role"], (Text(one["content"]),)) for one in messages)
    return count_call(Call("chat", "m", Sampling(), lambda: Content(said)), profile)


def test_the_prompt_of_a_chat_counts_as_llama_cpp_counts_it(both):
    family, mine, theirs = both
    if family not in ("qwen", "llama3", "phi4", "mistral", "mistral-v1", "deepseek"):
        pytest.skip("a vocabulary without rules for chats of its own")
    give(f"{family} of a file", mine)
    profile, rng, wrong, compared = Profile(family=family, tokenizer=f"{family} of a file"), Random(4), [], 0
    for _ in range(60):
        messages = conversations(rng)
        if family == "mistral-v1" and messages[0]["role"] == "system":
            continue  # its template has no place for one
        compared += 1
        count, true = counted(messages, profile), theirs.prompt_tokens(messages=messages)
        assert count.band[0] <= true <= count.band[1]
        if count.n != true:
            wrong.append((count.n, true, messages))
    print(f"{family}: compared {compared} chats with llama.cpp, differing {len(wrong)}")
    assert wrong == []
