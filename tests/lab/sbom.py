"""The bill of materials of the image, as CycloneDX 1.6: what the records of dpkg and pip say is in it, and the hashes that the lock allows.

Written from the unpacked image and not from the files that asked for it: what is listed is what is there. The same image gives the same
document: no time, no serial number. Run as a program, this builds the image where it is not built yet, and writes build/sbom.cdx.json.
"""

__all__ = ["bill_of_materials"]

import email.parser
import email.policy
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from carp_sidecar import __version__
from lab.image import ROOT, ImageError, kubecarp_image
from lab.image_root import ImageRoot
from lab.programs import say

TARGET = ROOT / "build" / "sbom.cdx.json"
INSTALLED = "install ok installed"
LICENSE_NAME = 60
"""Characters: some packages have the whole text where others have the name."""

Json = dict[str, Any]


def bill_of_materials(root: Path, lock: str) -> Json:
    """The document about the image that is unpacked at ``root``."""
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "bom-ref": "image", "name": "kubecarp", "version": __version__}},
        "components": sorted([*_debian(root), *_python(root, _hashes(lock))], key=lambda one: str(one["purl"])),
    }


def _debian(root: Path) -> Iterator[Json]:
    release = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', (root / "etc/os-release").read_text(), re.MULTILINE))
    distribution = f"{release['ID']}-{release['VERSION_ID']}"
    yield _component("operating-system", release["ID"], release["VERSION_ID"], f"pkg:generic/{release['ID']}@{release['VERSION_ID']}")
    for entry in (root / "var/lib/dpkg/status").read_text().split("\n\n"):
        fields = email.parser.Parser(policy=email.policy.compat32).parsestr(entry, headersonly=True)
        if fields["Status"] == INSTALLED:
            name, version = fields["Package"], fields["Version"]
            place = f"{release['ID']}/{quote(name, safe='')}@{quote(version, safe='')}"
            yield _component("library", name, version, f"pkg:deb/{place}?arch={fields['Architecture']}&distro={distribution}")


def _python(root: Path, hashes: dict[str, list[str]]) -> Iterator[Json]:
    for metadata in (root / "opt/kubecarp/lib").glob("python3*/site-packages/*.dist-info/METADATA"):
        fields = email.parser.Parser(policy=email.policy.compat32).parsestr(metadata.read_text(), headersonly=True)
        name, version = re.sub(r"[-_.]+", "-", fields["Name"]).lower(), fields["Version"]
        component = _component("library", name, version, f"pkg:pypi/{name}@{quote(version, safe='')}")
        if expression := fields["License-Expression"]:
            component["licenses"] = [{"expression": expression}]
        elif (text := fields["License"]) and len(text) <= LICENSE_NAME:
            component["licenses"] = [{"license": {"name": text}}]
        if locked := hashes.get(f"{name}=={version}"):
            files = [{"alg": "SHA-256", "content": one} for one in locked]
            comment = "one of these files was installed: one for each platform"
            component["externalReferences"] = [{"type": "distribution", "url": component["purl"], "comment": comment, "hashes": files}]
        yield component


def _component(kind: str, name: str, version: str, purl: str) -> Json:
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _hashes(lock: str) -> dict[str, list[str]]:
    """By ``name==version``."""
    entries = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)
    return {re.split(r"[ \\]", entry)[0]: re.findall(r"--hash=sha256:([0-9a-f]{64})", entry) for entry in entries if "==" in entry}


def main() -> int:
    """0 when the document is written."""
    try:
        with tempfile.TemporaryDirectory(prefix="kubecarp-sbom-") as folder:
            image = ImageRoot(kubecarp_image(), Path(folder))
            document = bill_of_materials(image.folder, (ROOT / "requirements.lock").read_text())
    except ImageError as error:
        say(str(error))
        return 1
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{len(document['components'])} packages: {TARGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
