"""Shared by every layer: hypothesis profiles, and what happens to a test that cannot run on this machine."""

import ctypes.util
import functools
import os
import shutil
import signal
import subprocess
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from lab.machine import NEW as NEW_MACHINE
from lab.programs import CONTROL_PLANE, PROGRAMS, find

settings.register_profile("default", derandomize=True, database=None, deadline=None, max_examples=100, print_blob=True)
settings.register_profile(
    "fuzz", max_examples=10_000, deadline=None, print_blob=True, stateful_step_count=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")

# Debian leaves the sbin folders, where ucarp, keepalived and nft are, out of the PATH of an ordinary user.
os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))

# The background of a shell ignores it, and every program that a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@functools.cache
def missing(what: str) -> str:
    """Why this machine cannot offer ``what``; empty when it can."""
    if what == "kubernetes" or what in PROGRAMS:
        absent = [name for name in (CONTROL_PLANE if what == "kubernetes" else (what,)) if find(name) is None]
        return f"not built: {', '.join(absent)}; run `make kubernetes`" if absent else ""
    if what == "machines":
        return _no_machines()
    if what == "libseccomp":
        return "" if ctypes.util.find_library("seccomp") else "the library libseccomp is not installed"
    if what != "netns":
        return "" if shutil.which(what) else f"the program {what} is not installed"
    try:
        allowed = subprocess.run(["unshare", "--net", "true"], capture_output=True, timeout=10, check=False).returncode == 0
    except OSError:
        return "the program unshare is not installed"
    return "" if allowed else "network namespaces need root, or a user namespace: start with unshare --user --map-root-user --net"


def _no_machines() -> str:
    """Why no machine of its own (lab.machine) can be made here."""
    try:
        done = subprocess.run([*NEW_MACHINE, "mount", "-t", "proc", "proc", "/proc"], capture_output=True, timeout=10, check=False)
    except OSError:
        return "the program unshare is not installed"
    return "machines with mounts of their own need root" if done.returncode or os.geteuid() else ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test whose ``needs`` this machine does not meet."""
    reasons = [missing(what) for mark in item.iter_markers("needs") for what in mark.args]
    if any(reasons):
        pytest.skip("; ".join(sorted({reason for reason in reasons if reason})))


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The reason of a skip, without file and line."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def _fail_skip_under_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    """With CI=true nothing may pass by not running."""
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.longrepr = f"cannot run here, and CI=true allows no skip: {_reason(report)}"
        report.outcome = "failed"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test."""
    report = yield
    _fail_skip_under_ci(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that skips itself."""
    report = yield
    _fail_skip_under_ci(report)
    return report
