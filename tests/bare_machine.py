"""A machine that can train and do no more."""

OTHERS = (
    "pydantic", "imagehash", "imblearn", "platformdirs", "flwr", "ray", "typer", "rich", "pydicom", "psutil",
    "matplotlib", "openpyxl", "cryptography", "starlette", "uvicorn",
)  # fmt: skip
"""What FedBUS needs besides PyTorch, torchvision, timm, NumPy, scikit-learn and what these need themselves."""
