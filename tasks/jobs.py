"""Jobs of a flow run. Without Prefect: `boat.compute.connect(url).run(spec, print)`."""

from collections.abc import Callable

from prefect import get_run_logger

from boat.compute import JobResult, JobSpec
from tasks.blocks import Platform


def run_job(platform: Platform, spec: JobSpec, on_line: Callable[[str], None]) -> JobResult:
    """Run a job where the platform says, and log what it took."""
    result = platform.compute.run(spec, on_line)
    get_run_logger().info("%s: %s (%s)", spec.name, summary(result), result.job)
    return result


def summary(result: JobResult) -> str:
    """What a job took, in words."""
    attempts = f" in {result.attempts} attempts" if result.attempts > 1 else ""
    cost = f", {result.dollars:.2f} USD" if result.dollars is not None else ""
    return f"{result.seconds:,.0f} s{attempts}{cost}"
