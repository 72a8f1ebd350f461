#!/usr/bin/env bash
# run.sh TOOL [ARGUMENT...]: one of Apache Kafka's own command line tools, named as in its bin/ without "kafka-" and ".sh".
# run.sh box: many of them, one after the other in one JVM (Toolbox.java says how).
source "$(dirname "$0")/../setup.sh"
here=$suites/kafka-tools
tool=$1; shift
main=$([[ $tool == box ]] && echo Toolbox || awk -v tool="$tool" '$1 == tool { print $2 }' "$here/tools.txt")
[[ -n $main ]] || { echo "no tool $tool here" >&2; exit 2; }
build() {
  class_path kafka-tools "$here/pom.xml"
  rm -rf "$cache/kafka-tools-classes"
  javac -Xlint:all -Werror -d "$cache/kafka-tools-classes" -cp "$(<"$cache/kafka-tools.classpath")" "$here/Toolbox.java"
}
setup_java
once kafka-tools build "$here/pom.xml" "$here/Toolbox.java"
# short lives: the quick compiler and the small collector halve the CPU seconds of each
exec java -Xmx256M -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Djava.awt.headless=true \
  "-Dlog4j2.configurationFile=file:$here/log4j2.properties" \
  -cp "$cache/kafka-tools-classes:$(<"$cache/kafka-tools.classpath")" "$main" "$@"
