//! The checked-in wire tables are what Kafka's own schemas say.
//!
//! Owns the comparison and, with `WEIR_REGENERATE=1`, the writing of the generated file. Without that variable it
//! writes nothing outside `target/`.

#[path = "../wire/generate.rs"]
mod generate;
#[path = "../wire/setup.rs"]
mod setup;

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
