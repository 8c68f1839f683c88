import pytest

from koboshi_runtime.config_values import TrainSettings
from koboshi_runtime.estimate_night import night_hours, night_line


def test_hours_follow_from_weights_tokens_and_speed() -> None:
    once, twice = (TrainSettings(epochs=epochs, contrast=0) for epochs in (1, 2))
    small = night_hours(135e6, gate_tasks=300, train=once, operations_a_second=175e9)
    # What training and sixteen runs at once really made on the machine that the shares come from: 425 and 223 tokens/s.
    assert small.training * 3600 == pytest.approx(300 * 265 / 425, rel=0.4)
    assert small.gate * 3600 == pytest.approx(2 * 300 * 130 / 223, rel=0.1)
    large = night_hours(7e9, gate_tasks=300, train=twice, operations_a_second=175e9)
    assert large.training / small.training == pytest.approx(2 * 7e9 / 135e6)
    said = "a night on 300 runs, 300 gate tasks: about 12.2 hours (training 7.1, export 0.1, gate 5.1)"
    assert night_line(large) == said
    for begins, longer in ((0.0, 1.55), (0.5, 1.275)):
        train = TrainSettings(epochs=2, contrast_from=begins)
        contrasted = night_hours(7e9, gate_tasks=300, train=train, operations_a_second=175e9)
        assert contrasted.training == pytest.approx(longer * large.training)
