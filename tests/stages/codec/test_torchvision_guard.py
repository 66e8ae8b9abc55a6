"""The import of CompressAI, in a process of its own each time."""

import subprocess
import sys


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_compressai_imports_whatever_torchvision_is_there():
    result = run(
        "from stages.codec.torchvision_guard import import_compressai as get\n"
        "print(get('compressai.layers').GDN.__name__, get('compressai.ops').LowerBound.__name__)"
    )
    assert result.stdout == "GDN LowerBound\n", result.stderr


def test_the_library_itself_imports_no_compressai():
    result = run(
        "import sys, stages.codec; print([m for m in sys.modules if m.startswith(('compressai', 'torchvision'))])"
    )
    assert result.stdout == "[]\n", result.stderr
