"""Measures what a gateway adds to a call: penstock beside nginx, TensorZero, LiteLLM and no gateway, in one run.

`python bench/overhead.py` prints the tables and writes `bench/results/overhead.{md,json,svg}`; bench/README.md tells
how to read them. Exit codes: 0 every target met, 1 a target missed, 2 usage, 3 penstock could not be measured.
"""

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path

import findings
import gateways
import report
import rounds
import startup
from findings import Findings
from load import LoadFailed
from peers import NotMeasured
from processes import StartFailed
from rounds import Settings

ROOT = Path(__file__).resolve().parents[1]
_QUICK = ("direct", "nginx", "penstock")


def _names(text: str) -> tuple[str, ...]:
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted(set(chosen) - set(gateways.CANDIDATES))
    if unknown or not chosen:
        raise argparse.ArgumentTypeError(
            f"no candidate called {', '.join(unknown) or 'nothing'}; choose from {', '.join(gateways.CANDIDATES)}"
        )
    return tuple(name for name in gateways.CANDIDATES if name in chosen)


def _cores(text: str) -> tuple[int, int]:
    try:
        gateway, load = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError("give two core numbers, gateway first: --cores 0,1") from None
    if gateway == load or not {gateway, load} <= os.sched_getaffinity(0):
        allowed = ", ".join(str(core) for core in sorted(os.sched_getaffinity(0)))
        raise argparse.ArgumentTypeError(
            f"the two cores must differ and be among those this process may use: {allowed}"
        )
    return gateway, load


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above zero")
    return int(text)


def arguments(words: list[str]) -> argparse.Namespace:
    """Read the command line; ends the process with 2 and a hint on a mistake."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="direct, nginx and penstock only, two short rounds")
    parser.add_argument("--only", type=_names, help=f"candidates, comma separated, of {','.join(gateways.CANDIDATES)}")
    parser.add_argument("--rounds", type=_positive, help="rounds (default 3, quick 2)")
    parser.add_argument("--seconds", type=_positive, help="seconds of each plain load (default 3, quick 2)")
    parser.add_argument("--seed", type=int, help="draw the order of each round with this seed")
    parser.add_argument(
        "--cores", type=_cores, default=None, help="core of the gateway, core of the load (default 0,1)"
    )
    parser.add_argument("--penstock", type=Path, default=ROOT / ".venv/bin/penstock", help="the command to measure")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results", help="folder for the results")
    parser.add_argument("--json", action="store_true", help="print the JSON instead of the tables")
    chosen = parser.parse_args(words)
    if chosen.cores is None:
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:
            parser.error("two cores are needed, one for the gateway and one for the load; this process may use one")
        chosen.cores = usable[0], usable[1]
    return chosen


def settings(chosen: argparse.Namespace) -> Settings:
    """Turn the command line into the settings of the run."""
    quick = chosen.quick
    return Settings(
        names=chosen.only or (_QUICK if quick else tuple(gateways.CANDIDATES)),
        rounds=chosen.rounds or (2 if quick else 3),
        seconds=chosen.seconds or (2 if quick else 3),
        connections=(1, 16, findings.BUSY),
        streams=256,
        passes=2,
        starts=3,
        retakes=2 if quick else 12,
        cores=chosen.cores,
        seed=random.SystemRandom().randrange(2**32) if chosen.seed is None else chosen.seed,
    )


def measure(wanted: Settings, penstock: Path) -> Findings:
    """Carry out the run in a scratch folder that goes away with it."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        found = rounds.run(wanted, ROOT, Path(folder), penstock)
    if "penstock" in wanted.names:
        try:
            found.import_s = startup.import_s(penstock.parent / "python", 5)
        except (NotMeasured, OSError) as error:
            found.not_measured["import time"] = str(error)
    return found


def main() -> int:
    if not hasattr(os, "sched_setaffinity"):
        print("this benchmark pins processes to cores and reads /proc: it runs on Linux only", file=sys.stderr)
        return 3
    chosen = arguments(sys.argv[1:])
    wanted = settings(chosen)
    print(f"seed {wanted.seed}; gateway on core {wanted.cores[0]}, load on core {wanted.cores[1]}", file=sys.stderr)
    try:
        found = measure(wanted, chosen.penstock.absolute())
    except (NotMeasured, StartFailed, LoadFailed) as error:
        print(f"the run could not be carried out: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("stopped; every process of the run has been ended, nothing was written", file=sys.stderr)
        return 130
    # Only a full run may replace the kept results.
    stem = "overhead" if set(wanted.names) == set(gateways.CANDIDATES) and not chosen.quick else "overhead-partial"
    paths = report.write(found, chosen.out, stem)
    print(json.dumps(report.as_json(found), indent=1) if chosen.json else report.markdown(found))
    print("written: " + ", ".join(str(path) for path in paths), file=sys.stderr)
    if "penstock" in wanted.names and not found.loads("penstock", str(findings.BUSY)):
        return 3
    return int(any(target.met is False for target in findings.targets(found)))


if __name__ == "__main__":
    sys.exit(main())
