"""Writes what runs the server elsewhere: Kubernetes manifests for the image, and a systemd unit for a plain machine."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import yaml

from llmops.serving.config import ServeSection
from llmops.stages.deploy.container import PORT, serve_command

STOP_S = 35
"""Seconds that a server has to answer what is in flight (30) before it is killed."""
MEMORY_MB = 512
"""What a pod asks for beside twice the bundle's size, and its limit beside four times it."""

KUBERNETES = """\
# The image of the Dockerfile beside this file, in a cluster:  kubectl apply -f kubernetes.yaml
# Build and push it first, and put its name at `image`. The traffic log lies on the claim `{name}-traffic`, which one
# replica writes; more replicas need a claim each (a StatefulSet).
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}-traffic}}
spec:
  accessModes: [ReadWriteOnce]
  resources: {{requests: {{storage: 1Gi}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  labels: {{app: {name}}}
spec:
  replicas: 1
  strategy: {{type: Recreate}}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      labels: {{app: {name}}}
      annotations: {{prometheus.io/scrape: "true", prometheus.io/port: "{port}", prometheus.io/path: /metrics}}
    spec:
      terminationGracePeriodSeconds: {stop}
      automountServiceAccountToken: false
      securityContext:
        runAsNonRoot: true
        runAsUser: 10001
        fsGroup: 10001
        seccompProfile: {{type: RuntimeDefault}}
      containers:
        - name: server
          image: {name}:latest
          ports: [{{name: http, containerPort: {port}}}]
{environment}          readinessProbe: {{httpGet: {{path: /readyz, port: http}}, periodSeconds: 5}}
          livenessProbe: {{httpGet: {{path: /livez, port: http}}, periodSeconds: 20, timeoutSeconds: 3}}
          startupProbe: {{httpGet: {{path: /readyz, port: http}}, periodSeconds: 2, failureThreshold: 60}}
          resources:
            requests: {{cpu: "1", memory: {asked}Mi}}
            limits: {{memory: {most}Mi}}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {{drop: [ALL]}}
          volumeMounts:
            - {{name: traffic, mountPath: /traffic}}
            - {{name: tmp, mountPath: /tmp}}
      volumes:
        - {{name: traffic, persistentVolumeClaim: {{claimName: {name}-traffic}}}}
        - {{name: tmp, emptyDir: {{}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: http}}]
"""
SECRET = """\
          env:
            - name: {key}
              valueFrom: {{secretKeyRef: {{name: {name}, key: {key}}}}}
"""
UNIT = """\
# A plain machine, without containers, as root:
#   python3 -m venv /opt/{name}/venv && /opt/{name}/venv/bin/pip install THE-WHEEL-BESIDE-THIS-FILE
#   cp -r bundle /opt/{name}/ && cp {name}.service /etc/systemd/system/ && systemctl enable --now {name}
[Unit]
Description=llmops serves {name}
After=network.target

[Service]
WorkingDirectory=/opt/{name}
ExecStart={command}
{environment}DynamicUser=yes
StateDirectory={name}
Restart=on-failure
TimeoutStopSec={stop}
MemoryMax={most}M
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX

[Install]
WantedBy=multi-user.target
"""


def write_manifests(folder: Path, project: str, settings: ServeSection, size_mb: float) -> None:
    """Write kubernetes.yaml and NAME.service into `folder`; `size_mb` is the bundle's."""
    name = as_name(project)
    asked, most = (round(settings.workers * (MEMORY_MB + share * size_mb)) for share in (2, 4))
    secret = SECRET.format(name=name, key=settings.key_env) if settings.key_env else ""
    shared = {"name": name, "port": PORT, "stop": STOP_S, "most": most}
    (folder / "kubernetes.yaml").write_text(KUBERNETES.format(**shared, asked=asked, environment=secret), "utf-8")
    changes = {
        "python": f"/opt/{name}/venv/bin/python",
        "0.0.0.0": settings.host,
        str(PORT): str(settings.port or PORT),
    }
    changes |= {"/traffic/traffic.db": f"/var/lib/{name}/traffic.db"}
    words = " ".join(_unit_word(changes.get(word, word)) for word in serve_command(settings))
    file = f"EnvironmentFile=/etc/{name}.env\n" if settings.key_env else ""
    (folder / f"{name}.service").write_text(UNIT.format(**shared, command=words, environment=file), "utf-8")


def as_name(project: str) -> str:
    """A project's name as Kubernetes and systemd take one: small letters, digits and dashes, a letter first; and no
    word (no, 123) that YAML takes for something else."""
    name = re.sub(r"[^a-z0-9-]+", "-", project.lower())[:50].strip("-")
    plain = name[:1].isalpha() and isinstance(yaml.safe_load(name), str)
    return name if plain else f"model-{name}".strip("-")


def _unit_word(word: str) -> str:
    """A word of ExecStart: quoted, and what systemd would expand left as it is."""
    return shlex.quote(word.replace("%", "%%").replace("$", "$$"))
