"""The image of the engines' tests, made on the spot: busybox, the probe and two users; as a tree and as an archive."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.bundle import make_template

NAME = "localhost/ocirt-test:latest"
PATH = "/bin:/sbin:/usr/bin:/usr/sbin"


@dataclass(frozen=True, slots=True)
class Image:
    """`tree` is the root filesystem, `layer` a tar archive of it, `oci` one of an OCI image layout with that layer."""

    tree: Path
    layer: Path
    oci: Path


def make_image(folder: Path) -> Image:
    """Makes the image in a new folder. Raises OSError."""
    folder.mkdir()
    tree = make_template(folder / "tree")
    # A file that may be read and not executed, for exit code 126.
    (tree / "etc/not-executable").write_text("text\n")
    # One that may be executed and is no program.
    (tree / "etc/no-program").write_text("text\n")
    (tree / "etc/no-program").chmod(0o755)
    layer = folder / "layer.tar"
    command = ["tar", "--create", "--numeric-owner", "--owner=0", "--group=0", "--file", str(layer), "-C", str(tree)]
    subprocess.run([*command, "."], check=True, stdin=subprocess.DEVNULL)
    oci = folder / "oci.tar"
    _write_layout(layer, oci)
    return Image(tree, layer, oci)


def _write_layout(layer: Path, target: Path) -> None:
    """An image layout (image-spec, image-layout.md) with one layer, in a tar archive."""
    blobs: dict[str, bytes] = {}

    def add(media_type: str, data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {
            "mediaType": f"application/vnd.oci.image.{media_type}",
            "digest": f"sha256:{digest}",
            "size": len(data),
        }

    layer_entry = add("layer.v1.tar", layer.read_bytes())
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": [f"PATH={PATH}"], "Cmd": ["/probe", "hold"]},
        "rootfs": {"type": "layers", "diff_ids": [layer_entry["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": add("config.v1+json", json.dumps(config).encode()),
        "layers": [layer_entry],
    }
    manifest_entry = add("manifest.v1+json", json.dumps(manifest).encode())
    names = {"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": NAME}
    index = {"schemaVersion": 2, "manifests": [{**manifest_entry, "annotations": names}]}
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps(index).encode(),
        **blobs,
    }
    with tarfile.open(target, "w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
