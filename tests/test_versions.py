"""A stage whose code changed must say so: the digest of all code that it can reach is kept beside its version.

After a change that alters what a stage gives, raise its `version`; then (or after a change that alters nothing, such as
a comment in a message) write the digests anew:  python -m tests.test_versions
"""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path

import pytest

from llmops.loop import LOOP, stage
from tests.test_layers import arrows, files, module_name

KEPT = Path(__file__).parent / "stage_versions.json"
# Code that shapes what people see while a stage runs, but not what it gives.
OUTSIDE = ("llmops.core.console", "llmops.core.errors", "llmops.core.protocols")


def reachable(start: str) -> set[str]:
    graph = {module_name(path): arrows(path) for path in files()}
    graph["llmops.tasks"] = graph["llmops.tasks"] | {name for name in graph if name.startswith("llmops.tasks.")}
    found: set[str] = set()
    todo = [start]
    while todo:
        module = todo.pop()
        if module in found or module not in graph or module in OUTSIDE:
            continue
        found.add(module)
        todo.extend(graph[module])
    return found


def digest(start: str) -> str:
    """sha256 over the syntax trees (no comments, no layout, no docstrings) of all modules reachable from `start`."""
    paths = {module_name(path): path for path in files()}
    total = hashlib.sha256()
    for module in sorted(reachable(start)):
        total.update(f"{module}\n{code(paths[module])}\n".encode())
    return total.hexdigest()


def code(path: Path) -> str:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))] or [
                ast.Pass()
            ]  # type: ignore[attr-defined]
    return ast.dump(tree)


def now() -> dict[str, dict[str, object]]:
    return {row.name: {"version": stage(row).version, "code": digest(row.stage.partition(":")[0])} for row in LOOP}


@pytest.mark.parametrize("name", [row.name for row in LOOP])
def test_changed_code_has_a_new_version(name: str) -> None:
    kept, is_now = json.loads(KEPT.read_text())[name], now()[name]
    if kept["code"] != is_now["code"]:
        raised = kept["version"] != is_now["version"]
        what = (
            "its version was raised: write the digests anew"
            if raised
            else "raise its version if it now gives other results"
        )
        pytest.fail(f"the code of `{name}` changed; {what}, then: python -m tests.test_versions")


if __name__ == "__main__":
    KEPT.write_text(json.dumps(now(), indent=1) + "\n")
