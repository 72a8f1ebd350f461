#!/usr/bin/env bash
# run.sh HOST:PORT RUN cases|write|read [SUITE:CODEC...]
source "$(dirname "$0")/../setup.sh"
install() {
  mkdir -p "$cache/kafkajs"
  cp "$suites/kafkajs/package.json" "$suites/kafkajs/package-lock.json" "$cache/kafkajs/"
  cd "$cache/kafkajs"
  npm ci --ignore-scripts --no-audit --no-fund
}
command_from node nodejs
command_from npm npm
once kafkajs install "$suites/kafkajs/package-lock.json"
NODE_PATH=$cache/kafkajs/node_modules KAFKAJS_NO_PARTITIONER_WARNING=1 exec node "$suites/kafkajs/suite.js" "$@"
