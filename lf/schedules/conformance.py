"""The contract of schedules, as a test class to inherit."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from lf import schedules
from lf.core.errors import UserError
from lf.schedules import Schedule, Times


class ScheduleConformance:
    """Tests of one schedule: inherit it in a test file, set ``schedule``, and run pytest.

    Example:
        >>> from lf import schedules
        >>> from lf.schedules.conformance import ScheduleConformance
        >>> class TestMine(ScheduleConformance):
        ...     schedule = schedules.create("mine", streams=3)

    Attributes:
        schedule: the object under test. Write one class per set of parameters that matters.
        steps: numbers of steps that are tested; change them if your path does not allow these.
    """

    schedule: Schedule
    steps: tuple[int, ...] = (12, 60)

    def test_its_name_is_the_entry_point_that_finds_it(self) -> None:
        assert type(schedules.create(self.schedule.name)) is type(self.schedule)

    def test_it_cannot_be_changed(self) -> None:
        for field in type(self.schedule).model_fields:
            with pytest.raises(ValidationError):
                setattr(self.schedule, field, getattr(self.schedule, field))

    def test_it_equals_its_own_dump(self) -> None:
        assert type(self.schedule)(**self.schedule.model_dump()) == self.schedule
        assert type(self.schedule).model_validate_json(self.schedule.model_dump_json()) == self.schedule

    def test_training_times_follow_from_the_generator_alone(self) -> None:
        first, again, other = self.sample(seed=1), self.sample(seed=1), self.sample(seed=2)
        assert first.t.equal(again.t) and first.weight.equal(again.weight)
        assert not first.t.equal(other.t)

    def test_training_times_and_weights_are_in_range(self) -> None:
        for n in (1, 2000):
            t, weight = self.sample(n=n)
            assert t.shape == weight.shape == (n, self.schedule.streams)
            assert t.dtype == weight.dtype == torch.float32
            assert t.min() >= 0 and t.max() <= 1
            assert weight.min() >= 0 and weight.isfinite().all()
            assert (weight > 0).any(1).all(), "a sample that trains nothing"

    def test_its_path_runs_from_noise_to_the_end_of_its_curve(self) -> None:
        if not self.schedule.has_path:
            with pytest.raises(UserError):
                self.schedule.path(self.steps[0])
            return
        for steps in map(self.schedule.steps_from, self.steps):
            path = self.schedule.path(steps)
            assert path.dtype == torch.float64 and path.shape == (steps + 1, self.schedule.streams)
            assert (path[0] == 0).all(), "a path starts at noise, exactly"
            assert (path.diff(dim=0) >= 0).all(), "time never runs backwards"
            assert path[-1].equal(self.schedule.curve(torch.ones((), dtype=torch.float64)))
            trained = (self.sample().weight > 0).any(0)
            assert (path[-1][trained] > 0).all(), "a stream that is trained is never made"

    def test_its_derivative_is_the_slope_of_its_curve(self) -> None:
        if self.schedule.has_path:
            u = self.inside().requires_grad_()
            slopes = [torch.autograd.grad(t.sum(), u, retain_graph=True)[0] for t in self.schedule.curve(u).unbind(-1)]
            torch.testing.assert_close(self.schedule.derivative(u.detach()), torch.stack(slopes, -1))

    def test_its_inverse_if_it_has_one_leads_back_to_the_time(self) -> None:
        if hasattr(self.schedule, "inverse"):
            t = torch.cat([torch.tensor([0.0, 1.0]).double(), self.inside()])
            for stream in range(self.schedule.streams):
                back = self.schedule.curve(self.schedule.inverse(t, stream))[..., stream]
                torch.testing.assert_close(back, t, rtol=0, atol=1e-9)

    def sample(self, seed: int = 0, n: int = 2000) -> Times:
        return self.schedule.sample(n, generator=torch.Generator().manual_seed(seed))

    def inside(self) -> Tensor:
        """Random times, which never hit a kink, where slopes are one-sided."""
        return torch.rand(500, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
