#!/usr/bin/env bash
# run.sh TOOL [ARGUMENT...]: one of Apache Kafka's own command line tools, named as in its bin/ without "kafka-" and ".sh".
source "$(dirname "$0")/../setup.sh"
tool=$1; shift
case $tool in
  broker-api-versions) main=BrokerApiVersionsCommand;;
  cluster) main=ClusterTool;;
  console-consumer) main=consumer.ConsoleConsumer;;
  console-producer) main=ConsoleProducer;;
  consumer-groups) main=consumer.group.ConsumerGroupCommand;;
  consumer-perf-test) main=ConsumerPerformance;;
  delete-records) main=DeleteRecordsCommand;;
  dump-log) main=DumpLogSegments;;
  features) main=FeatureCommand;;
  get-offsets) main=GetOffsetShell;;
  leader-election) main=LeaderElectionCommand;;
  metadata-quorum) main=MetadataQuorumCommand;;
  producer-perf-test) main=ProducerPerformance;;
  reassign-partitions) main=reassign.ReassignPartitionsCommand;;
  topics) main=TopicCommand;;
  verifiable-consumer) main=VerifiableConsumer;;
  verifiable-producer) main=VerifiableProducer;;
  *) echo "no tool $tool here" >&2; exit 2;;
esac
build() { class_path kafka-tools "$suites/kafka-tools/pom.xml"; }
setup_java
once kafka-tools build "$suites/kafka-tools/pom.xml"
# short lives: the quick compiler and the small collector halve the CPU seconds of each
exec java -Xmx256M -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Djava.awt.headless=true \
  "-Dlog4j2.configurationFile=file:$suites/kafka-tools/log4j2.properties" \
  -cp "$(<"$cache/kafka-tools.classpath")" "org.apache.kafka.tools.$main" "$@"
