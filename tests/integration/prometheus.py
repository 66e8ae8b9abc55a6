"""A real Prometheus, started for a test."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import runs

__all__ = ["get", "query", "running"]


@contextmanager
def running(config: Path) -> Iterator[int]:
    """Prometheus at work with that configuration; its port. Its data and its log lie beside the file."""
    (port,) = runs.free_ports(1)
    folder = config.parent
    arguments = (f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}")
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            ["prometheus", *arguments, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )
        try:
            yield port
        finally:
            process.terminate()
            process.wait(30)


def get(port: int, path: str) -> tuple[int, str]:
    """Status and text of an answer on this machine; status 0 where there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def query(port: int, expression: str) -> list[tuple[dict[str, str], str]]:
    """Labels and value of each series now; none until Prometheus answers. A wrong expression fails the test."""
    status, text = get(port, f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
    assert status != 400, f"{expression}: {text}"
    found: list[dict[str, Any]] = json.loads(text)["data"]["result"] if status == 200 else []
    return [(entry["metric"], entry["value"][1]) for entry in found]
