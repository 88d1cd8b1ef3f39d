"""Contract of all serving back ends, on real hosts with real models. Their tests inherit `ServingContract`."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from boat.errors import ArtifactError, BoatError, EndpointError
from boat.kinds import INTENT, RECOMMEND
from boat.serving import ServedModel, Serving, connect, invoke
from tests.cloud.sagemaker.running_emulator import BUCKET, Emulators
from tests.serving.running_host import free_port, running_host

SESSION = [{"event_type": "detail", "product_id": "p1", "event_time": 1.0}]


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ServedModel]:
    from tests.serving import tiny_models as tiny

    folder = tmp_path_factory.mktemp("models")
    return {
        "old": tiny.export(folder / "old", "recommend", tiny.recommending("old"), "1"),
        "new": tiny.export(folder / "new", "recommend", tiny.recommending("new"), "2"),
        "intent": tiny.export(folder / "intent", "intent", tiny.intending(0.25), "1"),
        "failing": tiny.export(folder / "failing", "intent", tiny.failing(), "3"),
    }


class ServingContract(ABC):
    """Inherit it and override `serving`, `upload` and `missing_uri`."""

    @pytest.fixture(scope="class")
    @classmethod
    @abstractmethod
    def serving(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
        """Return the back end to test, without endpoints."""

    @pytest.fixture
    def models(self, archives: dict[str, ServedModel]) -> dict[str, ServedModel]:
        """Return the models with URIs that the back end can read."""
        return {name: replace(model, uri=self.upload(Path(model.uri), name)) for name, model in archives.items()}

    @abstractmethod
    def upload(self, archive: Path, name: str) -> str:
        """Copy an archive to a URI that the back end can read, and return the URI."""

    @property
    @abstractmethod
    def missing_uri(self) -> str:
        """Return the URI of an archive that does not exist."""

    def test_an_unknown_endpoint_does_not_answer(self, serving: Serving) -> None:
        assert serving.describe("boat-nothing") is None
        with pytest.raises(EndpointError, match=r"boat-nothing did not answer .*ValidationError.*not found"):
            invoke(serving.runtime(), "boat-nothing", [SESSION])

    def test_a_model_answers_once_the_update_returns(self, serving: Serving, models: dict[str, ServedModel]) -> None:
        serving.update(RECOMMEND, models["old"])
        assert serving.describe(RECOMMEND) == models["old"]
        (answer,) = invoke(serving.runtime(), RECOMMEND, [SESSION])
        assert answer["product_id"][:2] == ["p1", "old-0"]
        assert answer["score"] == sorted(answer["score"], reverse=True)

    def test_each_endpoint_answers_with_its_model(self, serving: Serving, models: dict[str, ServedModel]) -> None:
        serving.update(RECOMMEND, models["old"])
        serving.update(INTENT, models["intent"])
        assert invoke(serving.runtime(), INTENT, [SESSION, []]) == [0.25, 0.25]
        assert len(invoke(serving.runtime(), RECOMMEND, [SESSION])) == 1

    def test_switches_under_load_lose_no_request(self, serving: Serving, models: dict[str, ServedModel]) -> None:
        serving.update(RECOMMEND, models["old"])
        runtime, ended = serving.runtime(), Event()

        def ask(number: int) -> set[str]:
            answering, requests = set(), 0
            while not ended.is_set():
                product, requests = f"p{number}-{requests}", requests + 1
                (answer,) = invoke(runtime, RECOMMEND, [[{"event_type": "detail", "product_id": product}]])
                echoed, model = answer["product_id"][:2]
                assert echoed == product, "an answer went to another shopper"
                answering.add(model)
            return answering

        with ThreadPoolExecutor(4) as pool:
            shoppers = [pool.submit(ask, number) for number in range(4)]
            try:
                for name in ("new", "old", "new"):
                    serving.update(RECOMMEND, models[name])
            finally:
                ended.set()
            answering = {model for shopper in shoppers for model in shopper.result(timeout=30)}
        assert answering == {"old-0", "new-0"}

    def test_after_a_wrong_digest_the_old_model_answers(self, serving: Serving, models: dict[str, ServedModel]) -> None:
        with pytest.raises(ArtifactError, match="digest"):
            self.update_over_old(serving, models, replace(models["new"], digest="ab" * 32))

    def test_after_a_damaged_archive_the_old_model_answers(
        self, serving: Serving, models: dict[str, ServedModel], archives: dict[str, ServedModel], tmp_path: Path
    ) -> None:
        from boat.models.archive import digest

        torn = tmp_path / "model.tar.gz"
        torn.write_bytes(Path(archives["new"].uri).read_bytes()[:1000])
        with pytest.raises(ArtifactError, match="not a model archive"):
            self.update_over_old(serving, models, ServedModel(self.upload(torn, "torn"), digest(torn), "2"))

    def test_after_a_missing_archive_the_old_model_answers(
        self, serving: Serving, models: dict[str, ServedModel]
    ) -> None:
        with pytest.raises(ArtifactError, match=re.escape(self.missing_uri)):
            self.update_over_old(serving, models, ServedModel(self.missing_uri, "cd" * 32, "2"))

    def test_after_a_model_of_the_wrong_kind_the_old_model_answers(
        self, serving: Serving, models: dict[str, ServedModel]
    ) -> None:
        with pytest.raises(EndpointError, match=f"{RECOMMEND} takes a recommend model"):
            self.update_over_old(serving, models, models["intent"])

    def test_a_model_that_cannot_predict_is_never_deployed(
        self, serving: Serving, models: dict[str, ServedModel]
    ) -> None:
        serving.update(INTENT, models["intent"])
        with pytest.raises(BoatError, match="broken on purpose"):
            serving.update(INTENT, models["failing"])
        assert serving.describe(INTENT) == models["intent"]
        assert invoke(serving.runtime(), INTENT, [SESSION]) == [0.25]

    def update_over_old(self, serving: Serving, models: dict[str, ServedModel], broken: ServedModel) -> None:
        """Try an update that must fail, and check that the old model answers."""
        serving.update(RECOMMEND, models["old"])
        try:
            serving.update(RECOMMEND, broken)
        finally:
            assert serving.describe(RECOMMEND) == models["old"]
            answer: Any = invoke(serving.runtime(), RECOMMEND, [SESSION])[0]
            assert answer["product_id"][1] == "old-0"


class TestLocalServing(ServingContract):
    @pytest.fixture(scope="class")
    @classmethod
    def serving(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
        port = free_port()
        with running_host(tmp_path_factory.mktemp("host"), port):
            yield connect(f"local:http://127.0.0.1:{port}")

    missing_uri = "/nowhere/model.tar.gz"

    def upload(self, archive: Path, name: str) -> str:
        return str(archive)


@pytest.mark.cloud
class TestSageMakerServing(ServingContract):
    missing_uri = f"s3://{BUCKET}/nowhere/model.tar.gz"

    @pytest.fixture(scope="class")
    @classmethod
    def serving(cls, sagemaker: Emulators) -> Serving:
        return connect(sagemaker.url(count=2, canary=50))

    @pytest.fixture(autouse=True)
    def _account(self, sagemaker: Emulators, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in sagemaker.environment.items():
            monkeypatch.setenv(name, value)
        self._sagemaker = sagemaker

    def upload(self, archive: Path, name: str) -> str:
        return self._sagemaker.store(archive, f"{name}/model.tar.gz")
