//! A conversation's state out of anything: what is read can be written, and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peregrine::runtime::Snapshot;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    peregrine_fuzz::seal(&mut bytes);
    let Ok(snapshot) = Snapshot::from_bytes("fuzz.state", &bytes) else { return };
    for snapshot in [snapshot.clone(), snapshot.halved()] {
        let written = snapshot.to_bytes().expect("it came from a file");
        let again = Snapshot::from_bytes("fuzz.state", &written).expect("it was just written");
        assert_eq!(
            (again.position(), again.text(), again.messages()),
            (snapshot.position(), snapshot.text(), snapshot.messages())
        );
    }
});
