"""Imports go one way: flows, then tasks, then the core, which never imports Prefect."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

OWN = ("boat", "tasks", "flows", "deployments", "expectations", "benchmarks", "tests")
MAY_IMPORT = {
    "src/boat": {"boat"},
    "expectations": {"expectations", "boat"},
    "tasks": {"tasks", "expectations", "boat"},
    "flows": {"flows", "tasks", "boat"},
    "deployments": {"deployments", "tasks", "boat"},
}
MAY_IMPORT_FROM_TASKS = {"deployments": {"tasks.blocks", "tasks.alerts"}}
ARROWS = {
    "backends": "errors",
    "collect": "errors events settings",
    "compute": "backends errors progress store",
    "errors": "",
    "evaluation": "compute errors kinds memory models progress settings snapshot",
    "events": "",
    "intent": "evaluation errors events kinds metrics models snapshot",
    "kinds": "",
    "landing": "errors events warehouse",
    "progress": "memory",
    "metrics": "",
    "models": "compute errors events kinds memory progress settings snapshot version",
    "quality": "errors progress warehouse",
    "raw_log": "errors events landing progress warehouse",
    "recommend": "errors evaluation kinds metrics models progress snapshot",
    "registry": "backends errors store",
    "render": "transform",
    "reports": "errors evaluation kinds quality registry render settings transform tuning warehouse",
    "serving": "backends errors kinds models render settings",
    "memory": "errors",
    "settings": "errors events memory",
    "snapshot": "errors events kinds progress store warehouse",
    "store": "errors",
    "synthetic": "errors",
    "transform": "errors progress warehouse",
    "tuning": "compute errors kinds store version",
    "version": "",
    "warehouse": "backends errors progress settings",
    "__main__": "collect errors landing progress raw_log settings synthetic warehouse",
}
"""The packages of `src/boat`, and the packages that each may import."""
MODULES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Return the dotted names that a module imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module or ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_lower_layers(path: Path) -> None:
    package = next(package for package in MAY_IMPORT if path.is_relative_to(ROOT / package))
    own = {name for name in imports(path) if name.split(".")[0] in OWN}
    assert {name for name in own if name.split(".")[0] not in MAY_IMPORT[package]} == set()
    allowed = MAY_IMPORT_FROM_TASKS.get(package)
    if allowed:
        assert {name for name in own if name.startswith("tasks")} <= allowed


def package_of(path: Path) -> str:
    return path.relative_to(ROOT / "src/boat").parts[0].removesuffix(".py")


def packages_imported(path: Path) -> set[str]:
    """Return the packages of `src/boat` that a module imports, also inside functions."""
    packages: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        packages |= {name.split(".")[1] for name in names if name.startswith("boat.")}
    return (packages & ARROWS.keys()) - {package_of(path)}


def test_the_packages_of_the_core_import_each_other_as_in_the_table() -> None:
    imported: dict[str, set[str]] = {}
    for path in (ROOT / "src/boat").rglob("*.py"):
        imported.setdefault(package_of(path), set()).update(packages_imported(path))
    assert {package: packages for package, packages in imported.items() if package != "__init__"} == {
        package: set(packages.split()) for package, packages in ARROWS.items()
    }


def test_there_are_no_import_cycles() -> None:
    TopologicalSorter({package: packages.split() for package, packages in ARROWS.items()}).prepare()


@pytest.mark.parametrize("path", sorted((ROOT / "src/boat").rglob("*.py")), ids=lambda path: path.stem)
def test_the_core_never_imports_prefect(path: Path) -> None:
    assert not [name for name in imports(path) if name.split(".")[0].startswith("prefect")]


@pytest.mark.parametrize(
    "module", ["flows.ingestion", "flows.retrain", "flows.promote", "boat.recommend", "boat.intent"]
)
def test_importing_a_flow_or_a_kind_loads_no_tensorflow_and_creates_no_folder(module: str, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'src')]}; import {module}; "
        "print(sorted({'tensorflow', 'mlflow', 'great_expectations', 'optuna', 'sklearn'} & set(sys.modules)))"
    )
    environment = {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "HOME": str(tmp_path),
        "BOAT_HOME": str(tmp_path / "boat"),
    }
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=True
    )
    assert result.stdout.strip() == "[]"
    assert not (tmp_path / "boat").exists()


def test_only_settings_reads_boat_variables() -> None:
    reads = re.compile(r"""environ(\.get\(|\[)\s*["']BOAT_|getenv\(\s*["']BOAT_""")
    assert [path for path in MODULES if reads.search(path.read_text())] == []
