"""The stock TensorFlow image accepts the archive, and its container answers like the plain SavedModel."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boat.intent.parameters import IntentParameters
from boat.kinds import KindName, endpoint_of
from boat.models import sessions
from boat.models.archive import unpack
from boat.recommend.parameters import RecommendParameters
from boat.serving import ServedModel, connect
from tests.cloud.sagemaker.emulator import tensorflow_models
from tests.cloud.sagemaker.running_emulator import Emulators

pytestmark = pytest.mark.cloud

PRODUCTS = 30
VISITS: list[list[sessions.SessionEvent]] = [
    [],
    [{"event_type": "pageview", "url": "/", "event_time": 5.0}],
    [{"event_type": "detail", "product_id": f"p{number}", "event_time": 10.5 * number} for number in range(9)],
    [{"event_type": "detail", "product_id": "ünknown", "event_time": 1.0}, {"event_type": "add", "product_id": "p7"}],
    [{"event_type": "purchase", "product_id": "p3", "event_time": 1e9}, {"event_type": "no such type"}],
]


@pytest.fixture(scope="module", params=["recommend", "intent"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[KindName, ServedModel]:
    """Export a model of each kind and return the kind and the archive. The quality does not matter."""
    folder = tmp_path_factory.mktemp(request.param)
    make = {"recommend": _recommend, "intent": _intent}[request.param]
    return request.param, ServedModel(str(folder / "model.tar.gz"), make(folder / "model.tar.gz"), "1")


def _recommend(path: Path) -> str:
    from boat.models.export import export
    from boat.recommend.graph import OUTPUTS, RecommendGraph
    from boat.recommend.networks import AttentionNetwork
    from boat.recommend.scores import DirectionScores

    network = AttentionNetwork(PRODUCTS, RecommendParameters())
    network(np.zeros((1, RecommendParameters.window), np.int32))
    names = np.array([f"p{number}" for number in range(PRODUCTS)])
    shares = np.linspace(0.5, 0.1, PRODUCTS, dtype=np.float32)
    graph = RecommendGraph(
        DirectionScores(network, network.products().numpy()), names, shares, RecommendParameters.window
    )
    return export(graph, path, kind="recommend", model="attention", outputs=OUTPUTS, **_facts())


def _intent(path: Path) -> str:
    from boat.intent.features import Window
    from boat.intent.graph import OUTPUTS, IntentGraph
    from boat.intent.odds import NetworkOdds
    from boat.intent.training import IntentNetwork
    from boat.models.export import export

    window = IntentParameters.window
    network = IntentNetwork(IntentParameters(), 0.1)
    products = np.ones((1, window), np.int64)
    network(Window(np.ones((1, window), np.int32), products, products, np.ones((1, window)), np.ones(1, np.int32)))
    graph = IntentGraph(NetworkOdds(network), window)
    return export(graph, path, kind="intent", model="sequence", outputs=OUTPUTS, **_facts())


def _facts() -> dict[str, Any]:
    return {"parameters": {}, "metrics": {}, "snapshot_digest": "0" * 64, "products": PRODUCTS}


@pytest.fixture
def account(sagemaker: Emulators, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulators]:
    for name, value in sagemaker.environment.items():
        monkeypatch.setenv(name, value)
    yield sagemaker
    sagemaker.clear_faults()


def test_the_archive_has_one_model_and_no_code_for_the_stock_image(model: tuple[KindName, ServedModel]) -> None:
    with tarfile.open(model[1].uri) as tar:
        names = tar.getnames()
    assert tensorflow_models(names) == {""}  # /opt/ml/model itself, with the version 1
    assert not [name for name in names if name.startswith("code")]  # would add a Python server in front of the model
    assert all(name == "boat.json" or name.startswith("1/") for name in names)


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (["./1/saved_model.pb", "./1/variables/variables.index"], {""}),
        (["saved_model.pb", "model/saved_model.pb", "1/model.keras"], set()),
        (["export/1/saved_model.pb", "export/2/saved_model.pb"], {"export"}),
    ],
)
def test_other_layouts_are_recognised(names: list[str], folders: set[str]) -> None:
    assert tensorflow_models(names) == folders


def test_an_endpoint_answers_like_the_plain_saved_model(
    account: Emulators, model: tuple[KindName, ServedModel], tmp_path: Path
) -> None:
    kind, exported = model
    serving = connect(account.url())
    serving.update(endpoint_of(kind), account.stored(exported, f"real/{kind}/model.tar.gz"))
    unpack(Path(exported.uri), tmp_path / "model", exported.digest)
    for visits in (VISITS, VISITS[2:3]):
        body = json.dumps({"instances": sessions.instances(visits)})
        answer = serving.runtime().invoke_endpoint(
            EndpointName=endpoint_of(kind), ContentType="application/json", Body=body
        )
        answered, plain = json.loads(answer["Body"].read())["predictions"], tensorflow_serving(tmp_path / "model", body)
        assert len(answered) == len(visits)
        if kind == "intent":
            np.testing.assert_allclose(answered, plain, rtol=1e-5)
            continue
        for served, expected in zip(answered, plain, strict=True):
            assert served.keys() == expected.keys()
            assert served["product_id"] == expected["product_id"]
            np.testing.assert_allclose(served["score"], expected["score"], rtol=1e-5)


def tensorflow_serving(folder: Path, body: str) -> list[Any]:
    """Answer a request in row format as TensorFlow Serving's REST interface is documented to do."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder / "1"))
    signature = loaded.signatures["serving_default"]
    rows = json.loads(body)["instances"]
    specs = signature.structured_input_signature[1]
    assert rows[0].keys() == specs.keys()
    outputs = signature(**{name: tf.constant([row[name] for row in rows], spec.dtype) for name, spec in specs.items()})
    assert not [name for name in outputs if name.endswith("_bytes")]  # it would encode bytes in base64
    columns = {name: _json(tensor.numpy()) for name, tensor in outputs.items()}
    if len(columns) == 1:
        return next(iter(columns.values()))
    return [{name: column[row] for name, column in columns.items()} for row in range(len(rows))]


def _json(values: np.ndarray) -> list[Any]:
    return np.char.decode(values.astype(bytes), "utf-8").tolist() if values.dtype == object else values.tolist()
