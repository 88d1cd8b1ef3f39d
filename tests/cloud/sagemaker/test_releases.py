"""A release on SageMaker happens completely or not at all, after every fault."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from boat.errors import ArtifactError, EndpointError, ReleaseError, SettingError
from boat.kinds import RECOMMEND
from boat.serving import ServedModel, Serving, connect, invoke
from tests.cloud.sagemaker.running_emulator import ALARM, Emulators

pytestmark = pytest.mark.cloud

SESSION = [{"event_type": "detail", "product_id": "p1", "event_time": 1.0}]
READING = ("Describe", "List")
_numbers = count()

Fresh = Callable[[str], ServedModel]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ServedModel]:
    from tests.serving import tiny_models as tiny

    folder = tmp_path_factory.mktemp("models")
    return {
        "old": tiny.export(folder / "old", "recommend", tiny.recommending("old"), "1"),
        "new": tiny.export(folder / "new", "recommend", tiny.recommending("new"), "2"),
    }


@pytest.fixture(autouse=True)
def account(sagemaker: Emulators, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulators]:
    """Yield an account without faults. Clear new faults at the end."""
    for name, value in sagemaker.environment.items():
        monkeypatch.setenv(name, value)
    yield sagemaker
    sagemaker.clear_faults()


@pytest.fixture
def fresh(account: Emulators, archives: dict[str, ServedModel]) -> Fresh:
    """Return a function that stores a model at a new URI, which SageMaker does not know yet."""
    return lambda name: account.stored(archives[name], f"{name}/{next(_numbers)}/model.tar.gz")


@pytest.fixture
def serving(account: Emulators) -> Serving:
    return connect(account.url(count=2, canary=50, alarms=ALARM))


@pytest.fixture
def old(serving: Serving, fresh: Fresh) -> ServedModel:
    """Deploy and return the model that answers before the test."""
    model = fresh("old")
    serving.update(RECOMMEND, model)
    return model


@pytest.fixture
def new(fresh: Fresh) -> ServedModel:
    return fresh("new")


def labels(serving: Serving) -> set[str]:
    """Return the labels of the models that answer ten requests."""
    runtime = serving.runtime()
    return {invoke(runtime, RECOMMEND, [SESSION])[0]["product_id"][1].removesuffix("-0") for _ in range(10)}


def assert_answers(serving: Serving, label: str, model: ServedModel) -> None:
    assert labels(serving) == {label}, "half a release answers"
    assert serving.describe(RECOMMEND) == model


@dataclass(frozen=True)
class Fault:
    """A fault of a release, and the error of the caller. There is no error if the call succeeds nevertheless."""

    on: str
    do: str
    error: type[Exception] | None = None
    message: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    updates: int = 1
    """Number of deployments that SageMaker starts."""


FAULTS = {
    "a throttled update": Fault("UpdateEndpoint", "ThrottlingException"),
    "a lost answer to the model": Fault("CreateModel", "drop"),
    "a lost answer to the configuration": Fault("CreateEndpointConfig", "drop"),
    "a lost answer to the update": Fault("UpdateEndpoint", "drop"),
    "an error half way": Fault("CreateEndpointConfig", "AccessDeniedException", EndpointError, "role that deploys"),
    "no free instance": Fault("UpdateEndpoint", "ResourceLimitExceeded", EndpointError, "Service Quotas"),
    "a container that does not start": Fault("deployment", "no_start", ReleaseError, "ping health check", updates=2),
    "an alarm in the canary": Fault("deployment", f"alarm:{ALARM}", ReleaseError, f"ALARM state: {ALARM}", updates=2),
    "an update that takes too long": Fault(
        "deployment", "slow", EndpointError, "is still Updating after 0 seconds", settings={"wait": 0}
    ),
}


@pytest.mark.faults
@pytest.mark.parametrize("name", FAULTS)
def test_faults_leave_no_partial_release(account: Emulators, fresh: Fresh, every_fault: bool, name: str) -> None:
    times = 10 if every_fault else 4
    fault = FAULTS[name]
    settings = {"count": 2, "canary": 50, "alarms": ALARM}
    serving, patient = connect(account.url(**settings | fault.settings)), connect(account.url(**settings))
    models = {label: fresh(label) for label in ("new", "old")}
    before = ("old", models["old"])
    patient.update(RECOMMEND, models["old"])
    for turn in range(times):
        label = "new" if turn % 2 == 0 else "old"
        coming = fresh(label) if fault.on.startswith("Create") else models[label]
        updates = updates_of(account)
        account.fail(fault.on, fault.do)
        if fault.error is None:
            serving.update(RECOMMEND, coming)
        else:
            with pytest.raises(fault.error, match=fault.message):
                serving.update(RECOMMEND, coming)
            assert_answers(serving, *before)
            account.set_alarm("OK")
            patient.update(RECOMMEND, coming)
        assert_answers(serving, label, coming)
        refused = int(fault.on == "UpdateEndpoint")  # the repeated call starts no deployment
        assert updates_of(account) - updates == fault.updates + refused
        before = (label, coming)
    assert account.state()["faults"] == [{"times": 0, "on": fault.on, "do": fault.do}] * times


def updates_of(account: Emulators) -> int:
    return int(account.state()["calls"].get("UpdateEndpoint", 0))


def changes(account: Emulators) -> dict[str, int]:
    calls = account.state()["calls"]
    return {operation: times for operation, times in calls.items() if not operation.startswith(READING)}


def test_a_rollback_names_the_reason_and_the_version_that_answers(
    account: Emulators, serving: Serving, old: ServedModel, new: ServedModel
) -> None:
    account.fail("deployment", f"alarm:{ALARM}")
    with pytest.raises(ReleaseError) as raised:
        serving.update(RECOMMEND, new)
    assert "could not switch to version 2 (InService): One or more configured alarms are in ALARM state" in str(
        raised.value
    )
    assert "Version 1 answers" in raised.value.hint
    assert f"/aws/sagemaker/Endpoints/{RECOMMEND}" in raised.value.hint
    assert account.state()["history"][RECOMMEND][-3:] == ["Updating", "RollingBack", "InService"]


def test_a_canary_gets_some_requests_and_then_all(
    account: Emulators, serving: Serving, old: ServedModel, new: ServedModel
) -> None:
    slowly = connect(account.url(count=2, canary=50, bake=500))
    with ThreadPoolExecutor(1) as pool:
        update = pool.submit(slowly.update, RECOMMEND, new)
        while labels(serving) == {"old"}:
            assert not update.done()
        assert labels(serving) == {"old", "new"}
        assert serving.describe(RECOMMEND) == old
        update.result(timeout=30)
    assert_answers(serving, "new", new)


def test_an_update_to_the_same_model_changes_nothing(account: Emulators, serving: Serving, old: ServedModel) -> None:
    before = changes(account)
    serving.update(RECOMMEND, old)
    assert changes(account) == before


def test_the_same_model_with_another_version_only_changes_tags(
    account: Emulators, serving: Serving, old: ServedModel
) -> None:
    before = changes(account)
    renamed = replace(old, version="17")
    serving.update(RECOMMEND, renamed)
    assert serving.describe(RECOMMEND) == renamed
    assert changes(account) == before | {"AddTags": before.get("AddTags", 0) + 1}


def test_a_rollback_creates_no_new_model(
    account: Emulators, serving: Serving, old: ServedModel, new: ServedModel
) -> None:
    serving.update(RECOMMEND, new)
    before = changes(account)
    serving.update(RECOMMEND, old)
    assert_answers(serving, "old", old)
    assert changes(account) == before | {"UpdateEndpoint": before["UpdateEndpoint"] + 1}


def test_the_previous_release_remains_and_older_releases_are_deleted(
    account: Emulators, serving: Serving, old: ServedModel, new: ServedModel
) -> None:
    client = account.client("sagemaker")
    ours = [f"{RECOMMEND}-{number:012x}" for number in range(12)]  # more than one page
    foreign = [f"{RECOMMEND}-of-another-team", f"a-{RECOMMEND}-{0:012x}"]
    for name in ours + foreign:
        client.create_model(
            ModelName=name, PrimaryContainer={"Image": "image"}, ExecutionRoleArn="arn:aws:iam::1:role/x"
        )
    serving.update(RECOMMEND, new)
    stored = account.state()
    assert set(foreign) <= set(stored["models"])
    assert not set(ours) & set(stored["models"])
    for kind in ("models", "configs"):
        assert len([name for name in set(stored[kind]) - set(foreign) if name.startswith(f"{RECOMMEND}-")]) == 2


def test_a_release_waits_for_a_running_one(
    account: Emulators, serving: Serving, old: ServedModel, new: ServedModel, fresh: Fresh
) -> None:
    account.fail("deployment", "slow")
    with pytest.raises(EndpointError, match="still Updating"):
        connect(account.url(count=2, canary=50, alarms=ALARM, wait=0)).update(RECOMMEND, new)
    third = fresh("old")
    serving.update(RECOMMEND, third)
    assert_answers(serving, "old", third)
    assert account.state()["history"][RECOMMEND][-4:] == ["Updating", "InService"] * 2


def test_a_repeated_call_reports_the_rollback_of_the_earlier_one(
    account: Emulators, serving: Serving, old: ServedModel, new: ServedModel
) -> None:
    account.fail("deployment", "slow")
    account.fail("deployment", f"alarm:{ALARM}")
    with pytest.raises(EndpointError, match="still Updating"):
        connect(account.url(count=2, canary=50, alarms=ALARM, wait=0)).update(RECOMMEND, new)
    updates = updates_of(account)
    with pytest.raises(ReleaseError, match="ALARM state"):
        serving.update(RECOMMEND, new)
    assert updates_of(account) == updates
    assert_answers(serving, "old", old)


def test_an_endpoint_whose_first_model_fails_is_created_again(
    account: Emulators, serving: Serving, fresh: Fresh
) -> None:
    model = fresh("new")
    account.fail("deployment", "no_start")
    with pytest.raises(
        ReleaseError, match=r"version 2 \(Failed\): The primary container .* The endpoint does not answer"
    ):
        serving.update("boat-first", model)
    assert serving.describe("boat-first") is None
    serving.update("boat-first", model)
    assert serving.describe("boat-first") == model
    assert invoke(serving.runtime(), "boat-first", [SESSION])[0]["product_id"][1] == "new-0"


def test_an_invalid_model_is_refused_before_sagemaker_is_called(
    account: Emulators, serving: Serving, new: ServedModel, tmp_path: Path
) -> None:
    from tests.serving import tiny_models as tiny

    unsound = account.stored(tiny.export(tmp_path, "intent", tiny.intending(float("nan"))), "unsound/model.tar.gz")
    before = changes(account)
    with pytest.raises(ArtifactError, match=f"^{new.uri}: .*digest"):
        serving.update(RECOMMEND, replace(new, digest="ab" * 32))
    with pytest.raises(EndpointError, match="gives wrong answers"):
        serving.update("boat-intent", unsound)
    with pytest.raises(SettingError, match="from S3, not from /model"):
        serving.update(RECOMMEND, replace(new, uri="/model.tar.gz"))
    assert changes(account) == before


def test_a_foreign_endpoint_is_refused(account: Emulators, serving: Serving, old: ServedModel) -> None:
    client = account.client("sagemaker")
    arn = client.describe_endpoint(EndpointName=RECOMMEND)["EndpointConfigName"]
    variant = client.describe_endpoint_config(EndpointConfigName=arn)["ProductionVariants"][0]
    container = client.describe_model(ModelName=variant["ModelName"])["PrimaryContainer"]
    client.create_model(ModelName="theirs", PrimaryContainer=container, ExecutionRoleArn="arn:aws:iam::1:role/x")
    client.create_endpoint_config(EndpointConfigName="theirs", ProductionVariants=[variant | {"ModelName": "theirs"}])
    client.create_endpoint(EndpointName="theirs", EndpointConfigName="theirs")
    while client.describe_endpoint(EndpointName="theirs")["EndpointStatus"] == "Creating":
        pass
    with pytest.raises(EndpointError, match="Boat did not deploy it"):
        serving.describe("theirs")


def test_a_model_newer_than_the_image_logs_a_warning(
    account: Emulators, new: ServedModel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "boat"):
        connect(account.url(tensorflow="2.19.0")).update(RECOMMEND, new)
    assert "the older version 2.19.0" in caplog.text


def test_sagemaker_gets_the_stock_image_without_network_and_an_encrypted_volume(
    account: Emulators, fresh: Fresh
) -> None:
    serving = connect(account.url(kms_key="key-1", instance="ml.c7i.xlarge"))
    model = fresh("old")
    serving.update(RECOMMEND, model)
    client = account.client("sagemaker")
    config = client.describe_endpoint(EndpointName=RECOMMEND)["EndpointConfigName"]
    described = client.describe_endpoint_config(EndpointConfigName=config)
    assert described["KmsKeyId"] == "key-1"
    assert described["ProductionVariants"][0]["InstanceType"] == "ml.c7i.xlarge"
    model_description = client.describe_model(ModelName=described["ProductionVariants"][0]["ModelName"])
    assert "eu-west-1.amazonaws.com/tensorflow-inference:2.20.0-cpu" in model_description["PrimaryContainer"]["Image"]
    assert model_description["PrimaryContainer"]["ModelDataUrl"] == model.uri
    assert model_description["EnableNetworkIsolation"] is True


def test_missing_credentials_are_named(account: Emulators, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(EndpointError, match=r"Unable to locate credentials.* Check region .* credentials"):
        connect(account.url()).describe(RECOMMEND)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sagemaker://eu-west-1", "needs a region and a role"),
        ("sagemaker:?role=r", "needs a region and a role"),
        ("sagemaker://eu-west-1?role=r&size=2", "unknown option size"),
        ("sagemaker://eu-west-1?role=r&count=two", "not a whole number"),
        ("sagemaker://eu-west-1?role=r&canary=10", "canary of 10 percent is not possible with 1 instances"),
        ("sagemaker://eu-west-1?role=r&count=4&canary=60", "at most 50"),
        ("sagemaker://eu-west-1?role=r&bake=4000", "from 0 to 3600"),
    ],
)
def test_an_invalid_url_is_refused(url: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        connect(url)


def test_a_missing_image_is_refused(account: Emulators, new: ServedModel) -> None:
    with pytest.raises(SettingError, match=r"no stock image for TensorFlow 9\.9\.9"):
        connect(account.url(tensorflow="9.9.9")).update(RECOMMEND, new)
