"""Carry out the steps of the Dockerfile in a bare root file system, where no builder of images is at hand.

    debootstrap --variant=minbase --include=ca-certificates bookworm ROOT
    python container/steps.py ROOT [--arg NAME=VALUE] [--share PATH] [--run]

It needs root, chroot and unshare. `--share` puts files of this machine at the same place of ROOT, such as certificates
or wheels; `--run` starts the image's default command in the end.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PASSED_ON = ("PIP_", "SSL_", "http_proxy", "https_proxy", "no_proxy")  # how this machine reaches packages


@dataclass
class Container:
    """A root file system with what the steps so far have set."""

    root: Path
    arguments: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "root"
    entry: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def carry_out(self, word: str, rest: str, given: Mapping[str, str]) -> None:
        """Do one step; `given` are the arguments of the build. Raises `ValueError` for a step of no known kind."""
        if word == "ARG":
            name, _, value = rest.partition("=")
            self.arguments[name] = given.get(name, value)
        elif word == "ENV":
            self.environment |= dict(pair.split("=", 1) for pair in shlex.split(self.filled(rest)))
        elif word == "RUN":
            self.run(["sh", "-ec", rest])
        elif word == "WORKDIR":
            self.folder = rest
            self.inside(rest).mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            *sources, target = shlex.split(rest)
            for source in sources:
                _copy(REPOSITORY / source, self.inside(self.folder) / target)
        elif word == "USER":
            self.user = rest
        elif word in ("ENTRYPOINT", "CMD"):
            setattr(self, {"ENTRYPOINT": "entry", "CMD": "command"}[word], json.loads(rest))
        elif word not in ("FROM", "EXPOSE"):
            raise ValueError(f"The Dockerfile has a step '{word}', which container/steps.py does not know; teach it.")

    def run(self, words: list[str]) -> None:
        """Run a command in the root file system, as its user, with processes of its own."""
        passed = {k: v for k, v in os.environ.items() if k.startswith(PASSED_ON)}
        environment = {**passed, "HOME": self.home(), "LC_ALL": "C.UTF-8", **self.environment, **self.arguments}
        inner = ["chroot", f"--userspec={self.user}", str(self.root), "env", "-i"]
        inner += [f"{name}={value}" for name, value in environment.items()]
        inner += ["sh", "-c", 'cd "$0" && exec "$@"', self.folder, *words]
        mounted = f"mount -t proc proc {shlex.quote(str(self.root / 'proc'))} && exec {shlex.join(inner)}"
        subprocess.run(["unshare", "--mount", "--pid", "--fork", "sh", "-ec", mounted], check=True)

    def home(self) -> str:
        return "/root" if self.user == "root" else f"/home/{self.user}"

    def inside(self, path: str) -> Path:
        """A path of the root file system, seen from outside."""
        return self.root / path.lstrip("/")

    def filled(self, text: str) -> str:
        """The text with the arguments and variables of the build in the place of their names."""
        known = {**self.arguments, **self.environment}
        return re.sub(r"\$\{(\w+)\}", lambda found: known.get(found[1], ""), text)


def steps(text: str) -> list[tuple[str, str]]:
    """The steps of a Dockerfile in their order: the first word of each, and the rest."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def share(root: Path, path: Path) -> None:
    """Copy a file or folder of this machine to the same place of the root file system."""
    place = root / path.relative_to("/").parent
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "--recursive", "--dereference", "--remove-destination", path, place], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="bare root file system")
    parser.add_argument("--arg", action="append", default=[], metavar="NAME=VALUE", help="argument of the build")
    parser.add_argument("--share", action="append", default=[], type=Path, help="file or folder of this machine")
    parser.add_argument("--run", action="store_true", help="start the default command in the end")
    asked = parser.parse_args()
    given = dict(pair.split("=", 1) for pair in asked.arg)
    for path in [*map(Path, ("/etc/resolv.conf", "/etc/hosts")), *asked.share]:
        share(asked.root, path.absolute())
    container = Container(asked.root.resolve())
    for word, rest in steps((REPOSITORY / "Dockerfile").read_text(encoding="utf-8")):
        print(f"{word} {rest[:100]}", flush=True)
        container.carry_out(word, rest, given)
    if asked.run:
        container.run([*container.entry, *container.command])


if __name__ == "__main__":
    main()
