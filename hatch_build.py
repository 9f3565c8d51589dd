"""The build hook that makes the front end: `widgets/` (TypeScript) -> `nbcanvas/notebook/static/`.

Four cases, in this order:

1. the bundle was built from exactly these sources (its stamp says so): nothing to do, with or without Node;
2. npm is there: install what the build needs, and build;
3. no npm, but a bundle is there: use it, and say that it may be older than the sources;
4. neither: an error that names the cure.

``python hatch_build.py`` does the same from a checkout; the Makefile's ``front`` calls it.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CURE = "install Node.js 20 or newer (it brings npm) and try again, or install a released wheel or sdist: they carry it"


class FrontEndHook(BuildHookInterface[Any]):
    """Build the front end before a wheel, an sdist or an editable install is made."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make sure that the bundle is there; hatchling calls this first."""
        self.app.display_info(build_front_end(Path(self.root)))


def build_front_end(root: Path) -> str:
    """Make the bundle in the checkout `root` if it must be made.

    Returns
    -------
    str
        One line that says what was done.

    Raises
    ------
    RuntimeError
        If there is neither a bundle nor a way to build one, or the build fails.
    """
    widgets, static = root / "widgets", root / "nbcanvas" / "notebook" / "static"
    stamp = static / ".sources"
    digest = digest_of_sources(widgets)
    if stamp.exists() and stamp.read_text("utf-8") == digest:
        return "front end: up to date"
    npm = shutil.which("npm")
    if npm is None:
        if any(static.glob("*.js")):
            return "front end: npm is not there; using the bundle as it is (the sources may be newer)"
        message = f"the front end is not built, and npm is not there to build it: {CURE}"
        raise RuntimeError(message)
    if not (widgets / "node_modules" / "esbuild").exists():  # else a developer's full set is there: leave it alone
        run_npm(npm, "ci", "--omit=dev", cwd=widgets)
    run_npm(npm, "run", "build", cwd=widgets)
    stamp.write_text(digest, "utf-8")
    return "front end: built"


def digest_of_sources(widgets: Path) -> str:
    """Hash everything that decides what the bundle looks like."""
    digest = hashlib.sha256()
    settings = [widgets / name for name in ("build.mjs", "package.json", "package-lock.json", "tsconfig.json")]
    for path in [*settings, *sorted(p for p in (widgets / "src").rglob("*") if p.is_file())]:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(widgets).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def run_npm(npm: str, *arguments: str, cwd: Path) -> None:
    """Run npm quietly; show all it said when it fails."""
    done = subprocess.run([npm, *arguments], cwd=cwd, text=True, capture_output=True, check=False)
    if done.returncode:
        message = f"`npm {' '.join(arguments)}` failed in {cwd.name}/:\n{done.stdout}{done.stderr}"
        raise RuntimeError(message)


if __name__ == "__main__":
    try:
        print(build_front_end(Path(__file__).parent))
    except RuntimeError as error:
        sys.exit(str(error))
