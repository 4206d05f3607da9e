"""Where real, public data lies for tests: beside the checkout. Tests that read it skip where it is absent."""

from __future__ import annotations

from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
