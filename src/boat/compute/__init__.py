"""Compute: jobs run as subprocesses on a laptop, on AWS Batch or on ECS."""

from boat.compute.base import Compute, JobResult, JobSpec, connect

__all__ = ["Compute", "JobResult", "JobSpec", "connect"]
