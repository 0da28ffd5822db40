//! The story of `duet demo` with real processes: each of its steps checks R1 to R12 as far as it shows them.

use std::process::Command;

#[test]
fn the_story_holds() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("demo");
    let output = Command::new(env!("CARGO_BIN_EXE_duet"))
        .args(["demo", "--script", "--dir", place.to_str().unwrap()])
        .output()
        .unwrap();
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}\n{errors}");
    assert!(told.contains("All 11 steps held"), "{told}");
}
