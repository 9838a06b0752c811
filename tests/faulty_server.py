"""The HTTP server with faults, which lies beside a checkout and is not part of it."""

import importlib.util
import sys
from pathlib import Path

import pytest

SERVER = Path(__file__).resolve().parents[2] / "shared" / "tools" / "faulty_http.py"
needs_server = pytest.mark.skipif(not SERVER.is_file(), reason=f"no server with faults at {SERVER}")


def faulty_server(folder: Path, *, tls: bool = False):
    """A server of a folder, not running yet: `with faulty_server(folder) as url`."""
    spec = importlib.util.spec_from_file_location("faulty_http", SERVER)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.FaultyServer(folder, tls=tls)
