//! Random and damaged messages of every API and version: nothing panics, nothing reserves more than its frame justifies.
//!
//! Owns a counting allocator and the making of messages from the tables. Bounded: a fixed number of cases per version,
//! from fixed seeds; a failure prints the message. `WEIR_FUZZ_SEED=N` tries other cases.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use server::wire::codec::{self, DecodeError};
use server::wire::messages::ProduceRequest;
use server::wire::tables::{Direction, Field, Kind, Message, NO_TAG, Struct, messages};
use server::wire::value::{Fields, Value};
use server::wire::{
    Request, RequestVisitor, StrBytes, WireError, check, decode_request, decode_response, split_request, visit_request,
};

/// Damaged copies of one valid message.
const MUTATIONS: u64 = 24;
/// Valid messages of one version and direction.
const MESSAGES: u64 = 400;
/// Bodies of random bytes per version and direction.
const RANDOM_BODIES: u64 = 1500;
/// Mutated messages are cut to this, so that the bound below judges claims and not the size of honest elements.
const BODY_BYTES_MAX: usize = 1500;

/// Most that one allocation may ask for: decoded elements are larger than their bytes, but not by the power of a count.
fn allocation_bytes_max(frame: usize) -> usize {
    4 * frame + 64 * 1024
}

struct Counting;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged; the thread-local needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note(bytes: usize) {
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(bytes)));
}

/// Splitmix64: enough randomness for test cases, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { usize::try_from(self.next() % end as u64).expect("less than a usize") }
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// A random message of `version`, made from the tables alone.
fn tree(random: &mut Random, structure: &Struct, version: u8) -> Fields {
    let mut fields = Fields::new();
    for field in structure.fields().iter().filter(|field| field.is_in(version)) {
        if field.tag == NO_TAG || random.chance(30) {
            let value = value(random, field, version);
            fields.set(field.name(), value);
        }
    }
    fields
}

fn value(random: &mut Random, field: &Field, version: u8) -> Value {
    if field.is_nullable(version) && random.chance(20) {
        return Value::Null;
    }
    if field.array {
        let count = random.below(4);
        return Value::Array((0..count).map(|_| element(random, field, version)).collect());
    }
    element(random, field, version)
}

fn element(random: &mut Random, field: &Field, version: u8) -> Value {
    let int = |random: &mut Random| i64::try_from(random.below(120)).expect("small");
    match field.kind {
        Kind::Bool => Value::Bool(random.chance(50)),
        Kind::Float64 => Value::Float(1.5),
        Kind::Uuid => Value::Uuid(std::array::from_fn(|_| random.next().to_le_bytes()[0])),
        Kind::String => Value::Text(StrBytes::from_string("é".repeat(random.below(9)))),
        Kind::Bytes | Kind::Records => {
            let count = random.below(60);
            Value::Bytes(random.bytes(count).into())
        }
        Kind::Struct => Value::Struct(tree(random, field.of(), version)),
        Kind::Int8 | Kind::Int16 | Kind::Uint16 | Kind::Int32 | Kind::Uint32 | Kind::Int64 => Value::Int(int(random)),
    }
}

/// Damages a message as a hostile or broken sender would.
fn mutate(random: &mut Random, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(body.len());
        match random.below(6) {
            0 => body.truncate(at),
            1 => body.splice(at..at, vec![0xff; 5]).for_each(drop),
            2 => {
                let count = random.below(9);
                let noise = random.bytes(count);
                body.splice(at..at, noise).for_each(drop);
            }
            3 => {
                let end = (at + random.below(9)).min(body.len());
                body.drain(at..end);
            }
            4 => {
                let lie = [0x7f_u8, 0xff, 0xff, 0xff, 0x0f];
                body.iter_mut().skip(at).zip(lie).for_each(|(byte, lie)| *byte = lie);
            }
            _ => {
                if let Some(byte) = body.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    body.truncate(BODY_BYTES_MAX);
    body
}

/// Everything that this crate does with a received body; gives whether it was accepted.
fn read(message: &'static Message, direction: Direction, version: i16, body: &Bytes) -> bool {
    let accepted = check(message, version, body).is_ok();
    match codec::decode(message, version, body.clone()) {
        Ok(tree) => {
            assert!(accepted);
            let once = codec::encode(message, version, &tree).expect("what was decoded can be encoded");
            let again = codec::decode(message, version, once.clone()).expect("what was encoded can be decoded");
            assert_eq!(codec::encode(message, version, &again).expect("as before"), once);
        }
        Err(DecodeError::Check(_)) => assert!(!accepted),
        Err(error @ DecodeError::Disagreement { .. }) => panic!("{error}"),
    }
    match typed(message.key, direction, version, body) {
        None => {}
        Some(Ok(())) => assert!(accepted),
        Some(Err(error @ WireError::Disagreement { .. })) => panic!("{error}"),
        Some(Err(_)) => assert!(!accepted),
    }
    accepted
}

/// Decodes by the typed message; none when this version has no type.
fn typed(key: i16, direction: Direction, version: i16, body: &Bytes) -> Option<Result<(), WireError>> {
    visit_request(key, Decode { direction, version, body })?
}

struct Decode<'a> {
    direction: Direction,
    version: i16,
    body: &'a Bytes,
}

impl RequestVisitor for Decode<'_> {
    type Output = Option<Result<(), WireError>>;

    fn visit<R: Request>(self) -> Self::Output {
        decode::<R>(self.direction, self.version, self.body)
    }
}

fn decode<R: Request>(direction: Direction, version: i16, body: &Bytes) -> Option<Result<(), WireError>> {
    if version < R::MIN || version > R::MAX {
        return None;
    }
    Some(match direction {
        Direction::Request => decode_request::<R>(version, body.clone()).map(drop),
        Direction::Response => {
            let mut frame = vec![0, 0, 0, 7];
            let message = server::wire::tables::message(R::KEY, direction).expect("known");
            if message.is_flexible(version) && R::KEY != server::wire::API_VERSIONS_KEY {
                frame.push(0);
            }
            frame.extend_from_slice(body);
            decode_response::<R>(version, frame.into()).map(drop)
        }
    })
}

/// Reads one body under the allocation bound; gives whether it was accepted.
fn check_case(message: &'static Message, direction: Direction, version: i16, case: u64, body: Vec<u8>) -> bool {
    let body = Bytes::from(body);
    LARGEST.set(0);
    let outcome = catch_unwind(AssertUnwindSafe(|| read(message, direction, version, &body)));
    let largest = LARGEST.get();
    let name = message.name;
    let Ok(accepted) = outcome else { panic!("{name} version {version}, case {case}: {body:02x?}") };
    let max = allocation_bytes_max(body.len());
    assert!(largest <= max, "{name} version {version}, case {case} asked for {largest} bytes at once: {body:02x?}");
    accepted
}

/// Runs all cases of one direction; gives how many bodies were read and how many damaged ones were accepted.
fn fuzz(direction: Direction) -> (u64, u64) {
    let seed: u64 = std::env::var("WEIR_FUZZ_SEED").map_or(0, |seed| seed.parse().expect("a whole number"));
    let (mut cases, mut accepted) = (0, 0);
    for message in messages(direction) {
        for version in message.min..=message.max {
            let row_version = message.row_version(version).expect("a version of the tables");
            let mut random =
                Random((seed << 32) + (u64::from(message.key.unsigned_abs()) << 8) + u64::from(row_version));
            for number in 0..MESSAGES {
                let fields = tree(&mut random, message.root(), row_version);
                let valid = codec::encode(message, version, &fields).expect("made from the tables");
                assert!(check_case(message, direction, version, number, valid.to_vec()), "{} {version}", message.name);
                for _ in 0..MUTATIONS {
                    let body = mutate(&mut random, &valid);
                    accepted += u64::from(check_case(message, direction, version, number, body));
                    cases += 1;
                }
            }
            for number in 0..RANDOM_BODIES {
                let count = random.below(200);
                check_case(message, direction, version, MESSAGES + number, random.bytes(count));
                cases += 1;
            }
        }
    }
    (cases, accepted)
}

#[test]
fn damaged_requests_neither_panic_nor_reserve_memory() {
    let (cases, accepted) = fuzz(Direction::Request);
    // Damage must often be harmless (a flipped bit of a number), else only the first field was ever read.
    assert!(accepted * 20 > cases, "{accepted} of {cases} accepted");
    assert!(accepted < cases);
}

#[test]
fn damaged_responses_neither_panic_nor_reserve_memory() {
    let (cases, accepted) = fuzz(Direction::Response);
    assert!(accepted * 20 > cases, "{accepted} of {cases} accepted");
    assert!(accepted < cases);
}

#[test]
fn damaged_headers_neither_panic_nor_reserve_memory() {
    let valid = [0, 0, 0, 9, 0, 0, 0, 7, 0, 2, b'm', b'e', 1, 5, 1, 0, 0xaa];
    for case in 0..200_000 {
        let mut random = Random(case);
        let frame = if case % 2 == 0 { mutate(&mut random, &valid) } else { random.bytes(20) };
        let frame = Bytes::from(frame);
        LARGEST.set(0);
        let outcome = catch_unwind(AssertUnwindSafe(|| drop(split_request(frame.clone()))));
        assert!(outcome.is_ok(), "case {case}: {frame:02x?}");
        assert!(LARGEST.get() <= allocation_bytes_max(frame.len()), "case {case}: {frame:02x?}");
    }
}

#[test]
fn twelve_bytes_of_produce_reserve_nothing() {
    let body = Bytes::from_static(&[0xff, 0xff, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff]);
    LARGEST.set(0);
    assert!(matches!(decode_request::<ProduceRequest>(3, body), Err(WireError::Check { .. })));
    assert!(LARGEST.get() < 1024);
}
