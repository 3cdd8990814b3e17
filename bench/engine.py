"""What the embedded engine does in a second, on one thread, beside llama.cpp on the same weights. One command.

`python bench/engine.py` makes a Llama model of 100 million random 32-bit floats (0.4 GB, twice, in a temporary folder),
runs both engines on it in turn, and writes `bench/results/engine.md` and `docs/engine.svg`. Takes five minutes or more. Exit
code 1 if a target is missed. `python bench/engine.py --bits` only checks, quickly, that requests in a batch get the same
bits as alone (the full run does so under several kinds of processors that OpenBLAS can be told to see).
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.engine.random_gguf import LlamaCpp, llamacpp, write_gguf  # noqa: E402  # needs the path above
from tests.engine.random_models import LLAMA, random_tensors, write_folder  # noqa: E402

from penstock.engine.batch import Batch  # noqa: E402
from penstock.engine.cache import Cache  # noqa: E402
from penstock.engine.folder import Model, load  # noqa: E402
from penstock.engine.generate import PIECE  # noqa: E402
from penstock.engine.sampler import Sampling, seeded  # noqa: E402
from penstock.engine.threads import limit_blas_threads  # noqa: E402
from penstock.engine.transformer import Transformer  # noqa: E402

HUNDRED_MILLION = LLAMA | {
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4352,
    "eos_token_id": None,
}
FOR_BITS = LLAMA | {
    "vocab_size": 2048,
    "hidden_size": 251,  # odd, so that rows begin at every kind of address
    "intermediate_size": 699,
    "num_hidden_layers": 4,
    "head_dim": 14,
}
TOGETHER = 8
TOKENS = 32
LENGTHS = (128, 512, 1024, 2048, 3072, 4096)
CORES = ("", "Haswell", "Sandybridge", "Nehalem", "Prescott")
"""The kernels for x86 in NumPy's wheels; the empty name stands for what OpenBLAS takes by itself."""
GREEDY = Sampling(temperature=0)


@dataclass
class Series:
    """One line of the picture: how long a token takes (ms) after so many others."""

    name: str
    kind: str
    points: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class Found:
    """All that was measured: tokens per second of each round, time by length, and whether bits were equal."""

    theirs: list[float] = field(default_factory=list)
    one: list[float] = field(default_factory=list)
    together: list[float] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    bits: list[tuple[str, str]] = field(default_factory=list)


def prompts(count: int, length: int, vocab_size: int = 32000) -> list[list[int]]:
    """Random prompts, always the same."""
    return np.random.default_rng(0).integers(4, vocab_size, (count, length)).tolist()


def rate(model: Model, requests: int, tokens: int) -> float:
    """Give the tokens per second of some requests in one batch, once all of them are being answered."""
    batch = Batch(model, slots=requests)
    for prompt in prompts(requests, TOKENS):
        batch.add(prompt, GREEDY, max_tokens=4000, rng=seeded(0, 0))
        batch.step()  # reads one prompt
    began = time.process_time()
    for _ in range(tokens):
        batch.step()
    return requests * tokens / (time.process_time() - began)


def their_rate(theirs: LlamaCpp, prompt: list[int], tokens: int) -> float:
    """Give the tokens per second of llama.cpp: what more tokens cost than one, as reading the prompt is no decoding."""
    took = []
    for count in (1, 1, tokens + 1):  # the first time it reads the prompt, afterwards it remembers it
        began = theirs.cpu_s()
        theirs.greedy(prompt, count, cached=True)
        took.append(theirs.cpu_s() - began)
    return tokens / (took[2] - took[1])


def measure_rates(found: Found, model: Model, theirs: LlamaCpp, rounds: int) -> None:
    """Ask everybody in turn, several times."""
    (prompt,) = prompts(1, TOKENS)
    for _ in range(rounds):
        found.theirs.append(their_rate(theirs, prompt, TOKENS))
        found.one.append(rate(model, 1, TOKENS))
        found.together.append(rate(model, TOGETHER, TOKENS // 2))


def filled(transformer: Transformer, length: int) -> Cache:
    """Make a cache as if so many tokens had been read; what they were does not matter for the time that they cost."""
    cache = transformer.cache(length + 64)
    cache.reserve(length)
    for layer in range(transformer.config.layers):
        part = cache.layer(layer)
        part[:, :length] = np.random.default_rng(layer).standard_normal((*part.shape[:1], length, part.shape[2]))
    cache.advance(length)
    return cache


def best(act: Callable[[], object], times: int) -> float:
    """Milliseconds of the quickest of some runs: what else the machine does can only add to it."""
    took = []
    for _ in range(times):
        began = time.process_time()
        act()
        took.append(time.process_time() - began)
    return 1000 * min(took)


def measure_lengths(found: Found, model: Model, theirs: LlamaCpp, times: int) -> None:
    """Measure how long one more token takes after so many others, for each way in which tokens come."""
    transformer = model.transformer
    one = Series("one request", "one")
    together = Series(f"each of {TOGETHER} requests together", "together")
    reading = Series("reading a prompt", "reading")
    other = Series("llama.cpp, one request", "other")
    (prompt,) = prompts(1, max(LENGTHS))
    read = transformer.cache(max(LENGTHS))
    for length in LENGTHS:
        caches = [filled(transformer, length) for _ in range(TOGETHER)]
        one.points.append((length, best(lambda caches=caches: transformer.decode([5], caches[:1]), times)))
        took = best(lambda caches=caches: transformer.decode([5] * TOGETHER, caches), times)
        together.points.append((length, took / TOGETHER))
        del caches
        while read.length < length - PIECE:
            transformer.read(prompt[read.length : read.length + PIECE], read)
        piece = prompt[length - PIECE : length]

        def again(piece: Sequence[int] = piece) -> None:
            before = read.length
            transformer.read(piece, read)
            read.length = before

        reading.points.append((length, best(again, max(times // 3, 2)) / PIECE))
        other.points.append((length, 1000 / max(their_rate(theirs, prompt[:length], 12) for _ in range(2))))
    found.series = [one, together, reading, other]


def bits() -> str:
    """Compare the scores of requests in batches of 1 to 8 with those that they get alone, bit by bit."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        transformer = load(write_folder(Path(folder), FOR_BITS)).transformer
    starts = prompts(TOGETHER, 70, 2048)

    def begun(number: int) -> Cache:
        cache = transformer.cache(100)
        transformer.read(starts[number][: 30 + 5 * number], cache)
        return cache

    wrong = compared = 0
    for size in range(1, TOGETHER + 1):
        chosen = np.random.default_rng(size).permutation(TOGETHER)[:size].tolist()
        among, alone = ([begun(number) for number in chosen] for _ in range(2))
        for step in range(4):
            ids = [starts[number][-1 - step] for number in chosen]
            rows = transformer.decode(ids, among)
            for row, one, cache in zip(rows, ids, alone, strict=True):
                wrong += int((row.view(np.uint32) != transformer.decode([one], [cache])[0].view(np.uint32)).sum())
                compared += len(row)
    return f"{wrong:,} of {compared:,} scores differ"


def measure_bits(found: Found) -> None:
    """Run `bits` in processes that see other processors or may use more threads."""
    for core in CORES:
        for threads in ("1", "2"):
            environ = os.environ | {"OPENBLAS_NUM_THREADS": threads} | ({"OPENBLAS_CORETYPE": core} if core else {})
            done = subprocess.run(
                [sys.executable, __file__, "--bits"],
                env=environ,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            name = f"{core or 'this processor'}, {threads} thread{'s'[: threads != '1']}"
            found.bits.append((name, done.stdout.strip() if done.returncode == 0 else "could not run"))


def verdicts(found: Found) -> list[tuple[str, str, str, bool]]:
    """Compare what was aimed at with what was found; by medians."""
    theirs, one, together = (statistics.median(rates) for rates in (found.theirs, found.one, found.together))
    growth = {series.name: series.points[-1][1] / series.points[0][1] for series in found.series}
    ours = {name: ratio for name, ratio in growth.items() if "llama.cpp" not in name}
    longer = LENGTHS[-1] / LENGTHS[0]
    worst = max(ours.values())
    equal = all(result.startswith("0 of") for _, result in found.bits if result != "could not run")
    return [
        ("decoding against llama.cpp", ">= 0.33 x", f"{one / theirs:.2f} x", one / theirs >= 1 / 3),
        (f"{TOGETHER} requests against one", ">= 3 x", f"{together / one:.2f} x", together / one >= 3),
        (
            f"cost of a token after {longer:.0f} times as many others",
            f"<= {longer / 4:.0f} x",
            f"{worst:.1f} x",
            worst <= longer / 4,
        ),
        ("scores in a batch that differ from those alone", "none", "none" if equal else "some", equal),
    ]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] + ["---:"] * (len(head) - 1), *rows)]
    return "\n".join(lines)


def spread(rates: Sequence[float]) -> list[str]:
    """Median, best and worst of some rates."""
    return [f"{pick(rates):.1f}" for pick in (statistics.median, max, min)]


REPORT = """# The embedded engine, measured

Generated by `python bench/engine.py`. A Llama model of {parameters:.0f} million random 32-bit floats (12 layers of 768, 12
heads over 4, a vocabulary of 32,000), one thread each, prompts of {tokens} tokens, greedy; the engines took turns for {rounds}
rounds. Ours is the whole loop with sampling and text; llama.cpp runs with its defaults (attention in 16-bit floats). Seconds
are seconds of processor time, since the machine was shared with other work; that still takes cache and memory away, so
trust ratios before rates. Python {python}, NumPy {numpy}, {processor}.

{verdicts}

{rates}

## How the cost of a token grows with the length

Milliseconds for one more token after so many others, the best of some runs (`docs/engine.svg`). Keys and values are kept,
so a token costs its pass through the weights, which is the same at any length, and a look at each token before it.

{lengths}

## The same bits alone and in a batch

Each request goes through exactly the BLAS calls that it goes through alone (`src/penstock/engine/linear.py`), so the scores
are equal to the last bit and the text cannot differ. Checked for batches of 1 to {together}, under the kinds of processors
that OpenBLAS has kernels for:

{bits}
"""


def report(found: Found, parameters: int) -> str:
    """Write the whole report in Markdown."""
    rates = [
        ["llama.cpp, one request", *spread(found.theirs)],
        ["one request", *spread(found.one)],
        [f"{TOGETHER} requests together", *spread(found.together)],
    ]
    lengths = [[series.name, *(f"{took:.1f}" for _, took in series.points)] for series in found.series]
    judged = [(what, limit, value, "pass" if met else "FAIL") for what, limit, value, met in verdicts(found)]
    return REPORT.format(
        parameters=parameters / 1e6,
        tokens=TOKENS,
        rounds=len(found.one),
        together=TOGETHER,
        python=platform.python_version(),
        numpy=np.__version__,
        processor=processor(),
        verdicts=table(["target", "limit", "found", "verdict"], judged),
        rates=table(["tokens a second", "median", "best", "worst"], rates),
        lengths=table(["tokens before it", *(f"{length:,}" for length in LENGTHS)], lengths),
        bits=table(["OpenBLAS kernels", "result"], found.bits),
    )


def processor() -> str:
    """Give the processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


STYLE = """
text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; font-size: 12px }
.paper { fill: #ffffff; stroke: #d0d7de }
.title { fill: #1f2328; font-weight: 600; font-size: 14.5px }
.axis { fill: #57606a }
.grid { stroke: #d0d7de; stroke-width: 1 }
.line { fill: none; stroke-width: 2.2 }
.one { stroke: #0969da; fill: #0969da } .together { stroke: #1a7f37; fill: #1a7f37 }
.reading { stroke: #8250df; fill: #8250df } .other { stroke: #57606a; fill: #57606a }
.anew { stroke: #bf8700; fill: #bf8700; stroke-dasharray: 5 4 }
text.one, text.together, text.reading, text.other, text.anew { stroke: none; font-weight: 600 }
.line { fill: none }
@media (prefers-color-scheme: dark) {
.paper { fill: #0d1117; stroke: #30363d }
.title { fill: #e6edf3 }
.axis { fill: #a5b0bc }
.grid { stroke: #30363d }
.one { stroke: #58a6ff; fill: #58a6ff } .together { stroke: #3fb950; fill: #3fb950 }
.reading { stroke: #bc8cff; fill: #bc8cff } .other { stroke: #a5b0bc; fill: #a5b0bc }
.anew { stroke: #d29922; fill: #d29922 }
.line { fill: none }
}
"""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 400, 58, 640, 56, 350


def draw(found: Found) -> str:
    """Draw the picture: the cost of one more token against the tokens before it."""
    longest = LENGTHS[-1]
    highest = 20 * -(-max(took for series in found.series for _, took in series.points) // 20)

    def at(length: float, took: float) -> tuple[float, float]:
        return LEFT + (RIGHT - LEFT) * length / longest, BOTTOM - (BOTTOM - TOP) * min(took, highest) / highest

    about = 'role="img" aria-label="Milliseconds for one more token, by the number of tokens before it"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" {about}>',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="14"/>',
        f'<text class="title" x="{LEFT}" y="32">Milliseconds for one more token (100 million weights, one thread)</text>',
    ]
    for took in range(0, int(highest) + 1, 20):
        _, y = at(0, took)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        parts.append(f'<text class="axis" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{took}</text>')
    for number in range(5):
        length = longest * number // 4
        x, _ = at(length, 0)
        parts.append(f'<text class="axis" x="{x:.1f}" y="{BOTTOM + 20}" text-anchor="middle">{length:,}</text>')
    parts.append(
        f'<text class="axis" x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 38}" text-anchor="middle">tokens before it</text>'
    )
    labels = []
    for series in found.series:
        places = [at(*point) for point in series.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path class="line {series.kind}" d="M{path}"/>')
        parts += [f'<circle class="{series.kind}" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>' for x, y in places]
        labels.append((places[-1][1], series.kind, series.name))
    reading = next(series for series in found.series if series.kind == "reading")
    (x0, y0), (x1, y1) = at(0, 0), at(highest / reading.points[0][1], highest)
    parts.append(f'<path class="line anew" d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"/>')
    parts.append(f'<text class="anew" x="{x1 + 8:.1f}" y="{y1 + 20:.1f}">if all were read anew for each token</text>')
    lowest = float(TOP)
    for y, kind, name in sorted(labels):
        lowest = max(y + 4, lowest + 16)
        parts.append(f'<text class="{kind}" x="{RIGHT + 10}" y="{lowest:.1f}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7, help="how often the engines take turns (default 7)")
    parser.add_argument("--bits", action="store_true", help="only compare bits, in this process")
    chosen = parser.parse_args()
    if chosen.bits:
        print(bits())
        return 0
    if not limit_blas_threads(1):
        print("The threads of this NumPy's BLAS cannot be limited: set its environment variable to 1.", file=sys.stderr)
    found = Found()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        tensors = random_tensors(HUNDRED_MILLION)
        parameters = sum(tensor.size for tensor in tensors.values())
        place = write_folder(Path(folder), HUNDRED_MILLION, tensors=tensors)
        (place / "generation_config.json").unlink()
        (place / "tokenizer_config.json").unlink()
        gguf = write_gguf(place / "model.gguf", HUNDRED_MILLION, tensors)
        del tensors
        model = load(place)
        with llamacpp(gguf, exact=False) as theirs:
            measure_rates(found, model, theirs, chosen.rounds)
            measure_lengths(found, model, theirs, 9)
    measure_bits(found)
    (ROOT / "bench" / "results" / "engine.md").write_text(report(found, parameters))
    (ROOT / "docs" / "engine.svg").write_text(draw(found))
    for what, limit, value, met in verdicts(found):
        print(f"{what:<52} {limit:>10} {value:>9}  {'pass' if met else 'FAIL'}")
    return int(not all(met for *_, met in verdicts(found)))


if __name__ == "__main__":
    sys.exit(main())
