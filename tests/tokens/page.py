"""The tables of docs/tokens.md, from the vocabularies, the catalogue and the rules: `python tests/tokens/page.py` writes them."""

import re
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/tokens.md"
BLOCK = re.compile(r"(<!-- (vocabularies|estimates|templates|pictures) -->\n).*?(<!-- end -->)", re.DOTALL)


def _rows(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def vocabularies() -> str:
    """Every vocabulary: who is counted with it, and with whose engine it is compared."""
    from penstock.config import catalog_text
    from penstock.routing.catalog import read_catalog
    from penstock.tokens.vocabularies import KNOWN
    from tokens.oracles import ENGINES

    catalog = read_catalog(catalog_text())
    profiles = [entry.profile for entry in (*catalog.entries, *(entry for _, entry in catalog._families))]
    families = {name: sorted({p.family for p in profiles if p.tokenizer == name}) for name in KNOWN}
    rows = [(f"`{name}`", ", ".join(families[name]) or "by name only", ENGINES[name]) for name in KNOWN]
    return _rows(("vocabulary", "families of the catalogue", "compared with"), rows)


def estimates() -> str:
    """Every family that has models without a public vocabulary."""
    from penstock.tokens.rules import FAMILIES, UNKNOWN

    rows: list[tuple[object, ...]] = []
    for name, rules in [*FAMILIES.items(), ("any other", UNKNOWN)]:
        guess = rules.estimate
        if guess != UNKNOWN.estimate or rules is UNKNOWN:
            low, high = guess.low - guess.factor, guess.high - guess.factor
            off = f"{100 * low / guess.factor:+.0f} % to {100 * high / guess.factor:+.0f} %"
            rows.append((name, f"`{guess.vocabulary}`", f"{guess.factor / 1000:g}", off, guess.source))
    return _rows(("family", "counted with", "times", "band", "source"), rows)


def templates() -> str:
    """What surrounds the messages of a chat."""
    from penstock.tokens.rules import FAMILIES, UNKNOWN

    rows: list[tuple[object, ...]] = []
    for name, rules in [*FAMILIES.items(), ("any other", UNKNOWN)]:
        chat = rules.chat
        others = "".join(f", {role} {n}" for role, n in chat.roles)
        rows.append(
            (
                name,
                chat.base + chat.primer,
                f"{chat.message}{others}",
                "exact" if chat.exact else "estimated",
                chat.source,
            )
        )
    return _rows(("family", "per prompt", "per message", "certainty", "source"), rows)


def pictures() -> str:
    """What a picture of 1024 x 1024 pixels is counted as."""
    from penstock.tokens.images import tokens
    from penstock.tokens.rules import FAMILIES, UNKNOWN

    rows: list[tuple[object, ...]] = []
    for name, rules in [*FAMILIES.items(), ("any other", UNKNOWN)]:
        if rules.image != UNKNOWN.image or rules is UNKNOWN:
            rows.append((name, rules.image.kind, tokens(rules.image, 1024, 1024), rules.image.source))
    return _rows(("family", "rule", "1024 x 1024", "source"), rows)


TABLES = {"vocabularies": vocabularies, "estimates": estimates, "templates": templates, "pictures": pictures}


def written(text: str) -> str:
    """Give the page with its tables as they are now."""
    return BLOCK.sub(lambda block: f"{block[1]}{TABLES[block[2]]()}{block[3]}", text)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
