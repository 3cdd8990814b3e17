"""The report: tables that line up, nothing dropped in silence, files that parse."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import report
from findings import Cell, Findings, LedgerCheck, Resident
from load import PlainLoad
from measure import Memory
from streams import StreamLoad

MACHINE = {
    "machine": "2 x CPU <fast>",
    "kernel": "Linux 6",
    "python": "3.11",
    "nginx": "nginx/1",
    "wrk": "wrk 4",
    "date": "2026-01-01",
    "commit": "abc",
}
SETTINGS = {"names": ["nginx", "penstock"], "rounds": 1, "seconds": 2, "streams": 256, "passes": 2, "seed": 7}


def sample() -> Findings:
    found = Findings(MACHINE, SETTINGS)
    for name, per_s in (("nginx", 50_000), ("penstock", 20_000)):
        found.versions[name] = ("1.2", "does things")
        for kind in (1, 16, 64):
            load = PlainLoad(kind, per_s * 2, 0, 0, 2.0, 150.0, 900.0, 1000.0)
            found.cells.append(Cell(name, 1, load, 1e6 / per_s, 0.0, 0.0))
        found.cells.append(Cell(name, 1, StreamLoad(512, 512, 51200, 2.3, 0.1, 0.2, 1000.0, ()), 10.0, 0.0, 0.0))
        found.residents[name] = Resident((0.1,), Memory(20.0, 18.0), Memory(30.0, None))
    found.not_measured["litellm"] = "cannot install litellm: no network"
    found.ledger = [LedgerCheck("a", 100, 104, 164), LedgerCheck("b", 100, 90, 164)]
    return found


def test_columns_line_up_in_a_terminal() -> None:
    lines = report.table(["name", "req/s"], [["nginx", "50,000"], ["x", "1"]]).splitlines()
    assert lines == ["| name  |  req/s |", "|-------|-------:|", "| nginx | 50,000 |", "| x     |      1 |"]


def test_ratios_keep_about_three_digits() -> None:
    assert [report.significant(value) for value in (None, 0, 0.00123, 0.334, -0.5, 2.5, 15.04, 201.7)] == [
        "-",
        "0",
        "0.0012",
        "0.33",
        "-0.50",
        "2.50",
        "15.0",
        "202",
    ]


def test_the_table_shows_the_ratio_against_nginx() -> None:
    rows = report.plain_table(sample()).splitlines()
    assert [cell.strip() for cell in rows[3].split("|")][1:6] == ["penstock", "20,000", "20,000", "20,000", "0.40"]


def test_a_candidate_that_was_not_measured_stands_in_the_report_with_its_reason() -> None:
    assert "- **litellm** not measured: cannot install litellm: no network" in report.markdown(sample())


def test_receipts_that_do_not_match_are_named() -> None:
    text = report.markdown(sample())
    assert "(1 of 2 loads match" in text
    assert "Receipts of b differ: 90, must lie in 100..164" in text


def test_a_noisy_run_says_so() -> None:
    found = sample()
    assert "(quiet)" in report.markdown(found)
    found.cells = [Cell(cell.name, 1, cell.load, 1.0, 0.2, 0.1) for cell in found.cells]
    assert "30.0% at worst (noisy" in report.markdown(found)


def test_targets_appear_only_where_penstock_takes_part() -> None:
    found = sample()
    assert "penstock's targets" in report.markdown(found)
    found.settings = {**SETTINGS, "names": ["nginx"]}
    assert "penstock's targets" not in report.markdown(found)


def test_a_run_without_any_figure_still_reports() -> None:
    found = Findings(MACHINE, SETTINGS, not_measured={"penstock": "gone"})
    assert "**penstock** not measured: gone" in report.markdown(found)
    ET.fromstring(report.svg(found))  # noqa: S314 -- our own output


def test_the_three_files_hold_the_same_run(tmp_path: Path) -> None:
    text, data, chart = report.write(sample(), tmp_path / "results", "overhead")
    assert text.read_text().startswith("# Overhead")
    cells = json.loads(data.read_text())["cells"]
    assert len(cells) == 8
    assert {"name", "round", "kind", "load", "cpu_us", "foreign", "stolen"} <= set(cells[0])
    root = ET.fromstring(chart.read_text())  # noqa: S314 -- our own output
    words = "".join(root.itertext())
    assert "2 x CPU <fast>" in words
    assert "20,000 req/s (0.40 x nginx)" in words


def test_bars_are_as_long_as_their_figures() -> None:
    root = ET.fromstring(report.svg(sample()))  # noqa: S314 -- our own output
    widths = [float(bar.attrib["width"]) for bar in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths[2] / widths[1] == 0.4
