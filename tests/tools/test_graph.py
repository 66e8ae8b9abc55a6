"""`sidecast graph`: a Mermaid chart that names nodes, stages, channels and links."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from tools import graph


def _chart(capsys, *arguments: str) -> list[str]:
    parser = argparse.ArgumentParser()
    graph.add_arguments(parser)
    assert graph.main(parser.parse_args(arguments)) == 0
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


def test_graph_of_demo_shows_both_nodes_and_the_link(capsys):
    lines = _chart(capsys, "demo")
    assert lines[0] == "flowchart LR"
    assert 'subgraph encoder_node["encoder, http://127.0.0.1:9101"]' in lines
    assert "encoder_0 --> encoder_1" in lines
    assert 'encoder_2 ==>|"tcp://127.0.0.1:5555"| decoder_0' in lines
    assert any(line.startswith('decoder_1_side(["synthetic<br/>view: right') for line in lines)
    assert any(line.startswith("decoder_3_reference(") and line.endswith("-.->|reference| decoder_3") for line in lines)
    assert lines.count("end") == 2


def test_graph_shows_channels_bare_links_and_escapes(tmp_path: Path, capsys):
    path = tmp_path / "one.yaml"
    path.write_text(
        """
nodes:
  one:
    stages:
      - {use: kitti, drive: 'a"<b>|c'}
      - {use: encode, channel: {policy: latest, capacity: 3}}
      - {use: send, connect: "tcp://127.0.0.1:1"}
"""
    )
    lines = _chart(capsys, str(path))
    assert "one_0 -->|latest 3| one_1" in lines
    assert 'one_2 ==> one_2_to(["tcp://127.0.0.1:1"])' in lines
    assert 'one_0["kitti<br/>drive: a#quot;#lt;b#gt;#124;c"]' in lines


def test_graph_lines_have_balanced_quotes(capsys):
    for line in _chart(capsys, "kitti", "--set", "drive=x"):
        assert line.count('"') % 2 == 0
        assert re.fullmatch(r"[ -~]+", line)
