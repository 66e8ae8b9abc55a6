"""Two nodes watched by Prometheus with the shipped rules: every panel of the dashboard has data, and alerts fire."""

from __future__ import annotations

import json
import math
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import prometheus
import pytest
import runs
import yaml

from pipeline.http import HttpServer
from pipeline.stage import Context

MONITORING = Path(__file__).resolve().parents[2] / "configs/monitoring"
PANELS = json.loads((MONITORING / "grafana/dashboards/sidecast.json").read_text())["panels"]
QUERIES = sorted({target["expr"] for panel in PANELS for target in panel.get("targets", ())})
VARIABLES = {"$stream": ".*", "$node": ".*", "$__rate_interval": "5s"}

NODES = """
nodes:
  encoder:
    http: {encoder_http}
    stages:
      - {{use: synthetic, size: [192, 176], length: 5000, pace: recorded}}
      - {{use: encode, reference_every_s: 1}}
      - {{use: send, connect: "{link}", budget_kbps: 20000}}
  decoder:
    http: {decoder_http}
    stages:
      - {{use: receive, bind: "{link}"}}
      - {{use: pair, policy: exact, side: {{use: synthetic, size: [192, 176], length: 5000, view: right}}}}
      - {{use: decode, without_side_every: 2}}
      - use: quality
      - use: record
"""

Alert = tuple[str, str]
"""Its name, and the node that it names."""


@dataclass
class Watched:
    """What Prometheus had to say."""

    without_data: set[str]
    """Queries of the dashboard that had no number while both nodes ran, although there was time."""
    firing: set[Alert]
    """While both nodes were at work."""
    firing_then: set[Alert]
    """When the encoder had been killed."""


@pytest.fixture(scope="module")
def watched(need, tmp_path_factory) -> Iterator[Watched]:
    need("prometheus", "prometheus")
    folder, addresses = tmp_path_factory.mktemp("watched"), runs.addresses()
    config = folder / "nodes.yaml"
    config.write_text(NODES.format(**addresses))
    targets = {node: addresses[f"{node}_http"] for node in ("encoder", "decoder")}
    with (
        _cameras(folder) as targets["cameras"],
        prometheus.running(_rendered(folder, targets)) as scraper,
        _node(config, "decoder"),
        _node(config, "encoder") as encoder,
    ):
        missing = _wait_for_data(scraper)
        before = _firing(scraper)
        encoder.kill()
        runs.eventually(lambda: len(_firing(scraper)) >= 3, "the alerts fire")
        yield Watched(missing, before, _firing(scraper))


@contextmanager
def _node(config: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """A node as a command of its own, killed at the end."""
    process = runs.start(config, "--node", name, out=config.parent / "out")
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def _cameras(folder: Path) -> Iterator[str]:
    """What a node with cameras exports, which there are none of here; its address."""
    node = Context("cameras", folder)
    metrics = node.metrics
    for gauge in (metrics.camera_up, metrics.camera_late_seconds, metrics.camera_drift_seconds):
        gauge.labels("left").set(1)
    metrics.camera_reopened.labels("left").inc()

    def pair() -> None:
        while not node.stop.wait(0.2):
            metrics.side_age_seconds.observe(0.02)

    thread = threading.Thread(target=pair)
    thread.start()
    try:
        with HttpServer("127.0.0.1:0", node, lambda: True) as server:
            yield f"127.0.0.1:{server.port}"
    finally:
        node.stop.set()
        thread.join()


def _rendered(folder: Path, targets: dict[str, str]) -> Path:
    """The shipped files, for these addresses and in a hurry: seconds instead of minutes."""
    config = (MONITORING / "prometheus.yml").read_text()
    (folder / "prometheus.yml").write_text(re.sub(r"_(interval|timeout): \ds", r"_\1: 1s", config))
    alerts = (MONITORING / "alerts.yml").read_text()
    (folder / "alerts.yml").write_text(re.sub(r"for: \w+", "for: 1s", re.sub(r"\[\w+\]", "[5s]", alerts)))
    entries = [{"targets": [at], "labels": {"stream": "front", "node": node}} for node, at in targets.items()]
    (folder / "targets.yml").write_text(yaml.safe_dump(entries))
    return folder / "prometheus.yml"


def _wait_for_data(scraper: int) -> set[str]:
    """The queries that had no number within a minute."""
    missing, deadline = set(QUERIES), time.monotonic() + 60
    while missing and time.monotonic() < deadline:
        missing = {query for query in missing if not _numbers(scraper, query)}
        time.sleep(0.5)
    return missing


def _numbers(scraper: int, query: str) -> list[float]:
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    return [float(value) for _, value in prometheus.query(scraper, query) if math.isfinite(float(value))]


def _firing(scraper: int) -> set[Alert]:
    found = prometheus.query(scraper, 'ALERTS{alertstate="firing"}')
    return {(labels["alertname"], labels["node"]) for labels, _ in found if labels["node"] != "cameras"}


@pytest.mark.slow
def test_every_panel_of_the_dashboard_has_data(watched):
    assert len(QUERIES) > 40
    assert watched.without_data == set()


@pytest.mark.slow
def test_no_alert_fires_while_both_nodes_work(watched):
    assert watched.firing == set()


@pytest.mark.slow
def test_alerts_fire_when_the_encoder_is_stopped(watched):
    expected = {("SidecastNoFrames", "decoder"), ("SidecastNodeDown", "encoder"), ("SidecastLinkDown", "decoder")}
    assert watched.firing_then == expected
