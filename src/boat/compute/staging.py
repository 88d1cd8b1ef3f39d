"""A job's inputs and outputs, between the artifact store and the machine it runs on."""

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
    """The same job with all that it reads and writes on this machine; what comes from afar lies in `folder`.

    Raises:
        ArtifactError: An input is not there, or is not what its index says.
    """
    inputs = {name: str(store.fetch(uri, folder / "inputs")) for name, uri in spec.inputs.items()}
    outputs = {name: str(_local(uri, folder / "outputs" / name)) for name, uri in spec.outputs.items()}
    checkpoint = str(_local(spec.checkpoint, folder / "checkpoint")) if spec.checkpoint else ""
    return replace(spec, inputs=inputs, outputs=outputs, checkpoint=checkpoint)


def publish_outputs(spec: JobSpec, local: JobSpec) -> None:
    """Put what a job has written into the store; the checkpoint has done its duty then.

    Raises:
        JobError: It has not written all of it.
    """
    for name, uri in spec.outputs.items():
        made = Path(local.outputs[name])
        if not made.exists():
            raise spec.failure(f"ended well but left no {PurePosixPath(uri).name}", hint=f"Does it write --{name}?")
        store.publish(made, uri)
    if spec.checkpoint:
        store.remove(spec.checkpoint)


@contextmanager
def synced_checkpoint(uri: str, path: Path) -> Iterator[None]:
    """Fetch the checkpoint an earlier attempt left, and publish each new one while the job runs.

    Args:
        uri: The checkpoint in the store; nothing is done where it is of this machine.
        path: Where the job has it. The job replaces it in one move.
    """
    if not store.is_remote(uri):
        yield
        return
    if store.exists(uri):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(store.fetch(uri, path.parent / "fetched"), path)
    seen, ended = _state(path), threading.Event()

    def publish_new() -> None:
        nonlocal seen
        state = _state(path)
        if state and state != seen:
            frozen = path.with_name("publishing")
            frozen.unlink(missing_ok=True)
            os.link(path, frozen)  # the job may replace it while it is read
            store.publish(frozen, uri)
            seen = state

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


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
