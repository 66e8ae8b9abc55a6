"""A run at the pace of its recording, scraped by a real Prometheus and ended by Ctrl-C."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import prometheus
import pytest
import runs

NODES = ("encoder", "decoder")


@dataclass
class Observed:
    """What was seen of the run from outside, and how it ended."""

    metrics: dict[str, str] = field(default_factory=dict)
    ready: dict[str, int] = field(default_factory=dict)
    up: dict[str, str] = field(default_factory=dict)
    """Prometheus' `up` by node; empty where there is no Prometheus."""
    frames: dict[str, str] = field(default_factory=dict)
    """sidecast_frames_in_total by node, as Prometheus has it."""
    ended: runs.Ended | None = None


@pytest.fixture(scope="module")
def observed(tmp_path_factory) -> Observed:
    folder, seen = tmp_path_factory.mktemp("live"), Observed()
    addresses = runs.addresses()
    ports = {node: int(addresses[f"{node}_http"].rpartition(":")[2]) for node in NODES}
    config = folder / "live.yaml"
    config.write_text(_live(addresses))
    with _prometheus(folder, ports) as scraper:
        process = runs.start(config, out=folder / "out")
        try:
            runs.eventually(lambda: _frames_out(ports["decoder"]) >= 3, "three frames through")
            if scraper:
                runs.eventually(lambda: _by_job(scraper, "up == 1").keys() == set(NODES), "both nodes are scraped")
                runs.eventually(lambda: len(_by_job(scraper, "sidecast_frames_in_total > 0")) == 2, "frames of both")
                seen.up = _by_job(scraper, "up")
                seen.frames = _by_job(scraper, "sidecast_frames_in_total")
            for node, port in ports.items():
                seen.metrics[node] = prometheus.get(port, "/metrics")[1]
                seen.ready[node] = prometheus.get(port, "/readyz")[0]
        finally:
            process.send_signal(signal.SIGINT)
            seen.ended = runs.wait(process, 60)
    return seen


def _live(addresses: dict[str, str]) -> str:
    source = "use: synthetic, size: [96, 64], length: 5000"
    return f"""
nodes:
  encoder:
    http: {addresses["encoder_http"]}
    stages:
      - {{{source}, pace: recorded}}
      - use: encode
      - {{use: send, connect: "{addresses["link"]}"}}
  decoder:
    http: {addresses["decoder_http"]}
    stages:
      - {{use: receive, bind: "{addresses["link"]}"}}
      - {{use: pair, policy: exact, side: {{{source}, view: right}}}}
      - {{use: decode, without_side_every: 5}}
      - {{use: quality, reference: {{{source}}}}}
      - use: write_video
"""


@contextmanager
def _prometheus(folder: Path, ports: dict[str, int]) -> Iterator[int | None]:
    """A Prometheus that scrapes both nodes five times a second; its port, or None where it is not installed."""
    if not shutil.which("prometheus"):
        yield None
        return
    jobs = "".join(
        f"  - {{job_name: {node}, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"
        for node, port in ports.items()
    )
    config = folder / "prometheus.yml"
    config.write_text(f"global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs:\n{jobs}")
    with prometheus.running(config) as port:
        yield port


def _frames_out(port: int) -> float:
    lines = prometheus.get(port, "/metrics")[1].splitlines()
    return next((float(line.split()[1]) for line in lines if line.startswith("sidecast_frames_out_total ")), 0.0)


def _by_job(port: int, expression: str) -> dict[str, str]:
    """The instant value of each job."""
    return {labels["job"]: value for labels, value in prometheus.query(port, expression)}


def test_both_nodes_are_scraped_by_prometheus(need, observed):
    need("prometheus", "prometheus")
    assert observed.up == dict.fromkeys(NODES, "1")
    assert all(float(observed.frames[node]) > 0 for node in NODES)


@pytest.mark.parametrize("node", NODES)
def test_promtool_has_no_complaint(need, observed, node):
    need("promtool", "prometheus")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=observed.metrics[node], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_both_nodes_are_ready_while_they_work(observed):
    assert observed.ready == dict.fromkeys(NODES, 200)


def test_ctrl_c_finishes_what_is_on_its_way(observed):
    ended = observed.ended.succeeded()
    runs.check_invariants(ended)
    report = ended.report
    assert report["complete"] is True
    assert 3 <= report["frames_out"] == report["frames_in"] < 5000
    assert ended.err.count("finishing what is on its way") == 1
    assert ended.out.splitlines()[-1].startswith("primary view 96x64: raw ")


def test_video_plays_after_ctrl_c(need, observed):
    ended = observed.ended
    times = [float(frame.time) for frame in ended.video()]
    assert len(times) == ended.report["frames_out"]
    assert times[0] == 0
    assert times == sorted(times)
    need("ffprobe", "ffmpeg")
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"]
    done = subprocess.run([*command, ended.folder / "decoded.mp4"], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == (str(len(times)), "")
