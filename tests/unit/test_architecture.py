"""Imports point one way, from the entry points down to the settings."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# From the top down: a module may import its own layer and those below it.
LAYERS = [
    ["app.__main__", "app.replay", "app.stream", "app.versions", "app.options", "app.console"],
    ["app.streaming"],
    ["udfs"],
    ["app.registry"],
    ["app.model"],
    ["app.config", "app.model_config", "app.source_spec", "app.errors", "app.durable"],
]
# Beside the layers: what these may import of the project, and who may import them.
BESIDE = {
    "app.monitor": {"app.monitor", "app.registry", "app.config", "app.errors", "app.durable"},
    "app.synthetic": set(),
}
USERS = {
    "app.monitor": {
        "app.__main__",
        "app.replay",
        "app.stream",
        "app.versions",
        "app.streaming",
        "app.monitor",
    },
    "app.synthetic": {"app.__main__"},
}
FORBIDDEN = {
    "app.model": {"pyspark", "redis", "pandas"},
    "app.registry": {"pyspark", "tensorflow"},
    "app.monitor": {"pyspark", "tensorflow"},
    "app.config": {"pyspark", "tensorflow", "redis", "pandas", "numpy"},
    "app.model_config": {"pyspark", "tensorflow", "redis", "pandas", "numpy"},
}
UNSAFE = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("app", "udfs")
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports anywhere, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in names if name in MODULES} or {node.module}
    return found


def part_of(module: str) -> str | None:
    """Return the layer's or the side's entry that a module belongs to."""
    parts = [part for layer in LAYERS for part in layer] + list(BESIDE)
    return next((p for p in parts if module == p or module.startswith(p + ".")), None)


def depth(part: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if part in layer)


def own_imports(module: str) -> set[str]:
    """Return the parts of the project that a module imports."""
    project = {name for name in imports(MODULES[module]) if name.split(".")[0] in ("app", "udfs")}
    parts = {part_of(name) for name in project if name != "app"}
    assert None not in parts, f"{module} imports a module without a layer: {project}"
    return parts


def may_import(importer: str, imported: str) -> bool:
    if importer in BESIDE:
        return imported in BESIDE[importer]
    if imported in BESIDE:
        return importer in USERS[imported]
    return depth(importer) <= depth(imported)


def test_the_tree_was_found():
    assert {"app", "app.model.learner", "app.streaming.loop", "udfs.score"} <= MODULES.keys()


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"app"}))
def test_every_module_has_its_place(module):
    assert part_of(module) is not None


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"app"}))
def test_imports_point_down_only(module):
    importer = part_of(module)
    upward = {part for part in own_imports(module) if not may_import(importer, part)}
    assert not upward


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_layer_does_without_the_engines_above_it(module):
    packages = {name.split(".")[0] for name in imports(MODULES[module])}
    forbidden = FORBIDDEN.get(part_of(module), set())
    assert not packages & forbidden


@pytest.mark.parametrize("module", sorted(MODULES))
def test_nothing_is_pickled(module):
    assert not {name.split(".")[0] for name in imports(MODULES[module])} & UNSAFE


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_is_short_enough_to_be_read(module):
    assert len(MODULES[module].read_text().splitlines()) < 400


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("app.streaming", "app.model", True),
        ("app.model", "app.streaming", False),
        ("udfs", "app.streaming", False),
        ("app.registry", "udfs", False),
        ("app.monitor", "app.model", False),
        ("app.monitor", "app.registry", True),
        ("app.registry", "app.monitor", False),
        ("app.streaming", "app.console", False),
    ],
)
def test_the_rule_itself(importer, imported, allowed):
    assert may_import(importer, imported) is allowed
