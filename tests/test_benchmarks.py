"""The benchmark of what the guards cost: its rows, its verdicts and its page, made from a tiny real run."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from time import sleep
from unittest import mock

import bench
import pytest
import torch
from costs import forward
from costs.counting import counted
from costs.machine import stamp
from costs.page import draw_plots, page_text
from costs.rows import Case, Row, compared, is_measured, put, read
from costs.subjects import MASKED
from costs.targets import TARGETS, Target, verdict
from costs.timing import Effort, in_turns


def run(csv: Path, *arguments: str) -> None:
    with mock.patch.object(sys, "argv", ["bench.py", *arguments, "--here", "--quick", "--csv", str(csv)]):
        assert bench.main() == 0


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results") / "costs.csv"
    run(path, "forward", "decoding")
    return path


@pytest.fixture(scope="module")
def rows(csv: Path) -> list[Row]:
    return read(csv)


def test_a_run_that_is_started_again_measures_nothing_twice(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = csv.read_bytes()
    run(csv, "decoding")
    assert "ratio" not in capsys.readouterr().out
    assert csv.read_bytes() == before
    run(csv, "decoding", "--again")
    assert "ratio" in capsys.readouterr().out


def test_a_run_that_is_out_of_time_says_what_it_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "costs.csv", "decoding", "--limit-s", "0")
    assert "2 cases left for another run" in capsys.readouterr().out


def test_a_section_that_fails_does_not_end_the_others_and_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[str] = []

    def in_process(section: str, args: object) -> bool:
        started.append(section)
        return section != "forward"

    monkeypatch.setattr(bench, "_in_process", in_process)
    monkeypatch.setattr(sys, "argv", ["bench.py", "--no-page", "--csv", str(tmp_path / "costs.csv")])
    assert bench.main() == 1
    assert started == list(bench.SECTIONS["cpu"])
    assert "forward failed" in capsys.readouterr().out


def test_rows_of_another_machine_or_other_sources_do_not_count_as_measured(rows: list[Row]) -> None:
    machine, case = rows[0].machine, rows[0].case
    assert is_measured(rows, machine, case)
    for other in (machine._replace(device="another"), machine._replace(source="edited")):
        assert not is_measured(rows, other, case)


def test_a_new_row_takes_the_place_of_that_of_older_sources(rows: list[Row], tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    put(path, rows)
    case = rows[0].case
    newer = [row._replace(machine=row.machine._replace(source="newer")) for row in rows if row.case == case]
    put(path, newer)
    found = read(path)
    assert len(found) == len(rows)
    assert {row.machine.source for row in found if row.case == case} == {"newer"}


def test_a_file_with_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    path.write_text("date,device\n2020-01-01,x\n", "utf-8")
    with pytest.raises(ValueError, match=r"costs\.csv has other columns"):
        read(path)


@pytest.mark.parametrize(("nap_s", "calls"), [(0.0, 3 * 2), (0.002, 2)])
def test_only_a_short_call_is_tried_three_times_before_its_turns(nap_s: float, calls: int) -> None:
    made: list[int] = []
    effort = Effort(budget_s=0.0, turn_s=0.001, rounds=0, fewest_rounds=0)
    in_turns({"one": lambda: (made.append(1), sleep(nap_s))}, effort)
    assert len(made) == calls  # each turn warms up once


def test_the_ratio_is_that_of_the_rounds_and_not_that_of_the_medians() -> None:
    plain, guarded = compared(
        stamp("cpu"), Case("forward", "x"), "time", "us", {"plain": [1.0, 10.0, 2.0], "guarded": [2.0, 5.0, 6.0]}
    )
    assert plain.ratio is None
    assert guarded.ratio == 2.0  # of 2, 0.5 and 3; the medians' would be 2.5
    assert (guarded.added, guarded.median) == (1.0, 5.0)


def test_counts_are_of_operators_that_compute_and_of_values_that_are_read() -> None:
    ones = torch.ones(4, 8)
    counts = counted(lambda: bool((ones.view(8, 4).t() + 1).any()), "cpu")
    assert counts.kernels == 2  # an addition and `any`; views are none
    assert counts.syncs == 1
    assert counts.allocated_bytes == 4 * 8 * 4 + 1


def test_a_mask_that_is_passed_costs_no_operator_and_no_read(rows: list[Row]) -> None:
    own = [row for row in rows if row.case.call == MASKED and row.quantity in ("kernels", "syncs")]
    guarded = [row for row in own if row.variant != "plain"]
    assert guarded
    assert all(row.added == 0 for row in guarded)


@pytest.mark.skipif(not forward.IS_ON_META, reason="BERT of transformers 4 looks into the mask")
def test_meta_gives_the_host_cost_of_a_whole_forward(rows: list[Row]) -> None:
    times = [row for row in rows if (row.case.place, row.quantity) == ("meta", "time")]
    assert {row.variant for row in times} >= {"plain", "guarded", "strict", "device_checks=record"}
    assert all(row.median > 0 for row in times)


def test_a_target_is_missed_by_its_worst_row_and_unsaid_without_rows(rows: list[Row]) -> None:
    target = next(one for one in TARGETS if one.what == "mask passed, empty module: us")
    assert verdict(replace(target, limit=1e9), rows)[1] == "met"
    assert verdict(replace(target, limit=-1e9), rows)[1] == "MISSED"
    assert verdict(target, []) == ("", "")
    worst = Target("", 10, "added", "forward", "kernels", calls=(MASKED,))
    (one, *_) = [row for row in rows if worst.is_about(row)]
    assert verdict(worst, [*rows, one._replace(added=11.0)]) == ("11", "MISSED")


def test_a_page_without_a_gpu_says_so_and_shows_no_cpu_number_under_a_gpus_heading(rows: list[Row]) -> None:
    page = page_text(rows, [], [], [])
    assert "No GPU was at hand" in page
    assert "Forward on cuda" not in page
    assert page.count("needs a GPU") == sum(target.is_gpu for target in TARGETS)
    on_gpu = [row._replace(case=row.case._replace(place="cuda")) for row in rows]
    assert "No GPU was at hand" not in page_text(on_gpu, [], [], [])


def test_every_section_of_the_page_comes_from_rows() -> None:
    assert "## Forward" not in page_text([], [], [], [])
    assert "| 4.2 |" in page_text([], [{"date": "2026-01-01", "convert_s": "4.2"}], [], [])
    assert "from_tf" not in page_text([], [], [], [])
    assert "| 6.7 |" in page_text([], [], [{"date": "2026-01-01", "convert_s": "6.7"}], [])


def test_the_same_rows_give_the_same_plot(rows: list[Row], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra `bench`")
    for folder in ("first", "second"):
        draw_plots(rows, tmp_path / folder)
    (first,), (second,) = (sorted((tmp_path / folder).iterdir()) for folder in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    assert "added host time (us)" in first.read_text("utf-8")
