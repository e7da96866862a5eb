"""What a command does not need is not imported: every import is seconds in which nothing trains."""

import json
import os
import subprocess
import sys

HELP = """
import sys
from fedbus.cli import main
sys.argv = ["fedbus", *arguments]
try:
    main()
except SystemExit:
    report()
"""

FIRST_STEP = """
import sys
from fedbus.cli import main
from torch.optim.optimizer import register_optimizer_step_post_hook
def at_first_step(*_):
    report()
    os._exit(0)
register_optimizer_step_post_hook(at_first_step)
sys.argv = ["fedbus", *arguments]
main()
"""

REPORT = """
import json, os
from pathlib import Path
def report():
    import sys
    Path(file).write_text(json.dumps(sorted(sys.modules)))
"""

HEAVY = {"torch", "timm", "torchvision", "flwr", "ray", "sklearn", "scipy", "pandas", "matplotlib", "numpy", "pydantic"}

NOT_FOR_A_STEP = {
    "torch._dynamo", "torch._inductor", "sympy", "flwr", "ray", "grpc", "cryptography", "sqlalchemy", "fastapi",
    "httpx", "matplotlib", "opacus", "pytorch_grad_cam", "mlflow", "tensorboard", "onnx",
}  # fmt: skip


def modules_of(code: str, arguments: list[str], tmp_path) -> set[str]:
    """The modules that a process has imported when it calls `report`."""
    file = tmp_path / "modules.json"
    words = f"file = {str(file)!r}\narguments = {arguments!r}\n"
    child = [sys.executable, "-c", words + REPORT + code]
    done = subprocess.run(
        child, capture_output=True, text=True, timeout=900, check=False, env=os.environ | {"COLUMNS": "80"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return set(json.loads(file.read_text()))


def test_help_imports_nothing_heavy(tmp_path):
    assert HEAVY & modules_of(HELP, ["--help"], tmp_path) == set()
    assert HEAVY & modules_of(HELP, ["compare", "--help"], tmp_path) == set()


def test_the_first_step_of_a_comparison_needs_neither_flower_nor_the_compiler(tmp_path):
    """With `arms = local`: Flower and Ray are imported when a federated arm begins."""
    settings = {"arms": "local", "phantom-images": 30, "image-size": 32, "batch-size": 8, "model": "test_resnet"}
    given = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    places = ["--out", str(tmp_path / "run"), "--set", f"cache={tmp_path / 'cache'}"]
    found = modules_of(FIRST_STEP, ["compare", *given, *places], tmp_path)
    assert {"torch", "timm"} <= found
    assert NOT_FOR_A_STEP & found == set()
