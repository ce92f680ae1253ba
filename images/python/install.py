"""Installs one package of PyPI as an MCP server, inside an image build, as root:

    python3 install.py <package> <version> [--command=NAME] [--scripts] [--index=URL]

Packages go to /app/lib; /app/server becomes a program that runs the package's console script: the one
that is named, else the one of the package's own name, else the only one. With /app/requirements.lock
there, exactly what it locks is installed, by hash. Every failure ends in one line,
`mooring-install: <code>: <sentence>`.

`install.py --prepare` compiles Python's own library and makes the user, when the base image is made.
"""

import hashlib
import glob
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
import tempfile
from importlib import metadata

APP = "/app"
LIBRARY = APP + "/lib"
LOCK = APP + "/requirements.lock"


class InstallError(Exception):
    def __init__(self, code, sentence):
        super().__init__(sentence)
        self.code = code


def main(arguments):
    if arguments == ["--prepare"]:
        return prepare()
    name, version, *options = arguments
    command = next((each[10:] for each in options if each.startswith("--command=")), None)
    index = next((each[8:] for each in options if each.startswith("--index=")), None)
    install(name, version, index, "--scripts" in options)
    write_server(name, version, command)
    compile_library(LIBRARY)
    settle_times(APP)


def install(name, version, index, with_scripts):
    """Downloads, writes the lock, and installs what it locks; two steps, so that every file has its hash."""
    temporary = tempfile.mkdtemp(prefix="mooring-install-")
    try:
        wheels = temporary + "/wheels"
        source = ["--index-url", index] if index else []
        if index and index.startswith("http://"):
            source += ["--trusted-host", re.match(r"http://([^/:]+)", index).group(1)]
        if not with_scripts:
            source += ["--only-binary", ":all:"]
        def pip(*arguments):
            run_pip(name, version, with_scripts, temporary, *arguments)

        locked = read_lock()
        if locked is None:
            pip("download", "--dest", wheels, *source, f"{name}=={version}")
        elif locked["platform"] == this_platform():
            pip("download", "--dest", wheels, "--no-deps", "--require-hashes", *source, "-r", LOCK)
        else:
            # Another Python wants other files of the same versions: they are locked anew.
            pip("download", "--dest", wheels, "--no-deps", *source, *locked["pins"])
        write_lock(wheels, locked)
        pip("install", "--target", LIBRARY, "--no-compile", "--no-deps",
            "--no-index", "--find-links", wheels, "--require-hashes", "-r", LOCK)
        # Programs of packages: what a server needs of them it finds as modules.
        shutil.rmtree(LIBRARY + "/bin", ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def run_pip(name, version, with_scripts, temporary, *arguments):
    environment = dict(os.environ, TMPDIR=temporary, HOME=temporary, PIP_CONFIG_FILE=os.devnull)
    environment.pop("PYTHONPATH", None)
    extra = os.environ.get("NODE_EXTRA_CA_CERTS")
    if extra:
        # pip takes one file in place of its own, so it gets both in one.
        environment["PIP_CERT"] = temporary + "/ca.pem"
        with open(environment["PIP_CERT"], "wb") as bundle:
            for path in (system_certificates(), extra):
                with open(path, "rb") as file:
                    bundle.write(file.read() + b"\n")
    command = [sys.executable, *pip_program(with_scripts), arguments[0], "--no-cache-dir", "--no-input",
               "--disable-pip-version-check", "--progress-bar=off", "--retries=2", "--timeout=20",
               *arguments[1:]]
    child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                             stderr=subprocess.PIPE)
    errors = ""
    for line in child.stderr:
        text = line.decode("utf-8", "replace")
        sys.stderr.write(text)
        errors = (errors + text)[-65536:]
    if child.wait() != 0:
        if not with_scripts and "subprocess-exited-with-error" in errors:
            raise InstallError("no-wheel", f"{name}@{version} depends on a source archive by its "
                                           "address, and not on a wheel")
        raise explain(errors, name, version)


def pip_program(with_scripts):
    """pip as the official image has it, else as the wheel that Debian ships.

    Without scripts it finds no Python to build with: `--only-binary` says nothing of an archive that a
    wheel names by its address, which PyPI itself takes no wheels with and other indexes do.
    """
    wheel = glob.glob("/usr/share/python-wheels/pip-*.whl")
    lines = ["import runpy, sys", f"sys.path[:0] = {wheel[:1]!r}"]
    if not with_scripts:
        lines.append("sys.executable = '/bin/false'")
    lines.append("runpy.run_module('pip', run_name='__main__', alter_sys=True)")
    return ["-c", "\n".join(lines)]


def system_certificates():
    paths = ["/etc/ssl/certs/ca-certificates.crt", ssl.get_default_verify_paths().cafile]
    found = [path for path in paths if path and os.path.exists(path)]
    return found[0] if found else os.devnull


def explain(errors, name, version):
    def says(pattern):
        return re.search(pattern, errors)

    if says(r"DO NOT MATCH THE HASHES"):
        return InstallError("changed", "What the index gives is not what it gave at the first build")
    if says(r"CERTIFICATE_VERIFY_FAILED|SSLError"):
        return InstallError(
            "untrusted-certificate",
            "The package index's TLS certificate is not trusted; name a proxy's CA file (PEM) in "
            "NODE_EXTRA_CA_CERTS",
        )
    if says(r"NewConnectionError|Name or service not known|name resolution|timed out|ReadTimeout|"
            r"Connection refused|unreachable|ProtocolError"):
        return InstallError("network", "The package index cannot be reached from this build")
    missing = says(r"No matching distribution found for (\S+)")
    if missing:
        which = missing.group(1)
        versions = re.search(r"\(from versions: (.*)\)", errors)
        none = not versions or versions.group(1) == "none"
        if not none and which == f"{name}=={version}":
            return InstallError("version-not-found",
                                f"The package index has no version {name}@{version} that is a wheel "
                                "for this platform")
        if which.split("==")[0] == name and "404" in errors:
            return InstallError("package-not-found", f"The package index has no package {name}")
        if none and which.split("==")[0] == name:
            return InstallError("package-not-found",
                                f"The package index has no package {name}, or no wheel of it for this "
                                "platform")
        return InstallError("no-wheel", f"The package index has no wheel of {which} for this platform")
    lines = [line for line in errors.split("\n") if line.startswith("ERROR")][:3]
    return InstallError("other", "pip failed: " + (" ".join(lines) or "it did not say why"))


def this_platform():
    return f"python {sys.version_info.major}.{sys.version_info.minor} {platform.machine()}"


def read_lock():
    if not os.path.exists(LOCK):
        return None
    with open(LOCK, encoding="utf-8") as file:
        lines = file.read().splitlines()
    pins = [line.split(" ")[0] for line in lines if line and not line.startswith("#")]
    return {"platform": lines[0][2:] if lines else "", "pins": pins}


def write_lock(directory, locked):
    """Every downloaded file by name, version and SHA-256; the lock that was there stays if it fits."""
    if locked and locked["platform"] == this_platform():
        return
    lines = []
    for file in os.listdir(directory):
        if file.endswith(".whl"):
            name, version = file.split("-")[:2]
        else:
            name, version = re.match(r"(.+)-([^-]+?)(\.tar\.\w+|\.zip|\.tgz)$", file).groups()
        with open(os.path.join(directory, file), "rb") as content:
            digest = hashlib.sha256(content.read()).hexdigest()
        lines.append(f"{name.replace('_', '-').lower()}=={version} --hash=sha256:{digest}")
    os.makedirs(APP, exist_ok=True)
    with open(LOCK, "w", encoding="utf-8") as out:
        out.write("\n".join([f"# {this_platform()}", *sorted(lines)]) + "\n")


def write_server(name, version, wanted):
    distribution = next(iter(metadata.distributions(name=name, path=[LIBRARY])), None)
    entries = [] if distribution is None else [
        each for each in distribution.entry_points if each.group == "console_scripts"
    ]
    scripts = {each.name: each.value for each in entries}
    normal = re.sub(r"[-_.]+", "-", name).lower()
    if wanted:
        chosen = wanted
    else:
        named = [each for each in scripts if re.sub(r"[-_.]+", "-", each).lower() == normal]
        chosen = (named or (list(scripts) if len(scripts) == 1 else [None]))[0]
    target = scripts.get(chosen)
    if target is None:
        have = f"; it has {', '.join(sorted(scripts))}" if scripts else ""
        raise InstallError("no-bin", f"{name}@{version} has no console script {chosen or normal}{have}, "
                                     "so there is nothing to run")
    match = re.fullmatch(r"([A-Za-z_][\w.]*)\s*:\s*([A-Za-z_][\w.]*)\s*(\[.*\])?", target)
    if not match:
        raise InstallError("no-bin", f"{name}@{version} names its console script {chosen} in no way that "
                                     "Python runs")
    module, attribute = match.group(1), match.group(2)
    with open(APP + "/server", "w", encoding="utf-8") as out:
        out.write(
            "import importlib, operator, site, sys\n"
            f"site.addsitedir({LIBRARY!r})\n"
            f"sys.argv[0] = {chosen!r}\n"
            f"sys.exit(operator.attrgetter({attribute!r})(importlib.import_module({module!r}))())\n"
        )


def compile_library(directory):
    """By content and not by time, so that two builds are the same; unchecked, for the files cannot change."""
    subprocess.run(
        [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", directory],
        stdout=subprocess.DEVNULL, check=False,
    )


def settle_times(directory):
    """One lock file makes one layer, whenever it is built (zip knows no time before this one)."""
    for parent, directories, files in os.walk(directory, topdown=False):
        for each in (*directories, *files):
            os.utime(os.path.join(parent, each), (315532800, 315532800), follow_symlinks=False)
    os.utime(directory, (315532800, 315532800))


def prepare():
    for file, line in (("passwd", "mooring:x:65532:65532::/tmp:/usr/sbin/nologin"),
                       ("group", "mooring:x:65532:")):
        with open("/etc/" + file, "a", encoding="utf-8") as out:
            out.write(line + "\n")
    compile_library(sysconfig.get_paths()["stdlib"])


try:
    main(sys.argv[1:])
except Exception as error:
    known = isinstance(error, InstallError)
    sentence = re.sub(r"\s+", " ", str(error) or type(error).__name__)[:500]
    sys.stderr.write(f"mooring-install: {error.code if known else 'other'}: {sentence}\n")
    sys.exit(1)
