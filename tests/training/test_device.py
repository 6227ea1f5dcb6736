"""What differs where a network runs on another device than the processor. `meta` stands for it: it has no values."""

from unittest.mock import Mock

import pytest
import torch
from conftest import tiny
from lightning_fabric import Fabric
from tiny_windows import SPLIT
from torch import nn

from utils.data_processing import Windows
from utils.dataset.record import Record
from utils.dataset.statistics import Statistics
from utils.models import fast_layers
from utils.models.fast_layers import LSTMLastOutput
from utils.models.pixel_lstm import PixelLSTM
from utils.training.loop import DeviceSum, train_epoch, validate


@pytest.fixture
def windows() -> Windows:
    ds = tiny()
    return Windows(Record(ds, Statistics.fit(ds, SPLIT)), lead_days=3, input_days=3)


def test_no_step_waits_for_a_number_of_the_device(windows, monkeypatch):
    """A number of `meta` cannot be read, so that any step that waited for one would fail."""
    reads = []
    monkeypatch.setattr(DeviceSum, "read", lambda self: reads.append(len(self._later)) or 1.0)
    device = torch.device("meta")
    fabric = Mock(Fabric, device=device, global_rank=0, world_size=1, backward=lambda loss: loss.backward())
    model = PixelLSTM(4).to(device)
    optimiser = torch.optim.SGD(model.parameters())
    training = windows.in_periods(SPLIT.train, "training")
    _, steps = train_epoch(fabric=fabric, model=model, optimiser=optimiser, training=training, batch_size=16)
    assert steps == 4 and reads == [4]  # 58 samples
    validate(fabric, model, windows.in_periods(SPLIT.val, "validation"), batch_size=16)
    assert reads == [4, 2, 2, 2]  # 30 samples


def test_a_sum_is_that_of_its_numbers_in_64_bit_and_can_go_on():
    total, expected = DeviceSum(), 0.0
    for number in torch.rand(40, generator=torch.Generator().manual_seed(0)).requires_grad_():
        total.add(number)
        expected += number.item()
        if number > 0.8:
            assert total.read() == expected
    assert total.read() == total.read() == expected


def test_on_another_device_an_lstm_is_torchs_own(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("this is the way of a processor")

    monkeypatch.setattr(fast_layers, "run_cells", refuse)
    with torch.device("meta"):
        state = LSTMLastOutput(5, 7)(torch.rand(3, 4, 5))
    assert state.shape == (3, 7) and state.device.type == "meta"
    with pytest.raises(AssertionError, match="way of a processor"):
        LSTMLastOutput(5, 7)(torch.rand(3, 4, 5))


@pytest.mark.parametrize("days", [1, 6])
def test_on_a_processor_an_lstm_and_torchs_own_are_equal(days):
    torch.manual_seed(0)
    ours = LSTMLastOutput(5, 7).double()
    theirs = nn.LSTM(5, 7, batch_first=True).double()
    theirs.load_state_dict(ours.state_dict())
    inputs = [torch.rand(3, days, 5, dtype=torch.float64).requires_grad_() for _ in range(2)]
    inputs[1].data = inputs[0].data.clone()
    states = [ours(inputs[0]), theirs(inputs[1])[0][:, -1]]
    torch.testing.assert_close(*states, rtol=1e-12, atol=1e-14)
    for state in states:
        state.square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-12, atol=1e-14)
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        gradient = torch.zeros_like(other) if own.grad is None else own.grad  # no recurrence on a single day
        torch.testing.assert_close(gradient, other.grad, rtol=1e-12, atol=1e-14)
