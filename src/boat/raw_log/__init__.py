"""The raw log: loaded events and products in append-only tables, each row with its file and line."""

from boat.raw_log.loading import FileLoad, LoadReport, load

__all__ = ["FileLoad", "LoadReport", "load"]
