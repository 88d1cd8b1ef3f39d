"""Endpoints: a host on a laptop, or SageMaker."""

from boat.serving.base import ServedModel, Serving, connect, invoke

__all__ = ["ServedModel", "Serving", "connect", "invoke"]
