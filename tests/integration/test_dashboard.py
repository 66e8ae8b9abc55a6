"""Two real nodes and a real browser: what the page shows is what was sent, and it sees a node die and come back."""

from __future__ import annotations

import signal
import time
import urllib.request
from pathlib import Path

import pytest
import runs

pytestmark = pytest.mark.slow

RED_S = 4.0
"""3 s by design, measured on a machine that has nothing else to do; another second where it has."""

LIVE = """
vars: {{length: 40}}
nodes:
  encoder:
    http: 127.0.0.1:{encoder}
    stages:
      - {{use: synthetic, size: [192, 128], length: "${{length}}", pace: recorded}}
      - use: encode
      - {{use: send, connect: "tcp://127.0.0.1:{link}", budget_kbps: 500}}
  decoder:
    http: 127.0.0.1:{decoder}
    dashboard: true
    stages:
      - {{use: receive, bind: "tcp://127.0.0.1:{link}"}}
      - {{use: pair, policy: exact, side: {{use: synthetic, size: [192, 128], length: "${{length}}", view: right}}}}
      - {{use: decode, without_side_every: 5}}
      - {{use: quality, reference: {{use: synthetic, size: [192, 128], length: "${{length}}"}}}}
"""


def test_the_page_shows_what_metrics_and_report_say_and_sees_the_encoder_die_and_return(browser, tmp_path):
    link, encoder, decoder = runs.free_ports(3)
    config = tmp_path / "live.yaml"
    config.write_text(LIVE.format(link=link, encoder=encoder, decoder=decoder))
    nodes = {name: runs.start(config, "--node", name, out=tmp_path / name) for name in ("decoder", "encoder")}
    page = browser.new_page()
    page.set_default_timeout(60_000)
    wrong: list[str] = []
    try:
        runs.eventually(lambda: _answers(decoder), "the decoder's page")
        page.on("console", lambda message: wrong.append(message.text))
        page.on("request", lambda asked: _note_foreign(asked.url, decoder, wrong))
        page.goto(f"http://127.0.0.1:{decoder}/dashboard")
        page.wait_for_selector('.light[data-colour="green"]')
        _until(page, lambda: (_figure(page, "run.frames_out") or 0) >= 12)

        nodes["encoder"].send_signal(signal.SIGKILL)
        begin = time.monotonic()
        page.wait_for_selector('.light[data-colour="red"]')
        assert time.monotonic() - begin < RED_S
        nodes["encoder"].communicate()
        _until(page, lambda: not _differences(page, decoder))

        nodes["encoder"] = runs.start(config, "--node", "encoder", out=tmp_path / "encoder")
        page.wait_for_selector('.light[data-colour="green"]')
        assert wrong == []
        page.wait_for_selector('.word:text("Ended")')
        assert all("ERR_CONNECTION_RE" in line for line in wrong), wrong  # Chromium tells that the node has left
        ended = {name: runs.wait(process).succeeded() for name, process in nodes.items()}
        _check_report(page, ended["decoder"].report)
    finally:
        page.close()
        for process in nodes.values():
            process.kill()
            process.communicate()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/dashboard", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def _note_foreign(url: str, port: int, wrong: list[str]) -> None:
    if not url.startswith((f"http://127.0.0.1:{port}/", "blob:")):
        wrong.append(f"asked for {url}")


def _until(page, condition) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        page.wait_for_timeout(50)


def _figure(page, name: str) -> float | None:
    text = page.locator(f'[data-figure="{name}"]').first.get_attribute("data-value")
    return None if text in (None, "null") else float(text)


def _differences(page, port: int) -> list[str]:
    """Where the page and /metrics don't agree, now that no frame comes."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#")]
    metrics = {name: float(value) for name, value in lines}
    pairs = {
        "run.frames_out": metrics["sidecast_frames_out_total"],
        "run.unpaired": metrics["sidecast_frames_unpaired_total"],
        "run.wire_errors": metrics["sidecast_wire_errors_total"],
    }
    sent, received = _figure(page, "run.wire_bytes"), metrics['sidecast_received_bytes_total{role="primary"}']
    # The page tells what was sent: the killed encoder may have announced frames of which nothing came.
    if _figure(page, "run.frames_in") == metrics["sidecast_frames_out_total"] or sent is None or sent < received:
        pairs["run.wire_bytes"] = received
    return [name for name, value in pairs.items() if _figure(page, name) != value]


def _check_report(page, report: dict) -> None:
    assert report["complete"] is True
    assert report["frames_out"] == 40
    flat = {**report, **report["primary"]}
    for name in ("frames_in", "frames_out", "unpaired", "payload_bytes", "wire_bytes"):
        assert _figure(page, f"run.{name}") == flat[name], name
    for name in ("kbps", "bpp", "psnr_db", "ms_ssim", "psnr_without_side_db", "duration_s"):
        assert _figure(page, f"run.{name}") == pytest.approx(flat[name], rel=1e-6), name


def test_a_node_without_an_address_cannot_have_a_page(tmp_path: Path):
    config = tmp_path / "no.yaml"
    config.write_text("nodes: {a: {dashboard: true, stages: [{use: synthetic}, {use: write_images}]}}")
    sentence = runs.run(config, out=tmp_path / "out").failed(2)
    assert sentence.endswith(
        "nodes.a.dashboard: true is not allowed without `http: HOST:PORT`, where the page would be"
    )
