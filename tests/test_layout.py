"""The house keeps its order: who imports whom, what is documented, and how long things are."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("fedbus", "server", "clients", "simulations")
MOST_LINES, MOST_FUNCTION_LINES = 300, 60


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(tree: ast.Module) -> set[str]:
    """First names of all imports, also those inside functions; what is named to importlib counts too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that this test sees them"
            found.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            found.add(ast.literal_eval(node.args[0]).split(".")[0])
    return found


def definitions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    return (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef))


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Public functions and classes of a module, and the public methods of its public classes."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef) and "Protocol" not in {ast.unparse(base) for base in node.bases}:
                yield from public(node.body, f"{prefix}{node.name}.")


FORBIDDEN = {
    "fedbus": {"flwr", "ray", "server", "clients", "simulations"},
    "server": {"clients", "simulations"},
    "clients": {"server", "simulations"},
    "simulations": set(),
}
COMMAND_LINE = ("fedbus/cli.py", "fedbus/__main__.py")
"""May import upwards: they are the door, not a room."""


@pytest.mark.parametrize("path", sources(*PACKAGES), ids=name_of)
def test_imports_point_downwards(path):
    forbidden = FORBIDDEN[name_of(path).split("/")[0]]
    assert name_of(path) in COMMAND_LINE or not imported(parse(path)) & forbidden


def test_only_the_command_line_starts_simulations():
    importers = {name_of(path) for path in sources(*PACKAGES) if "simulations" in imported(parse(path))}
    assert {name for name in importers if not name.startswith("simulations/")} == {"fedbus/cli.py"}


@pytest.mark.parametrize("path", sources(*PACKAGES), ids=name_of)
def test_nothing_is_unpickled_unguarded(path):
    tree = parse(path)
    assert not imported(tree) & {"pickle", "joblib", "dill", "cloudpickle"}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert name != "torch.load" or given.get("weights_only") == "True"
        assert name not in ("np.load", "numpy.load") or given.get("allow_pickle", "False") == "False"
        assert name not in ("eval", "exec")


@pytest.mark.parametrize("path", sources(*PACKAGES), ids=name_of)
def test_everything_public_says_what_it_is(path):
    tree = parse(path)
    assert ast.get_docstring(tree)
    assert [name for name, node in public(tree.body) if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", sources(*PACKAGES, "tests"), ids=name_of)
def test_files_and_functions_can_be_read_in_one_sitting(path):
    text = path.read_text(encoding="utf-8")
    if name_of(path).split("/")[0] in PACKAGES:
        assert len(text.splitlines()) <= MOST_LINES
    functions = [n for n in definitions(ast.parse(text)) if not isinstance(n, ast.ClassDef)]
    assert [f.name for f in functions if f.end_lineno - f.lineno >= MOST_FUNCTION_LINES] == []
