"""`python -m llmops.serving --bundle DIR`: serves one bundle; used by the stage deploy and in the container."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
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
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="stop when whoever started this process is gone"
    )
    flags = parser.parse_args()
    if flags.until_stdin_closes:
        threading.Thread(target=stop_at_end_of_stdin, daemon=True).start()
    given = {name: value for name, value in (("host", flags.host), ("port", flags.port)) if value is not None}
    console = Console()
    try:
        serve_bundle(
            flags.bundle, ServeSection(**{**flags.settings, **given}), console.say, flags.traffic, flags.port_file
        )
    except LlmopsError as error:
        console.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def stop_at_end_of_stdin() -> None:
    """A parent that is killed cannot stop its server, but the kernel closes its end of the pipe."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
