"""The picture of a run: what it shows, and that it survives runs of which little is known."""

from __future__ import annotations

import pytest

from pipeline import plot
from pipeline.ledger import Row


def _row(frame_id: int, status: str = "out", **values: float) -> Row:
    return Row(frame_id, 1_000_000_000 + frame_id * 100_000_000, status, values)


def _rows(count: int) -> list[Row]:
    rows = [_row(i, payload_bytes=1000.0 + i, bpp=(1000 + i) * 8 / 20_000, psnr_db=30 + i / 10) for i in range(count)]
    for row in rows[::5]:
        row.values["psnr_without_side_db"] = row.values["psnr_db"] - 1
    return rows


def _labels(rows: list[Row]) -> list[str]:
    figure = plot.draw(rows)
    return [label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]]


def test_draw_shows_rate_and_quality_with_units():
    figure = plot.draw(_rows(10), "a title")
    above, below = figure.axes
    assert (above.get_ylabel(), below.get_ylabel()) == ("bitrate, kbit/s", "PSNR, dB")
    assert below.get_xlabel() == "time in the recording, s"
    rate = above.get_lines()[0]
    assert list(rate.get_xdata())[:2] == pytest.approx([0, 0.1])
    assert list(rate.get_ydata())[:2] == pytest.approx([80.0, 80.08])
    assert [axes.get_ylabel() for axes in above.child_axes] == ["bits per pixel"]


def test_draw_names_the_gain_on_the_same_frames():
    assert "without it, mean 29.25 dB (2 frames, 1.00 dB less)" in _labels(_rows(10))


def test_draw_marks_drops():
    assert _labels([*_rows(5), _row(5, "corrupt")]).count("1 frame dropped") == 2
    assert "2 frames dropped" in _labels([_row(-1, "latest"), *_rows(5), _row(5, "corrupt")])


def test_draw_without_originals_says_so():
    figure = plot.draw([_row(i, payload_bytes=10.0) for i in range(3)])
    assert [text.get_text() for text in figure.axes[1].texts] == ["PSNR is unknown here: the decoder has no originals"]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        _rows(1),
        [_row(0, "unreadable")],
        [_row(0, psnr_db=float("inf"), payload_bytes=5.0), _row(0, psnr_db=3.0)],
        [_row(0, payload_bytes=0.0, bpp=0.0), _row(1, payload_bytes=0.0, bpp=0.0)],
        [_row(0, payload_bytes=10.0, bpp=0.1), _row(1, payload_bytes=10.0, bpp=0.2)],
        _rows(200),
    ],
)
def test_render_gives_a_picture_of_any_run(rows):
    figure = plot.draw(rows)
    assert plot.render(figure, "png").startswith(b"\x89PNG")


def test_a_long_run_is_drawn_by_means_over_stretches_and_spoken_of_by_all_its_frames():
    course = plot.Course()
    for row in _rows(20_000):
        course.add(row)
    for i in (500, 501, 15_000):
        course.add(_row(i, "corrupt"))
    figure = plot.figure_of(course)
    rate = figure.axes[0].get_lines()[0]
    assert plot.MOST_POINTS / 4 < len(rate.get_xdata()) <= plot.MOST_POINTS
    assert rate.get_xdata()[-1] == pytest.approx(2000, abs=2)
    assert rate.get_ydata()[-1] == pytest.approx(0.08 * 20_999, rel=1e-3)
    labels = [label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]]
    assert labels[0] == "payload, means over 1.1 s"
    assert "mean 880 kbit/s" in labels
    assert labels.count("3 frames dropped") == 2
    assert "without any side view, mean 1029.95 dB" in labels
    assert "without it, mean 1028.75 dB (4000 frames, 1.00 dB less)" in labels
    assert plot.render(figure, "png").startswith(b"\x89PNG")


def test_render_as_svg():
    assert b"<svg" in plot.render(plot.draw(_rows(3)), "svg")
