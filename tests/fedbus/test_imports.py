"""Which libraries a module imports: those that take seconds are imported by the functions that need them."""

import subprocess
import sys

HEAVY = ("timm", "torchvision", "sklearn", "imblearn", "matplotlib", "pandas", "ray")
LIGHT_MODULES = (
    "fedbus.runs.folder", "fedbus.runs.site_state", "fedbus.models.start", "fedbus.models.input_size",
    "fedbus.training.loop", "fedbus.evaluation.site_scores", "fedbus.transport.messages", "simulations.compare",
)  # fmt: skip

CODE = f"""
import importlib, sys
for name in {LIGHT_MODULES}:
    importlib.import_module(name)
    print(name, *(heavy for heavy in {HEAVY} if heavy in sys.modules))
"""


def test_no_module_imports_a_heavy_library_at_its_top():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == list(LIGHT_MODULES)
