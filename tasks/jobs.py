"""Jobs of a flow run. Without Prefect: `boat.compute.connect(url).run(spec, print)`."""

from collections.abc import Callable
from dataclasses import replace

from prefect import get_run_logger

from boat import memory, progress
from boat.compute import JobResult, JobSpec
from boat.compute.progress import parse_stage
from tasks.blocks import Platform


def run_job(platform: Platform, spec: JobSpec, on_line: Callable[[str], None]) -> JobResult:
    """Run a job on the platform's compute back end. Report its progress, and log its time and cost."""

    def pass_on(line: str) -> None:
        stage = parse_stage(line)
        if stage:
            progress.pass_on(stage)
        else:
            on_line(line)

    if platform.compute_url.startswith("local:"):
        spec = replace(spec, environment={**spec.environment, "BOAT_MEMORY": str(platform.memory_bytes)})
    result = platform.compute.run(spec, pass_on)
    get_run_logger().info("%s: %s (%s)", spec.name, summary(result), result.job)
    return result


def summary(result: JobResult) -> str:
    """Return the time, the attempts, the cost and the memory of a job, as text."""
    attempts = f" in {result.attempts} attempts" if result.attempts > 1 else ""
    cost = f", {result.dollars:.2f} USD" if result.dollars is not None else ""
    used = f", {result.cpu_seconds:,.0f} s of CPU" if result.cpu_seconds is not None else ""
    peak = f", {memory.shown(result.peak_bytes)} of memory" if result.peak_bytes else ""
    return f"{result.seconds:,.0f} s{attempts}{cost}{used}{peak}"
