"""Two nodes over a real socket: what a person who tries sidecast sees first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import runs


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "new" / "out"
    return runs.run("demo", out=out, length=6, **runs.addresses()).succeeded()


def test_the_demo_accounts_for_every_frame(demo):
    runs.check_invariants(demo, frames=6)
    assert demo.report["side"]["bytes_on_wire"] == 0
    assert demo.report["psnr_db"] > demo.report["psnr_without_side_db"] > 15
    assert demo.report["expected_frames"] == 6


def test_the_demo_leaves_the_files_it_names_and_ends_with_the_sentence(demo):
    named = dict(line.split(": ", 1) for line in demo.out.splitlines() if ": /" in line)
    assert list(named) == ["report", "table", "plot", "picture", "video"]
    assert all(path.startswith(str(demo.folder)) for path in named.values())
    assert {"report.json", "frames.csv", "plot.png", "decoded.mp4"} <= {p.name for p in demo.folder.iterdir()}
    assert demo.out.splitlines()[-1].startswith("primary view 640x192: raw ")
    assert "unknown" not in demo.out


def test_the_demos_video_has_the_times_of_the_recording(demo):
    frames = demo.video()
    assert [round(float(frame.time), 3) for frame in frames] == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert (frames[0].width, frames[0].height) == (640, 192)


def _in_two_terminals(config: Path, drive: Path, folder: Path, order: Sequence[str]) -> dict[str, runs.Ended]:
    """Each node as a command of its own, the second one when the first has had to wait for a while."""
    link, nodes = f"tcp://127.0.0.1:{runs.free_ports(1)[0]}", {}
    for node in order:
        nodes[node] = runs.start(config, "--node", node, out=folder / node, drive=drive, link=link)
        time.sleep(2.5 if node == order[0] else 0)
    return {node: runs.wait(process) for node, process in nodes.items()}


@pytest.fixture(scope="module")
def terminals(stereo, drive, tmp_path_factory):
    """What became of both nodes, by the one that was started first."""
    orders = (("encoder", "decoder"), ("decoder", "encoder"))
    return {order[0]: _in_two_terminals(stereo, drive, tmp_path_factory.mktemp(order[0]), order) for order in orders}


@pytest.mark.slow
@pytest.mark.parametrize("first", ["encoder", "decoder"])
def test_two_terminals_do_the_same_in_either_order(terminals, first):
    ended = terminals[first]
    runs.check_invariants(ended["decoder"].succeeded(), frames=6)
    assert ended["encoder"].succeeded().out == ""
    assert not ended["encoder"].folder.exists()


@pytest.mark.slow
def test_a_run_that_is_repeated_gives_the_same_pictures_and_bits(terminals):
    one, other = (terminals[first]["decoder"] for first in ("encoder", "decoder"))
    for name in ("frame_id", "pts_ns", "payload_bytes", "psnr_db", "psnr_without_side_db"):
        assert [row[name] for row in one.rows] == [row[name] for row in other.rows]
    pictures = [[frame.to_ndarray().tobytes() for frame in ended.video()] for ended in (one, other)]
    assert pictures[0] == pictures[1]


@pytest.mark.slow
@pytest.mark.data
def test_real_kitti_frames_arrive_at_their_size(data, tmp_path):
    drive = data / "kitti_odom_color" / "seq02"
    ended = runs.run("kitti", out=tmp_path / "k", drive=drive, frames="0:4", **runs.addresses()).succeeded()
    runs.check_invariants(ended, frames=4)
    report = ended.report
    assert (report["width"], report["height"]) == (1241, 376)
    assert report["psnr_db"] > 20
    assert report["psnr_with_side_sampled_db"] > report["psnr_without_side_db"]
    assert (ended.video()[0].width, ended.video()[0].height) == (1242, 376)
    assert ended.out.splitlines()[-1].startswith("primary view 1241x376: raw ")
