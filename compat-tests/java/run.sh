#!/usr/bin/env bash
# run.sh HOST:PORT RUN cases|write|groups|telemetry HTTP|read [SUITE:CODEC...]
source "$(dirname "$0")/../setup.sh"
build() {
  class_path java "$suites/java/pom.xml"
  rm -rf "$cache/java-classes"
  javac -Xlint:all,-try -Werror -d "$cache/java-classes" -cp "$(<"$cache/java.classpath")" "$suites"/java/*.java
}
setup_java
once java build "$suites"/java/*
exec java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$cache/java-classes:$(<"$cache/java.classpath")" Suite "$@"
