"""What a larger shop would take and cost: arithmetic on measured rates (`scale.json`) and list prices.

No run is made. Prints a Markdown table to stderr, which docs/scale.md shows, and the figures as the last line.

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
"""Of Snowflake warehouses: each has twice the machines, and takes twice the credits an hour, of the one before."""
MEASURED_CORES = 2
STANDING = ("Prefect", "Mlflow", "Worker", "Database", "Namespace")
"""Charges of the plan that events do not change."""


@dataclass(frozen=True)
class Scale:
    """What one shop takes. Money in US dollars of the list prices.

    Attributes:
        events_a_day: Mean.
        warehouse: Size of the Snowflake warehouse, if an hour builds only its own events.
        ingestion_minutes: One hourly ingestion's statements, then.
        rebuilding: Size of the warehouse that builds everything retained anew within an hour's time.
        training_events: Product events that a night's training reads.
        gpus: At once.
        training_hours: Of a night.
        requests_a_second: In the busiest minute.
        instances: Behind each of the two endpoints.
        standing: Prefect, MLflow and their database, a month.
        warehouse_cost: A month.
        training_cost: A month.
        endpoint_cost: A month, with /predict before it.
        storage_cost: A month, when as much is kept as ever will be.
        total: A month.
        per_million_events: Total over events.
        per_night: One retrain and promotion: warehouse, GPUs and the flow runs' containers.
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
    """The rates and prices, and what follows from them.

    Args:
        inputs: As in `scale.json`.
        prices: As in `prices.json`.
    """

    def __init__(self, inputs: Mapping[str, Any], prices: Mapping[str, Any]) -> None:
        self.given = {name: entry["value"] for part in ("measured", "assumed") for name, entry in inputs[part].items()}
        self.usd = {name: price["usd"] for name, price in prices["prices"].items()}
        self.prices = prices
        self.hours, self.nights = prices["hours_per_month"], prices["nights_per_month"]

    def scale(self, events_a_year: float) -> Scale:
        """The whole of one shop."""
        a_day = events_a_year / 365
        size, seconds = self.warehouse(a_day / 24)
        if size is None:
            raise SystemExit(f"No warehouse takes {events_a_year:,.0f} events a year.")
        events, gpus, hours = self.training(a_day)
        sessions = a_day * self.given["sessions_per_event"]
        requests = sessions * self.given["requests_per_session"]
        peak, instances = self.endpoint(requests)
        credits_an_hour = 2.0 ** SIZES.index(size)
        # Beside the hours of loading, the night reads the training window once.
        night_seconds = self._seconds(events, credits_an_hour)
        at_least = self.given["warehouse_seconds_at_least"]
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
        """The smallest warehouse that is done with these in time, and its seconds; None if there is none."""
        for power, size in enumerate(SIZES):
            seconds = self._seconds(events, 2.0**power)
            if seconds <= self.given["hour_seconds_at_most"]:
                return size, seconds
        return None, math.inf

    def rebuilding(self, events_a_day: float) -> str:
        """What building every table from all that is retained, each hour, would take."""
        size, _seconds = self.warehouse(events_a_day * self.given["retained_days"])
        return size or "no size does"

    def _seconds(self, events: float, machines: float) -> float:
        passes = self.given["warehouse_passes"] * self.given["sql_seconds_per_million_events"]
        seconds = events / 1e6 * (self.given["load_seconds_per_million_events"] + passes)
        return float(seconds * MEASURED_CORES / (self.given["warehouse_core_equivalents"] * machines))

    def training(self, events_a_day: float) -> tuple[float, int, float]:
        """Events read, GPUs at once, and hours, of a night."""
        read = events_a_day * self.given["product_events_share"] * self.given["training_days"]
        events = min(read, self.given["trained_events_at_most"])
        rate = self.given["training_events_per_second"] * self.given["gpu_speedup"]
        alone = events * self.given["epochs"] / rate / 3600
        gpus = 1
        while self._on(gpus, alone) > self.given["training_hours_at_most"]:
            gpus += 1
        return events, gpus, self._on(gpus, alone)

    def _on(self, gpus: int, hours_alone: float) -> float:
        return float(hours_alone / (1 + (gpus - 1) * self.given["gpu_scaling"]))

    def endpoint(self, requests_a_day: float) -> tuple[float, int]:
        """Requests a second in the busiest minute, and instances for them."""
        peak = requests_a_day / 86400 * self.given["peak_over_mean"]
        rate = self.given["requests_per_second"] * self.given["use_of_instance"]
        return peak, max(self.given["instances_at_least"], math.ceil(peak / rate))

    def endpoint_cost(self, instances: int, requests: float) -> float:
        """Both endpoints, and API Gateway and Lambda for every request of a month."""
        millions = requests / 1e6
        lambda_seconds = requests * self.prices["usage"]["predict_seconds"]["value"]
        return float(
            2 * instances * self.hours * self.usd["sagemaker.ml.c6i.large_hour"]
            + millions * (self.usd["http_api_million_requests"] + self.usd["lambda_million_requests"])
            + lambda_seconds * 0.5 * self.usd["lambda_arm_gb_second"]
        )

    def storage(self, events_a_day: float) -> float:
        """Landing files on S3 and tables in Snowflake, at the end of what is retained."""
        kept = events_a_day * self.given["retained_days"]
        landing = kept * self.given["bytes_per_event"] / 1e9 * self.usd["s3_standard_gb_month"]
        return float(landing + kept * self.given["stored_bytes_per_event"] / 1e12 * self.usd["snowflake_tb_month"])

    def standing(self) -> float:
        """What is there whether or not an event comes."""
        whole = template.load()
        plan = Plan(whole, template.parameters(whole, {"ImageTag": "current"}), self.prices)
        return sum(plan.cost(charge) for charge in plan.charges() if charge.name.startswith(STANDING))

    def _containers(self) -> float:
        """The flow runs of a night: an hour of retrain on 2 cores and 16 GB, a quarter of promote on 2 and 8."""
        cpu, memory = self.usd["fargate_vcpu_hour"], self.usd["fargate_gb_hour"]
        return float((2 * cpu + 16 * memory) + 0.25 * (2 * cpu + 8 * memory))


ROWS = {
    "events a day": "events_a_day",
    "Snowflake warehouse": "warehouse",
    "minutes of SQL in an hourly ingestion": "ingestion_minutes",
    "Snowflake warehouse, if all is built anew each hour": "rebuilding",
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


def shown(value: Any) -> str:
    """Three digits that mean something."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.01 else f"{value:.4f}"


def table(scales: Mapping[str, Scale]) -> str:
    """One column a shop."""
    lines = ["| events a year | " + " | ".join(scales) + " |", "| --- |" + " ---: |" * len(scales)]
    for title, name in ROWS.items():
        lines.append(f"| {title} | " + " | ".join(shown(getattr(scale, name)) for scale in scales.values()) + " |")
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
