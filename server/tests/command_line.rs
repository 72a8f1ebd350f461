//! The command line, as its users run it: the built binary against a `weir dev` of its own.
//!
//! Owns what each verb prints, its JSON and its exit codes. Does not own other clusters: `compat-tests/tests/command_line.rs` runs the same
//! binary against Apache Kafka. Invariant: whatever a test starts is ended with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const WEIR: &str = env!("CARGO_BIN_EXE_weir");
/// However slow the machine: a test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// A `weir dev` on free ports.
struct Node {
    process: Child,
    bootstrap: String,
    http: String,
    data: PathBuf,
}

impl Node {
    fn start() -> Node {
        let arguments = ["dev", "--ephemeral", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        let mut process =
            Command::new(WEIR).args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let field = |name: &str| {
            let (_, rest) = line.split_once(&format!(" {name}=")).unwrap_or_else(|| panic!("no {name} in {line:?}"));
            rest.trim_end().split(' ').next().unwrap_or_default().to_owned()
        };
        Node { bootstrap: field("kafka"), http: field("http"), data: field("data").into(), process }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(WEIR);
        command.args(arguments);
        if !arguments.starts_with(&["log"]) {
            command.args(["--bootstrap", &self.bootstrap]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command(arguments).spawn().expect("starts");
        let mut stdin = child.stdin.take().expect("piped");
        // A command that does not read its input closes it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("ends")
    }

    /// What a command prints that must succeed.
    fn ok(&self, arguments: &[&str]) -> String {
        self.ok_with(arguments, "")
    }

    fn ok_with(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "weir {arguments:?} ended with {}: {errors}", output.status);
        String::from_utf8(output.stdout).expect("text")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(arguments);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("weir {arguments:?}: {error} in {text}"))
    }

    /// What a command says that must fail with this code.
    fn fails(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments, "");
        assert_eq!(output.status.code(), Some(code), "weir {arguments:?}: {output:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    /// Asks until what is asked for is there.
    fn until(&self, arguments: &[&str], has: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let output = self.run(arguments, "");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() && has(&text) {
                return text;
            }
            assert!(begun.elapsed() < PATIENCE, "weir {arguments:?} still gives {output:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        interrupt(&self.process);
        let _ = self.process.wait();
    }
}

/// SIGINT, as Ctrl-C sends it.
fn interrupt(process: &Child) {
    let pid = rustix::process::Pid::from_child(process);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is ours");
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn topics_are_made_shown_changed_and_deleted() {
    let node = Node::start();
    let made = node.ok(&["topic", "create", "orders", "-p", "3", "--set", "retention.ms=3600000"]);
    assert_eq!(made, "topic orders created with 3 partitions of 1 replica\n");
    let again = node.fails(&["topic", "create", "orders"], 1);
    assert!(again.contains("TOPIC_ALREADY_EXISTS (error 36)") && again.contains("weir topic alter"), "{again}");
    node.ok(&["topic", "create", "orders", "--if-not-exists"]);
    assert!(node.ok(&["topic", "create", "dry", "--dry-run"]).starts_with("topic dry could be created"));
    let table = node.ok(&["topic", "list"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows, [vec!["TOPIC", "PARTITIONS", "REPLICAS"], vec!["orders", "3", "1"]]);

    let altered =
        node.ok(&["topic", "alter", "orders", "-p", "4", "--set", "retention.ms=1000", "--unset", "segment.ms"]);
    assert!(altered.contains("given 4 partitions (before: 3)"), "{altered}");
    let described = node.json(&["topic", "describe", "orders", "-o", "json"]);
    let topic = &described["topics"][0];
    assert_eq!(topic["settings"], serde_json::json!({ "retention.ms": "1000" }));
    assert_eq!(topic["partitions"].as_array().map(Vec::len), Some(4));
    assert_eq!(topic["partitions"][3]["leader"], 1);
    let text = node.ok(&["topic", "describe", "orders"]);
    assert!(text.contains("a power cut: costs nothing that was acknowledged"), "{text}");
    let refused = node.fails(&["topic", "alter", "orders", "--set", "retention.ms=soon"], 1);
    assert!(refused.contains("retention.ms") && refused.contains("weir config explain"), "{refused}");

    assert_eq!(node.ok(&["topic", "delete", "orders"]), "topic orders deleted\n");
    assert!(node.fails(&["topic", "describe", "orders"], 1).contains("weir topic list"));
    node.ok(&["topic", "delete", "orders", "--if-exists"]);
}

#[test]
fn records_come_back_with_keys_headers_and_times_and_go_round_as_json() {
    let node = Node::start();
    node.ok(&["topic", "create", "t", "-p", "2"]);
    let written =
        node.json(&["produce", "t", "a", "b", "-p", "1", "-H", "n=v", "--timestamp", "1700000000000", "-o", "json"]);
    assert_eq!(written["records"], 2);
    assert_eq!(written["partitions"][0]["partition"], 1);
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let written = node.ok_with(&["produce", "t", "--key-separator", ":", "-p", "1", "-z", codec], "k:v1\nk:v2\n");
        assert!(written.starts_with("2 records written to t (partition 1: 2 from offset "), "{written}");
    }
    node.ok(&["produce", "t", "-k", "gone", "--tombstone", "-p", "1"]);
    let shown = node.ok(&["consume", "t", "--format", "%p@%o %T %k=%v [%h] %V\\n", "-n", "2"]);
    assert_eq!(shown, "1@0 1700000000000 =a [n=v] 1\n1@1 1700000000000 =b [n=v] 1\n");
    assert_eq!(lines(&node.ok(&["consume", "t"])).len(), 11);
    assert_eq!(node.ok(&["consume", "t", "-p", "0"]), "");
    // the last before the tombstone
    assert_eq!(node.ok(&["consume", "t", "--from", "-2", "--to", "10"]), "v2\n");
    assert_eq!(node.ok(&["consume", "t", "--from", "+1", "-n", "1"]), "b\n");
    assert_eq!(node.ok(&["consume", "t", "--to", "@2024-01-01T00:00:00Z"]), "a\nb\n");
    assert_eq!(lines(&node.ok(&["consume", "t", "--from", "@2024-01-01", "--grep", "v2$"])).len(), 4);
    assert_eq!(node.ok(&["consume", "t", "--from", "@now"]), "");

    let json = node.ok(&["consume", "t", "-o", "json"]);
    node.ok(&["topic", "create", "copy"]);
    let copied = node.ok_with(&["produce", "copy", "-i", "json"], &json);
    assert!(copied.starts_with("11 records written"), "{copied}");
    let parts = |text: &str| -> Vec<Value> {
        let part = |line: &str| -> Value {
            let mut record: Value = serde_json::from_str(line).expect("JSON");
            let object = record.as_object_mut().expect("an object");
            ["topic", "partition", "offset"].iter().for_each(|name| drop(object.remove(*name)));
            record
        };
        text.lines().map(part).collect()
    };
    assert_eq!(parts(&node.ok(&["consume", "copy", "-o", "json"])), parts(&json));
    let tombstone = parts(&json).pop().expect("eleven");
    assert_eq!((&tombstone["key"], &tombstone["value"]), (&Value::from("gone"), &Value::Null));

    assert!(node.fails(&["consume", "nope"], 1).contains("weir topic create"));
    node.fails(&["consume", "t", "--from", "soon"], 2);
    let output = node.run(&["produce", "t", "-i", "json"], "{\"value\":\"fine\"}\n{\"vlaue\":1}\n");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("line 2") && error.contains("vlaue"), "{error}");
}

#[test]
fn a_line_that_is_wrong_is_told_with_the_true_number_of_records_before_it() {
    let node = Node::start();
    node.ok(&["topic", "create", "t"]);
    let many = "k:v\n".repeat(5000) + "nope\n";
    let json = "{\"value\":\"a\"}\n";
    let mut all = 0;
    for (arguments, input, good) in [
        (&["-i", "json"][..], format!("{json}nope\n"), 1),
        (&["-i", "json", "--keep-partitions"], format!("{json}{json}{{\"value\":\"a\",\"partition\":7}}\n"), 2),
        (&["--key-separator", ":"], many, 5000),
        (&["--key-separator", ":"], "nope\nk:v\n".to_owned(), 0),
    ] {
        let output = node.run(&[&["produce", "t"], arguments].concat(), &input);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        let told = format!("line {} of stdin; written before it: {good} record", good + 1);
        assert!(error.contains(&told), "{error}");
        all += good;
        assert_eq!(lines(&node.ok(&["consume", "t"])).len(), all);
    }
}

#[test]
fn the_only_node_is_not_drained_in_vain() {
    let node = Node::start();
    for verb in ["drain", "decommission"] {
        let error = node.fails(&["node", verb, "1"], 1);
        assert!(error.contains("node 1 is the only one") && error.contains("start another node"), "{error}");
    }
    assert_eq!(node.json(&["node", "list", "-o", "json"])["nodes"][0]["duty"], "full");
}

#[test]
fn a_follower_sees_what_is_written_later_and_ends_in_order_at_ctrl_c() {
    let node = Node::start();
    node.ok(&["produce", "live", "early"]);
    let mut follower = node.command(&["consume", "live", "--follow"]).spawn().expect("starts");
    let mut seen = BufReader::new(follower.stdout.take().expect("piped"));
    let mut line = String::new();
    seen.read_line(&mut line).expect("a line");
    node.ok(&["produce", "live", "late"]);
    seen.read_line(&mut line).expect("a line");
    assert_eq!(line, "early\nlate\n");
    interrupt(&follower);
    let status = follower.wait().expect("ends");
    assert!(status.success(), "{status}");
}

#[test]
fn groups_share_partitions_commit_what_was_shown_and_are_moved_and_deleted() {
    let node = Node::start();
    node.ok(&["topic", "create", "t", "-p", "4"]);
    for partition in ["0", "1", "2", "3"] {
        node.ok(&["produce", "t", "-p", partition, "x", "y"]);
    }
    assert_eq!(lines(&node.ok(&["consume", "t", "-g", "g", "-n", "3"])).len(), 3);
    let lag = |node: &Node| node.json(&["group", "describe", "g", "-o", "json"])["groups"][0]["lag"].clone();
    assert_eq!(lag(&node), 5);
    assert_eq!(lines(&node.ok(&["consume", "t", "-g", "g"])).len(), 5);
    assert_eq!(lag(&node), 0);
    // where it stands, or where it is told to begin
    assert_eq!(node.ok(&["consume", "t", "-g", "g"]), "");
    assert_eq!(lines(&node.ok(&["consume", "t", "-g", "g", "--from", "-1"])).len(), 4);
    assert_eq!(lines(&node.ok(&["consume", "t", "-g", "g", "--from", "start"])).len(), 8);
    assert_eq!((lag(&node), node.ok(&["consume", "t", "-g", "g"])), (Value::from(0), String::new()));

    // two members have two partitions each
    let mut members: Vec<Child> =
        (0..2).map(|_| node.command(&["consume", "t", "-g", "g", "--follow"]).spawn().expect("starts")).collect();
    let shares = |text: &str| -> Vec<usize> {
        let described: Value = serde_json::from_str(text).expect("JSON");
        let members = described["groups"][0]["members"].as_array().cloned().unwrap_or_default();
        members.iter().map(|member| member["assigned"]["t"].as_array().map_or(0, Vec::len)).collect()
    };
    node.until(&["group", "describe", "g", "-o", "json"], |text| shares(text) == [2, 2]);
    let busy = node.fails(&["group", "seek", "g", "--to", "start"], 1);
    assert!(busy.contains("stop its consumers first"), "{busy}");
    node.fails(&["group", "delete", "g"], 1);
    node.ok(&["produce", "t", "-p", "2", "z"]);
    members.iter().for_each(interrupt);
    for member in &mut members {
        let mut shown = String::new();
        member.stdout.take().expect("piped").read_to_string(&mut shown).expect("text");
        let status = member.wait().expect("ends");
        assert!(status.success(), "{status}: {shown}");
    }

    let dry = node.ok(&["group", "seek", "g", "--to", "start", "--dry-run"]);
    assert!(dry.starts_with("group g would be moved\n"), "{dry}");
    let moved = node.json(&["group", "seek", "g", "--to", "-1", "-o", "json"]);
    assert_eq!(moved["partitions"].as_array().map(Vec::len), Some(4));
    assert_eq!(moved["partitions"][2]["after"], 2);
    assert_eq!(lines(&node.ok(&["consume", "t", "-g", "g"])).len(), 4);
    let listed = node.json(&["group", "list", "-o", "json"]);
    assert_eq!((&listed["groups"][0]["group"], &listed["groups"][0]["lag"]), (&Value::from("g"), &Value::from(0)));
    assert_eq!(node.ok(&["group", "delete", "g"]), "group g deleted\n");
    assert!(node.fails(&["group", "describe", "g"], 1).contains("weir group list"));
    node.ok(&["group", "seek", "new", "--topic", "t", "--to", "end"]);
    assert_eq!(node.ok(&["consume", "t", "-g", "new"]), "");
}

#[test]
fn settings_are_shown_changed_compared_and_explained() {
    let node = Node::start();
    node.ok(&["topic", "create", "t"]);
    node.ok(&["topic", "create", "u"]);
    assert_eq!(node.ok(&["config", "get", "topic/t", "retention.ms"]).lines().count(), 2);
    let set = node.ok(&["config", "set", "topic/t", "retention.ms=5000"]);
    assert_eq!(set, "topic/t retention.ms set: 604800000 -> 5000\n");
    let found = node.json(&["config", "get", "topic/t", "retention.ms", "-o", "json"]);
    assert_eq!((&found["settings"][0]["value"], &found["settings"][0]["source"]), (&"5000".into(), &"topic".into()));
    let differ = node.json(&["config", "diff", "topic/t", "topic/u", "-o", "json"]);
    assert_eq!(
        differ["differences"],
        serde_json::json!([{ "key": "retention.ms", "left": "5000", "right": "604800000" }])
    );
    assert!(node.ok(&["config", "diff", "topic/u"]).contains("do not differ"));
    let explained = node.ok(&["config", "explain", "retention.ms", "--for", "topic/t"]);
    assert!(explained.contains("value       5000") && explained.contains("from        topic"), "{explained}");
    node.ok(&["config", "set", "topic/t", "--unset", "retention.ms"]);
    assert!(node.ok(&["config", "diff", "topic/t"]).contains("do not differ"));
    assert!(node.fails(&["config", "set", "topic/t", "retention.ms=x"], 1).contains("retention.ms"));
    node.fails(&["config", "get", "queue/t"], 2);
}

#[test]
fn settings_are_explained_without_a_cluster() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(WEIR);
        let output = command.args(arguments).args(["--bootstrap", "127.0.0.1:1"]).output().expect("ends");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let explained = run(&["config", "explain", "retention.ms", "--set", "log.retention.hours=2"]);
    assert!(
        explained.contains("value       7200000") && explained.contains("log.retention.hours, --set"),
        "{explained}"
    );
    let folder = tempfile::tempdir().expect("temporary directory");
    let file = folder.path().join("server.properties");
    std::fs::write(&file, "num.partitions=8\nnum.io.threads=16\nlog.retention.housr=1\n").expect("written");
    let file = file.to_str().expect("text");
    let odd = run(&["config", "explain", "--config", file]);
    assert!(odd.contains("num.io.threads") && odd.contains("log.retention.housr"), "{odd}");
    let differ: Value = serde_json::from_str(&run(&["config", "diff", "--config", file, "-o", "json"])).expect("JSON");
    assert_eq!(differ["differences"], serde_json::json!([{ "key": "num.partitions", "left": "1", "right": "8" }]));
}

#[test]
fn segments_are_dumped_and_damage_is_found() {
    let node = Node::start();
    node.ok(&["topic", "create", "t"]);
    node.ok(&["produce", "t", "-k", "key", "value", "-z", "zstd"]);
    let segment = node.data.join("t-0/00000000000000000000.log");
    let begun = Instant::now();
    while std::fs::metadata(&segment).map_or(0, |file| file.len()) == 0 {
        assert!(begun.elapsed() < PATIENCE, "nothing is in {}", segment.display());
        std::thread::sleep(Duration::from_millis(50));
    }
    let copy = tempfile::tempdir().expect("temporary directory");
    let file = copy.path().join("00000000000000000000.log");
    std::fs::copy(&segment, &file).expect("copied");
    let path = file.to_str().expect("text");
    let text = node.ok(&["log", "dump", path, "--records"]);
    assert!(text.contains("1 records") && text.contains("zstd") && text.contains("key value"), "{text}");
    let json = node.json(&["log", "dump", path, "--records", "-o", "json"]);
    assert_eq!((&json["base_offset"], &json["contents"][0]["value"]), (&Value::from(0), &Value::from("value")));
    let mut bytes = std::fs::read(&file).expect("readable");
    *bytes.last_mut().expect("not empty") ^= 1;
    std::fs::write(&file, bytes).expect("written");
    assert!(node.fails(&["log", "dump", path], 1).contains("damaged at byte 0"));
    assert!(node.fails(&["log", "dump", "/dev/null"], 1).contains("no .log"));
    let missing = node.fails(&["log", "dump", "/nosuch"], 1);
    assert!(missing.contains("/nosuch") && missing.contains("No such file") && !missing.contains(".log"), "{missing}");
    assert!(node.fails(&["log", "dump", "/"], 1).contains("it is a folder"));
}

#[test]
fn the_doctor_finds_a_healthy_cluster_well_and_says_what_is_wrong() {
    let node = Node::start();
    let output = node.run(&["doctor", "-o", "json"], "");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {output:?}"));
    let checks = found["checks"].as_array().expect("checks");
    let problems: Vec<&Value> = checks.iter().filter(|one| one["state"] == "problem").collect();
    // the disk of this machine may be full, which is no fault of the cluster
    assert!(problems.iter().all(|one| one["check"] == "disks"), "{found}");
    assert_eq!(output.status.code(), Some(if problems.is_empty() { 0 } else { 10 }), "{found}");
    // less than a node takes by default (message.timestamp.after.max.ms)
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let ahead = (since + Duration::from_secs(1800)).as_millis().to_string();
    node.ok(&["produce", "t", "--timestamp", &ahead, "ahead"]);
    node.ok(&["group", "seek", "g", "--topic", "t", "--to", "start"]);
    let output = node.run(&["doctor", "--lag-max", "0"], "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(10), "{text}");
    assert!(text.contains("ahead of this machine's clock") && text.contains("g by 1"), "{text}");
    let absent = Command::new(WEIR).args(["doctor", "--bootstrap", "127.0.0.1:1"]).output().expect("ends");
    assert_eq!(absent.status.code(), Some(10));
}

#[test]
fn nobody_at_the_bootstrap_is_told_once_and_with_a_way_out() {
    let output = Command::new(WEIR).args(["topic", "list", "--bootstrap", "127.0.0.1:1"]).output().expect("ends");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("--bootstrap HOST:PORT") && error.matches("refused").count() == 1, "{error}");
}

#[test]
fn of_many_nodes_at_the_bootstrap_one_that_answers_is_enough() {
    let node = Node::start();
    let many = format!("127.0.0.1:1, {}", node.bootstrap);
    for verb in [&["node", "list"][..], &["node", "add", "1"], &["topic", "list"], &["group", "list"]] {
        let output = Command::new(WEIR).args(verb).args(["--bootstrap", &many]).output().expect("ends");
        assert!(output.status.success(), "weir {verb:?}: {output:?}");
    }
    let dead = ["node", "list", "--bootstrap", "127.0.0.1:1,127.0.0.1:2"];
    let output = Command::new(WEIR).args(dead).output().expect("ends");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("none of 127.0.0.1:1,127.0.0.1:2 answers"), "{error}");
}

#[test]
fn a_port_that_speaks_http_is_recognised() {
    let node = Node::start();
    let output = Command::new(WEIR).args(["topic", "list", "--bootstrap", &node.http]).output().expect("ends");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("speaks HTTP") && error.contains("--bootstrap"), "{error}");
}

#[test]
fn a_name_that_is_nearly_right_leads_to_the_right_one() {
    let node = Node::start();
    node.ok(&["topic", "create", "orders"]);
    let error = node.fails(&["topic", "describe", "ordesr"], 1);
    assert!(error.contains("did you mean orders?"), "{error}");
    assert!(!node.fails(&["topic", "describe", "invoices"], 1).contains("did you mean"));
    let error = node.fails(&["config", "explain", "log.retention.housr"], 1);
    assert!(error.contains("did you mean log.retention.hours, "), "{error}");
}

#[test]
fn a_shell_completes_topics_and_groups() {
    let node = Node::start();
    node.ok(&["topic", "create", "orders"]);
    node.ok(&["group", "seek", "readers", "--topic", "orders", "--to", "start"]);
    let complete = |words: &[&str]| {
        let mut command = Command::new(WEIR);
        command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
        command.env("_CLAP_IFS", "\n").arg("--").args(words);
        let output = command.output().expect("ends");
        String::from_utf8(output.stdout).expect("text")
    };
    let at = node.bootstrap.as_str();
    assert_eq!(complete(&["weir", "topic", "describe", "--bootstrap", at, "or"]).trim(), "orders");
    assert_eq!(complete(&["weir", "group", "delete", "--bootstrap", at, "re"]).trim(), "readers");
}
