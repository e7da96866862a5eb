"""The packages that a machine lacks which can train and do nothing else."""

OTHERS = (
    "pydantic", "imagehash", "imblearn", "platformdirs", "flwr", "ray", "typer", "rich", "pydicom", "psutil",
    "matplotlib", "openpyxl", "cryptography", "starlette", "uvicorn",
)  # fmt: skip
"""What FedBUS needs in addition to PyTorch, torchvision, timm, NumPy, scikit-learn and their dependencies."""
