#!/usr/bin/env bash
# run.sh rsyslog|syslog-ng|kcat HOST:PORT TOPIC FILE FOLDER true|false: ships the lines of FILE, also those that come later.
# run.sh consume HOST:PORT GROUP TOPIC...: creates the topics and prints each record that a group member gets.
# run.sh setup: fetches all of it.
# The last argument of a shipper is its enable.idempotence; FOLDER is for its configuration and state.
source "$(dirname "$0")/../setup.sh"
syslog_ng=$cache/syslog-ng

# The package conflicts with rsyslog's, so it is unpacked beside the system, with what it needs beyond rsyslog's.
unpack_syslog_ng() {
  local names=(syslog-ng-core syslog-ng-mod-rdkafka libivykis0 libnet1 libpcre3 libwrap0)
  rm -rf "$syslog_ng"
  mkdir -p "$syslog_ng/debs"
  cd "$syslog_ng/debs"
  apt-get download "${names[@]}" || { apt-get update && apt-get download "${names[@]}"; }
  for deb in *.deb; do dpkg -x "$deb" "$syslog_ng"; done
}
setup() {
  packages rsyslog rsyslog-kafka kcat
  once syslog-ng unpack_syslog_ng "$suites/shippers/run.sh"
  setup_python
}

setup
what=$1
case $what in
  setup) exit;;
  consume) shift; exec "$cache/python/bin/python" "$suites/shippers/consume.py" "$@";;
esac
broker=$2 topic=$3 file=$4 folder=$5 idempotent=$6
mkdir -p "$folder"
case $what in
  rsyslog)
    cat >"$folder/rsyslog.conf" <<CONF
global(workDirectory="$folder")
main_queue(queue.workerThreads="1")
module(load="imfile")
module(load="omkafka")
template(name="line" type="string" string="%msg%")
input(type="imfile" file="$file" tag="line" ruleset="ship" freshStartTail="off")
ruleset(name="ship") {
  action(type="omkafka" broker=["$broker"] topic="$topic" partitions.auto="on" template="line"
    confParam=["enable.idempotence=$idempotent"]
    resubmitOnFailure="on" keepFailedMessages="on" failedMsgFile="$folder/failed" action.resumeRetryCount="-1"
    action.resumeInterval="1")
}
CONF
    exec /usr/sbin/rsyslogd -n -f "$folder/rsyslog.conf" -i "$folder/pid";;
  syslog-ng)
    cat >"$folder/syslog-ng.conf" <<CONF
@version: 3.38
options { stats-freq(0); };
source lines { file("$file" follow-freq(0.05) flags(no-parse) persist-name("lines")); };
destination kafka {
  kafka-c(
    bootstrap-servers("$broker") topic("$topic") message("\${MSG}") workers(1)
    config(enable.idempotence("$idempotent"))
  );
};
log { source(lines); destination(kafka); flags(flow-control); };
CONF
    modules=$(dirname "$(find "$syslog_ng" -name libkafka.so)")
    libraries=$(find "$syslog_ng" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
    LD_LIBRARY_PATH=$libraries exec "$syslog_ng/usr/sbin/syslog-ng" --foreground --no-caps --stderr \
      --cfgfile="$folder/syslog-ng.conf" --module-path="$modules" --persist-file="$folder/persist" \
      --pidfile="$folder/pid" --control="$folder/control";;
  kcat)
    # -E: a lost connection is not the end. kcat holds back its last lines until its input ends: at the line "end".
    exec kcat -P -E -b "$broker" -t "$topic" -X "enable.idempotence=$idempotent" \
      < <(tail -n +1 -f "$file" | sed '/^end$/Q');;
  *) echo "no shipper $what" >&2; exit 2;;
esac
