"""serve: the champion, or the bundle of a run, over HTTP."""

from __future__ import annotations

from typing import Any

from llmops.core.console import Console
from llmops.core.run import RunStore
from llmops.project import Project
from llmops.serving.config import ServeSection
from llmops.serving.server import serve_bundle, serve_champion


def serve_project(project: Project, run_id: str | None, host: str | None, port: int | None, console: Console) -> None:
    """Serve until SIGINT or SIGTERM. `host` and `port` go before the config's."""
    deploy = project.sections["deploy"]
    given: dict[str, Any] = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    settings = ServeSection(**{**{name: getattr(deploy, name) for name in ServeSection.model_fields}, **given})
    if settings.host not in ("127.0.0.1", "::1", "localhost") and settings.key_env is None:
        console.warn(f"{settings.host} is reachable from other machines; the server asks nobody who they are")
    if run_id is None:
        serve_champion(project.name, project.places, settings, console.say)
        return
    bundle = RunStore(project.places.runs).find(run_id).open_artifact("compress", "bundle")
    serve_bundle(bundle, settings, console.say, project.places.traffic / "traffic.db")
