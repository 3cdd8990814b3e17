#!/usr/bin/env python3
"""Trains penstock-mini in three stages, on one thread of a CPU. The same seed on the same machine gives the same weights.

    python training/train.py                  all stages, then writes the model folder into the package
    python training/train.py --stage sft      one stage, from what the one before left in training/out
    python training/train.py --quick          a minute, to see that it runs; writes into training/out only

`pretrain` predicts the next token of prose and conversations; `sft` learns the answers only; `dpo` prefers the right
answer to a wrong or rambling one. Losses go to `out/figures.json`, from which `curves.py` draws.
"""

import argparse
import math
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import torch
from compose import Conversation, Turn, Writer, read
from data import CLOSE, END, IGNORED, TEMPLATE, Encoder, Sample, batches, blocks, padded, train_tokenizer
from model import Mini, Shape
from preference import logprobs, pairs
from torch import nn
from torch.nn import functional

from penstock.engine.tokenizer import Tokenizer
from penstock.engine.weights import write_safetensors

HERE = Path(__file__).parent
OUT = HERE / "out"
PACKAGE = HERE.parent / "src" / "penstock" / "engine" / "mini"


FIRST_VOICES = 6
"""The stages up to the first round of fine-tuning ask from so many of the files `voices_*.toml`, later ones from all."""


@dataclass(frozen=True)
class Round:
    """One round of fine-tuning: its lessons, up to which share they are drills, how many of those have scattered words."""

    lessons: int
    drills_until: float
    scattered: float = 0.0
    rate: float = 1.2e-3
    voices: int | None = FIRST_VOICES
    """How many of the files `voices_*.toml` it asks from; None for all."""
    chatty: bool = False
    """Whether "tell me more" and questions about the model itself come often."""


@dataclass(frozen=True)
class Recipe:
    """How long and how fast each stage learns. Rates are peaks of a warm-up followed by a cosine."""

    seed: int = 7
    vocabulary_from: int = 10_000
    pretrain_steps: int = 250
    block: int = 256
    rows: int = 8
    pretrain_rate: float = 2e-3
    sft_rounds: tuple[Round, ...] = (
        Round(480_000, 0.85, scattered=0.2),
        Round(200_000, 0.85, scattered=0.15, rate=6e-4, voices=7),
        Round(16_000, 0.25, scattered=0.15, rate=3e-4, voices=None, chatty=True),
    )
    warm_up_steps: int = 4000
    lost_tokens: float = 0.15
    sft_tokens: int = 2048
    sft_topic_weight: float = 1.0
    dpo_pairs: int = 400
    dpo_rate: float = 4e-6
    dpo_beta: float = 0.1
    every: int = 25


QUICK = Recipe(
    warm_up_steps=20,
    vocabulary_from=300,
    pretrain_steps=8,
    sft_rounds=(Round(200, 0.87), Round(100, 0.9, scattered=0.5)),
    dpo_pairs=40,
    every=2,
)


@dataclass
class Run:
    """What the stages share: the recipe, the tokenizer, the network, and the losses so far."""

    recipe: Recipe
    encoder: Encoder
    model: Mini
    namer: nn.Linear
    """A second head, which names what an answer is about where it begins. Only for training."""
    classes: dict[str, int]
    """What it can name, and the place of each."""
    figures: dict[str, Any]
    folder: Path

    def log(self, stage: str, step: int, **values: float) -> None:
        """Keep and print one point of the curves."""
        point = {"step": step, **{name: round(value, 5) for name, value in values.items()}}
        self.figures["stages"].setdefault(stage, []).append(point)
        print(stage, point, flush=True)

    def save(self, stage: str) -> None:
        """Keep the weights of a stage and all figures."""
        torch.save({"model": self.model.state_dict(), "namer": self.namer.state_dict()}, self.folder / f"{stage}.pt")
        (self.folder / "figures.json").write_bytes(msgspec.json.format(msgspec.json.encode(self.figures)) + b"\n")


def rate(step: int, steps: int, peak: float) -> float:
    """Warm up over a twentieth of the steps, then go down along a cosine to a hundredth of the peak."""
    warm = max(1, steps // 20)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))))


def optimizer(*modules: nn.Module) -> torch.optim.AdamW:
    """Give AdamW, with weight decay for matrices only."""
    weights = [weight for module in modules for weight in module.parameters()]
    matrices = [weight for weight in weights if weight.ndim == 2]
    others = [weight for weight in weights if weight.ndim != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), eps=1e-8)


def step_with(run: Run, using: torch.optim.AdamW, loss: torch.Tensor, learning_rate: float) -> None:
    """Go one step down."""
    for group in using.param_groups:
        group["lr"] = learning_rate
    using.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    using.step()


def warm_up(run: Run) -> None:
    """Before stage 1: let the embeddings learn which words belong to which topic, from questions without any order.

    A mean of normalized embeddings and one linear map name the topic of a question. The first layer then takes over the
    mean: its queries are zero, so that it looks at all words alike, and what it passes on is turned back to what it was.
    So the whole network begins as a bag of words that knows the topics, and `run.namer` is the map.
    """
    recipe, model = run.recipe, run.model
    writer, chance = Writer.open(recipe.seed + 5, FIRST_VOICES), Random(recipe.seed + 6)
    weights, width = model.embed_tokens.weight, model.shape.width
    nn.init.normal_(weights, std=0.1)
    using = torch.optim.Adam([weights, *run.namer.parameters()])
    for step in range(recipe.warm_up_steps):
        turns = [writer.turn(None) for _ in range(128)]
        loss, _ = bag_loss(run, turns, lambda: chance.random() < recipe.lost_tokens)
        using.param_groups[0]["lr"] = 3e-3 * (1.02 - step / recipe.warm_up_steps)
        using.zero_grad(set_to_none=True)
        loss.backward()
        using.step()
        if step % (20 * recipe.every) == 20 * recipe.every - 1:
            with torch.no_grad():
                run.log("warm_up", step + 1, topic=loss.item(), named=bag_loss(run, dev_turns(writer))[1])
    with torch.no_grad():
        weights.copy_(0.3 * functional.rms_norm(weights, (width,), eps=model.shape.epsilon))
        first = model.layers[0].self_attn
        turn = torch.linalg.qr(torch.randn(width, width))[0]
        first.q_proj.weight.zero_()
        first.v_proj.weight.copy_(turn)
        first.o_proj.weight.copy_(3.0 * turn.T)
        model.norm.weight.fill_(0.3)


def bag_loss(run: Run, turns: list[Turn], lost: Callable[[], bool] = bool) -> tuple[torch.Tensor, float]:
    """Give the loss of naming the topics by the mean of the words not lost (`bool`: none), and the share named rightly."""
    model = run.model
    ids = [run.encoder.tokenizer.encode(turn.ask) for turn in turns]
    ids = [[token for token in one if not lost()] or one for one in ids]
    starts = torch.tensor([0, *accumulate(len(one) for one in ids[:-1])])
    flat = torch.tensor([token for one in ids for token in one])
    words = functional.rms_norm(model.embed_tokens.weight, (model.shape.width,), eps=model.shape.epsilon)
    scores = run.namer(functional.embedding_bag(flat, words, starts, mode="mean"))
    topics = torch.tensor([run.classes[turn.topic] for turn in turns])
    return functional.cross_entropy(scores, topics), (scores.argmax(-1) == topics).float().mean().item()


def pretrain(run: Run) -> None:
    """Stage 1: predict the next token of prose and conversations, and go on naming topics beside it."""
    recipe, encoder = run.recipe, run.encoder
    warm_up(run)
    text = blocks(encoder, Writer.open(recipe.seed + 1, FIRST_VOICES), recipe.block, recipe.rows)
    unseen = next(blocks(encoder, Writer.open(recipe.seed + 1001, FIRST_VOICES), recipe.block, 16))
    asked = Writer.open(recipe.seed + 8, FIRST_VOICES).lessons(10**9, 1.0, 0.2)
    drills = batches(encoder, asked, recipe.sft_tokens, Random(recipe.seed))
    using, recent = optimizer(run.model, run.namer), []
    for step in range(recipe.pretrain_steps):
        run.model.train()
        loss = text_loss(run.model, next(text))
        answering, naming, _ = answer_loss(run, next(drills))
        step_with(run, using, loss + answering + naming, rate(step, recipe.pretrain_steps, recipe.pretrain_rate))
        recent.append(loss.item())
        if step % recipe.every == recipe.every - 1 or step == recipe.pretrain_steps - 1:
            run.model.eval()
            with torch.no_grad():
                check = text_loss(run.model, unseen).item()
            run.log("pretrain", step + 1, train=sum(recent) / len(recent), check=check)
            recent.clear()


def text_loss(model: Mini, ids: torch.Tensor) -> torch.Tensor:
    """Give the mean loss of all next tokens."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.logits(model.hidden(ids[:, :-1]))
    return functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())


def answer_loss(run: Run, samples: list[Sample]) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Give the mean loss of the tokens that are the model's own, that of naming each answer's topic, and the share named rightly."""
    model = run.model
    ids, targets = padded(samples, run.encoder.end)
    starts = [(row, at) for row, sample in enumerate(samples) for at, _ in sample.starts]
    rows, places = (torch.tensor(column) for column in zip(*starts, strict=True))
    topics = torch.tensor([run.classes[topic] for sample in samples for _, topic in sample.starts])
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.hidden(ids)
        own = targets != IGNORED
        logits = model.logits(hidden[own])
    scores = run.namer(hidden[rows, places].float())
    named = (scores.argmax(-1) == topics).float().mean().item()
    return functional.cross_entropy(logits.float(), targets[own]), functional.cross_entropy(scores, topics), named


def dev_turns(writer: Writer) -> list[Turn]:
    """Give the questions that the recipe is tuned on, none of them in the training text, with every right answer."""
    turns = []
    for one in read(HERE / "dev.toml")["question"]:
        name, ask = one["fact"], one["ask"]
        fact = writer.facts.get(name)
        turns += [Turn(ask, say, fact, name) for say in (fact.say if fact else writer.talks[name][1])]
    return turns


def sft(run: Run, first: int = 0) -> None:
    """Stage 2: learn the answers of conversations; questions are read, not learned.

    Most of an answer follows from its beginning, so the one choice that matters, which fact is meant, is a small part of
    the loss. A second head, which is thrown away afterwards, therefore names the fact where each answer begins.
    """
    writer = Writer.open(run.recipe.seed)
    dev = [run.encoder.conversation(Conversation((turn,))) for turn in dev_turns(writer)]
    for number in range(first, len(run.recipe.sft_rounds)):
        torch.manual_seed(run.recipe.seed + number)
        sft_round(run, number, dev)
        run.save(f"sft-{number + 1}")


def sft_round(run: Run, number: int, dev: list[Sample]) -> None:
    """Go through the lessons of one round."""
    recipe, this = run.recipe, run.recipe.sft_rounds[number]
    writer = Writer.open(recipe.seed + 2 + 100 * number, this.voices)
    if this.chatty:
        writer.more_share, writer.self_share = 0.9, 0.2
    lessons = writer.lessons(this.lessons, this.drills_until, this.scattered)
    order = Random(recipe.seed + 3 + 100 * number)
    using, recent, done = optimizer(run.model, run.namer), [], 0
    before = max((point["step"] for point in run.figures["stages"].get("sft", [])), default=0)
    for step, samples in enumerate(batches(run.encoder, lessons, recipe.sft_tokens, order)):
        run.model.train()
        loss, naming, _ = answer_loss(run, samples)
        step_with(run, using, loss + recipe.sft_topic_weight * naming, rate(done, this.lessons, this.rate))
        done += len(samples)
        recent.append((loss.item(), naming.item()))
        if step % (20 * recipe.every) == 20 * recipe.every - 1 or done == this.lessons:
            run.model.eval()
            with torch.no_grad():
                check, _, named = answer_loss(run, dev)
            train, topic = (sum(column) / len(recent) for column in zip(*recent, strict=True))
            run.log("sft", before + step + 1, train=train, topic=topic, check=check.item(), named=named)
            recent.clear()
            export(run, run.folder / "sft")  # for a look at the judge while it learns


def dpo(run: Run) -> None:
    """Stage 3: make the right answer likelier than the wrong one, measured against where the stage began."""
    recipe, encoder = run.recipe, run.encoder
    run.model.eval()
    found = pairs(run.model, encoder, Writer.open(recipe.seed + 4), recipe.dpo_pairs)
    rows = 16
    groups = [found[at : at + rows] for at in range(0, len(found) - rows + 1, rows)]
    with torch.no_grad():
        before = [logprobs(run.model, group, encoder.end) for group in groups]
    using, recent = optimizer(run.model), []
    for step, (group, (old_chosen, old_rejected)) in enumerate(zip(groups, before, strict=True)):
        chosen, rejected = logprobs(run.model, group, encoder.end)
        margin = (chosen - old_chosen) - (rejected - old_rejected)
        lengths = torch.tensor([len(pair.chosen) for pair in group])
        loss = -functional.logsigmoid(recipe.dpo_beta * margin).mean() - 0.2 * (chosen / lengths).mean()
        step_with(run, using, loss, rate(step, len(groups), recipe.dpo_rate))
        recent.append((loss.item(), margin.mean().item(), (chosen > rejected).float().mean().item()))
        if step % recipe.every == recipe.every - 1 or step == len(groups) - 1:
            loss_, margin_, right = (sum(column) / len(recent) for column in zip(*recent, strict=True))
            run.log("dpo", step + 1, train=loss_, margin=margin_, preferred=right)
            recent.clear()


STAGES = {"pretrain": pretrain, "sft": sft, "dpo": dpo}


def export(run: Run, folder: Path) -> None:
    """Write the model folder, as it would come from the hub."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder, shape = run.encoder, run.model.shape
    weights = {name: weight.float().numpy() for name, weight in run.model.named_weights().items()}
    write_safetensors(folder / "model.safetensors", weights, dtype="F16", metadata={"format": "pt"})
    (folder / "tokenizer.json").write_bytes(encoder.tokenizer.to_json())
    documents = {
        "config.json": shape.config(encoder.end, encoder.close),
        "generation_config.json": {
            "bos_token_id": encoder.end,
            "do_sample": False,
            "eos_token_id": [encoder.close, encoder.end],
            "pad_token_id": encoder.end,
        },
        "tokenizer_config.json": {
            "add_bos_token": False,
            "bos_token": None,
            "chat_template": TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "eos_token": CLOSE,
            "model_max_length": shape.window,
            "pad_token": END,
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    }
    for name, document in documents.items():
        (folder / name).write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")


def open_run(recipe: Recipe, stage: str, folder: Path) -> Run:
    """Begin anew with `pretrain`, or take up what the stage before left."""
    folder.mkdir(exist_ok=True)
    (OUT / ".gitignore").write_text("*\n", encoding="utf-8")
    vocabulary = folder / "tokenizer.json"
    figures: dict[str, Any] = {"seed": recipe.seed, "stages": {}, "seconds": {}}
    if stage in {"pretrain", "all"}:
        tokenizer = train_tokenizer(
            Writer.open(recipe.seed, FIRST_VOICES),
            Shape().vocabulary,
            recipe.vocabulary_from,
            recipe.vocabulary_from // 20,
        )
        vocabulary.write_bytes(tokenizer.to_json())
    else:
        tokenizer = Tokenizer.from_json(vocabulary.read_bytes())
        figures = msgspec.json.decode((folder / "figures.json").read_bytes())
    torch.manual_seed(recipe.seed)
    model = Mini(Shape())
    classes = {topic: place for place, topic in enumerate(Writer.open(recipe.seed).topics())}
    namer = nn.Linear(model.shape.width, len(classes))
    if stage in {"sft", "dpo"}:
        saved = torch.load(folder / f"{'pretrain' if stage == 'sft' else 'sft'}.pt", weights_only=True)
        model.load_state_dict(saved["model"])
        namer.load_state_dict(saved["namer"])
    figures["parameters"] = sum(weight.numel() for weight in model.parameters())
    return Run(recipe, Encoder(tokenizer), model, namer, classes, figures, folder)


def main() -> None:
    """Read the arguments and run the stages."""
    parser = argparse.ArgumentParser(description="Train penstock-mini.")
    parser.add_argument("--stage", choices=[*STAGES, "all"], default="all")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a minute; does not touch the package")
    arguments = parser.parse_args()
    torch.use_deterministic_algorithms(mode=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    run = open_run(QUICK if arguments.quick else Recipe(), arguments.stage, OUT / "quick" if arguments.quick else OUT)
    for name in STAGES if arguments.stage == "all" else [arguments.stage]:
        started = time.monotonic()
        torch.manual_seed(run.recipe.seed)
        run.figures["stages"].pop(name, None)
        STAGES[name](run)
        run.figures["seconds"][name] = round(time.monotonic() - started)
        run.save(name)
        export(run, run.folder / name)
        print(f"{name}: {run.figures['seconds'][name]} s", flush=True)
    if not arguments.quick:
        for file in sorted((run.folder / name).iterdir()):
            shutil.copyfile(file, PACKAGE / file.name)
        shutil.copyfile(run.folder / "figures.json", HERE / "figures.json")


if __name__ == "__main__":
    sys.exit(main())
