from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import recordings
import yaml

from pipeline.recording import layout
from pipeline.recording.index import open_index
from stages.picture import encode_jpeg
from tools import replay, run
from tools.cli import main


@pytest.fixture
def file(tmp_path) -> str:
    recordings.record(tmp_path, recordings.pairs(25), side=True, config="nodes: {}")
    return str(tmp_path / "recording.mcap")


@pytest.fixture
def stages(monkeypatch, tmp_path):
    """`stages(ARGUMENTS)`: the chain that `sidecast replay` would run."""
    monkeypatch.setattr(run, "main", lambda args: 0)

    def chain(*arguments: str) -> list[dict]:
        assert main(["replay", *arguments, "--out", str(tmp_path / "out")]) == 0
        return yaml.safe_load((tmp_path / "out" / "replay.yaml").read_text())["nodes"]["player"]["stages"]

    return chain


def test_info_tells_what_a_recording_holds(file, capsys):
    assert main(["info", file]) == 0
    told = capsys.readouterr().out
    assert f"{file}: " in told
    assert ", complete" in told
    assert "model tiny (1122334455667788), quality 24" in told
    assert "primary view (left) 32x16: 25 packets, frames 0 to 24" in told
    assert "2.50 s of capture, 10.00 frames/s, 79.7 kbit/s, 14.0625 bpp" in told
    assert "side view: 20 packets paired (stored), 5 without" in told
    assert "config.yaml (9 B)" in told


def test_info_for_programs(file, capsys):
    assert main(["info", file, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["complete"], told["primary"]["packets"], told["side"]["unpaired"]) == (True, 25, 5)
    assert told["primary"]["kbps_by_second"] == [79.68, 79.68, 39.84]
    assert told["channels"]["/sidecast/bits"] == {"messages": 25, "bytes": 24900}


def test_info_and_repair_of_a_damaged_recording(file, capsys):
    data = bytearray(Path(file).read_bytes())
    data[recordings.primaries(open_index([Path(file)]))[20].place.offset + 300] ^= 4
    Path(file).write_bytes(data)
    assert main(["info", file]) == 1
    assert "incomplete: 1 place is damaged; 1 packet is missing" in capsys.readouterr().out
    assert main(["repair", file, "-o", f"{file}.new"]) == 0
    told = capsys.readouterr().out
    assert f"damaged: {file}: bytes " in told
    assert "24 packets kept, 1 known to be lost; 12 side frames kept, 0 lost" in told
    assert main(["info", f"{file}.new"]) == 1
    assert "1 packet was not recorded; repaired: 1 damaged place" in capsys.readouterr().out
    assert main(["repair", f"{file}.new", "-o", f"{file}.newer"]) == 0
    main(["info", f"{file}.newer"])
    assert capsys.readouterr().out.count("repaired: ") == 1
    assert main(["repair", file, "-o", f"{file}.new"]) == 1
    assert "is there already, name another file with -o" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["info", "repair", "replay"])
def test_what_is_no_recording_gets_one_sentence(tmp_path, capsys, command):
    path = tmp_path / "x.mcap"
    path.write_bytes(b"RIFF" * 50)
    assert main([command, str(path)]) == 1
    told = capsys.readouterr()
    assert (
        told.err
        == f"sidecast: error: {path} is no recording: expected an MCAP file, found one that begins with b'RIFFRIFF'\n"
    )
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("command", [["info"], ["replay", "--out", "{}/out"], ["repair", "-o", "{}/new.mcap"]])
def test_a_length_field_of_4_gib_is_told_in_one_sentence(tmp_path, capsys, command):
    path = tmp_path / "x.mcap"
    path.write_bytes(layout.prefix() + struct.pack("<BQ", 6, 1 << 32) + bytes(100))
    main([argument.format(tmp_path) for argument in [*command, str(path)]])
    told = capsys.readouterr()
    sentence = f"a record that claims 4294967296 bytes, at most {layout.MAX_RECORD} are possible"
    assert (told.out + told.err).count(sentence) == 1
    assert told.err.count("sidecast: error: ") == (command[0] != "info")


def test_what_a_file_says_cannot_reach_the_terminal_s_controls(tmp_path, capsys):
    recordings.record(tmp_path, recordings.pairs(2), facts={"model": "\x1b[31mred"})
    main(["info", str(tmp_path / "recording.mcap")])
    assert "model ?[31mred (" in capsys.readouterr().out


def test_replay_is_a_node_of_the_recording_a_decoder_and_a_sink(stages, file):
    head, decode, sink = stages(file, "--rate", "2", "--start", "0.5", "--duration", "1", "--loop")
    assert head == {
        "use": "replay",
        "file": [file],
        "rate": 2.0,
        "start_s": 0.5,
        "duration_s": 1.0,
        "loop": True,
        "step": False,
    }
    assert decode == {"use": "decode", "weights": "default", "device": "auto"}
    assert sink == {"use": "write_video"}


def test_the_side_view_comes_from_where_it_is_said_to(stages, file):
    drive = {"use": "kitti", "drive": "/d", "view": "right"}
    assert stages(file, "--side", "none")[0]["packets_only"] is True
    assert stages(file, "--side", "/d")[0]["side"] == drive
    assert stages(file, "--side", "/d", "--policy", "nearest")[1] == {"use": "pair", "policy": "nearest", "side": drive}
    other = {"use": "video", "left": "a.mp4", "right": "b.mp4"}
    assert stages(file, "--side", "{use: video, left: a.mp4, right: b.mp4}")[0]["side"] == other


def test_sinks_and_links_are_what_is_asked_for(stages, file):
    assert stages(file, "--sink", "write_images", "--sink", "{use: write_video, crf: 20}")[2:] == [
        {"use": "write_images"},
        {"use": "write_video", "crf": 20},
    ]
    assert stages(file, "--to", "tcp://127.0.0.1:5")[1:] == [{"use": "send", "connect": "tcp://127.0.0.1:5"}]
    far = {"use": "send", "connect": "tcp://10.1.2.3:5", "insecure": True}
    assert stages(file, "--to", "tcp://10.1.2.3:5", "--insecure")[1:] == [far]


def test_side_packets_on_the_wire_are_decoded_and_paired_again(stages, tmp_path):
    packets = [recordings.packet(i, role=role) for i in range(3) for role in ("primary", "side")]
    recordings.record(tmp_path, packets)
    uses = [stage["use"] for stage in stages(str(tmp_path / "recording.mcap"))]
    assert uses == ["replay", "decode_image", "pair", "decode", "write_video"]


def test_a_replay_without_side_views_says_so(stages, tmp_path, capsys):
    recordings.record(tmp_path, [recordings.packet(i) for i in range(3)])
    file = str(tmp_path / "recording.mcap")
    stages(file, "--side", "/d")
    stages(file, "--side", "none")
    assert capsys.readouterr().err == ""
    stages(file)
    assert capsys.readouterr().err == f"{file} has no side views: it is decoded without, --side names a source\n"


def test_jpeg_recordings_need_no_codec(stages, tmp_path):
    recordings.record(tmp_path, [recordings.packet(0, model_id=b"JPEG\0\0\0\0")])
    assert [s["use"] for s in stages(str(tmp_path / "recording.mcap"))] == ["replay", "decode_image", "write_video"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "names the side frames and does not have them: give their drive or source with --side"),
        (
            ("--side", "none", "--sink", "{use: [}"),
            "'{use: [}' is no stage, expected one such as '{use: write_images}'\n",
        ),
        (("--side", "{view: left}"), "'{view: left}' is no stage, expected one such as '{use: write_images}'\n"),
        (("--side", "none", "--policy", "latest"), "--policy latest pairs anew with the frames of a source"),
        (("--side", "none", "--to", "tcp://10.1.2.3:5"), "is reached from other machines, without encryption"),
        (("--to", "tcp://127.0.0.1:5", "--sink", "write_images"), "argument --sink: not allowed with argument --to"),
        (("--threads", "0"), "argument --threads: 0 is not allowed, expected a whole number of at least 1"),
    ],
)
def test_what_cannot_be_replayed_gets_one_sentence(tmp_path, capsys, arguments, sentence):
    recordings.record(tmp_path, recordings.pairs(3))
    assert main(["replay", str(tmp_path / "recording.mcap"), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_as_many_threads_as_the_recorded_run(file, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(run, "main", lambda args: seen.append(args.threads) or 0)
    monkeypatch.setattr(replay, "usable_cores", lambda: 8)
    for more in ([], ["--threads", "3"]):
        main(["replay", file, "--out", str(tmp_path / "out"), *more])
    assert seen == [1, 3]


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A recording of twelve JPEG packets, which needs no codec."""
    pixels = recordings.side(0).pixels
    packets = [recordings.packet(i, model_id=b"JPEG\0\0\0\0", payload=encode_jpeg(pixels)) for i in range(12)]
    recordings.record(tmp_path, packets)
    return tmp_path / "recording.mcap"


@pytest.mark.parametrize("kind", ["mp4", "csv", "png"])
def test_an_export_never_destroys_its_recording(pictures, capsys, kind):
    before = pictures.read_bytes()
    assert main(["export", str(pictures), "--to", kind, "-o", str(pictures)]) == 1
    assert f"{pictures} is read and would be written over" in capsys.readouterr().err
    assert pictures.read_bytes() == before


@pytest.mark.parametrize("kind", ["mp4", "png"])
def test_an_export_counts_the_frames_that_it_wrote(pictures, capsys, kind):
    output = pictures.with_name("out")
    assert main(["export", str(pictures), "--to", kind, "-o", f"{output}.{kind}"]) == 0
    assert capsys.readouterr().out == f"{output}.{kind}: 12 frames\n"
    packet = recordings.packet(99, model_id=b"JPEG\0\0\0\0")  # whose picture is damaged
    recordings.record(pictures.parent / "b", [packet], path="b.mcap")
    files = [str(pictures), str(pictures.parent / "b" / "b.mcap")]
    assert main(["export", *files, "--to", kind, "-o", f"{output}.{kind}"]) == 1
    assert capsys.readouterr().out == f"{output}.{kind}: 12 of 13 frames (1 corrupt)\n"


def test_an_export_that_was_stopped_says_so(pictures, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "main", lambda args: 0)  # Ctrl-C before the first frame: no report
    assert main(["export", str(pictures), "--to", "mp4", "-o", str(tmp_path / "a.mp4")]) == 1
    assert capsys.readouterr().out == f"{tmp_path / 'a.mp4'}: 0 of 12 frames (stopped by the user)\n"


@pytest.mark.parametrize("command", [["export", "--to", "csv"], ["export", "--to", "png"], ["repair"], ["info"]])
def test_a_folder_is_no_recording(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    assert main([command[0], ".", *command[1:]]) == 1
    assert capsys.readouterr().err.count("Is a directory") == 1
    assert list(tmp_path.iterdir()) == []


def test_repair_counts_the_side_frames_that_nothing_comes_after(file, tmp_path, capsys):
    data = bytearray(Path(file).read_bytes())
    sides = {entry.side.offset for entry in recordings.primaries(open_index([Path(file)])) if entry.side}
    for offset in sides:
        data[offset + 99] ^= 4
    Path(file).write_bytes(data)
    assert main(["repair", file, "-o", str(tmp_path / "new.mcap")]) == 0
    assert f"0 side frames kept, {len(sides)} lost" in capsys.readouterr().out


def test_what_holds_nothing_is_not_repaired(tmp_path, capsys):
    (tmp_path / "a.mcap.part").write_bytes(layout.prefix())
    assert main(["repair", str(tmp_path / "a.mcap.part")]) == 1
    assert capsys.readouterr().err.endswith("a.mcap.part has no packet that could be saved\n")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mcap.part"]


def test_files_of_two_recordings_are_not_one(file, tmp_path, capsys):
    recordings.record(tmp_path, recordings.pairs(25), side=True)
    second = str(tmp_path / "recording_0002.mcap")
    assert main(["info", file, second]) == 1
    assert f"incomplete: {second} belongs to another recording\n" in capsys.readouterr().out
    assert main(["info", file, file]) == 1
    assert capsys.readouterr().err == f"sidecast: error: {file} is given twice\n"
