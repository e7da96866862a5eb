"""The packages that a machine lacks which can train and do nothing else, and code that makes a process lack them."""

OTHERS = (
    "pydantic", "imagehash", "imblearn", "platformdirs", "flwr", "ray", "typer", "rich", "pydicom", "psutil",
    "matplotlib", "openpyxl", "cryptography", "starlette", "uvicorn", "tensorboard", "mlflow",
)  # fmt: skip
"""What FedBUS needs in addition to PyTorch, torchvision, timm, NumPy, scikit-learn and their dependencies."""

BLOCKER = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {OTHERS!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
"""
