"""The model archive: `model.tar.gz` as the stock SageMaker TensorFlow image and the endpoint host take it.

It holds a TensorFlow SavedModel under `1/` and, beside it, `boat.json`, the manifest. Its digest is the SHA-256 of the
file; whoever keeps a model keeps the digest outside the archive, because a SavedModel is a program.
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
    """What `boat.json` tells of a model.

    Attributes:
        kind: `recommend` or `intent`.
        model: Name of the model in its family, such as `attention`.
        created_at: When it was exported, ISO 8601, UTC.
        parameters: What it was trained with.
        inputs: Names and types of the signature's inputs.
        outputs: Names and types of the signature's outputs.
        metrics: Figures of its training, measured on the validation split.
        snapshot_digest: Content digest of the snapshot it was trained on.
        products: How many products it knows.
        code_version: Version and digest of the code that trained it.
        tensorflow_version: It is only promised to load in this or a newer one.
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

    def write(self, folder: Path) -> None:
        """Write `boat.json` into the folder that holds the SavedModel's `1/`."""
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "ModelManifest":
        """The manifest in an unpacked archive.

        Raises:
            ArtifactError: It is missing or not a manifest of ours.
        """
        path = folder / MANIFEST
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            manifest = cls(**{field.name: content[field.name] for field in fields(cls)})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path} is not a model manifest ({error!r}).", _RETRAIN) from error
        if manifest.kind not in KINDS:
            raise ArtifactError(f"{path} is of the unknown kind {manifest.kind!r}.", _RETRAIN)
        return manifest


def digest(path: Path) -> str:
    """SHA-256 of a file in hex.

    Raises:
        ArtifactError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(f"Cannot read {path} ({error.strerror}).", "Check the artifact store.") from error


def pack(folder: Path, path: Path) -> str:
    """Pack a folder with `1/` and `boat.json`: the same content gives the same bytes, whenever and wherever.

    Returns:
        The archive's digest.

    Raises:
        ArtifactError: The folder holds what a model archive may not hold, or misses the model.
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
    """Check an archive against its digest and unpack it; `into` appears whole or not at all, replacing what was there.

    Python 3.11.7's `extractall` writes where the archive says, so only regular files with known names are taken.

    Raises:
        ArtifactError: Damaged, foreign, too large, or not the file the digest names.
    """
    found = digest(path)
    if found != expected_digest:
        raise ArtifactError(
            f"{path} has the digest {found}, not {expected_digest}.", "Restore the file the registry names, or retrain."
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
    """The manifest inside an archive, without unpacking the model.

    Raises:
        ArtifactError: Not a model archive.
    """
    with tempfile.TemporaryDirectory() as temporary, tarfile.open(path, mode="r:gz") as tar:
        try:
            member = tar.extractfile(MANIFEST)
        except KeyError:
            member = None
        if member is None:
            raise ArtifactError(f"{path} is no model archive: {MANIFEST} is missing.", _RETRAIN)
        Path(temporary, MANIFEST).write_bytes(member.read())
        return ModelManifest.read(Path(temporary))


def _extract(path: Path, folder: Path) -> None:
    names: list[str] = []
    room = MAX_BYTES
    with tarfile.open(path, mode="r|gz") as tar:
        for member in tar:
            if member.isdir() and member.name.rstrip("/") in (".", "1", "1/assets", "1/variables"):
                continue
            _check_name(member.name, path)
            room -= member.size
            if not member.isreg() or member.name in names or len(names) >= MAX_FILES or room < 0:
                raise ArtifactError(
                    f"{path} holds {member.name!r} as a link, twice, or beyond {MAX_FILES} files or {MAX_BYTES} bytes.",
                    _RETRAIN,
                )
            target = folder / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                shutil.copyfileobj(cast(IO[bytes], tar.extractfile(member)), file)
            names.append(member.name)
    _check_complete(names, path)


def _check_name(name: str, where: Path) -> None:
    if not _ALLOWED.fullmatch(name):
        raise ArtifactError(f"{where} holds {name!r}, which is no part of a model archive.", _RETRAIN)


def _check_complete(names: list[str], where: Path) -> None:
    missing = {MANIFEST, f"{MODEL_FOLDER}/saved_model.pb"} - set(names)
    if missing:
        raise ArtifactError(f"{where} is no model archive: {', '.join(sorted(missing))} is missing.", _RETRAIN)
