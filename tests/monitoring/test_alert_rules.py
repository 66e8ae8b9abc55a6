"""The alert rules of configs/monitoring: Prometheus takes them, and each fires on what it is for."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from pipeline.metrics import Metrics

FOLDER = Path(__file__).resolve().parents[2] / "configs/monitoring"
RULES = FOLDER / "alerts.yml"
CASES = Path(__file__).with_name("alerts.test.yml")
ALERTS = [rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def _promtool(*arguments: object) -> tuple[int, str]:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_prometheus_takes_configuration_and_rules(need):
    need("promtool", "prometheus")
    for what, file in (("rules", RULES), ("config", FOLDER / "prometheus.yml")):
        code, said = _promtool("check", what, file)
        assert code == 0, said
        assert f"{len(ALERTS)} rules found" in said


def test_every_alert_fires_on_what_it_is_for_and_on_nothing_else(need):
    need("promtool", "prometheus")
    code, said = _promtool("test", "rules", CASES)
    assert code == 0, said


def test_no_alert_is_left_untested():
    assert {alert for alert in ALERTS if alert not in CASES.read_text()} == set()


def test_alerts_ask_for_metrics_that_there_are():
    """A name that no node exports would never fire, nor fail."""
    asked = {word for rule in _rules() for word in _words(rule["expr"]) if word.startswith("sidecast_")}
    families = {value.describe()[0].name for value in vars(Metrics()).values() if hasattr(value, "describe")}
    assert {name.removesuffix("_total") for name in asked} <= families
    assert len(asked) > 8


def test_every_alert_names_its_stream_and_says_what_to_do():
    for rule in _rules():
        assert "$labels.stream" in rule["annotations"]["summary"]
        assert len(rule["annotations"]["description"]) > 40
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_nodes_are_listed_with_the_ports_of_the_shipped_configurations():
    targets = yaml.safe_load((FOLDER / "targets.yml").read_text())
    demo = yaml.safe_load((FOLDER.parent / "demo.yaml").read_text())["vars"]
    assert {(entry["labels"]["node"], *entry["targets"]) for entry in targets} == {
        (node, demo[f"{node}_http"]) for node in ("encoder", "decoder")
    }


def _rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def _words(expression: str) -> list[str]:
    return "".join(c if c.isalnum() or c in "_:" else " " for c in expression).split()
