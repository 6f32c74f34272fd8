from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dehaze_bench.results

MODULES = sorted(path.stem for path in Path(dehaze_bench.results.__path__[0]).glob("[a-z]*.py"))


def test_results_import_neither_torch_nor_hydra_nor_wandb() -> None:
    assert {"record", "store", "tables", "renderers"} <= set(MODULES)
    code = "import sys\n" + "".join(f"import dehaze_bench.results.{name}\n" for name in MODULES)
    code += "print(sorted({'torch', 'hydra', 'omegaconf', 'wandb', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
