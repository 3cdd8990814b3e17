"""The grid as Markdown, for the page on dialects: what each cell comes to, which the grid's own test holds it to."""

from conformance.outcome import CASE_NAMES, CLIENT_NAMES, DIALECTS, ONCE, cannot, drops


def cell(case: str, client: str, target: str) -> tuple[str, str]:
    """Give the mark of a cell and the note that explains it; "" where there is nothing to explain."""
    reason = cannot(case, client, target)
    if reason:
        return "-", reason
    lost = sorted({name for turn in (1, 2) for name in drops(case, client, target, turn)})
    if lost:
        return "yes", f"without {', '.join(f'`{name}`' for name in lost)}, which `x-penstock-dropped` says"
    if case == "count" and target in {"chat", "ollama"}:
        return "yes", "the target's API has no such question: counted by penstock"
    return "yes", "no target is asked" if case in ONCE else ""


def table() -> str:
    """Lay out a table for each client: a row for each case, a column for each target, with the notes below all of them."""
    notes: dict[str, int] = {}
    lines: list[str] = []
    for client in DIALECTS:
        lines += [f"**{CLIENT_NAMES[client]}**", "", f"| case | {' | '.join(f'`{target}`' for target in DIALECTS)} |"]
        lines.append("|---|" + "---|" * len(DIALECTS))
        for case in CASE_NAMES:
            cells = [cell(case, client, target) for target in DIALECTS]
            shown = [f"{mark} ({notes.setdefault(note, len(notes) + 1)})" if note else mark for mark, note in cells]
            lines.append(f"| {case} | {' | '.join(shown)} |")
        lines.append("")
    lines += [f"{number}. {note[0].upper()}{note[1:]}." for note, number in notes.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
