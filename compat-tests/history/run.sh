#!/usr/bin/env bash
# run.sh librdkafka|java ROLE HOST:PORT[,...] TOPIC PARTITIONS NAME [KEY=VALUE...]: a client that writes down what it did and saw.
# run.sh setup: only fetches what both need.
source "$(dirname "$0")/../setup.sh"
build() {
  class_path history "$suites/java/pom.xml"
  rm -rf "$cache/history-classes"
  javac -Xlint:all,-try -Werror -d "$cache/history-classes" -cp "$(<"$cache/history.classpath")" "$suites"/history/*.java
}
client=$1; shift
case $client in
  librdkafka)
    setup_python
    exec "$cache/python/bin/python" "$suites/history/load.py" "$@";;
  java)
    setup_java
    once history build "$suites/java/pom.xml" "$suites"/history/*.java
    exec java -Xmx256M -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$cache/history-classes:$(<"$cache/history.classpath")" Load "$@";;
  setup)
    setup_python
    setup_java
    once history build "$suites/java/pom.xml" "$suites"/history/*.java;;
  *) echo "no client $client here" >&2; exit 2;;
esac
