"""What is in an image: its archive unpacked as a container runtime does it, and programs started in it with a read-only root."""

__all__ = ["USER", "ImageRoot"]

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

USER = 65532
"""The chart's, for operator and agent."""
LIMIT_S = 60.0

_WHITEOUT = ".wh."
_ENTER = """
mount --make-rprivate /
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
mount --rbind /proc "$1/proc"
mount --rbind /dev "$1/dev"
[ -z "$2" ] || mount --bind "$2" "$1/mnt"
shift 2
exec env -i "$@"
"""


class ImageRoot:
    """Needs real root."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.folder = folder / "root"
        self.folder.mkdir()
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        manifest = json.loads((folder / "manifest.json").read_text())[0]
        document = json.loads((folder / manifest["Config"]).read_text())
        self.names: list[str] = manifest["RepoTags"]
        self.config: dict[str, Any] = document["config"]
        self.layers = [folder / layer for layer in manifest["Layers"]]
        for layer in self.layers:
            self._unpack(layer)

    def _unpack(self, layer: Path) -> None:
        """One layer over those before it. A file .wh.NAME says that NAME of a layer below is gone."""
        with tarfile.open(layer) as tar:
            gone = [Path(name) for name in tar.getnames() if Path(name).name.startswith(_WHITEOUT)]
        for mark in gone:
            target = self.folder / mark.with_name(mark.name.removeprefix(_WHITEOUT))
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
        command = ["tar", "--extract", "--numeric-owner", f"--exclude={_WHITEOUT}*", "-C", str(self.folder), "-f", str(layer)]
        subprocess.run(command, timeout=LIMIT_S, check=True)

    def command(self, *argv: str, user: int = USER, shared: Path | None = None) -> list[str]:
        """The command line that runs ``argv`` in the image, with its environment alone; ``shared`` is what it sees as /mnt."""
        start = ["chroot", f"--userspec={user}:{user}", "--groups=", str(self.folder), *argv]
        arguments = [str(self.folder), str(shared or ""), *self.config["Env"], *start]
        return ["unshare", "--mount", "--", "sh", "-ec", _ENTER, "sh", *arguments]

    def run(self, *argv: str, user: int = USER, shared: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*argv, user=user, shared=shared),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
