"""The machine that a benchmark ran on, for its JSON."""

from __future__ import annotations

import datetime
import os
import platform
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import tfpqn


def describe_machine(libraries: Iterable[str]) -> dict[str, Any]:
    """Date, processor, cores, load of the last minute, and versions of the libraries."""
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "tfpqn": tfpqn.__version__,
        **{name: metadata.version(name) for name in libraries},
    }
