"""Joins the metrics of several workers: each series with a label that says which worker it is of.

What all workers keep together, their budgets, is told once and without that label: a sum over the workers would count
every dollar several times. Works on Prometheus's text format as every worker writes it for itself. Pure.
"""

from collections.abc import Mapping

TOGETHER = b"penstock_budget"
"""How the names of the families begin of which every worker tells the same."""


def joined(parts: Mapping[int, bytes]) -> bytes:
    """Give the expositions of all workers as one: each family once, its samples with `worker="..."` in front.

    Of what is kept together each series has the highest value that a worker tells: the others have not looked since.
    """
    families: dict[bytes, tuple[list[bytes], dict[bytes, bytes]]] = {}  # its head; its samples, value by series
    for number in sorted(parts):
        name = b""
        label = b'worker="%d"' % number
        for line in parts[number].splitlines():
            if line.startswith((b"# HELP ", b"# TYPE ")):
                name = line.split(b" ", 3)[2]
                head, _ = families.setdefault(name, ([], {}))
                if line not in head:
                    head.append(line)
            elif line:
                together = line.startswith(TOGETHER)
                series, _, value = (line if together else labelled(line, label)).rpartition(b" ")
                _, samples = families.setdefault(name, ([], {}))
                samples[series] = max(samples.get(series, value), value, key=float) if together else value
    lines = (
        line
        for head, samples in families.values()
        for line in (*head, *(b"%b %b" % sample for sample in samples.items()))
    )
    return b"".join(line + b"\n" for line in lines)


def labelled(sample: bytes, label: bytes) -> bytes:
    """Put a label in front of those of a sample, `name{a="b"} 1` or `name 1`."""
    name, blank, value = sample.partition(b" ")
    if b"{" not in name:
        return b"%b{%b}%b%b" % (name, label, blank, value)
    name, _, rest = sample.partition(b"{")
    comma = b"" if rest.startswith(b"}") else b","
    return b"%b{%b%b%b" % (name, label, comma, rest)
