"""A run told in text and drawn as a picture."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

from app.errors import UserError
from app.monitor.records import BatchRecord, LabelCounts
from app.report.figure import draw_report
from app.report.summary import summary_lines

SHA256 = "ab" * 32
SUMMARY = {
    "batches": 3,
    "rows_in": 12_345,
    "rows_scored": 12_000,
    "rows_learned": 11_000,
    "dead_letters": 345,
    "dead_letters_by_reason": {"nan_feature": 45, "unparsable": 300},
    "served_error": 0.25,
    "prequential_error": 0.12345,
    "version": 9,
    "state_sha256": SHA256,
    "seconds": 61.26,
    "learn_seconds": 3.21,
    "total": {"rows_in": 12_345, "prequential_error": 0.12345},
    "labels": dataclasses.asdict(LabelCounts()),
    "mean_delay_seconds": None,
}


def record(batch=0, rows_learned=100, **changes) -> BatchRecord:
    return BatchRecord(
        **{
            "query": "q",
            "batch": batch,
            "rows_scored": 100,
            "rows_learned": rows_learned,
            "dead_letters": {},
            "served_errors": rows_learned // 2,
            "prequential_errors": rows_learned // 4,
            "version": batch + 1,
            "alpha": [0.5, 0.25, 0.25],
            "finished_at": f"2024-01-01T00:00:0{batch}+00:00",
        }
        | changes
    )


class TestSummaryLines:
    def test_every_figure_has_a_line(self):
        assert summary_lines(SUMMARY) == [
            "rows in             12,345",
            "rows scored         12,000",
            "rows learned        11,000",
            "dead letters        345  (nan_feature 45, unparsable 300)",
            "error, served       0.2500",
            "error, prequential  0.1235",
            "model version       9",
            f"state SHA-256       {SHA256}",
            "seconds             61.3, of which 3.2 learning",
        ]

    def test_a_live_stream_tells_of_its_labels(self):
        labels = LabelCounts(1200, {"late_feedback": 7}, 30, 99.0, 1234.5)
        lines = summary_lines(
            SUMMARY | {"labels": dataclasses.asdict(labels), "mean_delay_seconds": 61.25}
        )
        told = [" ".join(line.split()) for line in lines]
        assert "labels in 1,200, of which 30 wait" in told
        assert "dead labels 7 (late_feedback 7)" in told
        assert "label delay 61.2 s, at most 1,234.5 s" in told

    def test_labels_that_were_dropped_for_a_setting_name_it(self):
        labels = LabelCounts(1200, {"late_feedback": 1024}, dropped_by={"max_lag": 1024})
        labels += LabelCounts(dropped_by={"label_timeout": 115, "max_lag": 1})
        lines = summary_lines(SUMMARY | {"labels": dataclasses.asdict(labels)})
        told = [" ".join(line.split()) for line in lines]
        assert "labels dropped 115 for --label-timeout, 1,025 for --max-lag" in told

    def test_a_run_without_dead_letters_gives_no_reasons(self):
        lines = summary_lines(SUMMARY | {"dead_letters": 0, "dead_letters_by_reason": {}})
        assert "dead letters        0" in lines

    def test_no_error_is_told_where_nothing_was_learned(self):
        lines = summary_lines(SUMMARY | {"served_error": None, "prequential_error": None})
        assert {"error, served       -", "error, prequential  -"} <= set(lines)

    def test_a_resumed_run_tells_of_all_runs(self):
        total = {"rows_in": 1_000_000, "prequential_error": 0.5}
        assert summary_lines(SUMMARY | {"total": total})[-2:] == [
            "rows in, all runs   1,000,000",
            "error, all runs     0.5000, prequential",
        ]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Return a function that draws records and returns the figure's upper and lower axes."""
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))

    def draw(records, drift_points=()):
        draw_report(records, tmp_path / "report.png", drift_points)
        return figures[-1].axes[:2]

    return draw


def curves(axes) -> dict[str, tuple[list, list]]:
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines
    }


class TestDrawReport:
    @pytest.mark.parametrize(
        ("name", "signature"),
        [("r.png", b"\x89PNG\r\n\x1a\n"), ("r.svg", b"<?xml"), ("r.pdf", b"%PDF-")],
    )
    def test_the_suffix_chooses_the_format(self, tmp_path, name, signature):
        draw_report([record(0), record(1)], tmp_path / name, [100])
        assert (tmp_path / name).read_bytes().startswith(signature)

    @pytest.mark.parametrize("records", [[], [record(rows_learned=0)]])
    def test_nothing_learned_is_refused(self, tmp_path, records):
        with pytest.raises(UserError, match="^--workdir: nothing has been learned"):
            draw_report(records, tmp_path / "report.png")
        assert not list(tmp_path.iterdir())

    def test_without_matplotlib_the_extra_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(UserError, match=r"pip install 'hedgestream\[report\]'"):
            draw_report([record()], tmp_path / "report.png")

    @pytest.mark.parametrize("name", ["report.xyz", "gone/report.png"])
    def test_an_image_that_cannot_be_written_is_told_with_the_option(self, tmp_path, name):
        with pytest.raises(UserError, match="^--output"):
            draw_report([record()], tmp_path / name)

    def test_errors_are_shares_of_the_learned_rows(self, drawn):
        records = [
            record(0, 100, served_errors=50, prequential_errors=40),
            record(1, 50, served_errors=5, prequential_errors=5),
        ]
        above, _ = drawn(records)
        assert curves(above) == {
            "served, each batch": ([50, 150], [0.5, 0.1]),
            "prequential, each batch": ([50, 150], [0.4, 0.1]),
            "prequential, cumulative": ([100, 200], [0.4, 0.3]),
        }

    def test_dead_letters_take_their_room_on_the_axis(self, drawn):
        above, _ = drawn([record(0, dead_letters={"unparsable": 20}), record(1)])
        assert curves(above)["prequential, cumulative"][0] == [120, 220]

    def test_batches_that_learned_nothing_take_their_room_on_the_axis(self, drawn):
        above, _ = drawn([record(0), record(1, rows_learned=0), record(2)])
        assert curves(above)["prequential, cumulative"][0][-1] == 300

    def test_alpha_is_drawn_shallow_to_deep_over_rows(self, drawn):
        _, below = drawn([record(0, alpha=[0.7, 0.2, 0.1]), record(1, alpha=[0.1, 0.3, 0.6])])
        (mesh,) = below.collections
        shares = np.asarray(mesh.get_array()).reshape(3, 2)
        np.testing.assert_array_equal(shares, [[0.7, 0.1], [0.2, 0.3], [0.1, 0.6]])

    def test_drifts_are_marked_on_both_axes_and_named_once(self, drawn):
        above, below = drawn([record(0), record(1)], [50, 120])
        for axes in (above, below):
            ends = [list(line.get_xdata()) for line in axes.lines]
            marked = [x for x in ends if len(x) == 2 and x[0] == x[1]]
            assert marked == [[50, 50], [120, 120]]
        legend = [text.get_text() for text in above.get_legend().get_texts()]
        assert legend.count("drift") == 1

    def test_without_drifts_the_legend_has_none(self, drawn):
        above, _ = drawn([record(0)])
        assert "drift" not in [text.get_text() for text in above.get_legend().get_texts()]

    @pytest.mark.parametrize("n", [4, 5, 7, 8])
    def test_of_many_batches_neighbours_are_drawn_as_one(self, drawn, monkeypatch, n):
        monkeypatch.setattr("app.report.figure._MOST_POINTS", 4)
        records = [
            record(i, 50 + i, dead_letters={"unparsable": i}, alpha=[i / 10, 1 - i / 10])
            for i in range(n)
        ]
        above, below = drawn(records)
        xs, errors = curves(above)["prequential, cumulative"]
        assert len(xs) == (n if n == 4 else -(-n // 2))
        assert xs[-1] == sum(each.rows_in for each in records)
        learned, wrong = (
            sum(getattr(each, name) for each in records)
            for name in ("rows_learned", "prequential_errors")
        )
        assert errors[-1] == pytest.approx(wrong / learned)
        (mesh,) = below.collections
        assert np.asarray(mesh.get_array()).reshape(2, -1)[0, -1] == (n - 1) / 10

    def test_one_head_in_one_batch_is_enough(self, tmp_path):
        draw_report([record(alpha=[1.0])], tmp_path / "report.png")
        assert (tmp_path / "report.png").stat().st_size > 1000
