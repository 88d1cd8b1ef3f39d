"""Boat: from shopper events to live recommendations and purchase intent. This package is free of any orchestrator."""

__version__ = "0.1.0"
