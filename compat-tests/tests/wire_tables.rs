//! The checked-in wire tables are what Kafka's own schemas say, and messages survive them byte for byte.
//!
//! Owns the comparison and, with `WEIR_REGENERATE=1`, the writing of the generated file. Without that variable it
//! writes nothing outside `target/`. Needs Maven and Java 17, and fetches Kafka's client jar by itself.

#[path = "../wire/generate.rs"]
mod generate;
#[path = "../wire/round_trip.rs"]
mod round_trip;
#[path = "../wire/setup.rs"]
mod setup;

/// Messages of the 20 APIs that have types: 151 versions, both ways, 12 samples of each.
const TYPED_SAMPLES_MIN: usize = 151 * 2 * 12;

#[test]
fn the_checked_in_tables_are_generated_from_the_schemas() {
    let schemas = setup::schemas().expect("the schemas of Kafka's client jar");
    let fresh = generate::generate(&schemas).expect("tables from the schemas");
    let path = setup::crate_folder().join("../server/src/wire/tables/generated.rs");
    if std::env::var_os("WEIR_REGENERATE").is_some() {
        std::fs::write(&path, &fresh).expect("the tables can be written");
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = fresh.lines().zip(stored.lines()).position(|(fresh, stored)| fresh != stored);
    assert!(
        fresh == stored,
        "server/src/wire/tables/generated.rs differs from the schemas (first at line {:?}); \
         run WEIR_REGENERATE=1 cargo test -p compat-tests --test wire_tables",
        differs.map(|line| line + 1)
    );
}

#[test]
fn what_kafka_wrote_is_read_and_written_again_byte_for_byte() {
    let samples = setup::samples().expect("samples by Kafka's own classes");
    let compared = round_trip::compare(&samples).expect("the sample file is whole");
    let shown: Vec<&String> = compared.failures.iter().take(20).collect();
    assert!(shown.is_empty(), "{} of {} samples: {shown:#?}", compared.failures.len(), compared.samples);
    assert!(compared.missing.is_empty(), "no sample of {:?}", compared.missing);
    assert!(compared.typed >= TYPED_SAMPLES_MIN, "only {} samples of typed messages", compared.typed);
}
