"""Other libraries beside star on the same rows: `./scripts/reproduce_peers.sh`."""
