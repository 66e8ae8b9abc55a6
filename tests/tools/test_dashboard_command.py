"""`sidecast dashboard FILE`: what the page of a recording is told."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import recordings

from pipeline.dashboard import Composite
from pipeline.dashboard.recorded import RecordedStream
from pipeline.errors import SourceError, StageError
from pipeline.wire import HEADER_BYTES
from tools.cli import main


def drawn(entry) -> Composite:
    return Composite(b"jpeg", (), entry.packet.frame_id)


@pytest.fixture
def recorded(tmp_path) -> Path:
    recordings.record(tmp_path, recordings.pairs(700, size=300), side=True)
    return tmp_path / "recording.mcap"


def test_a_recording_is_shown_whole(recorded):
    stream = RecordedStream([recorded], recorded.name, drawn)
    whole = stream.whole()
    run, now = whole["run"], whole["now"]
    assert (run["frames_in"], run["frames_out"], run["unpaired"]) == (700, 700, 140)
    assert run["wire_bytes"] == 700 * (300 + HEADER_BYTES)
    assert now["kbps"] == pytest.approx((300 + HEADER_BYTES) * 8 * 10 / 1000)
    assert now["capture_fps"] == pytest.approx(10)
    assert (now["psnr_db"], now["age_p95_ms"]) == (None, None)
    assert whole["light"]["word"] == "Recording"
    assert sum(row[1] for row in whole["levels"][0]["rows"]) == 700
    assert 200 <= len(whole["frames"]) <= 300
    assert whole["frames"][-1][0] > 690
    assert stream.picture(699).frame_id == 699
    assert stream.picture(700) is None
    assert stream.news()["frames"] == []


def test_a_recording_that_was_cut_off_says_so(recorded):
    recorded.write_bytes(recorded.read_bytes()[:-5000])
    light = RecordedStream([recorded], "x", drawn).whole()["light"]
    assert (light["colour"], light["word"]) == ("amber", "Incomplete")
    assert "was cut off before its end" in light["sentence"]


def test_what_is_no_recording_is_refused_with_a_sentence(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("x" * 100)
    assert main(["dashboard", str(tmp_path / "notes.txt")]) == 1
    assert "is no recording" in capsys.readouterr().err
    recordings.record(tmp_path, [])
    with pytest.raises(SourceError, match=r"recording\.mcap"):
        RecordedStream([tmp_path / "recording.mcap"], "recording.mcap", drawn)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--weights", "nosuch"], "no weights called 'nosuch' are shipped"),
        (["--http", "0.0.0.0:9110"], "or --insecure (of a command)"),
        (["--http", "127.0.0.1:99999"], "expected HOST:PORT such as 127.0.0.1:9101"),
    ],
)
def test_a_wrong_option_is_told_before_anything_is_served(recorded, capsys, options, sentence):
    assert main(["dashboard", str(recorded), *options]) in (1, 2)
    out, err = capsys.readouterr()
    assert sentence in err
    assert (out, err.count("\n")) == ("", 1)


def test_a_picture_that_cannot_be_decoded_is_a_sentence_on_the_page(recorded):
    def refuse(entry) -> Composite:
        raise StageError("decode", entry.packet.frame_id, "the packet was coded with other weights")

    from pipeline.dashboard import Dashboard
    from pipeline.stage import Context

    dashboard = Dashboard(Context("recordings", Path()), [RecordedStream([recorded], "x", refuse)], "recording")
    answer = dashboard.answer("/pictures/0/3.jpg")
    assert answer.kind.startswith("text/plain")
    assert answer.body == b"decode at frame 3: the packet was coded with other weights"


def test_the_command_serves_until_it_is_stopped(tmp_path):
    folder = tmp_path / "<b>hostile"
    folder.mkdir()
    recordings.record(folder, recordings.pairs(5), side=True)
    command = [
        sys.executable,
        "-P",
        "-m",
        "tools.cli",
        "dashboard",
        str(folder / "recording.mcap"),
        "--http",
        "127.0.0.1:0",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        url = process.stdout.readline().split()[0]
        port = int(url.removeprefix("http://127.0.0.1:").removesuffix("/dashboard"))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/dashboard/events")
        answer = connection.getresponse()
        line = next(line for line in iter(answer.readline, b"") if line.startswith(b"data: "))
        whole = json.loads(line.removeprefix(b"data: "))
        assert (whole["kind"], whole["streams"][0]["run"]["frames_in"]) == ("recording", 5)
        assert whole["streams"][0]["title"] == "recording.mcap"
        answer.close()
        connection.close()
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (0, "", "")
        assert time.monotonic() - begin < 20
    finally:
        process.kill()
        process.communicate()
