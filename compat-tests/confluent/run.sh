#!/usr/bin/env bash
# run.sh HOST:PORT RUN cases|write|groups|read [SUITE:CODEC...]
source "$(dirname "$0")/../setup.sh"
setup_python
python "$suites/confluent/suite.py" "$@"
