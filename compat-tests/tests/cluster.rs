//! A cluster of three as Apache Kafka's unmodified tools see and command it.
//!
//! One cluster for all of it: starting the tools costs most of the time.
//! `WEIR_COMPAT_CLUSTER=kafka` runs the same on Apache Kafka.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use compat_tests::cluster::{Cluster, Plan};
use compat_tests::program::{unique, wait_until};
use compat_tests::tools::{Ended, tool, tool_ok};

const STEP_MAX: Duration = Duration::from_secs(60);

#[test]
fn kafkas_tools_see_and_command_a_cluster_of_three() -> Result<()> {
    let mut cluster = Cluster::start(Plan::new("cluster", 3)?)?;
    let told = all(&mut cluster);
    cluster.explain(told)
}

/// In one order, because the later ones change what the earlier ones look at.
fn all(cluster: &mut Cluster) -> Result<()> {
    topics_are_spread_and_described(cluster).context("topics")?;
    every_node_tells_its_api_versions(cluster).context("broker-api-versions")?;
    the_metadata_quorum_is_described(cluster).context("metadata-quorum")?;
    replicas_are_reassigned_by_plan(cluster).context("reassign-partitions")?;
    leaders_are_elected(cluster).context("leader-election")?;
    features_are_described_upgraded_and_downgraded(cluster).context("features")?;
    the_last_in_sync_replica_is_remembered(cluster).context("ELR")?;
    a_dead_node_is_unregistered(cluster).context("cluster")
}

/// A tool that must end with code 0, with `--bootstrap-server` put in.
fn ask(cluster: &Cluster, tool: &str, arguments: &[&str]) -> Result<Ended> {
    let bootstrap: Vec<&str> =
        cluster.nodes.values().filter(|node| node.is_running()).map(|node| node.kafka.as_str()).collect();
    let (at, bootstrap) = (usize::from(tool == "cluster"), bootstrap.join(","));
    // this one wants its own word first
    let (first, rest) = arguments.split_at(at);
    tool_ok(&[&[tool], first, &["--bootstrap-server", &bootstrap], rest].concat())
}

/// A line of `topics --describe` as `Name: value` pairs.
fn fields(line: &str) -> BTreeMap<&str, &str> {
    line.split('\t').filter_map(|field| field.trim().split_once(':')).map(|(key, value)| (key, value.trim())).collect()
}

/// The partitions of a topic as the tool shows them.
fn described(out: &str) -> Vec<BTreeMap<&str, &str>> {
    out.lines().map(fields).filter(|fields| fields.contains_key("Partition")).collect()
}

fn ids(text: &str) -> Vec<u32> {
    text.split(',').filter_map(|id| id.trim().parse().ok()).collect()
}

fn topics_are_spread_and_described(cluster: &mut Cluster) -> Result<()> {
    let topic = format!("spread-{}", unique());
    let create = ["--create", "--topic", &topic, "--partitions", "6", "--replication-factor", "3"];
    let created = ask(cluster, "topics", &[&create[..], &["--config", "min.insync.replicas=2"]].concat())?;
    ensure!(created.out == format!("Created topic {topic}.\n"), "{created:?}");
    cluster.wait_healthy(&topic, 3, STEP_MAX)?;
    let told = ask(cluster, "topics", &["--describe", "--topic", &topic])?;
    let head = told.out.lines().next().unwrap_or_default();
    for part in ["PartitionCount: 6", "ReplicationFactor: 3", "min.insync.replicas=2"] {
        ensure!(head.contains(part), "{head} lacks {part}");
    }
    let partitions = described(&told.out);
    ensure!(partitions.len() == 6, "{told:?}");
    let mut led = BTreeMap::<u32, usize>::new();
    for partition in &partitions {
        let get = |name: &str| partition.get(name).copied().with_context(|| format!("no {name} in {partition:?}"));
        let (leader, replicas, mut isr) = (get("Leader")?.parse::<u32>()?, ids(get("Replicas")?), ids(get("Isr")?));
        isr.sort_unstable();
        ensure!(isr == [1, 2, 3] && replicas.len() == 3 && replicas.first() == Some(&leader), "{partition:?}");
        ensure!(get("Elr")?.is_empty() && get("LastKnownElr")?.is_empty(), "{partition:?}");
        *led.entry(leader).or_default() += 1;
    }
    ensure!(led.len() == 3 && led.values().all(|count| *count == 2), "leaders are not spread: {led:?}");
    let refused = ["--create", "--topic", "too-wide", "--partitions", "1", "--replication-factor", "4"];
    let refused = tool(&[&["topics", "--bootstrap-server", &cluster.bootstrap()][..], &refused].concat(), "")?;
    let said = format!("{}{}", refused.out, refused.err);
    ensure!(refused.code == Some(1) && said.contains("InvalidReplicationFactorException"), "{refused:?}");
    Ok(())
}

fn every_node_tells_its_api_versions(cluster: &mut Cluster) -> Result<()> {
    let told = ask(cluster, "broker-api-versions", &[])?.out;
    for node in cluster.nodes.values() {
        ensure!(told.contains(&format!("{} (id: {} ", node.kafka, node.id)), "node {} is not in\n{told}", node.id);
    }
    let served = [
        "ElectLeaders(43): 0 to 2",
        "AlterPartitionReassignments(45): 0 to ",
        "ListPartitionReassignments(46): 0",
        "DescribeQuorum(55): 0 to ",
        "UpdateFeatures(57): 0 to ",
        "DescribeCluster(60): 0 to 2",
        "UnregisterBroker(64): 0",
    ];
    for api in served {
        ensure!(told.matches(&format!("\t{api}")).count() == 3, "{api} is not in all three\n{told}");
    }
    Ok(())
}

fn the_metadata_quorum_is_described(cluster: &mut Cluster) -> Result<()> {
    let status = ask(cluster, "metadata-quorum", &["describe", "--status"])?.out;
    let line = |name: &str| -> Result<&str> {
        let found = status.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
        Ok(found.with_context(|| format!("no {name} in\n{status}"))?.trim())
    };
    let leader: u32 = line("LeaderId")?.parse()?;
    ensure!(leader == cluster.admin().controller()?, "the tool names another leader than DescribeQuorum: {status}");
    ensure!(line("LeaderEpoch")?.parse::<i64>()? >= 1 && line("HighWatermark")?.parse::<i64>()? > 0, "{status}");
    ensure!(!line("ClusterId")?.is_empty(), "{status}");
    let voters = line("CurrentVoters")?;
    ensure!((1..=3).all(|id| voters.contains(&format!("{id}"))), "{status}");

    let table = ask(cluster, "metadata-quorum", &["describe", "--replication"])?;
    let rows: Vec<Vec<&str>> = table.words().into_iter().skip(1).collect();
    ensure!(rows.len() == 3, "{table:?}");
    for row in &rows {
        let (id, role) = (row.first().context("an empty row")?.parse::<u32>()?, *row.last().context("an empty row")?);
        ensure!(role == if id == leader { "Leader" } else { "Follower" }, "{table:?}");
    }
    Ok(())
}

/// `--generate`, then `--execute` with a throttle, `--verify`, and `--cancel` of another.
fn replicas_are_reassigned_by_plan(cluster: &mut Cluster) -> Result<()> {
    let topic = format!("moved-{}", unique());
    cluster.create_topic(&topic, 3, 1, &[])?;
    let (folder, size) =
        (tempfile::tempdir()?, ["--num-records", "20000", "--record-size", "1000", "--throughput", "-1"]);
    ask(cluster, "producer-perf-test", &[&["--topic", topic.as_str()][..], &size].concat())?;
    let file = |name: &str, text: &str| -> Result<String> {
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let topics = file("topics", &format!(r#"{{"version":1,"topics":[{{"topic":"{topic}"}}]}}"#))?;
    let generate = ["--topics-to-move-json-file", &topics, "--broker-list", "1,2,3", "--generate"];
    let generated = ask(cluster, "reassign-partitions", &generate)?.out;
    let proposed = generated.lines().rfind(|line| line.starts_with('{')).context("no proposed assignment")?;
    ensure!(generated.contains("Current partition replica assignment"), "{generated}");
    ensure!(serde_json::from_str::<serde_json::Value>(proposed)?["partitions"].as_array().map(Vec::len) == Some(3));

    let plan = |replicas: [[u32; 2]; 3]| {
        let parts: Vec<String> = (0..)
            .zip(replicas)
            .map(|(index, [a, b])| format!(r#"{{"topic":"{topic}","partition":{index},"replicas":[{a},{b}]}}"#))
            .collect();
        format!(r#"{{"version":1,"partitions":[{}]}}"#, parts.join(","))
    };
    let wanted = file("plan", &plan([[1, 2], [2, 3], [3, 1]]))?;
    let execute = ["--reassignment-json-file", &wanted, "--execute", "--throttle", "50000000"];
    let executed = ask(cluster, "reassign-partitions", &execute)?.out;
    ensure!(executed.contains("Successfully started partition reassignment"), "{executed}");
    wait_until("the reassignment has ended", STEP_MAX, || {
        let verified = ask(cluster, "reassign-partitions", &["--reassignment-json-file", &wanted, "--verify"])?.out;
        Ok(verified.matches("is completed").count() == 3 && verified.contains("Clearing"))
    })?;
    let replicas = replicas_of(cluster, &topic)?;
    ensure!(replicas == [[1, 2], [2, 3], [3, 1]], "{replicas:?}");
    let throttled = ask(cluster, "topics", &["--describe", "--topic", &topic])?.out;
    ensure!(!throttled.contains("throttled.replicas"), "verify leaves throttles: {throttled}");

    let back = file("back", &plan([[3, 1], [1, 2], [2, 3]]))?;
    a_slowed_move_is_shown_and_cancelled(cluster, &topic, &back).context("--cancel")?;
    a_slowed_move_ends_when_its_throttle_is_raised(cluster, &topic, &back).context("--additional")
}

fn reassign(cluster: &Cluster, plan: &str, words: &[&str]) -> Result<String> {
    Ok(ask(cluster, "reassign-partitions", &[&["--reassignment-json-file", plan][..], words].concat())?.out)
}

/// The tool says of the nodes that it has cleared theirs; the topic is asked.
fn no_throttles_are_left(cluster: &Cluster, topic: &str) -> Result<()> {
    let told = ask(cluster, "topics", &["--describe", "--topic", topic])?.out;
    ensure!(!told.contains("throttled"), "throttles are left: {told}");
    Ok(())
}

/// Megabytes at a kilobyte a second go on for as long as the tool looks.
fn slow_down(cluster: &Cluster, plan: &str) -> Result<()> {
    let executed = reassign(cluster, plan, &["--execute", "--throttle", "1000"])?;
    ensure!(executed.contains("The inter-broker throttle limit was set to 1000 B/s"), "{executed}");
    let verified = reassign(cluster, plan, &["--verify"])?;
    ensure!(verified.matches("is still in progress").count() == 3, "{verified}");
    Ok(())
}

fn a_slowed_move_is_shown_and_cancelled(cluster: &Cluster, topic: &str, plan: &str) -> Result<()> {
    let before = replicas_of(cluster, topic)?;
    slow_down(cluster, plan)?;
    let listed = ask(cluster, "reassign-partitions", &["--list"])?.out;
    ensure!(listed.matches("adding").count() == 3, "{listed}");
    let said = reassign(cluster, plan, &["--cancel"])?;
    ensure!((0..3).all(|index| said.contains(&format!("{topic}-{index}"))), "{said}");
    ensure!(said.contains("Successfully cancelled partition reassignments for: "), "{said}");
    ensure!(said.contains("Clearing broker-level throttles on brokers 1,2,3"), "{said}");
    let listed = ask(cluster, "reassign-partitions", &["--list"])?.out;
    ensure!(listed.contains("No partition reassignments found"), "{listed}");
    let left = replicas_of(cluster, topic)?;
    ensure!(left == before, "it was cancelled, but: {left:?}");
    no_throttles_are_left(cluster, topic)
}

fn a_slowed_move_ends_when_its_throttle_is_raised(cluster: &Cluster, topic: &str, plan: &str) -> Result<()> {
    slow_down(cluster, plan)?;
    reassign(cluster, plan, &["--execute", "--additional", "--throttle", "100000000"])?;
    wait_until("the reassignment has ended", STEP_MAX, || {
        let verified = reassign(cluster, plan, &["--verify"])?;
        Ok(verified.matches("is completed").count() == 3 && verified.contains("Clearing"))
    })?;
    let replicas = replicas_of(cluster, topic)?;
    ensure!(replicas == [[3, 1], [1, 2], [2, 3]], "{replicas:?}");
    no_throttles_are_left(cluster, topic)
}

/// Of each partition, once all of them are in sync.
fn replicas_of(cluster: &Cluster, topic: &str) -> Result<Vec<Vec<u32>>> {
    Ok(cluster.wait_healthy(topic, 2, STEP_MAX)?.into_iter().map(|partition| partition.replicas).collect())
}

fn leaders_are_elected(cluster: &mut Cluster) -> Result<()> {
    let topic = format!("elected-{}", unique());
    cluster.create_topic(&topic, 3, 3, &[])?;
    let first = cluster.admin().partitions(&topic)?.first().and_then(|partition| partition.leader);
    let first = first.context("partition 0 has a leader")?;
    cluster.stop(first)?;
    let moved = cluster.wait_healthy(&topic, 2, STEP_MAX)?;
    ensure!(moved.iter().all(|partition| partition.leader != Some(first)), "{moved:?}");
    cluster.up(first)?;
    cluster.wait_healthy(&topic, 3, STEP_MAX)?;
    let elected = ask(cluster, "leader-election", &["--election-type", "preferred", "--all-topic-partitions"])?.out;
    let preferred = cluster.wait_healthy(&topic, 3, STEP_MAX)?;
    let all = preferred.iter().all(|partition| partition.leader == partition.replicas.first().copied());
    ensure!(all, "{elected}\n{preferred:?}");
    // with everybody in sync there is nothing that an unclean election could do
    let unclean = ["--election-type", "unclean", "--topic", &topic, "--partition", "0"];
    let unclean = ask(cluster, "leader-election", &unclean)?.out;
    ensure!(unclean.contains("Valid replica already elected"), "{unclean}");
    Ok(())
}

fn features_are_described_upgraded_and_downgraded(cluster: &mut Cluster) -> Result<()> {
    let table = ask(cluster, "features", &["describe"])?;
    let level = |table: &Ended, feature: &str, column: &str| -> Result<String> {
        let words = table.words();
        let row = words
            .iter()
            .find(|row| row.get(1) == Some(&feature))
            .with_context(|| format!("no {feature} in {table:?}"))?;
        let at = row.iter().position(|word| word.strip_suffix(':') == Some(column));
        let found = at.and_then(|at| row.get(at + 1)).with_context(|| format!("no {column} in {row:?}"))?;
        Ok((*found).to_owned())
    };
    // every level has a name that the tool knows, and the newest of them holds
    ensure!(!table.out.contains("UNKNOWN"), "{table:?}");
    let newest = level(&table, "metadata.version", "SupportedMaxVersion")?;
    ensure!(newest.starts_with("4.3"), "{table:?}");
    ensure!(level(&table, "metadata.version", "FinalizedVersionLevel")? == newest, "{table:?}");
    for (verb, past, wanted, shown) in
        [("downgrade", "downgraded", "29", "4.2-IV1"), ("upgrade", "upgraded", "30", newest.as_str())]
    {
        let told = ask(cluster, "features", &[verb, "--feature", &format!("metadata.version={wanted}")])?.out;
        ensure!(told.contains(&format!("metadata.version was {past} to ")), "{told}");
        let table = ask(cluster, "features", &["describe"])?;
        ensure!(level(&table, "metadata.version", "FinalizedVersionLevel")? == shown, "{table:?}");
    }
    let feature = "eligible.leader.replicas.version";
    let newest = level(&table, feature, "SupportedMaxVersion")?;
    ensure!(level(&table, feature, "FinalizedVersionLevel")? == newest, "{table:?}");
    let down = ask(cluster, "features", &["downgrade", "--feature", &format!("{feature}=0")])?.out;
    ensure!(down.contains(&format!("{feature} was downgraded to 0.")), "{down}");
    ensure!(level(&ask(cluster, "features", &["describe"])?, feature, "FinalizedVersionLevel")? == "0");
    let up = ask(cluster, "features", &["upgrade", "--feature", &format!("{feature}={newest}")])?.out;
    ensure!(up.contains(&format!("{feature} was upgraded to {newest}.")), "{up}");
    let beyond = format!("{feature}=99");
    let beyond = ["features", "--bootstrap-server", &cluster.bootstrap(), "upgrade", "--feature", &beyond];
    let beyond = tool(&beyond, "")?;
    ensure!(beyond.code == Some(1), "{beyond:?}");
    Ok(())
}

/// KIP-966: below the minimum of in-sync replicas the ones that left are eligible, and the tool shows them.
fn the_last_in_sync_replica_is_remembered(cluster: &mut Cluster) -> Result<()> {
    let topic = format!("remembered-{}", unique());
    cluster.create_topic(&topic, 1, 3, &[("min.insync.replicas", "3")])?;
    let placed = cluster.admin().partitions(&topic)?;
    let leader = placed.first().and_then(|partition| partition.leader).context("it has a leader")?;
    let gone = [1, 2, 3].into_iter().find(|id| *id != leader).context("three nodes")?;
    cluster.kill(gone)?;
    wait_until("the killed node is eligible", STEP_MAX, || {
        let told = ask(cluster, "topics", &["--describe", "--topic", &topic])?.out;
        let partition = described(&told).into_iter().next().context("one partition")?;
        Ok(partition.get("Elr").is_some_and(|elr| ids(elr) == [gone]))
    })?;
    cluster.up(gone)?;
    cluster.wait_healthy(&topic, 3, STEP_MAX)?;
    let told = ask(cluster, "topics", &["--describe", "--topic", &topic])?.out;
    let partition = described(&told).into_iter().next().context("one partition")?;
    ensure!(partition.get("Elr").is_some_and(|elr| elr.is_empty()), "{partition:?}");
    Ok(())
}

fn a_dead_node_is_unregistered(cluster: &mut Cluster) -> Result<()> {
    let id = ask(cluster, "cluster", &["cluster-id"])?.out;
    ensure!(id.trim().starts_with("Cluster ID: ") && id.trim().len() > "Cluster ID: ".len(), "{id}");
    let listed = ask(cluster, "cluster", &["list-endpoints"])?;
    for node in cluster.nodes.values() {
        let (host, port) = node.kafka.split_once(':').context("HOST:PORT")?;
        let row = listed.words().into_iter().find(|row| row.first() == Some(&node.id.to_string().as_str()));
        let row = row.with_context(|| format!("node {} is not in {listed:?}", node.id))?;
        ensure!(row.get(1..3) == Some(&[host, port]), "{row:?}");
    }
    let controller = cluster.admin().controller()?;
    let dead = [1, 2, 3].into_iter().find(|id| *id != controller).context("three nodes")?;
    cluster.kill(dead)?;
    cluster.wait_for_members(2)?;
    let told = ask(cluster, "cluster", &["unregister", "--id", &dead.to_string()])?.out;
    ensure!(told.contains(&format!("Broker {dead} is no longer registered.")), "{told}");
    Ok(())
}
