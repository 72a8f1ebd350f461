#!/usr/bin/env bash
# run.sh produce|read HOST:PORT TOPIC PARTITIONS
source "$(dirname "$0")/../setup.sh"
setup_python
program=$1; shift
exec "$cache/python/bin/python" "$suites/kill9/$program.py" "$@"
