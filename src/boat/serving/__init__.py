"""Serving: endpoints on a local host or on SageMaker."""

from boat.serving.base import ServedModel, Serving, connect, invoke

__all__ = ["ServedModel", "Serving", "connect", "invoke"]
