"""The laws of the house: imports go down only, in no circle, and the command line loads nothing heavy."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "llmops"
LAYERS: list[set[str]] = [
    {"core"}, {"fields"}, {"records", "registry"}, {"nets", "engine"}, {"tasks"}, {"bundle"}, {"serving"}, {"stages"},
    {"loop"}, {"project", "starter"}, {"lineage"}, {"planner"}, {"runner"}, {"commands"}, {"cli"},
]  # fmt: skip
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
PLUGIN = re.compile(r"^(llmops(?:\.\w+)+):\w+$")
HEAVY = ("torch", "transformers", "datasets", "sklearn", "optuna", "matplotlib", "scipy", "pandas")


def room_of(module: str) -> str:
    """The room of llmops.<room>..., with siblings under stages and tasks told apart (`stages/train`)."""
    parts = module.split(".")[1:]
    if not parts:
        return ""
    inner = parts[0] in ("stages", "tasks") and len(parts) > 1 and (PACKAGE / parts[0] / parts[1]).is_dir()
    return f"{parts[0]}/{parts[1]}" if inner else parts[0]


def without_types(tree: ast.Module) -> ast.Module:
    """The tree without its `if TYPE_CHECKING:` blocks: what is imported for names of types alone runs nothing."""
    tree.body = [
        node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    ]
    return tree


def arrows(path: Path, types: bool = True) -> set[str]:
    """Modules of llmops that a file imports, anywhere in it, strings of plugin tables included."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree if types else without_types(tree)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("llmops"):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = (PACKAGE.parent / Path(*inner.split("."))).with_suffix(".py").exists()
                found.add(inner if is_module else str(node.module))
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name.startswith("llmops"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (match := PLUGIN.match(node.value)):
            found.add(match[1])
    return found


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    here = room_of(module_name(path))
    for target in arrows(path):
        there = room_of(target)
        if there in ("", here) or not here:
            continue
        rank_here, rank_there = RANK[here.split("/")[0]], RANK[there.split("/")[0]]
        siblings = here.split("/")[0] == there.split("/")[0] and there.count("/") == 1 and here.count("/") == 1
        assert not siblings, f"{here} imports its sibling {there}"
        below = rank_there < rank_here or here.split("/")[0] == there.split("/")[0]
        assert below, f"{here} imports {target}, which is not below it"


def test_no_import_circles() -> None:
    graph = {module_name(path): arrows(path, types=False) for path in files()}
    state: dict[str, int] = {}

    def visit(module: str, trail: tuple[str, ...]) -> None:
        if state.get(module) == 2 or module not in graph:
            return
        assert state.get(module) != 1, f"circle: {' -> '.join((*trail, module))}"
        state[module] = 1
        for target in sorted(graph[module] - {module}):
            visit(target, (*trail, module))
        state[module] = 2

    for module in graph:
        visit(module, ())


def test_every_file_says_its_job_and_only_console_prints() -> None:
    for path in files():
        tree = ast.parse(path.read_text())
        docstring = ast.get_docstring(tree)
        assert docstring, f"{path} has no first line that says its job"
        assert ast.get_docstring(tree, clean=False), path
        if path != PACKAGE / "core" / "console.py":
            calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "print"]
            assert not calls, f"{path} prints"


FORBIDDEN_IMPORTS = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {("torch", "load"), ("torch", "save"), ("yaml", "unsafe_load"), ("yaml", "full_load")}


def test_nothing_is_unpickled_and_no_remote_code_runs() -> None:
    for path in files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name.split(".")[0] for alias in node.names} | {getattr(node, "module", None)}
                assert not names & FORBIDDEN_IMPORTS, f"{path}:{node.lineno}"
            if isinstance(node, ast.Call):
                if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
                    assert (node.func.value.id, node.func.attr) not in FORBIDDEN_CALLS, f"{path}:{node.lineno}"
                for keyword in node.keywords:
                    remote = keyword.arg in ("trust_remote_code", "allow_pickle")
                    assert not (remote and getattr(keyword.value, "value", None) is not False), f"{path}:{node.lineno}"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["check", "configs/support.yaml"], ["serve", "--help"], ["explain", "train"], ["schema"]],
    ids=" ".join,
)
def test_light_commands_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys, contextlib, io\n"
        "from llmops.cli import app\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        f"    app({arguments!r})\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]", done.stdout + done.stderr


def test_stage_modules_load_nothing_heavy() -> None:
    code = (
        "import sys\nfrom llmops.loop import LOOP, stage\n"
        "[stage(row) for row in LOOP]\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
