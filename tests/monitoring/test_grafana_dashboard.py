"""The dashboard for Grafana, as far as it can be judged without Grafana; its queries run in test_monitored_run.py."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

import yaml

from pipeline.metrics import Metrics

GRAFANA = Path(__file__).resolve().parents[2] / "configs/monitoring/grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards/sidecast.json").read_text())
PANELS = DASHBOARD["panels"]
SHOWN = [panel for panel in PANELS if panel["type"] != "row"]
QUERIES = [(panel, target) for panel in SHOWN for target in panel["targets"]]
PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
KNOWN_UNITS = {"none", "bps", "Bps", "bytes", "dB", "s", "fps", "cps", "percentunit", "suffix: bpp", "suffix: : 1"}


def test_grafana_can_find_it_again_after_an_update():
    assert DASHBOARD["uid"] == "sidecast"
    assert DASHBOARD["schemaVersion"] >= 36
    assert "id" not in DASHBOARD  # the database's own number
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids)


def test_panels_lie_within_the_grid_and_on_no_other():
    places = [(panel["title"], panel["gridPos"]) for panel in PANELS]
    assert all(p["x"] >= 0 and p["x"] + p["w"] <= 24 and p["w"] > 0 and p["h"] > 0 for _, p in places)
    for (one, a), (other, b) in combinations(places, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert apart or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], f"{one!r} lies on {other!r}"


def test_no_source_of_data_is_fixed():
    """Every panel asks whatever Prometheus was chosen above."""
    assert all(panel["datasource"] == PROMETHEUS for panel in SHOWN)
    assert all(target["datasource"] == PROMETHEUS for _, target in QUERIES)
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert all(variables[name]["datasource"] == PROMETHEUS for name in ("stream", "node"))


def test_only_declared_variables_are_used():
    declared = {variable["name"] for variable in DASHBOARD["templating"]["list"]} | {"__rate_interval"}
    used = {name for _, target in QUERIES for name in re.findall(r"\$\{?(\w+)", target["expr"])}
    assert used == declared - {"datasource"}


def test_every_panel_has_a_title_a_sentence_and_a_unit():
    assert all(panel["title"] and panel["description"].endswith((".", "?")) for panel in SHOWN)
    units = {panel["fieldConfig"]["defaults"]["unit"] for panel, _ in QUERIES}
    assert units <= KNOWN_UNITS


def test_curves_of_several_streams_can_be_told_apart():
    assert all("{{stream}}" in target["legendFormat"] for panel, target in QUERIES if panel["type"] == "timeseries")
    refs = [tuple(target["refId"] for target in panel["targets"]) for panel in SHOWN]
    assert all(len(set(ref)) == len(ref) for ref in refs)


def test_all_queries_are_limited_to_the_chosen_streams():
    for panel, target in QUERIES:
        selectors = re.findall(r"(?:sidecast_|process_|up|ALERTS)\w*\{([^}]*)\}", target["expr"])
        assert selectors, panel["title"]
        assert all('stream=~"$stream"' in selector for selector in selectors), panel["title"]


def test_every_metric_of_a_node_is_on_a_panel():
    """Except what another one says as well."""
    asked = " ".join(target["expr"] for _, target in QUERIES)
    families = {family.name for family in _all_metrics()}
    assert {name for name in families if name not in asked} == set()


def test_grafana_finds_prometheus_and_the_dashboard():
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert (source["type"], source["uid"]) == ("prometheus", "sidecast-prometheus")
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/sidecast.yaml").read_text())["providers"]
    services = yaml.safe_load((GRAFANA.parent / "compose.yaml").read_text())["services"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in services["grafana"]["volumes"]
    listening = next(c for c in services["prometheus"]["command"] if c.startswith("--web.listen-address="))
    assert source["url"] == f"http://{listening.partition('=')[2]}"
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/sidecast.json"


def test_compose_names_versions_and_opens_nothing_to_others():
    services = yaml.safe_load((GRAFANA.parent / "compose.yaml").read_text())["services"]
    assert all(re.search(r":v?\d+\.\d+\.\d+$", service["image"]) for service in services.values())
    assert "--web.listen-address=127.0.0.1:9090" in services["prometheus"]["command"]
    assert services["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    for service in services.values():
        here = [volume.split(":")[0] for volume in service["volumes"] if volume.startswith(".")]
        assert all((GRAFANA.parent / folder).is_dir() for folder in here)


def _all_metrics():
    """Every family of ours, also those that are silent until they know something."""
    found = [value.describe()[0] for value in vars(Metrics()).values() if hasattr(value, "describe")]
    assert len(found) > 30
    return found
