"""Composes the training text: facts and phrases from `corpus/` become questions, conversations and documents.

Everything comes from the lists in `corpus/` and one seed, so the same seed gives the same text. Nothing is taken from
elsewhere, and neither `questions.toml` nor `dev.toml` is ever read here.
"""

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

CORPUS = Path(__file__).with_name("corpus")
TOPICS = ("tokens", "prompts", "sampling", "context", "costs", "serving", "models", "penstock", "self")
QUESTION_WORDS = (
    *("what", "which", "who", "whose", "why", "how", "where", "when", "is", "are", "am", "do", "does", "did", "can"),
    *("could", "should", "may", "must", "will", "would", "until", "under", "in which", "on which", "at what", "whats"),
)
SMALL_WORDS = frozenset(
    [
        "the",
        "a",
        "an",
        "do",
        "does",
        "is",
        "are",
        "I",
        "to",
        "of",
        "in",
        "for",
        "my",
        "me",
        "it",
        "that",
        "and",
        "you",
        "can",
        "with",
        "on",
    ]
)
TALK_SHARES = {"outside": 0.55, "greeting": 0.15, "thanks": 0.1, "farewell": 0.05, "insult": 0.06, "unclear": 0.09}
TALK_SHARE = 0.2
TURNS = ((1, 0.6), (2, 0.2), (3, 0.12), (4, 0.05), (7, 0.025), (16, 0.005))


@dataclass(frozen=True)
class Fact:
    """Something the model shall know: how it is asked for, what is said, and what every right answer holds."""

    id: str
    topic: str
    ask: tuple[str, ...]
    say: tuple[str, ...]
    keys: tuple[str, ...]
    term: tuple[str, ...] = ()
    more: str | None = None
    group: str = ""
    """The first of the facts that one answer tells together; of itself the fact's own name."""

    def right(self, answer: str) -> bool:
        """Tell whether an answer holds the fact."""
        return all(re.search(key, answer) for key in self.keys)


@dataclass(frozen=True)
class Turn:
    """A question and the right answer. `fact` is None for small talk."""

    ask: str
    say: str
    fact: Fact | None = None
    kind: str = ""

    @property
    def topic(self) -> str:
        """What it is about: the fact, the facts that are told together, or the kind of small talk."""
        return self.fact.group if self.fact else self.kind


@dataclass(frozen=True)
class Conversation:
    """What the model is trained on: an optional system prompt and turns in order."""

    turns: tuple[Turn, ...]
    system: str | None = None
    drill: bool = False
    """One question, of whose answer only the beginning is learned: by it the model says which fact it means."""


def lines(text: str) -> tuple[str, ...]:
    """Give the lines of a text that hold something."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def without_article(term: str) -> str:
    """Give "token" for "a token"."""
    return re.sub(r"^(a|an|the) ", "", term)


@dataclass
class Writer:
    """Writes questions, conversations and documents by chance, from one seed."""

    rng: Random
    facts: dict[str, Fact] = field(default_factory=dict)
    talks: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    fill: dict[str, list[str]] = field(default_factory=dict)
    phrases: dict[str, Any] = field(default_factory=dict)
    prose: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    swaps: list[tuple[re.Pattern[str], str, Sequence[str]]] = field(default_factory=list)
    more_share: float = 0.12
    """So often a fact that has more to it is followed by the wish to hear more."""
    self_share: float = 0.05
    """So many turns are about the model itself, beside those that its facts have as all others do."""

    @classmethod
    def open(cls, seed: int, voices_files: int | None = None) -> "Writer":
        """Read the corpus, of `voices_*.toml` only the first so many files."""
        writer = cls(Random(seed))
        voices: dict[str, str] = {}
        for file in sorted(CORPUS.glob("voices_*.toml"))[:voices_files]:
            for name, asks in read(file).items():
                voices[name] = voices.get(name, "") + asks
        for topic in TOPICS:
            for entry in read(CORPUS / f"{topic}.toml")["fact"]:
                fact = Fact(
                    id=entry["id"],
                    topic=topic,
                    ask=(*lines(entry["ask"]), *lines(voices.pop(entry["id"], ""))),
                    say=lines(entry["say"]),
                    keys=tuple(entry["keys"]),
                    term=tuple(entry.get("term", ())),
                    more=entry.get("more"),
                    group=entry["id"],
                )
                assert fact.id not in writer.facts, f"two facts are called {fact.id}"
                writer.facts[fact.id] = fact
        for entry in read(CORPUS / "together.toml")["together"]:
            for name in entry["facts"]:
                writer.facts[name] = replace(writer.facts[name], say=lines(entry["say"]), group=entry["facts"][0])
        for name, fact in writer.facts.items():
            if fact.more and writer.facts[fact.more].group == fact.group:
                writer.facts[name] = replace(fact, more=None)
        talk = read(CORPUS / "small_talk.toml")
        for one in talk["talk"]:
            writer.talks[one["id"]] = (lines(one["hear"] + voices.pop(one["id"], "")), lines(one["say"]))
        assert not voices, f"voices_*.toml speak of unknown facts: {', '.join(voices)}"
        writer.fill = talk["fill"]
        writer.phrases = read(CORPUS / "phrases.toml")
        writer.prose = [(one["title"], lines(one["body"])) for one in read(CORPUS / "prose.toml")["text"]]
        for group in writer.phrases["same"]:
            for word in dict.fromkeys(group):
                pattern = re.compile(rf"(?<![\w'/-]){re.escape(word)}(?![\w'/-])")
                writer.swaps.append((pattern, word, [other for other in group if other != word] or [word]))
        return writer

    def chance(self, share: float) -> bool:
        """Say yes in this share of all cases."""
        return self.rng.random() < share

    def ask(self, fact: Fact) -> str:
        """Write a question for a fact."""
        if fact.term and self.chance(0.25):
            term = self.rng.choice(fact.term)
            frame = self.rng.choice(self.phrases["term_frames"])
            return self.vary(frame.format(a=term, b=without_article(term)))
        return self.vary(self.rng.choice(fact.ask))

    def vary(self, question: str) -> str:
        """Write a question anew: other words, openings, endings, order, slips, case and marks."""
        asked = question.lower().startswith(QUESTION_WORDS)
        if self.chance(0.5):
            question = self.swap(question)
        if self.chance(0.04):
            question = self.crop(question)
        elif self.chance(0.13):
            question = self.drop(question)
        if self.chance(0.12) and asked:
            question = self.rng.choice(self.phrases["indirect"]) + indirect(question)
        elif self.chance(0.16):
            question = self.rng.choice(self.phrases["openings"]) + question
        if self.chance(0.09):
            question += self.rng.choice(self.phrases["endings"])
        if self.chance(0.07):
            question = self.slip(question)
        question = self.mark(self.case(question), asked=asked)
        return self.explain(question) if self.chance(0.1) else question

    def explain(self, question: str) -> str:
        """Put a sentence before or behind a question that tells about the person and not about what is asked."""
        context = self.rng.choice(self.phrases["contexts"])
        if question.islower():
            context = context.lower()
        return f"{context}. {question}" if self.chance(0.8) else f"{question} {context}."

    def crop(self, text: str) -> str:
        """Keep a run of words of a long question, at least three and most of them."""
        words = text.split()
        kept = max(3, int(len(words) * self.rng.uniform(0.6, 0.9)))
        start = self.rng.randint(0, max(0, len(words) - kept))
        return " ".join(words[start : start + kept])

    def swap(self, text: str) -> str:
        """Replace up to three words or phrases by others of the same meaning."""
        found = [(pattern, others) for pattern, word, others in self.swaps if word in text and pattern.search(text)]
        for pattern, others in self.rng.sample(found, min(len(found), self.rng.randint(1, 3))):
            text = pattern.sub(self.rng.choice(others).replace("\\", ""), text, count=1)
        return text

    def drop(self, text: str) -> str:
        """Leave out small words, or any one word of a longer question."""
        words = text.split()
        if self.chance(0.4):
            kept = [word for word in words if word not in SMALL_WORDS]
            return " ".join(kept) if len(kept) > 1 else text
        if len(words) > 4:
            del words[self.rng.randrange(len(words))]
        return " ".join(words)

    def scatter(self, text: str) -> str:
        """Lose some words and shake the others."""
        words = self.thin(text).split()
        self.rng.shuffle(words)
        return " ".join(words)

    def thin(self, text: str) -> str:
        """Lose some words."""
        return " ".join([word for word in text.split() if not self.chance(0.18)] or text.split())

    def slip(self, text: str) -> str:
        """Make a typing error or two."""
        for _ in range(self.rng.randint(1, 2)):
            spots = [match.start() for match in re.finditer(r"(?<=[a-z])[a-z](?=[a-z])", text)]
            if not spots:
                break
            at = self.rng.choice(spots)
            kind = self.rng.randrange(4)
            if kind == 0:
                text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
            elif kind == 1:
                text = text[:at] + text[at + 1 :]
            elif kind == 2:
                text = text[:at] + text[at] + text[at:]
            else:
                text = text[:at] + self.rng.choice("abcdefghijklmnopqrstuvwxyz") + text[at + 1 :]
        return text

    def case(self, text: str) -> str:
        """Write the first letter large, or everything small, or everything large, or leave it."""
        dice = self.rng.random()
        if dice < 0.55:
            return text[:1].upper() + text[1:]
        if dice < 0.85:
            return text.lower()
        return text.upper() if dice < 0.865 else text

    def mark(self, text: str, *, asked: bool) -> str:
        """Put a mark behind a question, or none."""
        dice = self.rng.random()
        if asked:
            return text + (
                "?" if dice < 0.7 else "" if dice < 0.92 else self.rng.choice(("??", " ?", ".", "?!", "..."))
            )
        return text + ("." if dice < 0.4 else "?" if dice < 0.55 else "!" if dice < 0.6 else "")

    def talk(self, name: str) -> Turn:
        """Write a turn of small talk, or of something outside the subject."""
        hear, say = self.talks[name]
        text = self.rng.choice(hear)
        while (slot := re.search(r"\{(\w+)\}", text)) is not None:
            text = text[: slot.start()] + self.rng.choice(self.fill[slot[1]]) + text[slot.end() :]
        text = self.vary(text) if name == "outside" or self.chance(0.3) else self.mark(self.case(text), asked=False)
        return Turn(text, self.rng.choice(say), kind=name)

    def turn(self, before: Turn | None) -> Turn:
        """Write the next turn of a conversation."""
        if before and before.fact and before.fact.more and self.chance(self.more_share):
            fact = self.facts[before.fact.more]
            return Turn(
                self.mark(self.case(self.rng.choice(self.phrases["more_frames"])), asked=False), self.say(fact), fact
            )
        if before and self.chance(0.22):
            fact = self.rng.choice([one for one in self.facts.values() if one.term])
            term = self.rng.choice(fact.term)
            text = self.rng.choice(self.phrases["follow_frames"]).format(a=term, b=without_article(term))
            return Turn(self.mark(self.case(text), asked=True), self.say(fact), fact)
        if self.chance(TALK_SHARE):
            name = self.rng.choices(list(TALK_SHARES), list(TALK_SHARES.values()))[0]
            return self.talk(name)
        of_itself = (
            [fact for fact in self.facts.values() if fact.topic == "self"] if self.chance(self.self_share) else []
        )
        fact = self.rng.choice(of_itself or list(self.facts.values()))
        return Turn(self.ask(fact), self.say(fact), fact)

    def say(self, fact: Fact) -> str:
        """Choose one of the answers of a fact, mostly the first: who hesitates between two beginnings takes a third."""
        return fact.say[0] if self.chance(0.8) else self.rng.choice(fact.say)

    def conversation(self, turns: int | None = None) -> Conversation:
        """Write a conversation of some turns."""
        count = turns or self.rng.choices([n for n, _ in TURNS], [share for _, share in TURNS])[0]
        written: list[Turn] = []
        for _ in range(count):
            written.append(self.turn(written[-1] if written else None))
        system = None
        if self.chance(0.25):
            system = " ".join(self.rng.sample(self.phrases["systems"], 1 if self.chance(0.8) else 2))
        return Conversation(tuple(written), system)

    def conversations(self, count: int) -> Iterator[Conversation]:
        """Write this many conversations."""
        for _ in range(count):
            yield self.conversation()

    def topics(self) -> list[str]:
        """Name all that a turn can be about."""
        return [*dict.fromkeys(fact.group for fact in self.facts.values()), *self.talks]

    def lessons(self, count: int, drills_until: float, scattered: float = 0.0) -> Iterator[Conversation]:
        """Write this many lessons: mostly drills, which are cheap, up to this share, and from there on conversations."""
        for number in range(count):
            if number < drills_until * count and self.chance(0.95):
                yield self.drill(scattered)
            else:
                yield self.conversation()

    def drill(self, scattered: float) -> Conversation:
        """Write a drill. So many have their words scattered, and as many lose some words: no single word may decide."""
        turn = self.turn(None)
        if self.chance(2 * scattered):
            turn = replace(turn, ask=self.scatter(turn.ask) if self.chance(0.5) else self.thin(turn.ask))
        return Conversation((turn,), drill=True)

    def document(self) -> str:
        """Write a page of prose: an essay, a page of facts, a glossary, or questions with answers."""
        kind = self.rng.random()
        if kind < 0.3:
            title, paragraphs = self.rng.choice(self.prose)
            return "\n\n".join([f"# {title}", *self.rng.sample(paragraphs, len(paragraphs))])
        topic = self.rng.choice(TOPICS)
        facts = [fact for fact in self.facts.values() if fact.topic == topic]
        facts = self.rng.sample(facts, min(len(facts), self.rng.randint(4, 9)))
        if kind < 0.5:
            return " ".join(self.say(fact) for fact in facts)
        if kind < 0.7:
            named = [fact for fact in facts if fact.term]
            return "\n".join(f"{without_article(self.rng.choice(fact.term))}: {self.say(fact)}" for fact in named)
        return "\n\n".join(f"Q: {self.ask(fact)}\nA: {self.say(fact)}" for fact in facts)


def indirect(question: str) -> str:
    """Turn "what is a token" into "what a token is", where the form allows it; else leave it."""
    rules = (
        (r"^(what|who|where) (is|are) ((?:a |an |the )?[\w-]+(?: [\w-]+)?)$", r"\1 \3 \2"),
        (r"^how (?:do|can|should) I (.*)$", r"how to \1"),
        (
            r"^(what|how|why|where|when) does (penstock|a model|the model|the seed|temperature|top-p|top-k) (\w+)(.*)$",
            r"\1 \2 \3s\4",
        ),
        (r"^(what|which \w+|how|why) should I (.*)$", r"\1 I should \2"),
        (r"^(what|which \w+|how|why) can I (.*)$", r"\1 I can \2"),
        (r"^(can|does|is|are|do) (.*)$", r"whether \1 \2"),
    )
    for pattern, replacement in rules:
        changed, count = re.subn(pattern, replacement, question)
        if count:
            return changed
    return question


def read(path: Path) -> dict[str, Any]:
    """Read a TOML file."""
    return tomllib.loads(path.read_text(encoding="utf-8"))
