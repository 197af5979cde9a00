"""A whole pickled module, pruned to irregular widths, exported without importing its classes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeface.backends import open_backend
from edgeface.bundle import Bundle
from edgeface_export.probes import synthetic_crops
from tests.builders_export import MOBILEFACENETS, Widths, random_state, settle

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.integration

LAYOUT = "mobilefacenet-insightface-pytorch"
# Widths of a public pruned net (xuexingyu24), a prime among them: nothing is a multiple of 8.
PRUNED = Widths(
    stem=37,
    stages=(48, 109, 108),
    hidden=(91, 147, 136),
    hidden_strided=(41, 137, 214),
    last=92,
    embedding=64,
)

EXPORT = """
import json, sys
from pathlib import Path
from edgeface_export import ExportOptions, export_checkpoint
from edgeface_export.inspection import inspect_checkpoint
found = inspect_checkpoint(Path(sys.argv[1]))
# Random weights tell nobody apart, and that gate is not what is tried here.
limits = {"min_effective_dimension": 1.0, "max_mean_score": 1.0, "max_mean_score_rise": 1.0}
options = ExportOptions(int8=True, limits=limits)
result = export_checkpoint(Path(sys.argv[1]), Path(sys.argv[2]), options=options)
imported = [name for name in sys.modules if name.split(".")[0] in ("tests", "torch")]
print(json.dumps([imported, found.whole_module, found.root_class, list(found.foreign_classes)]))
"""


@pytest.mark.parametrize("legacy", [True, False], ids=["legacy stream", "zip"])
def test_pruned_whole_module_is_exported_without_its_classes(tmp_path: Path, legacy: bool) -> None:
    from tests.reference.mobilefacenets import InsightFacePytorch

    layout = MOBILEFACENETS[LAYOUT]
    arrays = random_state(layout, widths=PRUNED)
    network = layout.build(arrays)
    settle(network, synthetic_crops(16, network.crop_size, seed=1), arrays)
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    module = InsightFacePytorch(state)
    module.load_state_dict(state, strict=False)
    module.eval()
    file, target = tmp_path / "whole.pt", tmp_path / "whole.edgeface"
    torch.save(module, file, _use_new_zipfile_serialization=not legacy)

    done = subprocess.run(
        [sys.executable, "-c", EXPORT, str(file), str(target)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    imported, whole, root, foreign = json.loads(done.stdout)
    assert imported == []
    assert whole is True
    assert root == "tests.reference.mobilefacenets.InsightFacePytorch"
    assert "torch.nn.modules.conv.Conv2d" in foreign

    bundle = Bundle.open(target)
    crops = synthetic_crops(8, bundle.manifest.crop_size, seed=5)
    spec = network.preprocessing
    pixels = (torch.from_numpy(crops).float() - torch.tensor(spec.mean)) / torch.tensor(spec.scale)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(module(pixels.permute(0, 3, 1, 2))).numpy()
    got = open_backend(bundle, artefact="fp32").run(crops)
    assert np.abs(got - expected).max() <= 1e-5
