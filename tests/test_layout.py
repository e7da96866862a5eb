"""Rules of the source tree that no linter checks: documentation, lengths, unsafe loading, empty packages."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("fedbus", "server", "clients", "simulations")
MOST_LINES, MOST_FUNCTION_LINES = 300, 60


def sources(*folders: str) -> Iterator[tuple[str, str, ast.Module]]:
    """Yield the name, text and syntax tree of every source file."""
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        yield path.relative_to(ROOT).as_posix(), text, ast.parse(text, str(path))


def imported(tree: ast.Module) -> set[str]:
    """Return the top-level packages of all imports, also those inside functions and through importlib."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            found.add(ast.literal_eval(node.args[0]).split(".")[0])
    return found


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield the public functions and classes of a module, and the public methods of its public classes."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef) and "Protocol" not in {ast.unparse(base) for base in node.bases}:
                yield from public(node.body, f"{prefix}{node.name}.")


def test_imports_are_absolute():
    """A search for a module's name then finds every import of it."""
    found = [
        name
        for name, _, tree in sources(*PACKAGES, "tests")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert found == []


def test_nothing_is_unpickled_or_evaluated():
    for name, _, tree in sources(*PACKAGES):
        assert not imported(tree) & {"pickle", "joblib", "dill", "cloudpickle"}, name
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert called != "torch.load" or given.get("weights_only") == "True", name
            assert called not in ("np.load", "numpy.load") or given.get("allow_pickle", "False") == "False", name
            assert called not in ("eval", "exec"), name


def test_everything_public_has_a_docstring():
    missing = [
        f"{name}: {what}"
        for name, _, tree in sources(*PACKAGES)
        for what, node in [("module", tree), *public(tree.body)]
        if not ast.get_docstring(node)  # type: ignore[arg-type]
    ]
    assert missing == []


def test_files_are_short():
    assert [n for n, text, _ in sources(*PACKAGES) if len(text.splitlines()) > MOST_LINES] == []


def test_functions_fit_a_screen():
    long = [
        f"{name}: {node.name}"
        for name, _, tree in sources(*PACKAGES, "tests")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno >= MOST_FUNCTION_LINES
    ]
    assert long == []


def test_packages_run_no_code_on_import():
    """So that one module can be used without what its neighbours need: a GPU machine has no pydantic, Flower or Ray."""
    for name, _, tree in sources(*PACKAGES):
        if name.endswith("/__init__.py"):
            assert all(isinstance(node, ast.Expr) for node in tree.body), name
