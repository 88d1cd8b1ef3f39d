"""Where jobs run: a subprocess on a laptop, AWS Batch or ECS."""

from boat.compute.base import Compute, JobResult, JobSpec, connect

__all__ = ["Compute", "JobResult", "JobSpec", "connect"]
