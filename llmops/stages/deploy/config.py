"""The config block `deploy:`. No torch here."""

from __future__ import annotations

from llmops.serving.config import ServeSection


class DeploySection(ServeSection):
    """`deploy:` how the champion is served."""
