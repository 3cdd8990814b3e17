"""The arithmetic on what a run has found: medians, ratios, targets, receipts, noise."""

import findings
import pytest
from findings import Cell, Findings, LedgerCheck, Resident
from load import PlainLoad
from measure import Memory
from streams import StreamLoad


def plain(name: str, kind: int, per_s: float, *, cpu_us: float = 10.0, p50_us: float = 100.0, refused: int = 0) -> Cell:
    answers = int(per_s * 2) + refused
    load = PlainLoad(kind, answers, refused, 0, 2.0, p50_us, p50_us * 10, p50_us * 20)
    return Cell(name, 1, load, cpu_us, 0.0, 0.0)


def streamed(name: str, cpu_us: float, complete: int = 10) -> Cell:
    return Cell(name, 1, StreamLoad(10, complete, 1000, 1.0, 0.1, 0.2, 1000.0, ()), cpu_us, 0.0, 0.0)


def full_run() -> Findings:
    found = Findings(machine={}, settings={})
    for name, per_s, cpu_us, p50_us in (
        ("nginx", 50_000, 18, 160),
        ("penstock", 20_000, 40, 200),
        ("tensorzero", 5_000, 160, 300),
        ("litellm", 100, 9_000, 16_000),
    ):
        found.versions[name] = ("1", "x")
        found.cells += [plain(name, kind, per_s, cpu_us=cpu_us, p50_us=p50_us) for kind in (1, 16, 64)]
        found.cells.append(streamed(name, cpu_us))
    found.residents["penstock"] = Resident((0.3, 0.2, 0.9), Memory(40.0, 38.0))
    found.ledger.append(LedgerCheck("x", 10, 12, 14))
    found.import_s = 0.1
    return found


def test_the_median_leaves_out_what_was_not_measured() -> None:
    assert findings.median([None, 3.0, 1.0, 2.0]) == 2.0
    assert findings.median([None]) is None


@pytest.mark.parametrize(("upper", "lower"), [(None, 1.0), (1.0, None), (1.0, 0.0)])
def test_a_ratio_with_nothing_to_divide_is_none(upper: float | None, lower: float | None) -> None:
    assert findings.ratio(upper, lower) is None


def test_figures_are_medians_over_the_rounds() -> None:
    found = Findings({}, {}, cells=[plain("nginx", 64, rate) for rate in (10, 40, 20)])
    assert found.per_s("nginx") == 20
    assert found.spread("nginx") == (10, 40)


def test_a_run_as_expected_meets_every_target() -> None:
    targets = findings.targets(full_run())
    missed = [target.aim for target in targets if not target.met]
    # 40 us against 18 us a chunk is more than twice; all else holds.
    assert missed == ["streams: CPU a chunk against nginx"]
    by_aim = {target.aim: target.found for target in targets}
    assert by_aim["req/s at 64 connections against TensorZero"] == 4.0
    assert by_aim["req/s at 64 connections against LiteLLM"] == 200.0
    assert by_aim["req/s at 64 connections against nginx"] == pytest.approx(0.4)
    assert by_aim["p50 at one connection, added over nginx"] == 40
    assert by_aim["p99 at 64 connections"] == 2.0
    assert by_aim["exec to first good answer"] == 0.3


def test_a_target_whose_other_side_was_not_measured_is_neither_met_nor_missed() -> None:
    found = full_run()
    found.cells = [cell for cell in found.cells if cell.name != "litellm"]
    verdicts = {target.aim: target.met for target in findings.targets(found)}
    assert verdicts["req/s at 64 connections against LiteLLM"] is None
    assert verdicts["req/s at 64 connections against nginx"] is True


def test_without_penstock_no_target_is_met() -> None:
    found = Findings({}, {}, cells=[plain("nginx", 64, 10)])
    assert {target.met for target in findings.targets(found)} == {None}


@pytest.mark.parametrize("spoil", ["refused", "torn"])
def test_a_refused_call_or_a_torn_stream_misses_a_target(spoil: str) -> None:
    found = full_run()
    found.cells.append(plain("penstock", 16, 10, refused=1) if spoil == "refused" else streamed("penstock", 1, 9))
    verdicts = {target.aim: target.met for target in findings.targets(found)}
    assert verdicts["loads with a refused call, a socket error or a torn stream"] is False
    assert found.faults("penstock") in {"1 calls refused", "1 of 20 streams incomplete"}
    assert found.faults("nginx") == ""


@pytest.mark.parametrize(("recorded", "holds"), [(99, False), (100, True), (164, True), (165, False)])
def test_receipts_match_between_the_answers_and_what_was_in_flight(recorded: int, *, holds: bool) -> None:
    check = LedgerCheck("x", answered=100, recorded=recorded, at_most=164)
    assert check.holds is holds


def test_one_load_with_a_missing_receipt_misses_its_target() -> None:
    found = full_run()
    found.ledger.append(LedgerCheck("y", 100, 99, 164))
    assert [target.found for target in findings.targets(found)][-1] == 1


def test_noise_is_that_of_the_worst_load_by_its_median() -> None:
    calm, wild = (Cell("a", 1, plain("a", 64, 1).load, 1.0, share, 0.0) for share in (0.01, 0.9))
    other = Cell("b", 1, plain("b", 1, 1).load, 1.0, 0.02, 0.01)
    assert Findings({}, {}, cells=[calm, calm, wild, other]).noise() == pytest.approx(0.03)
    assert Findings({}, {}).noise() == 0.0
