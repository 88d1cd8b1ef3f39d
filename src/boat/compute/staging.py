"""Download a job's inputs from the artifact store and upload its outputs."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from boat import store
from boat.compute.base import JobSpec

_LOOK_SECONDS = 0.2


def fetch_inputs(spec: JobSpec, folder: Path) -> JobSpec:
    """Return the job with local paths. Inputs are downloaded to `folder` unless they are on this machine.

    Raises:
        ArtifactError: An input is missing, or does not match its index.
    """
    inputs = {name: str(store.fetch(uri, folder / "inputs")) for name, uri in spec.inputs.items()}
    outputs = {name: str(_local(uri, folder / "outputs" / name)) for name, uri in spec.outputs.items()}
    checkpoint = str(_local(spec.checkpoint, folder / "checkpoint")) if spec.checkpoint else ""
    return replace(spec, inputs=inputs, outputs=outputs, checkpoint=checkpoint)


def publish_outputs(spec: JobSpec, local: JobSpec) -> None:
    """Upload the outputs of a job, then delete its checkpoint.

    Raises:
        JobError: The job has left an output unwritten.
    """
    for name, uri in spec.outputs.items():
        path = Path(local.outputs[name])
        if not path.exists():
            raise spec.failure(
                f"succeeded but left no {PurePosixPath(uri).name}", hint=f"Check that it writes --{name}."
            )
        store.publish(path, uri)
    if spec.checkpoint:
        store.remove(spec.checkpoint)


@contextmanager
def synced_checkpoint(uri: str, path: Path) -> Iterator[None]:
    """Download the checkpoint of an earlier attempt, and upload each new one while the job runs.

    Args:
        uri: The checkpoint in the store. Nothing is done if it is a local path.
        path: The checkpoint's local path. The job replaces the file atomically.
    """
    if not store.is_remote(uri):
        yield
        return
    if store.exists(uri):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(store.fetch(uri, path.parent / "fetched"), path)
    published, ended = _version(path), threading.Event()

    def publish_new() -> None:
        nonlocal published
        version = _version(path)
        if version and version != published:
            frozen = path.with_name("publishing")
            frozen.unlink(missing_ok=True)
            os.link(path, frozen)  # the job may replace it while it is read
            store.publish(frozen, uri)
            published = version

    def watch() -> None:
        while not ended.wait(_LOOK_SECONDS):
            publish_new()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        publish_new()


def _local(uri: str, folder: Path) -> Path:
    if not store.is_remote(uri):
        return Path(uri)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / PurePosixPath(uri).name


def _version(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
