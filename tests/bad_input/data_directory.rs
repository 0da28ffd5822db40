//! Data directories that are none, or somebody else's, or a newer version's, or in use: refused, and left as they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use duet::process::free_port;
use duet_witness::Access;

use crate::harness::{A, B, Ledger, Pair, Witness, run};
use crate::program::{contents, duet, serve, still_serves, unchanged, with_config};

/// A configuration that is good but for its data directory. Its witness is one too: `init` gets as far as the data.
fn config(dir: &Path, data: &Path) -> PathBuf {
    let witness = dir.join("witness");
    std::fs::create_dir_all(&witness).unwrap();
    duet_witness::directory::prepare(&witness).unwrap();
    let text = format!(
        "cluster = \"demo\"\nappliance = \"A\"\ndata = \"{}\"\nclient_listen = \"127.0.0.1:{}\"\n\
         peer_listen = \"127.0.0.1:{}\"\npeer = \"127.0.0.1:{}\"\nwitness = \"dir:{}\"\n",
        data.display(),
        free_port().unwrap(),
        free_port().unwrap(),
        free_port().unwrap(),
        witness.display()
    );
    let path = dir.join("a.toml");
    std::fs::write(&path, text).unwrap();
    path
}

async fn refused(dir: &Path, data: &Path, parts: &[&str]) {
    let config = config(dir, data);
    for command in ["serve", "init"] {
        with_config(dir, command, &config).await.refuses(1, parts);
    }
    let register =
        duet_witness::open(&format!("dir:{}", dir.join("witness").display()), "demo", &Access::default())
            .unwrap();
    let record = register.read().await;
    assert!(matches!(record, duet_witness::ReadOutcome::Absent), "no pair was made: {record:?}");
}

#[test]
fn a_place_that_cannot_be_a_data_directory() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        std::fs::write(dir.join("file"), "precious").unwrap();
        refused(dir, &dir.join("file"), &["file", "not a directory"]).await;
        refused(dir, &dir.join("file/data"), &["file", "not a directory"]).await;
        assert_eq!(std::fs::read(dir.join("file")).unwrap(), b"precious");
        refused(dir, &dir.join("not/there"), &["not", "does not exist"]).await;
        assert!(!dir.join("not").exists());
        refused(dir, &dir.join("x".repeat(300)), &["name"]).await;
    });
}

#[test]
fn a_directory_of_somebody_else() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let holiday = dir.join("holiday");
        std::fs::create_dir(&holiday).unwrap();
        std::fs::write(holiday.join("beach.jpg"), "precious").unwrap();
        refused(dir, &holiday, &["holiday", "not empty", "beach.jpg", "empty directory"]).await;
        let left: Vec<_> =
            std::fs::read_dir(&holiday).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["beach.jpg"], "nothing was added");
    });
}

#[test]
fn a_directory_that_cannot_be_written() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let locked = dir.join("locked");
        std::fs::create_dir(&locked).unwrap();
        // For root nothing but a read-only file system is not writable.
        let mount = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "duet-test"];
        let mounted = rustix::process::geteuid().is_root()
            && Command::new(mount[0])
                .args(&mount[1..])
                .arg(&locked)
                .status()
                .is_ok_and(|status| status.success());
        if !mounted && rustix::process::geteuid().is_root() {
            println!("skipped: root may write everywhere, and cannot mount here");
            return;
        }
        if !mounted {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).unwrap();
        }
        let outcome = tokio::spawn(async move {
            let inside = dir.join("locked/data");
            refused(&dir, &inside, &["locked", "not writable"]).await;
            refused(&dir, &dir.join("locked"), &["locked", "not writable"]).await;
        })
        .await;
        if mounted {
            Command::new("umount").arg(&locked).status().unwrap();
        }
        outcome.unwrap();
    });
}

#[test]
fn data_of_a_newer_version_or_of_no_version() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        pair.write(A, &mut ledger, 5).await;
        pair.soft_stop(B).await;
        let format = pair.data(B).join("FORMAT");
        let good = std::fs::read(&format).unwrap();
        let newer = String::from_utf8(good.clone()).unwrap().replace('2', "3");
        let cases: [(&[u8], &[&str]); 5] = [
            (newer.as_bytes(), &["format 3", "newer version"]),
            (b"", &["FORMAT", "damaged"]),
            (b"duet data directory, format one\n", &["FORMAT", "damaged"]),
            (&[0xff; 40], &["FORMAT", "damaged"]),
            (&[b'x'; 10_000], &["FORMAT", "damaged"]),
        ];
        for (content, parts) in cases {
            std::fs::write(&format, content).unwrap();
            let before = contents(&pair.data(B));
            serve(&pair, B).await.refuses(1, parts);
            with_config(pair.dir(), "init", &pair.config_path(B)).await.refuses(1, parts);
            unchanged(&before, &contents(&pair.data(B)));
        }
        std::fs::remove_file(&format).unwrap();
        let before = contents(&pair.data(B));
        serve(&pair, B).await.refuses(1, &["FORMAT", "missing"]);
        unchanged(&before, &contents(&pair.data(B)));

        pair.write(A, &mut ledger, 5).await;
        std::fs::write(&format, good).unwrap();
        pair.start_appliance(B).await;
        still_serves(&mut pair, &mut ledger).await;
    });
}

#[test]
fn two_processes_on_one_directory() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        pair.write(B, &mut ledger, 5).await;
        for appliance in [A, B] {
            // Other ports, so that it gets as far as the data.
            let (client, peer) = (free_port().unwrap(), free_port().unwrap());
            let (client, peer) = (format!("127.0.0.1:{client}"), format!("127.0.0.1:{peer}"));
            let config = pair.config_path(appliance).display().to_string();
            let args = ["--config", &config, "--client-listen", &client, "--peer-listen", &peer];
            for command in ["serve", "init"] {
                let said = duet(pair.dir(), &[&[command], &args[..]].concat()).await;
                said.refuses(1, &["in use", "process"]);
            }
        }
        still_serves(&mut pair, &mut ledger).await;
    });
}

#[test]
fn two_witnesses_on_one_directory() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let data = pair.dir().join("witness").display().to_string();
        let listen = format!("127.0.0.1:{}", free_port().unwrap());
        duet(pair.dir(), &["witness", "--data", &data, "--listen", &listen])
            .await
            .refuses(1, &["witness", "another witness server"]);
        let mut ledger = Ledger::default();
        still_serves(&mut pair, &mut ledger).await;
    });
}
