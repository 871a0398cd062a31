"""The state of a directory as plain values, whose keys are stable: for JSON, tables and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envstart.engine import plan as plans
from envstart.engine.plan import Plan

Record = dict[str, Any]


def rows(plan: Plan, states: Sequence[plans.Observation]) -> list[Record]:
    """One record for each wanted directory."""
    name, levels = plan.environment.name, plans.LEVELS
    return [
        record(name, plan.backend, step, step.point, state, levels.get(state.status, "critical"))
        for step, state in zip(plan.steps, states)
    ]


def record(
    environment: str, backend: str, step: plans.Step | None, point: str, state: plans.Observation, level: str
) -> Record:
    """Plain values of a step, or of a directory that belongs to none; the keys are stable."""
    return {
        "environment": environment,
        "backend": backend,
        "directory": step.name if step else "",
        "point": point,
        "source": step.source if step else "",
        "fstype": step.fstype if step else "",
        "state": state.status,
        "found": state.detail,
        "level": level,
    }
