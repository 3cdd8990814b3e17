"""Joins the metrics of several workers: each series with a label that says which worker it is of.

Works on Prometheus's text format as every worker writes it for itself. Pure.
"""

from collections.abc import Mapping


def joined(parts: Mapping[int, bytes]) -> bytes:
    """Give the expositions of all workers as one: each family once, its samples with `worker="..."` in front."""
    families: dict[bytes, tuple[list[bytes], list[bytes]]] = {}  # its head, its samples
    for number in sorted(parts):
        name = b""
        label = b'worker="%d"' % number
        for line in parts[number].splitlines():
            if line.startswith((b"# HELP ", b"# TYPE ")):
                name = line.split(b" ", 3)[2]
                head, _ = families.setdefault(name, ([], []))
                if line not in head:
                    head.append(line)
            elif line:
                families.setdefault(name, ([], []))[1].append(labelled(line, label))
    return b"".join(line + b"\n" for head, samples in families.values() for line in (*head, *samples))


def labelled(sample: bytes, label: bytes) -> bytes:
    """Put a label in front of those of a sample, `name{a="b"} 1` or `name 1`."""
    name, blank, value = sample.partition(b" ")
    if b"{" not in name:
        return b"%b{%b}%b%b" % (name, label, blank, value)
    name, _, rest = sample.partition(b"{")
    comma = b"" if rest.startswith(b"}") else b","
    return b"%b{%b%b%b" % (name, label, comma, rest)
