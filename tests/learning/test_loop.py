"""The training loop: seeded, stopped by any signal, resumed bit for bit; checkpoints that are damaged or foreign."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from unittest.mock import Mock, call

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402

from edgead.errors import SettingsError  # noqa: E402
from edgead.workstation.trainer import loop  # noqa: E402
from edgead.workstation.trainer.checkpoint import Checkpoint, Learner  # noqa: E402
from edgead.workstation.trainer.device import choose_device, peak_memory  # noqa: E402
from edgead.workstation.trainer.loop import run_steps  # noqa: E402

pytestmark = pytest.mark.slow

STEPS = 12
KEY = {"settings": {"size": (2, 3)}, "data": "abc"}

# A training with all that a checkpoint must hold: running means, two optimizers of different state, a schedule, and
# chance from numpy and from torch. It is a program of its own, so that it can be killed.
PROGRAM = """
import signal, sys
from pathlib import Path
from safetensors.torch import save_file
from test_loop import KEY, train
from edgead.workstation.trainer.checkpoint import Checkpoint

signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # as the command does
folder, result, pause_s = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
save_file(train(Checkpoint(folder, KEY, every_s=0), pause_s=pause_s), result)
"""


def make_learner(seed: int = 0) -> Learner:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1, bias=False))
    adam = torch.optim.Adam(module[0].parameters(), lr=1e-2, weight_decay=1e-5, amsgrad=True)
    momentum = torch.optim.SGD(module[3].parameters(), lr=1e-2, momentum=0.9)
    return Learner(module, [adam, momentum])


def train(checkpoint=None, *, steps=STEPS, seed=3, pause_s=0.0, learner=None, progress=None, stop_at=None):
    """Train the tiny network; returns its weights."""
    learner = learner or make_learner()

    def step(number, rng):
        time.sleep(pause_s)
        if number == stop_at:
            raise KeyboardInterrupt
        x = torch.from_numpy(rng.normal(size=(16, 6)).astype(np.float32))
        loss = (learner.module(x) - x[:, :1] + 0.1 * torch.randn(16, 1)).abs().mean()
        learner.module.zero_grad()
        loss.backward()
        for optimizer in learner.optimizers:
            optimizer.step()
        return loss

    options = {} if progress is None else {"progress": progress}
    schedule = lambda number: 0.1 if number >= 9 else 1.0  # noqa: E731
    run_steps(step, learner, steps, seed=seed, schedule=schedule, checkpoint=checkpoint, **options)
    return learner.module.state_dict()


@pytest.fixture(scope="module")
def expected():
    """Weights of the training that nothing interrupts."""
    return train()


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_a_killed_training_goes_on_where_it_was(tmp_path, number, expected):
    folder, result = tmp_path / "m.checkpoint", tmp_path / "weights.safetensors"
    command = [sys.executable, "-W", "error", "-c", PROGRAM, folder, result]
    directory = __file__.rpartition("/")[0]
    process = subprocess.Popen([*command, "0.2"], cwd=directory, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (folder / "train.safetensors").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0 and not result.exists(), errors
    if number == signal.SIGTERM:
        assert [file.name for file in folder.iterdir()] == ["train.safetensors"]

    resumed = subprocess.run([*command, "0"], cwd=directory, capture_output=True, text=True, timeout=120)
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed after step" in resumed.stderr
    assert_same(load_file(result), expected)


@pytest.mark.parametrize(
    ("step_s", "said"), [(2000.0, "train: about 5 hours more on this CPU, for 9 steps"), (10.0, "")]
)
def test_a_training_that_takes_hours_says_so_after_three_steps(tmp_path, monkeypatch, caplog, step_s, said):
    looks = itertools.count()
    monkeypatch.setattr(loop, "time", Mock(monotonic=lambda: next(looks) * loop._TIMED * step_s))
    train()  # what has no checkpoint announces its cost itself
    assert not caplog.text
    train(Checkpoint(tmp_path / "c", KEY))
    assert [record.message.partition(";")[0] for record in caplog.records] == ([said] if said else [])


def test_every_interruption_gives_the_same_weights(tmp_path, expected):
    for stop_at in (0, 1, 6, 9, 11):
        checkpoint = Checkpoint(tmp_path / "c", KEY, every_s=0)
        with pytest.raises(KeyboardInterrupt):
            train(checkpoint, stop_at=stop_at)
        progress = Mock()
        assert_same(train(Checkpoint(tmp_path / "c", KEY), progress=progress), expected)
        assert progress.call_args_list == [call("train", done, STEPS) for done in range(stop_at, STEPS + 1)]
        assert [one.args[1] for one in progress.loss.call_args_list] == [*range(stop_at + 1, STEPS + 1)]
        checkpoint.remove()
        assert list(tmp_path.iterdir()) == []


def test_a_finished_stage_is_not_repeated(tmp_path, caplog, expected):
    train(Checkpoint(tmp_path, KEY))
    assert_same(train(Checkpoint(tmp_path, KEY), stop_at=0), expected)  # no step is made, so none stops it
    assert "resumed after step 12 of 12" in caplog.text


def test_seed_decides_and_the_callers_generator_is_left_alone():
    state = torch.random.get_rng_state()
    one, other = train(seed=1), train(seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(one["0.weight"], other["0.weight"])
    assert_same(one, train(seed=1))


def test_schedule_scales_every_rate():
    learner = make_learner()
    train(learner=learner, steps=9)
    assert [optimizer.param_groups[0]["lr"] for optimizer in learner.optimizers] == [1e-2, 1e-2]
    learner = make_learner()
    train(learner=learner, steps=10)
    assert [optimizer.param_groups[0]["lr"] for optimizer in learner.optimizers] == pytest.approx([1e-3, 1e-3])


@pytest.mark.parametrize(
    ("change", "reported"),
    [({"data": "abd"}, "other data"), ({"settings": {"size": (2, 4)}}, "other settings"), ({"roi": [1]}, "other roi")],
)
def test_a_foreign_checkpoint_is_not_used(tmp_path, caplog, change, reported, expected):
    train(Checkpoint(tmp_path, KEY), seed=4)
    assert_same(train(Checkpoint(tmp_path, {**KEY, **change})), expected)
    assert reported in caplog.text and "starts again" in caplog.text and "resumed" not in caplog.text


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty", "no header"])
def test_a_damaged_checkpoint_is_not_used(tmp_path, caplog, damage, expected):
    with pytest.raises(KeyboardInterrupt):
        train(Checkpoint(tmp_path, KEY, every_s=0), stop_at=6)
    file = tmp_path / "train.safetensors"
    content = bytearray(file.read_bytes())
    if damage == "one bit":
        content[-1] ^= 1
    elif damage == "no header":
        from safetensors.torch import save

        content = save({"x": torch.zeros(1)})
    file.write_bytes(content[: {"truncated": 300, "empty": 0}.get(damage)])
    assert_same(train(Checkpoint(tmp_path, KEY)), expected)
    assert "is damaged" in caplog.text and "resumed" not in caplog.text


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path):
    train(Checkpoint(tmp_path, KEY))
    module = nn.Linear(2, 2)
    learner = Learner(module, [torch.optim.Adam(module.parameters())])
    with pytest.raises(SettingsError, match="(?s)does not fit this training .* remove"):
        Checkpoint(tmp_path, KEY).load(learner)


def test_a_failed_write_keeps_the_old_state(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path, KEY)
    learner = make_learner()
    checkpoint.save(learner, 5)
    before = (tmp_path / "train.safetensors").read_bytes()

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError):
        checkpoint.save(learner, 6)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"train.safetensors": before}


def test_time_of_earlier_runs_counts(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(Checkpoint(tmp_path, KEY, every_s=0), pause_s=0.02, stop_at=6)
    checkpoint = Checkpoint(tmp_path, KEY)
    train(checkpoint)
    assert checkpoint.earlier_seconds >= 0.12


@pytest.mark.parametrize("every", [1, 4, 50])
@pytest.mark.parametrize("at", [0, 2, 9])
def test_losses_that_are_looked_at_together_are_named_by_their_step(tmp_path, monkeypatch, every, at):
    monkeypatch.setattr("edgead.workstation.trainer.loop.CHECK_EVERY", {"cpu": every})
    checkpoint, made = Checkpoint(tmp_path, KEY), []

    def step(number, rng):
        made.append(number)
        return torch.tensor(float("inf") if number == at else 1.0)

    with pytest.raises(SettingsError, match=f"the loss is inf at step {at}:"):
        run_steps(step, make_learner(), 10, seed=0, checkpoint=checkpoint)
    assert len(made) == min(10, (at // every + 1) * every)
    assert list(tmp_path.iterdir()) == []  # nothing is saved of it


def test_a_state_is_saved_only_after_its_losses_were_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr("edgead.workstation.trainer.loop.CHECK_EVERY", {"cpu": 50})
    with pytest.raises(SettingsError, match="at step 3"):
        run_steps(
            lambda number, rng: torch.tensor(float("nan") if number == 3 else 1.0),
            make_learner(),
            10,
            seed=0,
            checkpoint=Checkpoint(tmp_path, KEY, every_s=0),
        )
    assert Checkpoint(tmp_path, KEY).load(make_learner()) == 3


def test_only_what_was_saved_is_removed(tmp_path):
    checkpoint = Checkpoint(tmp_path / "c", KEY)
    checkpoint.remove()  # nothing was saved
    train(checkpoint)
    (tmp_path / "c" / "notes.txt").write_text("mine")
    checkpoint.remove()
    assert [file.name for file in (tmp_path / "c").iterdir()] == ["notes.txt"]


def test_a_loss_that_is_not_a_number_stops(tmp_path):
    learner = make_learner()
    with pytest.raises(SettingsError, match="the loss is nan at step 2: lower the learning rate"):
        run_steps(
            lambda number, rng: torch.tensor(float("nan") if number == 2 else 1.0),
            learner,
            5,
            seed=0,
            checkpoint=Checkpoint(tmp_path / "c", KEY),
        )
    assert list(tmp_path.iterdir()) == []


def test_states_are_saved_no_oftener_than_asked(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(Checkpoint, "save", lambda self, learner, step: saved.append(step))
    train(Checkpoint(tmp_path, KEY, every_s=3600))
    assert saved == [STEPS]


def test_devices_and_memory():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(SettingsError, match="choose one of auto, cpu, cuda"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(SettingsError, match="finds no GPU"):
            choose_device("cuda")
    before = peak_memory(choose_device("cpu"))["peak_memory_mib"]
    held = np.ones((before + 64) << 17)  # 8 bytes each: more than ever before
    assert peak_memory(choose_device("cpu"))["peak_memory_mib"] >= before + 64
    del held


@pytest.mark.skipif(not torch.cuda.is_available(), reason="RESUMING ON A GPU NOT TESTED: torch finds none")
def test_resumes_on_a_gpu(tmp_path):
    def learner():
        module = nn.Linear(4, 4).cuda()
        nn.init.eye_(module.weight)
        nn.init.zeros_(module.bias)
        return Learner(module, [torch.optim.Adam(module.parameters(), lr=1e-2)])

    def run(one, checkpoint, stop_at=None):
        def step(number, rng):
            if number == stop_at:
                raise KeyboardInterrupt
            loss = one.module(torch.randn(8, 4, device="cuda")).square().mean()
            one.module.zero_grad()
            loss.backward()
            one.optimizers[0].step()
            return loss

        run_steps(step, one, 20, seed=0, checkpoint=checkpoint)
        return one.module.state_dict()

    expected = run(learner(), None)
    with pytest.raises(KeyboardInterrupt):
        run(learner(), Checkpoint(tmp_path, KEY, every_s=0), stop_at=11)
    assert_same(run(learner(), Checkpoint(tmp_path, KEY)), expected)
    assert peak_memory(torch.device("cuda"))["peak_gpu_memory_mib"] >= 0
