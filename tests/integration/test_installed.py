"""The wheel in an environment of its own, run beside a folder that looks like one of its packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import runs

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pipeline", "stages", "tools", "configs", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing is left in the checkout and nothing of an earlier build comes along."""
    copy = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    into = tmp_path_factory.mktemp("wheel")
    _call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", into, copy)
    (built,) = into.glob("sidecast-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A virtual environment with the wheel; the dependencies are those of the environment that runs the tests."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python")
    _call(*pip, "install", "-q", "--no-deps", "--no-index", wheel)
    # A path in a .pth file makes packages visible without the .pth files beside them, such as that of the checkout.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder that must not be looked into."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name in ("tools", "stages", "pipeline"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise RuntimeError('taken from the current folder')\n")
    return folder


def _call(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=cwd, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_installed_packages_are_those_of_the_wheel(environment, elsewhere):
    script = "import pipeline, stages.codec, tools.cli; print(pipeline.__file__, stages.codec.__file__, tools.__file__)"
    python = environment / "bin" / "python"
    files = _call(python, "-P", "-c", script, cwd=elsewhere).split()
    assert all(file.startswith(f"{environment}/lib") for file in files), files


@pytest.mark.slow
def test_installed_wheel_brings_configurations_and_weights(environment, elsewhere):
    shipped = {path.name for path in (ROOT / "configs").glob("*.yaml")}
    installed = environment / "share/sidecast/configs"
    assert {path.name for path in installed.glob("*.yaml")} == shipped
    assert {path.name for path in (installed / "monitoring").iterdir()} >= {"alerts.yml", "compose.yaml", "grafana"}
    packages = next(environment.glob("lib/python*/site-packages"))
    assert list(packages.glob("stages/codec/weights/*.safetensors"))
    assert not list(packages.glob("tests"))
    command = environment / "bin" / "sidecast"
    assert _call(command, "--version", cwd=elsewhere).startswith("sidecast 0.")
    assert _call(command, "validate", "demo", cwd=elsewhere).startswith("ok: encoder (synthetic -> encode -> send)")


@pytest.mark.slow
def test_installed_demo_runs_beside_a_folder_named_tools(environment, elsewhere):
    command = (str(environment / "bin" / "sidecast"),)
    ended = runs.run("demo", out=Path("out/demo"), command=command, cwd=elsewhere, length=3, **runs.addresses())
    here = runs.Ended(ended.code, ended.out, ended.err, elsewhere / ended.folder)
    runs.check_invariants(here.succeeded(), frames=3)
