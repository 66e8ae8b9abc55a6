"""`sidecast run` as a user calls it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import report as report_files
from tools import cli

SMALL = "size: [64, 32]"
ONE = f"""
vars: {{length: 4, pace: fast}}
nodes:
  only:
    stages:
      - {{use: synthetic, length: "${{length}}", pace: "${{pace}}", {SMALL}}}
      - {{use: write_images}}
"""
TWO = f"""
vars: {{length: 4, pace: fast, link: null}}
nodes:
  encoder:
    stages:
      - {{use: synthetic, length: "${{length}}", pace: "${{pace}}", {SMALL}}}
      - {{use: encode_image, role: primary}}
      - {{use: send, connect: "${{link}}"}}
  decoder:
    stages:
      - {{use: receive, bind: "${{link}}"}}
      - {{use: decode_image}}
      - {{use: write_images}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def config(tmp_path: Path, text: str) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(text)
    return str(path)


def report(out: Path) -> dict:
    return json.loads((out / "report.json").read_text())


def sidecast(*arguments: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-P", "-m", "tools.cli", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_one_node_runs_in_this_process_and_reports(tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["run", config(tmp_path, ONE), "--out", str(out)]) == 0
    found = report(out)
    assert (found["frames_in"], found["frames_out"], found["complete"]) == (4, 4, True)
    assert found["config"]["file"] == "small.yaml"
    assert found["config"]["nodes"] == {"only": ["synthetic", "write_images"]}
    assert capsys.readouterr().out.splitlines()[-1].startswith("primary view")
    assert (out / "frames.csv").read_text().count("\n") == 5


def test_outputs_go_below_out_by_the_name_of_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", config(tmp_path, ONE)]) == 0
    assert report(tmp_path / "out" / "small")["frames_out"] == 4


def test_an_out_that_cannot_be_written_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    assert cli.main(["run", config(tmp_path, ONE), "--out", str(out)]) == 2
    assert capsys.readouterr().err == f"sidecast: error: --out {out} cannot be written: Not a directory\n"


def test_an_unknown_node_lists_those_there_are(tmp_path, capsys):
    assert cli.main(["run", config(tmp_path, TWO), "--set", "link=tcp://127.0.0.1:5555", "--node", "decode"]) == 2
    assert "has no node 'decode', expected one of encoder, decoder" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_threads_must_be_a_positive_number(tmp_path, capsys, text):
    assert cli.main(["run", config(tmp_path, ONE), "--threads", text]) == 2
    assert f"{text} is not allowed, expected a whole number of at least 1" in capsys.readouterr().err


def test_a_port_in_use_is_one_sentence(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = ONE.replace("  only:\n", f"  only:\n    http: 127.0.0.1:{port}\n")
        assert cli.main(["run", config(tmp_path, text), "--out", str(tmp_path / "o")]) == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in capsys.readouterr().err


def test_several_drives_run_one_after_another_with_a_table(tmp_path, capsys):
    for name, good in (("drive_a", True), ("drive_b", False), ("drive_c", True)):
        pictures = tmp_path / name / "image_02" / "data"
        pictures.mkdir(parents=True)
        if good:
            _write_drive(pictures)
    text = """
vars: {drive: null}
nodes:
  only:
    stages:
      - {use: kitti, drive: "${drive}", view: left, pace: fast}
      - {use: write_images}
"""
    pattern = str(tmp_path / "drive_*")
    out = tmp_path / "out"
    assert cli.main(["run", config(tmp_path, text), "--set", f"drive={pattern}", "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert not (out / "drive_b" / "report.json").exists()
    assert report(out / "drive_a")["frames_out"] == report(out / "drive_c")["frames_out"] == 2
    assert printed.out.count("primary view") == 2
    assert [line.split()[0] for line in printed.out.splitlines()[-4:]] == ["drive_a", "drive_b", "drive_c", "mean"]
    assert sum(line.startswith("sidecast: error:") for line in printed.err.splitlines()) == 1


def test_several_drives_are_not_run_with_one_node_only(tmp_path, capsys):
    for name in ("drive_a", "drive_b"):
        (tmp_path / name).mkdir()
    text = TWO.replace("use: synthetic", "use: kitti, drive: '${drive}'").replace('length: "${length}", ', "")
    text = text.replace("link: null", "link: null, drive: null")
    given = ["--set", f"drive={tmp_path / 'drive_*'}", "--set", "link=tcp://127.0.0.1:5555"]
    assert cli.main(["run", config(tmp_path, text), *given, "--node", "encoder"]) == 2
    assert "--node runs one drive and `drive` matches 2 (drive_a, drive_b)" in capsys.readouterr().err


def _write_drive(pictures: Path) -> None:
    import cv2
    import numpy as np

    for i in range(2):
        cv2.imwrite(str(pictures / f"{i:010}.png"), np.full((16, 32, 3), 40 * i, np.uint8))
    stamps = "".join(f"2011-09-26 13:02:25.{i}00000000\n" for i in range(2))
    (pictures.parent / "timestamps.txt").write_text(stamps)


def test_two_nodes_run_and_the_numbers_are_the_last_lines(tmp_path):
    out = tmp_path / "out"
    link = f"link=tcp://127.0.0.1:{free_port()}"
    process = sidecast("run", config(tmp_path, TWO), "--set", link, "--out", str(out))
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    found = report(out)
    assert (found["frames_in"], found["frames_out"], found["complete"]) == (4, 4, True)
    assert found["expected_frames"] == 4
    lines = printed.splitlines()
    assert lines[-1].startswith("primary view 64x32")
    assert f"images: {out / 'images'}" in lines


def test_a_run_without_a_frame_leaves_one_sentence_and_no_report(tmp_path, capsys):
    text = ONE.replace("use: synthetic", "use: kitti, drive: nowhere").replace('length: "${length}", ', "")
    out = tmp_path / "out"
    out.mkdir()
    for name in report_files.FILES:
        (out / name).write_text("of an earlier run")
    assert cli.main(["run", config(tmp_path, text), "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert sum(line.startswith("sidecast: error:") for line in printed.err.splitlines()) == 1
    assert list(out.iterdir()) == []


def test_a_run_of_which_nothing_came_through_has_failed(tmp_path):
    text = TWO.replace("use: decode_image", "use: decode_image, max_pixels: 1")
    out, link = tmp_path / "out", f"link=tcp://127.0.0.1:{free_port()}"
    process = sidecast("run", config(tmp_path, text), "--set", link, "--out", str(out))
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.count("sidecast: error: ") == 1
    assert "sidecast: error: no frame came through: 4 corrupt\n" in said
    assert report(out)["drops"] == {"corrupt": 4}
    assert "4 in, 0 out, 4 corrupt" in printed


def test_a_failure_of_one_node_is_printed_once(tmp_path):
    link = f"link=tcp://127.0.0.1:{free_port()}"
    text = TWO.replace("use: synthetic", "use: kitti, drive: nowhere").replace('length: "${length}", ', "")
    process = sidecast("run", config(tmp_path, text), "--set", link, "--out", str(tmp_path / "out"))
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert printed == ""
    assert not (tmp_path / "out" / "report.json").exists()
    errors = [line for line in said.splitlines() if line.startswith("sidecast: error:")]
    assert len(errors) == 1, said
    assert "nowhere" in errors[0]
    assert "Traceback" not in said


@pytest.mark.parametrize("text", [ONE, TWO], ids=["one node", "two nodes"])
def test_ctrl_c_drains_and_reports(tmp_path, text):
    out = tmp_path / "out"
    given = ["--set", "length=500", "--set", "pace=recorded", "--out", str(out), "-v"]
    if text == TWO:
        given += ["--set", f"link=tcp://127.0.0.1:{free_port()}"]
    process = sidecast("run", config(tmp_path, text), *given)
    assert process.stderr is not None
    mark = "connected to the decoder" if text == TWO else "opening write_images"
    for line in process.stderr:
        if mark in line:
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert said.count("finishing what is on its way") == 1
    found = report(out)
    assert found["complete"] is True
    assert 0 < found["frames_out"] == found["frames_in"] < 500
    assert printed.splitlines()[-1].startswith("primary view")


@pytest.mark.parametrize("taken", ["link", "encoder_http", "decoder_http"])
def test_a_taken_port_is_told_before_any_node_starts(tmp_path, monkeypatch, capsys, taken):
    """And the report of an earlier run is still there."""
    monkeypatch.setattr("tools.run.Launcher", lambda *_: pytest.fail("nodes were started"))
    text = TWO.replace("  encoder:", '  encoder:\n    http: "${encoder_http}"', 1)
    text = text.replace("  decoder:", '  decoder:\n    http: "${decoder_http}"', 1)
    text = text.replace("link: null", "link: null, encoder_http: null, decoder_http: null")
    (tmp_path / "report.json").write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        ports = {"link": free_port(), "encoder_http": free_port(), "decoder_http": free_port()}
        ports[taken] = server.getsockname()[1]
        given = [f"--set={name}=127.0.0.1:{port}" for name, port in ports.items() if name != "link"]
        given.append(f"--set=link=tcp://127.0.0.1:{ports['link']}")
        assert cli.main(["run", config(tmp_path, text), *given, "--out", str(tmp_path)]) == 1
    (sentence,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert f"127.0.0.1:{ports[taken]}" in sentence
    assert "another port" in sentence
    assert (tmp_path / "report.json").exists()
