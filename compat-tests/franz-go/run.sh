#!/usr/bin/env bash
# run.sh HOST:PORT RUN cases|write|groups|read [SUITE:CODEC...]
source "$(dirname "$0")/../setup.sh"
build() {
  cd "$suites/franz-go"
  go build -mod=readonly -o "$cache/franz-go" .
}
command_from go golang-go
once franz-go-build build "$suites"/franz-go/*.go "$suites/franz-go/go.mod" "$suites/franz-go/go.sum"
exec "$cache/franz-go" "$@"
