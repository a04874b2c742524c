//! Record batches as views, their records, and decompression under a limit.

use bytes::Bytes;
use tripod::kafka::batch::{Batch, Compression, batches};
use tripod::kafka::record::{BatchBuilder, records};

use super::Fuzz;

const LIMIT: usize = 1 << 20;

fn sample(fuzz: &Fuzz) -> Vec<u8> {
    let codec = Compression::from_id(fuzz.rng.below(5) as i16).expect("five codecs");
    let mut builder = BatchBuilder::new(codec);
    for n in 0..=fuzz.rng.below(4) {
        builder.append(1_000 + n as i64, Some(b"key"), Some(&fuzz.bytes(40)), &[]);
    }
    builder.build().expect("a batch").bytes().to_vec()
}

#[test]
fn batches_never_panic_and_never_blow_up() {
    let fuzz = Fuzz::new("batches");
    let mut whole = 0;
    for _ in 0..fuzz.rounds {
        let mut bytes = sample(&fuzz);
        if fuzz.rng.below(8) > 0 {
            fuzz.mutate(&mut bytes);
        }
        let bytes = Bytes::from(bytes);
        if let Ok(batch) = Batch::parse(&bytes) {
            whole += u64::from(batch.check().is_ok());
            if let Ok(records) = records(&batch, LIMIT) {
                for record in records {
                    if record.is_err() {
                        break;
                    }
                }
            }
        }
        for batch in batches(bytes).take(100) {
            if batch.is_err() {
                break;
            }
        }
    }
    assert!(whole > 0, "no unharmed batch passed its checksum");
}
