"""The engine: honest batches, the schedule, checkpoints that survive damage, and resume that is exact after kill -9."""

from __future__ import annotations

import json
import math
import random
import re
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from llmops.core.errors import DataError, MachineError
from llmops.engine import choices, device, verdict
from llmops.engine.batching import Rowwise, padded_cells, plan_epoch, scoring_batches
from llmops.engine.checkpoint import Checkpoints
from llmops.engine.clock import PHASES, Clock
from llmops.engine.config import FitSection
from llmops.engine.fit import Diverged, fit
from llmops.engine.optim import clip, course, make_optimiser, parameter_groups, set_rate
from llmops.engine.parallel import World
from llmops.engine.ragged import Ragged, first_rows, ragged
from llmops.engine.state import State
from llmops.engine.step import Stepper
from tests.rooms import FakeRoom

ROOT = Path(__file__).parent.parent
ROWS = 60


class Line(Rowwise):
    """A problem for the loop: a small network with dropout fits a line."""

    head_rate = 0.05
    metric = "fit"

    def __init__(self, values: list[float] | None = None) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.x = torch.randn(ROWS, 4)
        self.y = self.x.sum(1, keepdim=True)
        self.values = values

    @property
    def lengths(self) -> np.ndarray:
        return np.arange(ROWS) % 7 + 1

    def loss(self, rows: np.ndarray) -> torch.Tensor:
        return nn.functional.mse_loss(self.network(self.x[rows]), self.y[rows])

    def evaluate(self) -> dict[str, float]:
        if self.values:
            return {"fit": self.values.pop(0)}
        return {"fit": -float(nn.functional.mse_loss(self.network(self.x), self.y))}


def section(**changes: Any) -> FitSection:
    return FitSection.model_validate(
        {
            "epochs": 4,
            "learning_rate": 0.01,
            "batch_size": 8,
            "checkpoint_every_s": 0,
            "precision": "float32",
            **changes,
        }
    )


def train(folder: Path, problem: Line | None = None, **changes: Any) -> tuple[Line, State, FakeRoom]:
    problem, room = problem or Line(), FakeRoom(folder)
    device.seed_everything(3)
    return problem, fit(problem, section(**changes), 3, room.work, room), room


def weights(problem: Line) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in problem.network.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def padding_share(lengths: np.ndarray, batches: list[np.ndarray]) -> float:
    """Share of a plan's cells that are padding, 0 to 1."""
    return 1.0 - float(lengths.sum()) / sum(padded_cells(lengths, rows) for rows in batches)


def test_an_epoch_has_each_row_once_and_hardly_any_padding() -> None:
    lengths = np.random.Generator(np.random.PCG64(1)).poisson(12, 1000) + 1
    plans = [plan_epoch(lengths, 32, 7, epoch) for epoch in (1, 2)]
    for plan in plans:
        assert sorted(np.concatenate(plan)) == list(range(1000))
        assert len(plan) == math.ceil(1000 / 32)
        assert padding_share(lengths, plan) < 0.03
    shuffled = [np.random.Generator(np.random.PCG64(2)).permutation(1000)[i : i + 32] for i in range(0, 1000, 32)]
    assert padding_share(lengths, shuffled) > 0.2, "the measure must see padding where there is some"
    again = plan_epoch(lengths, 32, 7, 1)
    assert all(np.array_equal(a, b) for a, b in zip(plans[0], again, strict=True))
    mates = [{frozenset((a, b)) for batch in plan for a in batch for b in batch if a < b} for plan in plans]
    assert len(mates[0] & mates[1]) < 0.5 * len(mates[0]), "neighbours must change from epoch to epoch"
    means = [lengths[batch].mean() for batch in plans[0]]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5, "lengths must not come in order"


def test_scoring_covers_each_row_once_in_small_batches() -> None:
    lengths = np.array([5, 900, 3, 3, 128, 5000] * 60)
    batches = list(scoring_batches(lengths))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert all(len(rows) == 1 or len(rows) * lengths[rows].max() <= 4096 for rows in batches)


def test_ragged_pads_only_where_needed_and_survives_the_disk(tmp_path: Path) -> None:
    data = ragged([[1, 2, 3], [4], [5, 6, 7]], [0, 1, -1])
    data.write(tmp_path / "x.safetensors")
    back = Ragged.read(tmp_path / "x.safetensors")
    tokens, mask = back.padded(np.array([1, 2]), pad=9)
    assert tokens.tolist() == [[4, 9, 9], [5, 6, 7]]
    assert mask is not None
    assert mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert back.padded(np.array([2, 0]), pad=9)[1] is None
    assert first_rows(back, 2).labels.tolist() == [0, 1]
    (tmp_path / "x.safetensors").write_bytes((tmp_path / "x.safetensors").read_bytes()[:-3])
    with pytest.raises(DataError, match="cannot be read"):
        Ragged.read(tmp_path / "x.safetensors")


def test_the_learning_rate_rises_and_falls() -> None:
    linear = [course(step, 100, 0.1, "linear") for step in range(100)]
    assert linear[0] == 0.1
    assert linear[9] == linear[10] == 1.0
    assert linear[99] == pytest.approx(1 / 90)
    assert course(55, 100, 0.1, "cosine") == pytest.approx(0.5)
    assert course(99, 100, 0.1, "constant") == 1.0
    assert course(0, 100, 0.0, "linear") == 1.0


def test_biases_norms_and_embeddings_do_not_decay_and_the_head_has_its_own_rate() -> None:
    network = nn.ModuleDict(
        {"words": nn.Embedding(5, 4), "norm": nn.LayerNorm(4), "body": nn.Linear(4, 4), "head": nn.Linear(4, 2)}
    )
    groups = parameter_groups(network, 0.1, 0.7, 0.01)
    found = {(group["peak"], group["weight_decay"]): sum(p.numel() for p in group["params"]) for group in groups}
    assert found == {(0.1, 0.0): 20 + 8 + 4, (0.1, 0.01): 16, (0.7, 0.01): 8, (0.7, 0.0): 2}


def after_steps(limit: float, fused: bool) -> torch.Tensor:
    """The weights after three steps of AdamW whose gradients are clipped."""
    problem = Line()
    problem.network.eval()
    groups = parameter_groups(problem.network, 0.1, 0.1, 0.01)
    optimiser = make_optimiser(groups, torch.device("cpu")) if fused else torch.optim.AdamW(groups, fused=False)
    for _ in range(3):
        set_rate(optimiser, 1.0)
        problem.loss(np.arange(8)).backward()
        clip(optimiser, list(problem.network.parameters()), limit)
        optimiser.step()
        optimiser.zero_grad()
    return torch.cat([value.detach().flatten() for value in problem.network.parameters()])


def test_clipping_within_the_optimiser_is_torchs_clipping() -> None:
    assert torch.allclose(after_steps(0.5, fused=True), after_steps(0.5, fused=False), atol=1e-5)
    assert torch.allclose(after_steps(1e6, fused=True), after_steps(1e6, fused=False), atol=1e-5)
    assert not torch.allclose(after_steps(0.5, fused=True), after_steps(1e6, fused=True), atol=1e-3)


def test_an_absent_device_is_a_machine_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has cuda")
    with pytest.raises(MachineError, match="no cuda"):
        device.choose_device("cuda")


def test_a_step_draws_what_its_number_says() -> None:
    def drawn(*numbers: int) -> list[float]:
        device.seed_step(*numbers)
        return [*torch.rand(2).tolist(), np.random.rand(), random.random()]

    assert drawn(5, 7, 0) == drawn(5, 7, 0)
    assert len({drawn(*numbers)[0] for numbers in ((5, 7, 0), (5, 8, 0), (6, 7, 0), (5, 7, 1))}) == 4


def test_seeding_step_after_step_takes_no_memory() -> None:
    device.seed_step(1, 0, 0)
    tracemalloc.start()
    for step in range(200):
        device.seed_step(1, step, 0)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 100_000


def test_training_learns_tells_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    problem, state, room = train(tmp_path, epochs=8)
    assert state.history[-1]["fit"] > state.history[0]["fit"]
    assert state.best == max(row["fit"] for row in state.history)
    problem.network.eval()
    with torch.no_grad():
        assert problem.evaluate()["fit"] == state.best
    assert [event["epoch"] for event in room.events if event["event"] == "train.epoch"] == list(range(1, 9))
    assert "s left" in room.bars[0].updates[-1][1]
    assert room.bars[0].updates[-1][0] == room.bars[0].total == state.step
    assert state.peak_memory_mb > 10


def test_early_stopping_waits_as_told_and_returns_the_best(tmp_path: Path) -> None:
    problem, state, _ = train(tmp_path, Line([0.1, 0.5, 0.4, 0.5, 0.9]), epochs=5, patience=2)
    assert [row["epoch"] for row in state.history] == [1, 2, 3, 4], "an equal epoch is no better one"
    assert state.best_epoch == 4
    other, again, _ = train(tmp_path / "b", Line([0.1, 0.5, 0.4, 0.4, 0.9]), epochs=5, patience=2)
    assert again.best_epoch == 2
    assert not equal(weights(problem), weights(other))


def test_a_metric_may_be_better_when_lower(tmp_path: Path) -> None:
    problem = Line([0.5, 0.1, 0.4, 0.4])
    problem.higher = False
    _, state, _ = train(tmp_path, problem, patience=2)
    assert (state.best, state.best_epoch, len(state.history)) == (0.1, 2, 4)


def test_steps_end_the_training_within_a_pass_or_after_more_passes(tmp_path: Path) -> None:
    _, state, room = train(tmp_path / "less", steps=11)
    assert (state.step, [row["epoch"] for row in state.history]) == (11, [1, 2])
    assert room.bars[0].total == 11
    _, more, _ = train(tmp_path / "more", steps=33, epochs=1)
    assert (more.step, len(more.history)) == (33, 5)


def test_a_training_of_so_many_steps_is_resumed_exactly(tmp_path: Path) -> None:
    whole, _, _ = train(tmp_path / "whole", steps=11)
    interrupted(tmp_path / "broken", 9, steps=11)
    resumed, _, _ = train(tmp_path / "broken", steps=11)
    assert equal(weights(whole), weights(resumed))


def test_a_training_counts_its_tokens(tmp_path: Path) -> None:
    problem, state, room = train(tmp_path, epochs=2)
    assert state.tokens == 2 * int(problem.lengths.sum())
    assert "tokens/s" in room.bars[0].updates[-1][1]


def test_a_listener_stops_the_training(tmp_path: Path) -> None:
    room, seen = FakeRoom(tmp_path), []

    def listener(epoch: int, metrics: dict[str, float]) -> bool:
        seen.append(epoch)
        return epoch == 2

    state = fit(Line(), section(), 3, room.work, room, listener)
    assert seen == [1, 2] == [row["epoch"] for row in state.history]


def test_a_loss_that_is_no_number_says_what_to_do(tmp_path: Path) -> None:
    problem = Line()
    problem.y[:] = math.nan
    with pytest.raises(Diverged, match="diverged") as told:
        train(tmp_path, problem)
    assert "learning_rate" in told.value.mistakes[0].do


def interrupted(folder: Path, at: int, **changes: Any) -> None:
    """A training that ends with an exception at step `at`, after the checkpoints of the steps before it."""

    class Broken(Line):
        asked = 0

        def loss(self, rows: np.ndarray) -> torch.Tensor:
            self.asked += 1
            if self.asked > at:
                raise KeyboardInterrupt
            return super().loss(rows)

    with pytest.raises(KeyboardInterrupt):
        train(folder, Broken(), **changes)


@pytest.mark.parametrize("at", [1, 7, 8, 9, 20, 31])
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path: Path, at: int) -> None:
    whole, expected, _ = train(tmp_path / "whole")
    interrupted(tmp_path / "broken", at)
    resumed, state, room = train(tmp_path / "broken")
    assert equal(weights(whole), weights(resumed))
    assert [row["fit"] for row in state.history] == [row["fit"] for row in expected.history]
    assert f"step {at} of" in room.said[0]


@pytest.mark.parametrize("harm", ["torn tensors", "torn json", "changed json", "no tensors", "changed best"])
def test_a_damaged_checkpoint_is_left_for_the_one_before(tmp_path: Path, harm: str) -> None:
    whole, _, _ = train(tmp_path / "whole")
    interrupted(tmp_path / "broken", 20)
    folder = tmp_path / "broken" / "work" / "checkpoints"
    newest = max(folder.glob("step-*.json"))
    tensors = newest.with_suffix(".safetensors")
    if harm == "torn tensors":
        tensors.write_bytes(tensors.read_bytes()[:-100])
    elif harm == "torn json":
        newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    elif harm == "changed json":
        newest.write_text(newest.read_text().replace('"step": 20', '"step": 21'))
    elif harm == "no tensors":
        tensors.unlink()
    else:
        best = max(folder.glob("best-*.safetensors"))
        best.write_bytes(best.read_bytes()[:-4] + b"\x00\x01\x02\x03")
    resumed, _, room = train(tmp_path / "broken")
    assert equal(weights(whole), weights(resumed))
    # every kept checkpoint points to the same best file: without it the training begins anew, and still ends equal
    assert (not room.said) if harm == "changed best" else ("step 19 of" in room.said[0])


def test_checkpoints_of_another_training_are_not_taken(tmp_path: Path) -> None:
    interrupted(tmp_path, 20)
    _, _, room = train(tmp_path, learning_rate=0.02)
    assert room.said == []


def test_only_two_checkpoints_and_the_best_are_kept(tmp_path: Path) -> None:
    _, state, room = train(tmp_path)
    names = sorted(path.name for path in (room.work / "checkpoints").iterdir())
    assert len([name for name in names if name.endswith(".json")]) == 2
    assert len([name for name in names if name.startswith("best-")]) <= 2
    assert state.best_file is not None
    assert state.best_file["name"] in names
    assert not [name for name in names if name.endswith(".tmp")]
    assert Checkpoints(room.work / "checkpoints", "another").latest() is None


KILLED = """
import sys
from pathlib import Path
from tests.killer import arm
from tests.test_engine import train, weights
from safetensors.torch import save_file
folder, at, when = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if at:
    arm(at, when)
problem, _, _ = train(folder)
save_file(weights(problem), folder / "final.safetensors")
"""


def run_killed(folder: Path, at: int, when: str = "before") -> int:
    arguments = [sys.executable, "-c", KILLED, str(folder), str(at), when]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, timeout=120).returncode


def test_kill_9_at_writes_and_renames_changes_no_bit(tmp_path: Path) -> None:
    whole, _, _ = train(tmp_path / "whole")
    for at, when in ((3, "after"), (57, "before")):
        assert run_killed(tmp_path / "killed", at, when) == -signal.SIGKILL
    assert run_killed(tmp_path / "killed", 0) == 0
    from safetensors.torch import load_file

    assert equal(load_file(tmp_path / "killed" / "final.safetensors"), weights(whole))


@pytest.mark.prove
def test_kill_9_many_times_changes_no_bit(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    whole, _, _ = train(tmp_path / "whole")
    dice = random.Random(4)
    for trial in range(10):
        folder = tmp_path / str(trial)
        kills = [run_killed(folder, dice.randint(1, 120), dice.choice(["before", "after"])) for _ in range(2)]
        assert -signal.SIGKILL in kills
        assert run_killed(folder, 0) == 0
        assert equal(load_file(folder / "final.safetensors"), weights(whole))


class Greedy(Line):
    """Each row of a batch takes 80 MB."""

    def loss(self, rows: np.ndarray) -> torch.Tensor:
        wide = self.x[rows].repeat(1, 5_000_000)
        return super().loss(rows) + 0.0 * wide[:, :1].sum()


SHORT_OF_MEMORY = """
import resource, sys
from pathlib import Path
import psutil
from tests.test_engine import Greedy, train
train(Path(sys.argv[1]) / "first", epochs=1)  # all that is loaded on the way
room_for = int(float(sys.argv[2]) * 1e6)
resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + room_for,) * 2)
from llmops.core.errors import MachineError
try:
    problem, state, room = train(Path(sys.argv[1]) / "short", Greedy(), epochs=2)
except MachineError as error:
    print(error.mistakes[0].what, error.mistakes[0].do)
else:
    print(state.parts, len(state.history), room.said)
"""


def short_of_memory(folder: Path, room_mb: int) -> str:
    command = [sys.executable, "-c", SHORT_OF_MEMORY, str(folder), str(room_mb)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's address space")
def test_memory_that_runs_out_halves_the_batch_and_the_training_goes_on(tmp_path: Path) -> None:
    told = short_of_memory(tmp_path, 560)
    assert re.match(r"[24] 2 \['memory ran out: batches are computed in [24] parts from here on", told), told


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's address space")
def test_memory_for_not_even_one_row_is_a_machine_error_with_the_numbers(tmp_path: Path) -> None:
    told = short_of_memory(tmp_path, 60)
    assert re.match(r"Memory ran out at a batch of \d+: [\d,]+ MB are held, the device has [\d,]+ MB", told), told
    assert "train.batch_size" in told


def test_pieces_of_a_batch_have_its_gradient() -> None:
    def gradient(parts: int) -> torch.Tensor:
        problem = Line()
        problem.network.eval()
        loop = Stepper(problem, section(), 3, 10, 8, World(), Clock(torch.device("cpu")))
        loop.parts = parts
        loss = loop.gradient(np.arange(10), 0)
        found = [value.grad.flatten() for value in problem.network.parameters() if value.grad is not None]
        return torch.cat([*found, loss[None]])

    assert torch.allclose(gradient(1), gradient(4), atol=1e-6)
    assert torch.allclose(gradient(1), gradient(16), atol=1e-6)


def test_every_row_counts_the_same_in_batches_of_any_size() -> None:
    """The gradients of an epoch's batches, taken together, are the gradient of all rows' mean, as often as there are
    steps."""
    problem = Line()
    problem.network.eval()
    stepper = Stepper(problem, section(), 3, 10, problem.steps(8), World(), Clock(torch.device("cpu")))
    batches = problem.plan(8, 3, 1)
    assert len({len(rows) for rows in batches}) > 1
    for rows in batches:
        stepper.gradient(rows, 0)
    summed = [value.grad.clone() for value in problem.network.parameters() if value.grad is not None]
    problem.network.zero_grad()
    (problem.loss(np.arange(ROWS)) * len(batches)).backward()
    for value, sum_ in zip(problem.network.parameters(), summed, strict=True):
        assert value.grad is not None
        assert torch.allclose(value.grad, sum_, atol=1e-5)


def test_a_batch_size_is_chosen_once_and_kept_for_a_resume(tmp_path: Path) -> None:
    _, state, room = train(tmp_path, batch_size="auto")
    assert room.said[0].startswith(f"batch size {state.machine['batch_size']} (tokens/s by size: 8: ")
    (room.work / "choices.json").write_text(json.dumps({"batch_size": 16}))
    _, again, other = train(tmp_path, batch_size="auto")
    assert again.machine["batch_size"] == 16 and not other.said, "another size is another training"
    assert again.history[0]["learning_rate"] < 0.01 * math.sqrt(16 / 32)


def test_a_batch_that_cannot_fit_is_refused_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "limit_mb", lambda device: 1.0)
    with pytest.raises(MachineError, match=r"A batch of 8 rows takes about [\d,]+ MB; 1 MB may be used"):
        train(tmp_path, batch_size="auto")


def test_precision_goes_by_real_steps_and_the_verdict_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "bfloat16_gain", lambda kind: 9.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(verdict, "LEAST_S", 0.05)
    _, state, room = train(tmp_path / "first", precision="auto")
    said = next(line for line in room.said if line.startswith("computing in "))
    gain = float(said.split(" is ")[1].split()[0])
    assert state.machine["precision"] == ("bfloat16" if gain >= choices.GAIN else "float32")
    _, again, room = train(tmp_path / "second", precision="auto")
    assert again.machine["precision"] == state.machine["precision"]
    told = next(line for line in room.said if line.startswith("computing in "))
    assert f"was, when it was measured here, {gain:.2f} times" in told
    (tmp_path / "cache" / "llmops" / "precision.json").write_text("not JSON")
    assert " is " in next(line for line in train(tmp_path / "third", precision="auto")[2].said if "computing" in line)


@pytest.mark.parametrize(("float32", "bfloat16", "new"), [(4.0, 2.0, 3.0), (2.0, 1.0, 30.0), (1.0, 3.0, 0.0)])
def test_what_a_new_shape_costs_counts_as_in_a_training(float32: float, bfloat16: float, new: float) -> None:
    """bfloat16's products are made ready for each new shape; one shape alone would say that it is twice as fast."""
    now, seen = [0.0], set[int]()
    dice = random.Random(1)
    batches = [np.arange(dice.randint(1, 100)) for _ in range(9999)]

    def step(precision: str, rows: np.ndarray) -> None:
        if precision == "float32":
            now[0] += float32 / 100
            return
        now[0] += (bfloat16 + new * (len(rows) not in seen)) / 100
        seen.add(len(rows))

    gain = verdict.gain_of(iter(batches), step, 1.25, clock=lambda: now[0])
    assert float32 / (bfloat16 + new) - 1e-9 <= gain <= float32 / bfloat16 + 1e-9
    assert 2 * verdict.LEAST_S <= now[0] <= 2 * verdict.MOST_S + 1


def test_the_time_is_accounted_for(tmp_path: Path) -> None:
    _, state, _ = train(tmp_path, epochs=6)
    assert set(state.spent) == set(PHASES)
    assert 0.5 * state.seconds < sum(state.spent.values()) <= 1.05 * state.seconds
    assert state.spent["checkpoint"] > 0 and state.spent["evaluation"] > 0
    assert [point["step"] for point in state.curve] == list(range(1, state.step + 1))
    assert all(point["tokens_per_s"] > 0 and point["memory_mb"] > 10 for point in state.curve)


def test_operations_are_counted_as_they_are_done(tmp_path: Path) -> None:
    """A linear layer of 4 by 8 and one of 8 by 1 on n rows: 2 n (4 * 8 + 8) forward, twice that backward, but nothing
    for the gradient of the input."""
    _, state, _ = train(tmp_path)
    problem = Line()
    rows = sorted(problem.plan(8, 3, 1), key=problem.cells)[len(problem.plan(8, 3, 1)) // 2]
    wanted = 2 * len(rows) * (3 * (4 * 8 + 8) - 4 * 8)
    assert state.machine["flops_per_token"] * problem.tokens(rows) == pytest.approx(wanted)
    assert 0 < state.machine["utilisation"] < 1
