//! A data directory belongs to one node at a time.

use server::config::Config;
use server::config::raw::Raw;
use server::run;

#[test]
fn a_directory_in_use_is_refused_until_its_node_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::check(&Raw::default()).unwrap();
    let address = "127.0.0.1:9092".parse().unwrap();
    let first = run::open(&config, dir.path(), &[address], None, 7).unwrap();
    let refused = run::open(&config, dir.path(), &[address], None, 8).map(|_| ()).unwrap_err();
    assert!(refused.to_string().ends_with("another process uses this data directory"), "{refused}");
    first.executor.stop(first.threads);
    drop((first.node, first.lock));
    let second = run::open(&config, dir.path(), &[address], None, 9).unwrap();
    second.executor.stop(second.threads);
}
