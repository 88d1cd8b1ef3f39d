"""The kinds of models: one object for each kind.

To add a kind, write a package `boat.<name>` that defines `KIND`, and add the name to `KindName`.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field
from typing import Any, ClassVar, Literal, Protocol, get_args

KindName = Literal["recommend", "intent"]
"""`recommend` ranks the next products, `intent` estimates the chance of a purchase."""
KINDS: tuple[KindName, ...] = get_args(KindName)


class TrainingParameters(Protocol):
    """The training parameters of a kind: a frozen dataclass with these fields and more."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def model(self) -> str:
        """Return the name of the model to train."""

    @property
    def seed(self) -> int:
        """Return the seed of all random draws."""

    @property
    def max_seconds(self) -> float:
        """Return the longest training time."""


@dataclass(frozen=True)
class Range:
    """The values that tuning may choose for a parameter; integers if both ends are integers.

    Attributes:
        low: The smallest value.
        high: The largest value.
        log: Whether values are drawn on a logarithmic scale.
        step: Distance between two integers.
    """

    low: float
    high: float
    log: bool = False
    step: int = 1


Space = Mapping[str, Range]
"""The parameters that tuning varies, by name."""


@dataclass(frozen=True)
class GatePolicy:
    """The conditions for a promotion.

    Attributes:
        metric: Metric that is compared with the champion and the baselines.
        baselines: Baselines that the challenger has to beat. One that is such a baseline need not beat itself.
        lift_over: Baseline over which the lift is measured: the metric divided by the baseline's, less 1. Empty: no
            gate on the lift.
        limits: Metrics with a maximum: the metric and its maximum by the name of the gate.
        margin: Share of the champion's metric. The 95 % interval of the difference must end above minus this share.
        lift_margin: Largest loss of the metric relative to the baseline's, as a share of that of the best promoted
            version.
        lift_days: Days before the newest promotion whose lifts are compared.
        lift_versions: Number of versions in a row whose mean lift is compared.
        slice_margin: As `margin` for a slice, which is refused only if its whole interval is below.
        minimum_targets: Fewest items or sessions to predict on the test days.
        minimum_buyers: Fewest sessions with a purchase on the test days.
        untested: Whether a critical behaviour test that the data cannot answer counts as passed.
    """

    metric: str
    baselines: tuple[str, ...]
    lift_over: str = ""
    limits: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    margin: float = 0.05
    lift_margin: float = 0.02
    lift_days: int = 30
    lift_versions: int = 3
    slice_margin: float = 0.2
    minimum_targets: int = 100
    minimum_buyers: int = 0
    untested: Literal["accept", "refuse"] = "accept"


@dataclass(frozen=True)
class CardText:
    """The texts of a kind on its model cards.

    Attributes:
        purpose: Purpose of the model.
        protocol: How it was tested.
        limits: Topics, and the limits of the model in each of them.
    """

    purpose: str
    protocol: str
    limits: tuple[tuple[str, str], ...] = ()


_JOB_BYTES = 10**9
"""Memory of a job on few examples: TensorFlow, and the model."""


def _no_obstacle(snapshot: Any) -> None:
    return None


@dataclass(frozen=True)
class Kind:
    """All that is particular to one kind of model.

    Attributes:
        name: Its name, which is also the name of its package.
        parameters: Dataclass of its training parameters.
        example_columns: Columns of `marts.<name>_examples` that a snapshot stores in `<name>.parquet`.
        spaces: The parameters that tuning varies, by model.
        tuning_metric: Validation metric by which trials are compared.
        tuning_direction: Whether that metric gets larger or smaller with a better model.
        gates: The conditions for a promotion.
        card: Texts of its model cards.
        job_module: Dotted path of the module with `fit` and `evaluate`. It needs TensorFlow: only jobs import it.
        is_valid_answer: Whether a prediction of an endpoint is one that shoppers may see.
        obstacle: Why a snapshot (or its manifest) has too few examples; None if it has enough.
        least_agreement: Smallest similarity of a refitted model to its evaluated twin with which it is released; see
            `boat.evaluation.twin`.
        trial_parameters: Parameters that every trial has, because they do not change the validation metric.
        bytes_an_example: Memory of a training or an evaluation for each example of the snapshot, from
            `benchmarks/night.py`.
    """

    name: KindName
    parameters: type[TrainingParameters]
    example_columns: str
    spaces: Mapping[str, Space]
    tuning_metric: str
    gates: GatePolicy
    card: CardText
    job_module: str
    is_valid_answer: Callable[[Any], bool]
    tuning_direction: Literal["maximize", "minimize"] = "maximize"
    obstacle: Callable[[Any], str | None] = _no_obstacle
    least_agreement: float = 0.0
    trial_parameters: Mapping[str, Any] = field(default_factory=dict)
    bytes_an_example: int = 0

    @property
    def endpoint(self) -> str:
        """Return the name of its endpoint, which is also its name in the registry."""
        return endpoint_of(self.name)

    @property
    def examples(self) -> str:
        """Return the name of the file with its examples in a snapshot."""
        return f"{self.name}.parquet"

    def needed_bytes(self, manifest: Any) -> int:
        """Return about how much memory a training or an evaluation on a snapshot needs, by its manifest."""
        file = manifest.files.get(self.examples)
        return _JOB_BYTES + self.bytes_an_example * (file.rows if file else 0)

    def job(self) -> Any:
        """Import the module with `fit` and `evaluate`. TensorFlow takes seconds to load."""
        return importlib.import_module(self.job_module)


def load(name: KindName) -> Kind:
    """Import the package of a kind and return its `KIND`."""
    kind: Kind = resolve(f"boat.{name}:KIND")
    return kind


def endpoint_of(name: KindName) -> str:
    """Return the name of a kind's endpoint, which is also its name in the registry."""
    return f"boat-{name}"


def kind_of(endpoint: str) -> KindName | None:
    """Return the kind of model that an endpoint takes; None if the endpoint belongs to no kind."""
    return next((name for name in KINDS if endpoint_of(name) == endpoint), None)


def resolve(path: str) -> Any:
    """Import the object at `package.module:name`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


RECOMMEND = endpoint_of("recommend")
INTENT = endpoint_of("intent")
