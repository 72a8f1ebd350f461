#!/usr/bin/env bash
# run.sh standalone WORKER CONNECTOR... | distributed WORKER | mirror FILE: Kafka Connect or MirrorMaker 2 with these properties.
source "$(dirname "$0")/../setup.sh"
case $1 in
  standalone) main=connect.cli.ConnectStandalone;;
  distributed) main=connect.cli.ConnectDistributed;;
  mirror) main=connect.mirror.MirrorMaker;;
  *) echo "no verb $1 here" >&2; exit 2;;
esac
shift
build() { class_path connect "$suites/connect/pom.xml"; }
setup_java
once connect build "$suites/connect/pom.xml"
# short lives: the quick compiler and the small collector halve the CPU seconds of each
exec java -Xmx256M -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Djava.awt.headless=true \
  "-Dlog4j2.configurationFile=file:$suites/connect/log4j2.properties" \
  -cp "$(<"$cache/connect.classpath")" "org.apache.kafka.$main" "$@"
