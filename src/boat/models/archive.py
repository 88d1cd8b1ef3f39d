"""The model archive: `model.tar.gz` for the stock SageMaker TensorFlow image and the endpoint host.

It has a TensorFlow SavedModel in `1/` and the manifest, `boat.json`. Its digest is the SHA-256 of the file. The
registry stores the digest outside the archive: a SavedModel is a program, so only a known file may be loaded.
"""

import gzip
import hashlib
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, cast

from boat.errors import ArtifactError
from boat.kinds import KINDS, KindName

MODEL_FOLDER = "1"
MANIFEST = "boat.json"
MAX_FILES = 64
MAX_BYTES = 4 * 1024**3

_ALLOWED = re.compile(
    r"boat\.json|1/(saved_model\.pb|fingerprint\.pb|assets/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}"
    r"|variables/variables\.(index|data-\d{5}-of-\d{5}))"
)
_RETRAIN = "Train and export the model again."


@dataclass(frozen=True)
class ModelManifest:
    """Content of `boat.json`.

    Attributes:
        kind: `recommend` or `intent`.
        model: Name of the model in its family, such as `attention`.
        created_at: When it was exported, ISO 8601, UTC.
        parameters: Training parameters.
        inputs: Names and types of the signature's inputs.
        outputs: Names and types of the signature's outputs.
        metrics: Figures of its training, measured on the validation split.
        snapshot_digest: Content digest of the snapshot it was trained on.
        products: Number of products in its vocabulary. 0 for a model without products.
        trained_until: Time of the newest event it was trained on, ISO 8601, UTC. Empty in archives of older versions.
        events: Number of events it was trained on. 0 in archives of older versions.
        code_version: Version and digest of the code that trained it.
        tensorflow_version: Version that exported it. TensorFlow only promises to load it in this or a newer version.
    """

    kind: KindName
    model: str
    created_at: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    metrics: Mapping[str, float]
    snapshot_digest: str
    products: int
    code_version: str
    tensorflow_version: str
    trained_until: str = ""
    events: int = 0

    def write(self, folder: Path) -> None:
        """Write `boat.json` into the folder with the SavedModel's `1/`."""
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "ModelManifest":
        """Read the manifest of an unpacked archive.

        Raises:
            ArtifactError: It is missing, or not a manifest of Boat.
        """
        path = folder / MANIFEST
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            manifest = cls(**{field.name: content[field.name] for field in fields(cls) if field.name in content})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path} is not a model manifest ({error!r}).", _RETRAIN) from error
        if manifest.kind not in KINDS:
            raise ArtifactError(f"{path} has the unknown kind {manifest.kind!r}.", _RETRAIN)
        return manifest


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex.

    Raises:
        ArtifactError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(f"Cannot read {path} ({error.strerror}).", "Check the artifact store.") from error


def pack(folder: Path, path: Path) -> str:
    """Pack a folder with `1/` and `boat.json`. The same content always gives the same bytes.

    Returns:
        The archive's digest.

    Raises:
        ArtifactError: The folder has a file that a model archive may not have, or lacks the model.
    """
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir())
    for name in names:
        _check_name(name, folder)
    _check_complete(names, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = (folder / name).stat().st_size
            member.mode = 0o644
            with (folder / name).open("rb") as file:
                tar.addfile(member, file)
    return digest(path)


def unpack(path: Path, into: Path, expected_digest: str) -> ModelManifest:
    """Check an archive against its digest, then replace the folder `into` with its content. An error changes nothing.

    `extractall` of Python 3.11.7 may write outside the folder, so only regular files with allowed names are extracted.

    Raises:
        ArtifactError: The archive is damaged, has other files, is too large, or has another digest.
    """
    actual_digest = digest(path)
    if actual_digest != expected_digest:
        raise ArtifactError(
            f"{path} has the digest {actual_digest}, not {expected_digest}.",
            "Restore the file that was registered, or train again.",
        )
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=into.parent) as temporary:
        folder = Path(temporary) / "model"
        try:
            _extract(path, folder)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise ArtifactError(f"{path} is not a model archive ({error}).", _RETRAIN) from error
        manifest = ModelManifest.read(folder)
        shutil.rmtree(into, ignore_errors=True)
        folder.rename(into)
    return manifest


def read_manifest(path: Path) -> ModelManifest:
    """Read the manifest of an archive without unpacking the model.

    Raises:
        ArtifactError: The file is not a model archive.
    """
    try:
        with tarfile.open(path, mode="r:gz") as tar:
            member = tar.extractfile(MANIFEST)
            content = member.read() if member else None
    except KeyError:
        content = None
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ArtifactError(f"{path} is not a model archive ({error}).", _RETRAIN) from error
    if content is None:
        raise ArtifactError(f"{path} is not a model archive: {MANIFEST} is missing.", _RETRAIN)
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary, MANIFEST).write_bytes(content)
        return ModelManifest.read(Path(temporary))


def _extract(path: Path, folder: Path) -> None:
    names: list[str] = []
    bytes_left = MAX_BYTES
    with tarfile.open(path, mode="r|gz") as tar:
        for member in tar:
            if member.isdir() and member.name.rstrip("/") in (".", "1", "1/assets", "1/variables"):
                continue
            _check_name(member.name, path)
            bytes_left -= member.size
            if not member.isreg() or member.name in names or len(names) >= MAX_FILES or bytes_left < 0:
                raise ArtifactError(
                    f"{path} has {member.name!r} as a link, twice, or beyond {MAX_FILES} files or {MAX_BYTES} bytes.",
                    _RETRAIN,
                )
            target = folder / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                shutil.copyfileobj(cast(IO[bytes], tar.extractfile(member)), file)
            names.append(member.name)
    _check_complete(names, path)


def _check_name(name: str, path: Path) -> None:
    if not _ALLOWED.fullmatch(name):
        raise ArtifactError(f"{path} has the file {name!r}, which is not allowed in a model archive.", _RETRAIN)


def _check_complete(names: list[str], path: Path) -> None:
    missing = {MANIFEST, f"{MODEL_FOLDER}/saved_model.pb"} - set(names)
    if missing:
        raise ArtifactError(f"{path} is not a model archive: {', '.join(sorted(missing))} is missing.", _RETRAIN)
