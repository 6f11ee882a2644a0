# Sourced by the scripts beside it: `star_setup [EXTRA]` leaves an environment with star in it.
#
# With a virtual environment active, that one is used; otherwise .venv in the repository root, made
# if missing. Installing is skipped while neither pyproject.toml, constraints.txt nor the
# repository's place has changed. Only Python 3.11 or newer and a package index are needed.

STAR_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

_star_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

_star_environment() {
    local candidate
    if [ -n "${VIRTUAL_ENV:-}" ] && [ -x "$VIRTUAL_ENV/bin/python" ]; then
        PATH="$VIRTUAL_ENV/bin:$PATH"
        if ! _star_new_enough python; then
            echo "error: the active environment $VIRTUAL_ENV has $(python --version), star needs" \
                "3.11 or newer; deactivate it or make another" >&2
            return 2
        fi
        return
    fi
    # The last thing `venv` writes is the script to activate it; without that it was interrupted.
    if [ ! -f "$STAR_ROOT/.venv/bin/activate" ]; then
        for candidate in python3 python3.14 python3.13 python3.12 python3.11 ""; do
            if [ -z "$candidate" ]; then
                echo "error: no Python 3.11 or newer found (python3 is $(python3 --version 2>&1))" >&2
                return 2
            fi
            if _star_new_enough "$candidate"; then
                break
            fi
        done
        echo "making $STAR_ROOT/.venv" >&2
        "$candidate" -m venv "$STAR_ROOT/.venv"
    fi
    # shellcheck disable=SC1091
    . "$STAR_ROOT/.venv/bin/activate"
}

star_setup() {
    local extra=${1:-} wanted stamp stored=""
    _star_environment || return
    stamp=$VIRTUAL_ENV/.star-al
    # The place counts, since the installation points to it (pip install -e).
    wanted=$(python - "$STAR_ROOT" <<'PYTHON'
import hashlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
digest = hashlib.sha256(str(root).encode())
for name in ("pyproject.toml", "constraints.txt"):
    digest.update((root / name).read_bytes())
print(digest.hexdigest())
PYTHON
    )
    if [ -f "$stamp" ] && [ -x "$VIRTUAL_ENV/bin/star" ]; then
        stored=$(cat "$stamp")
    fi
    # What was installed with the extra serves those without it too.
    if [ "$stored" = "$wanted $extra" ] || [ "$stored" = "$wanted test" ]; then
        return
    fi
    echo "installing star${extra:+ with the extra '$extra'} into $VIRTUAL_ENV" >&2
    rm -f "$stamp"
    python -m pip install --quiet --disable-pip-version-check -c "$STAR_ROOT/constraints.txt" \
        -e "$STAR_ROOT${extra:+[$extra]}"
    echo "$wanted $extra" >"$stamp"
}
