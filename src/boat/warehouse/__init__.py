"""Warehouses: DuckDB on a laptop, Snowflake in the cloud."""

from boat.warehouse.base import Session, Warehouse, connect

__all__ = ["Session", "Warehouse", "connect"]
