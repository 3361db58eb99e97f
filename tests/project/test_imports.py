"""The dependency rule: the device side never imports torch or onnx, and starts fast."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import pytest

import edgead
from edgead.process.installation import install_command
from edgead.synthetic import write_dataset

# The estimator needs no torch, but scikit-learn.
NOT_ON_A_DEVICE = ("edgead.workstation", "edgead.export", "edgead.api.estimator")
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(edgead.__path__, "edgead.", onerror=lambda name: None)
    if not module.name.startswith(NOT_ON_A_DEVICE) and module.name != "edgead._native"
)

REFUSE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "onnx", "onnxscript", "safetensors", "sklearn", "scipy"}:
            raise ModuleNotFoundError(f"{name} is refused", name=name)
sys.meta_path.insert(0, Refuse())
"""


HIDE_LINE = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if f"{name}.".startswith("edgead.line."):
            raise ModuleNotFoundError(f"{name} is hidden", name=name)
sys.meta_path.insert(0, Hide())
"""


def run(code: str, *arguments: object) -> str:
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_device_modules_import_without_the_workstation():
    assert {"edgead.detector", "edgead.cli", "edgead.cli.demo", "edgead.stream"} <= set(MODULES)
    run(REFUSE + f"import importlib\nfor name in {MODULES!r}: importlib.import_module(name)")


def test_a_model_runs_without_the_workstation(trained_model):
    code = f"""
import numpy as np
from edgead import Detector
with Detector.load({str(trained_model)!r}) as detector:
    print(detector.predict(np.zeros((90, 70, 3), np.uint8)).decision)
"""
    assert run(REFUSE + code).strip() == "reject"


def test_all_but_the_command_imports_without_the_line():
    modules = [name for name in MODULES if not name.startswith(("edgead.line", "edgead.cli."))]
    assert {"edgead.api.functions", "edgead.stream", "edgead.sinks.mqtt", "edgead.adapt.teach"} <= set(modules)
    run(REFUSE + HIDE_LINE + f"import importlib\nfor name in {modules!r}: importlib.import_module(name)")


def test_the_command_learns_and_judges_without_the_line(tmp_path):
    write_dataset(tmp_path / "data", train_good=20, test_good=2, per_defect=1, seed=5)
    command, model = REFUSE + HIDE_LINE + "from edgead.cli import main; main()", tmp_path / "model"
    run(command, "train", tmp_path / "data", "-o", model, "--preset", "fast", "--set", "image_size=[160,160]")
    judged = json.loads(run(command, "predict", model, tmp_path / "data" / "test" / "good", "--json"))
    assert len(judged["images"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("train {two} -o {model}", "found 2 good images, but at least 4 are needed"),
        ("train {two} -o {model} --false-reject-rate 5", "a false-reject rate lies between 0 and 1"),
        ("train {two} -o {model} --preset defaul", "has no preset 'defaul'"),
        ("train {two} -o {model} --detector golden-part", "did you mean golden?"),
        ("train {two} -o {model} --detector mvg --set varianc=1", "did you mean variance?"),
        ("import {two}/0.png -o {model} --good {two}", "not .png: export the model as one of them"),
        ("import {two}/0.onnx -o {model} --good {two} --review-rate 2", "a review rate lies between 0 and 1"),
    ],
)
def test_a_refusal_that_needs_no_image_loads_no_engine_and_reads_none(tmp_path, arguments, said):
    two = tmp_path / "two"
    two.mkdir()
    for number in range(2):
        (two / f"{number}.png").write_text("no image: who reads it says that")
    given = arguments.format(two=two, model=tmp_path / "model").split()
    code = REFUSE.replace('"torch",', '"torch", "onnxruntime",') + "from edgead.cli import main\nmain()"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code, *given], capture_output=True, text=True)
    assert result.returncode == 2 and said in " ".join(result.stderr.split()), result.stderr
    assert not (tmp_path / "model").exists()


def test_the_verbs_of_the_workstation_say_what_to_install(trained_model):
    code = REFUSE + "from edgead.cli import main\nmain()"
    result = subprocess.run([sys.executable, "-c", code, "verify", trained_model], capture_output=True, text=True)
    assert result.returncode == 2
    assert install_command("train") in result.stderr.replace("\n", "")
    assert "Traceback" not in result.stderr


def test_all_of_edgead_is_imported_without_the_workstation():
    code = "from edgead import *\nimport edgead\nprint(hasattr(edgead, 'AnomalyDetector'), edgead.load is load)"
    assert run(REFUSE + code).strip() == "False True"
    with pytest.raises(AssertionError, match="edgead.AnomalyDetector needs scikit-learn: pip install scikit-learn"):
        run(REFUSE + "import edgead\nedgead.AnomalyDetector")


def test_training_from_python_says_what_to_install(line_data):
    code = f"""
import edgead
try:
    edgead.train({str(line_data)!r}, "model", detector="mvg")
except edgead.EdgeadError as error:
    print(error)
"""
    assert run(REFUSE + code).strip() == f"torch is missing: this needs `{install_command('train')}`"


@pytest.mark.parametrize("uri", ["mqtt://host/x", "webhook:http://host", "modbus://host", "sqlite:evidence"])
def test_sinks_without_their_packages_say_what_to_install(tmp_path, uri):
    names = '"torch", "torchvision", "onnx", "onnxscript", "safetensors", "sklearn", "scipy"'
    refuse = REFUSE.replace(names, '"paho", "httpx", "pymodbus", "sqlalchemy"')
    assert refuse != REFUSE
    code = f"""
from edgead.sinks import SinkError, open_sink
try:
    open_sink({uri!r})
except SinkError as error:
    print(error)
"""
    assert f"needs `{install_command('daemon')}`" in run(refuse + code)


# What pydantic needs is its own.
TO_LOAD = {"cv2", "numpy", "onnxruntime", "pydantic", "annotated_types", "pydantic_core", "typing_extensions"}


@pytest.mark.parametrize(
    "statement, libraries",
    [("import edgead", {"numpy"}), ("from edgead import Detector; Detector.load({model!r})", TO_LOAD)],
)
def test_starts_with_the_libraries_that_it_needs_and_no_other(trained_model, statement, libraries):
    # Libraries are nearly all of the time that a start takes.
    statement = statement.format(model=str(trained_model))
    code = f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    imported = {name.partition(".")[0] for name in run(code).split()} - set(sys.stdlib_module_names)
    own = {name for name in imported if name.startswith("_")} | {"cython_runtime", "edgead", "typing_inspection"}
    assert imported - own <= libraries
    assert "edgead" in imported
