"""Warehouses: DuckDB on a laptop, Snowflake in the cloud."""

from boat.warehouse.base import Transaction, Warehouse, connect

__all__ = ["Transaction", "Warehouse", "connect"]
