"""Code for a process that can import only PyTorch, timm, NumPy, scikit-learn, safetensors and what they need."""

NOT_NEEDED = (
    "flwr", "ray", "pydantic", "imblearn", "rich", "typer", "pydicom", "httpx", "platformdirs", "filelock", "psutil",
    "matplotlib", "jinja2", "starlette", "uvicorn", "tomlkit", "cryptography", "openpyxl", "imagehash",
)  # fmt: skip

BLOCKER = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {NOT_NEEDED!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
"""
