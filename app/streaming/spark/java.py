"""The Java that Spark needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from app.errors import JavaMissingError

MINIMUM_JAVA = 17


def require_java() -> None:
    """Make sure that Spark will find a Java of version 17 or newer.

    Raises
    ------
    JavaMissingError
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    version = _java_version(java)
    if version is not None and version >= MINIMUM_JAVA:
        return
    found = f"{java} is version {version}" if version else "none was found"
    if home and not version:
        found = f"JAVA_HOME={home} holds none"
    raise JavaMissingError(
        f"Spark needs Java {MINIMUM_JAVA} or newer, and {found}. Install one (for example "
        "openjdk-17-jre-headless) or set JAVA_HOME to it"
    )


def _java_version(java: str | None) -> int | None:
    if java is None:
        return None
    try:
        found = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30)
    except OSError:
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', found.stderr + found.stdout)
    return int(match.group(1)) if match else None
