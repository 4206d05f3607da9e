"""`python -m llmops.serving --bundle DIR`: serves one bundle; used by the stage deploy and in the container."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from llmops.core.console import Console
from llmops.core.errors import LlmopsError
from llmops.serving.config import ServeSection
from llmops.serving.server import serve_bundle


def main() -> int:
    """Parse, serve; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m llmops.serving", description="Serve one bundle over HTTP.")
    parser.add_argument("--bundle", type=Path, required=True, help="folder with bundle.json")
    parser.add_argument(
        "--settings", type=json.loads, default={}, help="settings of the block `deploy:`, as a JSON object"
    )
    parser.add_argument("--host", help="address to bind")
    parser.add_argument("--port", type=int, help="port to bind; 0 takes a free one")
    parser.add_argument("--port-file", type=Path, help="file that gets the port's number once the model is loaded")
    parser.add_argument("--traffic", type=Path, help="SQLite file of the traffic log; without it nothing is kept")
    flags = parser.parse_args()
    given = {name: value for name, value in (("host", flags.host), ("port", flags.port)) if value is not None}
    console = Console()
    try:
        serve_bundle(
            flags.bundle, ServeSection(**{**flags.settings, **given}), console.say, flags.traffic, flags.port_file
        )
    except LlmopsError as error:
        console.error(error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
