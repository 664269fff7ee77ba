"""Every test runs in a home of its own and reaches nothing but this machine."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path

import pytest

from v2l.system.threads import usable_cores

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # its process has a core
else:
    os.environ.setdefault("OMP_NUM_THREADS", "2")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The whole suite runs in a process a core, up to eight (each takes 1 GB); tests that are named, in this one."""
    named = config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    return 0 if named else min(usable_cores(), 8)


NOT_ON_WINDOWS = re.compile(r"\b(import (fcntl|resource|pty|pwd|termios)|mkfifo|SIGKILL|SIGHUP|pthread_kill|flock)\b|"
                            r"support\.processes|['\"]/(dev|proc)/")
"""What a test module needs that Windows has not."""


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Test modules that Windows cannot run are left out there."""
    if sys.platform != "win32" or not collection_path.match("test_*.py"):
        return None
    return bool(NOT_ON_WINDOWS.search(collection_path.read_text(encoding="utf-8"))) or None


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary home, with no settings of the user's in the environment."""
    home = tmp_path_factory.mktemp("home")
    for name in [n for n in os.environ if n.startswith(("HF_", "V2L_", "HUGGING"))] + ["NO_COLOR", "FORCE_COLOR"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    monkeypatch.setenv("V2L_CACHE", str(home / "v2l"))
    monkeypatch.setenv("V2L_CONFIG", str(home / "config"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    return home


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anywhere else fails the test."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else None
        if host is not None and host not in ("127.0.0.1", "localhost", "::1"):
            raise AssertionError(f"a test tried to reach {host}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def reference() -> Path:
    """Inputs and outputs of the released code on a small model (see its README)."""
    return Path(__file__).parent / "reference"
