"""The plan of the house: which room may import which, no circles, no file too long, one meaning a name."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (
    ("errors", "config", "wording"),
    ("system",),
    ("manifest", "video", "adapter"),
    ("model",),
    ("store",),
    ("engine",),
    ("segments", "strategies"),
    ("many", "door"),
    ("live",),
    ("report", "score"),
    ("train",),
    ("tiny",),
    ("bench",),
    ("serve",),
    ("cli",),
    ("__main__",),
)
"""From the ground up. A room imports from the floors below its own, and from itself."""
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file of every module of v2l."""
    names = {}
    for file in sorted((ROOT / "v2l").rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return names


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of v2l that a module imports: at its top, inside functions, and for types only."""
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names if name.name.split(".")[0] == "v2l"}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            if (node.module or "").split(".")[0] == "v2l":
                full = [f"{node.module}.{name.name}" for name in node.names]
                found |= {name if name in modules() else str(node.module) for name in full}
    return frozenset(found)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_every_room_has_its_floor() -> None:
    assert {room(module) for module in modules()} == {"", *FLOOR}


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_go_down(module: str) -> None:
    """`v2l` itself (its version, and the names it hands out) may be imported by all."""
    for other in imports(module):
        assert other in modules(), f"{module} imports {other}, which is not there"
        if room(module) and room(other) and room(other) != room(module):
            assert FLOOR[room(other)] < FLOOR[room(module)], f"{module} imports {other}, which stands above it"


def test_no_circle_of_files() -> None:
    """A module that is imported is done with its own imports first, so there is an order to read the files in."""
    state: dict[str, str] = {}

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert state.get(module) != "open", f"a circle: {' -> '.join((*path, module))}"
        if module not in state:
            state[module] = "open"
            for other in sorted(imports(module) - {"v2l"}):
                visit(other, (*path, module))
            state[module] = "done"

    for module in modules():
        visit(module, ())


def test_no_file_is_too_long_and_no_room_too_full() -> None:
    lengths = {str(file): len(file.read_text(encoding="utf-8").splitlines()) for file in modules().values()}
    assert {file: length for file, length in lengths.items() if length > 400} == {}
    rooms = {module.split(".")[1] for module in modules() if "." in module}
    assert len(rooms) <= 24, sorted(rooms)


ALLOWED_TWICE = {
    "main": "what `python -m` of a module runs",
    "ask": "the command, and what it calls, which answers one question",
    "train": "the command, and what it calls",
    "Engine": "the engine, and the same with the floors above it for Python users",
    "Attention": "of the text stack and of the vision tower, each that model's own",
    "Layer": "of the text stack and of the vision tower",
    "MLP": "of the text stack and of the vision tower",
}
"""Public names with more than one definition, and why; ten at the most."""


def test_a_public_name_means_one_thing() -> None:
    places: dict[str, list[str]] = {}
    for module in modules():
        for name in public_names(tree(module)):
            places.setdefault(name, []).append(module)
    several = {name: where for name, where in places.items() if len(where) > 1}
    assert several.keys() == ALLOWED_TWICE.keys(), several
    assert len(ALLOWED_TWICE) <= 10


def public_names(module: ast.Module) -> set[str]:
    """What a module defines at its top for others: functions, classes, constants and types."""
    names: set[str] = set()
    for node in module.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


OTHERS = {"os._exit", "torch.Tensor._make_wrapper_subclass", "_lazy_init"}
"""Private names of other libraries that tests use."""


@pytest.mark.parametrize("file", sorted((ROOT / "tests").rglob("*.py")), ids=lambda file: file.name)
def test_tests_touch_no_private_name(file: Path) -> None:
    """Neither imported, nor as an attribute of anything but the test's own `self`, nor as text to be replaced."""
    private: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "v2l":
            private += [name.name for name in node.names if is_private(name.name)]
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            private += [] if ast.unparse(node.value) == "self" else [ast.unparse(node)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("setattr", "getattr", "delattr")):
            private += [word.value for word in node.args if isinstance(word, ast.Constant)
                        and isinstance(word.value, str) and is_private(word.value.rpartition(".")[2])]
    assert set(private) <= OTHERS, "give what the test needs a public name, or test it through what is public"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


DANGLING = re.compile("(Of|It|Its|That|This|Those|These|They|Them|There|Some|Not|Only|By|With|On|"
                      "Whether (it|they|one(?! of))) ")
"""Beginnings of docstrings that mean nothing without what stands around them."""


@pytest.mark.parametrize("module", sorted(modules()))
def test_docstrings_can_be_read_alone(module: str) -> None:
    """They begin with a noun or a verb, those of attributes too."""
    texts = [node.value.value.strip() for node in ast.walk(tree(module)) if isinstance(node, ast.Expr)
             and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)]
    assert [text for text in texts if DANGLING.match(text)] == []
