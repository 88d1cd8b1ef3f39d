"""Estimate the resources and costs of larger shops from measured rates (`scale.json`) and list prices.

The script runs no pipeline. It prints a Markdown table, which is in docs/scale.md, to stderr, and the figures as the
last line.

    python benchmarks/scale.py [--inputs benchmarks/scale.json] [--prices deployments/aws/prices.json]
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bars import at_most, conclude

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from deployments.aws import template  # noqa: E402 -- deployments are not installed
from deployments.aws.plan import Plan  # noqa: E402

SIZES = ("XS", "S", "M", "L", "XL", "2XL", "3XL", "4XL", "5XL", "6XL")
"""Sizes of Snowflake warehouses. Each has twice the machines and twice the credits per hour of the size before."""
MEASURED_CORES = 2
STANDING = ("Prefect", "Mlflow", "Worker", "Database", "Namespace")
"""Charges of the plan that do not depend on events."""


@dataclass(frozen=True)
class Scale:
    """Resources and costs of a shop. Costs are in US dollars at list prices.

    Attributes:
        events_a_day: Mean number of events per day.
        warehouse: Size of the Snowflake warehouse, if an hourly ingestion only builds new events.
        ingestion_minutes: Minutes of SQL in an hourly ingestion on that warehouse.
        rebuilding: Size of the warehouse that rebuilds all retained events within an hour.
        training_events: Product events that a night's training reads.
        gpus: GPUs in parallel.
        training_hours: Hours of training per night.
        requests_a_second: Requests per second in the busiest minute.
        instances: Instances of each of the two endpoints.
        standing: Cost of Prefect, MLflow and their database per month.
        warehouse_cost: Cost of the warehouse per month.
        training_cost: Cost of the training per month.
        endpoint_cost: Cost of the endpoints and /predict per month.
        storage_cost: Cost of the storage per month, at the end of the retention time.
        total: Sum of all costs per month.
        per_million_events: Total cost per million events.
        per_night: Cost of one retrain and promotion: warehouse, GPUs and the containers of the flow runs.
    """

    events_a_day: float
    warehouse: str
    ingestion_minutes: float
    rebuilding: str
    training_events: float
    gpus: int
    training_hours: float
    requests_a_second: float
    instances: int
    standing: float
    warehouse_cost: float
    training_cost: float
    endpoint_cost: float
    storage_cost: float
    total: float
    per_million_events: float
    per_night: float


class Arithmetic:
    """Estimates from rates and prices.

    Args:
        inputs: Content of `scale.json`.
        prices: Content of `prices.json`.
    """

    def __init__(self, inputs: Mapping[str, Any], prices: Mapping[str, Any]) -> None:
        self.rates = {name: entry["value"] for part in ("measured", "assumed") for name, entry in inputs[part].items()}
        self.usd = {name: price["usd"] for name, price in prices["prices"].items()}
        self.prices = prices
        self.hours, self.nights = prices["hours_per_month"], prices["nights_per_month"]

    def scale(self, events_a_year: float) -> Scale:
        """Estimate the resources and costs of a shop."""
        a_day = events_a_year / 365
        size, seconds = self.warehouse(a_day / 24)
        if size is None:
            raise SystemExit(f"No Snowflake warehouse is large enough for {events_a_year:,.0f} events a year.")
        events, gpus, hours = self.training(a_day)
        sessions = a_day * self.rates["sessions_per_event"]
        requests = sessions * self.rates["requests_per_session"]
        peak, instances = self.endpoint(requests)
        credits_an_hour = 2.0 ** SIZES.index(size)
        # In addition to the hourly loads, the night reads the training window once.
        night_seconds = self._seconds(events, credits_an_hour)
        at_least = self.rates["warehouse_seconds_at_least"]
        warehouse_hours = (24 * self.nights * max(seconds, at_least) + self.nights * night_seconds) / 3600
        containers = self._containers()
        costs = {
            "standing": self.standing(),
            "warehouse_cost": warehouse_hours * credits_an_hour * self.usd["snowflake_credit"],
            "training_cost": self.nights * (gpus * hours * self.usd["ec2.g4dn.xlarge_spot_hour"] + containers),
            "endpoint_cost": self.endpoint_cost(instances, requests * self.nights),
            "storage_cost": self.storage(a_day),
        }
        total = sum(costs.values())
        night_credits = max(night_seconds, at_least) / 3600 * credits_an_hour
        night = gpus * hours * self.usd["ec2.g4dn.xlarge_spot_hour"] + containers
        return Scale(
            events_a_day=a_day,
            warehouse=size,
            ingestion_minutes=seconds / 60,
            rebuilding=self.rebuilding(a_day),
            training_events=events,
            gpus=gpus,
            training_hours=hours,
            requests_a_second=peak,
            instances=instances,
            **costs,
            total=total,
            per_million_events=total / (a_day * self.nights / 1e6),
            per_night=night + night_credits * self.usd["snowflake_credit"],
        )

    def warehouse(self, events: float) -> tuple[str | None, float]:
        """Return the smallest warehouse that is fast enough, and its seconds. `None` if all are too slow."""
        for power, size in enumerate(SIZES):
            seconds = self._seconds(events, 2.0**power)
            if seconds <= self.rates["hour_seconds_at_most"]:
                return size, seconds
        return None, math.inf

    def rebuilding(self, events_a_day: float) -> str:
        """Return the size of the warehouse that rebuilds every table from all retained events each hour."""
        size, _seconds = self.warehouse(events_a_day * self.rates["retained_days"])
        return size or "no size does"

    def _seconds(self, events: float, machines: float) -> float:
        passes = self.rates["warehouse_passes"] * self.rates["sql_seconds_per_million_events"]
        seconds = events / 1e6 * (self.rates["load_seconds_per_million_events"] + passes)
        return float(seconds * MEASURED_CORES / (self.rates["warehouse_core_equivalents"] * machines))

    def training(self, events_a_day: float) -> tuple[float, int, float]:
        """Return the events, parallel GPUs and hours of a night's training."""
        read = events_a_day * self.rates["product_events_share"] * self.rates["training_days"]
        events = min(read, self.rates["trained_events_at_most"])
        rate = self.rates["training_events_per_second"] * self.rates["gpu_speedup"]
        alone = events * self.rates["epochs"] / rate / 3600
        gpus = 1
        while self._on(gpus, alone) > self.rates["training_hours_at_most"]:
            gpus += 1
        return events, gpus, self._on(gpus, alone)

    def _on(self, gpus: int, hours_alone: float) -> float:
        return float(hours_alone / (1 + (gpus - 1) * self.rates["gpu_scaling"]))

    def endpoint(self, requests_a_day: float) -> tuple[float, int]:
        """Return the requests per second in the busiest minute, and the instances for them."""
        peak = requests_a_day / 86400 * self.rates["peak_over_mean"]
        rate = self.rates["requests_per_second"] * self.rates["use_of_instance"]
        return peak, max(self.rates["instances_at_least"], math.ceil(peak / rate))

    def endpoint_cost(self, instances: int, requests: float) -> float:
        """Return the cost per month of both endpoints, and of API Gateway and Lambda for every request."""
        millions = requests / 1e6
        lambda_seconds = requests * self.prices["usage"]["predict_seconds"]["value"]
        return float(
            2 * instances * self.hours * self.usd["sagemaker.ml.c6i.large_hour"]
            + millions * (self.usd["http_api_million_requests"] + self.usd["lambda_million_requests"])
            + lambda_seconds * 0.5 * self.usd["lambda_arm_gb_second"]
        )

    def storage(self, events_a_day: float) -> float:
        """Return the cost per month of S3 files and Snowflake tables at the end of the retention time."""
        events = events_a_day * self.rates["retained_days"]
        landing = events * self.rates["bytes_per_event"] / 1e9 * self.usd["s3_standard_gb_month"]
        return float(landing + events * self.rates["stored_bytes_per_event"] / 1e12 * self.usd["snowflake_tb_month"])

    def standing(self) -> float:
        """Return the cost per month that does not depend on events."""
        whole = template.load()
        plan = Plan(whole, template.parameters(whole, {"ImageTag": "current"}), self.prices)
        return sum(plan.cost(charge) for charge in plan.charges() if charge.name.startswith(STANDING))

    def _containers(self) -> float:
        """Return the cost of a night's flow runs: an hour on 2 cores and 16 GB, a quarter hour on 2 cores and 8 GB."""
        cpu, memory = self.usd["fargate_vcpu_hour"], self.usd["fargate_gb_hour"]
        return float((2 * cpu + 16 * memory) + 0.25 * (2 * cpu + 8 * memory))


ROWS = {
    "events a day": "events_a_day",
    "Snowflake warehouse": "warehouse",
    "minutes of SQL in an hourly ingestion": "ingestion_minutes",
    "Snowflake warehouse, if all is rebuilt each hour": "rebuilding",
    "product events a training reads": "training_events",
    "T4 GPUs": "gpus",
    "hours of training a night": "training_hours",
    "requests a second, busiest minute": "requests_a_second",
    "instances behind each endpoint": "instances",
    "Prefect, MLflow, PostgreSQL (USD a month)": "standing",
    "Snowflake (USD a month)": "warehouse_cost",
    "nightly training (USD a month)": "training_cost",
    "endpoints and /predict (USD a month)": "endpoint_cost",
    "storage of two years (USD a month)": "storage_cost",
    "**all (USD a month)**": "total",
    "**USD per million events**": "per_million_events",
    "**USD per nightly run**": "per_night",
}


def rounded(value: Any) -> str:
    """Format a figure with about three significant digits."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.01 else f"{value:.4f}"


def table(scales: Mapping[str, Scale]) -> str:
    """Render a Markdown table with a column per shop."""
    lines = ["| events a year | " + " | ".join(scales) + " |", "| --- |" + " ---: |" * len(scales)]
    for title, name in ROWS.items():
        lines.append(f"| {title} | " + " | ".join(rounded(getattr(scale, name)) for scale in scales.values()) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=Path, default=ROOT / "benchmarks" / "scale.json")
    parser.add_argument("--prices", type=Path, default=ROOT / "deployments" / "aws" / "prices.json")
    options = parser.parse_args()
    inputs, prices = json.loads(options.inputs.read_text()), json.loads(options.prices.read_text())
    arithmetic = Arithmetic(inputs, prices)
    scales = {shop["name"]: arithmetic.scale(shop["events_per_year"]) for shop in inputs["shops"]}
    print(table(scales), file=sys.stderr)
    figures = {
        f"{field.name}_{name}": getattr(scale, field.name)
        for name, scale in scales.items()
        for field in fields(scale)
        if field.type in ("int", "float", int, float)
    }
    longest = max(scale.training_hours for scale in scales.values())
    return conclude(
        "scale", figures, at_most("training_hours", longest, inputs["assumed"]["training_hours_at_most"]["value"])
    )


if __name__ == "__main__":
    sys.exit(main())
