"""Writes what a container needs beside the bundle: a wheel of this llmops, Dockerfile, .dockerignore, compose.yaml."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path

import llmops
from llmops.serving.config import ServeSection

PORT = 8080
BUILD_S = 300
HEALTH = "import urllib.request as r; r.urlopen('http://127.0.0.1:{port}/livez', timeout=2)"

DOCKERFILE = """\
# Serves the bundle beside this file:  docker build -t {name} .  &&  docker run -p 127.0.0.1:{port}:{port} {name}
FROM python:3.11-slim

RUN useradd --create-home --uid 10001 serve && install -d -o serve -g serve /traffic
WORKDIR /app
{install}
COPY --chown=serve:serve bundle bundle

USER serve
VOLUME /traffic
EXPOSE {port}
HEALTHCHECK --interval=30s --timeout=3s --start-period=30s CMD {health}
CMD {command}
"""
WHEEL = """\
COPY {wheel} ./
RUN pip install --no-cache-dir ./{wheel}"""
INDEX = """\
# No sources were at hand to build a wheel from; the same version comes from the package index.
RUN pip install --no-cache-dir {distribution}=={version}"""

COMPOSE = """\
services:
  {name}:
    build: .
    restart: unless-stopped
    stop_grace_period: 35s  # what is in flight has thirty seconds
{environment}    read_only: true
    tmpfs: [/tmp]
    ports: ["127.0.0.1:{port}:{port}"]  # {open}
    volumes: [traffic:/traffic]
volumes:
  traffic: {{}}
"""


def write_container(folder: Path, project: str, settings: ServeSection) -> str | None:
    """Write the files into `folder`, which the registry puts beside bundle/.

    Returns a warning when no wheel could be built and the image takes llmops from the package index instead.
    """
    source = Path(llmops.__file__).parents[1]
    wheel, trouble = build_wheel(source, folder)
    distribution = distribution_name(source)
    install = (
        WHEEL.format(wheel=wheel.name) if wheel else INDEX.format(distribution=distribution, version=llmops.__version__)
    )
    health = json.dumps(["python", "-c", HEALTH.format(port=PORT)])
    command = json.dumps(serve_command(settings))
    text = DOCKERFILE.format(name=project, port=PORT, install=install, health=health, command=command)
    (folder / "Dockerfile").write_text(text, encoding="utf-8")
    (folder / ".dockerignore").write_text("*\n!bundle\n!*.whl\n", encoding="utf-8")
    keyed = settings.key_env is not None
    compose = COMPOSE.format(
        name=project, port=PORT, environment=f"    environment: [{settings.key_env}]\n" if keyed else "",
        open="put a proxy that speaks TLS before it to open it wider" if keyed
        else "the server asks nobody who they are: give it a key (deploy.key_env) to open it wider",
    )  # fmt: skip
    (folder / "compose.yaml").write_text(compose, encoding="utf-8")
    if wheel is None:
        return f"the Dockerfile installs {distribution}=={llmops.__version__} from the package index: {trouble}"
    return None


def serve_command(settings: ServeSection) -> list[str]:
    """What the container runs, in /app: the bundle on all its addresses, the traffic log on its volume."""
    plain = settings.model_dump(mode="json", include=set(ServeSection.model_fields) - {"host", "port"})
    return [
        "python", "-m", "llmops.serving", "--bundle", "bundle", "--host", "0.0.0.0", "--port", str(PORT),
        "--traffic", "/traffic/traffic.db", "--settings", json.dumps(plain),
    ]  # fmt: skip


def distribution_name(source: Path) -> str:
    """The name of the distribution that holds this package."""
    project = source / "pyproject.toml"
    if project.is_file():
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["name"])
    names = metadata.packages_distributions().get("llmops", ["llmops"])
    return names[0]


def build_wheel(source: Path, folder: Path) -> tuple[Path | None, str]:
    """The wheel of the checkout `source`, built into `folder`; or None and in words why not."""
    if not (source / "pyproject.toml").is_file():
        return None, "llmops was installed without its sources"
    with tempfile.TemporaryDirectory() as copy:
        # Built from a copy: build backends leave their litter in the tree.
        shutil.copytree(source / "llmops", Path(copy) / "llmops", ignore=shutil.ignore_patterns("__pycache__"))
        for path in source.iterdir():
            if path.is_file() and (path.suffix in (".toml", ".md") or path.name.startswith("LICEN")):
                shutil.copy(path, copy)
        trouble = ""
        # The backend of this environment first: it needs no network.
        for isolation in (["--no-build-isolation"], []):
            command = [
                sys.executable,
                "-m",
                "pip",
                "wheel",
                "--quiet",
                "--no-deps",
                *isolation,
                "-w",
                str(folder),
                copy,
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)
            built = sorted(folder.glob("*.whl"))
            if done.returncode == 0 and built:
                return built[0], ""
            trouble = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
    return None, trouble
